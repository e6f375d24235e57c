"""AnnData to latents and back: validation, splits, codecs. Knows nothing of hierarchies or diffusion."""
