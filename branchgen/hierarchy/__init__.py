"""The tree of classes in diffusion time: data structure, derivation, Newick. NumPy only, no torch, no AnnData."""
