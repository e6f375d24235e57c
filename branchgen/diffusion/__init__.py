"""The generative model: noise schedule, network, training, solvers, sampling. Torch and NumPy only, no AnnData."""
