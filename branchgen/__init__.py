"""Branched diffusion models of single-cell gene expression, from raw counts to generated cells."""

__version__ = "0.1.0"
