"""Counts from a known low-rank model."""

from __future__ import annotations

import numpy as np
from scipy import sparse

N_GENES, DISPERSION = 60, 5.0
GENES = tuple(f"g{i}" for i in range(N_GENES))


def expected_counts(n_cells: int, seed: int) -> np.ndarray:
    """Rates from a two-dimensional latent space and log-normal library sizes."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(99).normal(size=(2, N_GENES))
    profile = np.exp(rng.normal(size=(n_cells, 2)) @ loadings * 0.7)
    library = np.exp(rng.normal(7.0, 0.4, n_cells))
    return profile / profile.sum(axis=1, keepdims=True) * library[:, None]


def counts_of(rates: np.ndarray, seed: int) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(rng.poisson(rng.gamma(DISPERSION, rates / DISPERSION)).astype(np.int32))


TRAIN, REF = (counts_of(expected_counts(n, seed), seed) for n, seed in ((900, 1), (200, 2)))
