"""How far two samples are apart: nearest neighbours, kernels and Gaussian moments.

Every function takes two float arrays with one row per cell and the same columns, and is symmetric in them. Which
transform the columns come from is the caller's business; it must not have been fitted on either sample, or even two
halves of the same cells become separable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

Floats = NDArray[np.floating[Any]]

N_KERNELS = 5
"""Kernels of the mixture, each half as wide as the one before."""
WIDEST = 4.0
"""Width of the widest kernel, in bandwidths."""
BLOCK = 2**22
"""Distances held in memory at once."""


def nearest_neighbour_accuracy(a: Floats, b: Floats) -> float:
    """Share of cells whose nearest other cell is of their own sample (leave-one-out); 0.5 for equal distributions.

    Below 0.5, one sample repeats cells of the other. Meant for samples of equal size.
    """
    cells = np.concatenate([a, b])
    from_b = np.arange(len(cells)) >= len(a)
    _, nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(cells).kneighbors()
    return float((from_b[nearest[:, 0]] == from_b).mean())


def mmd_squared(a: Floats, b: Floats, bandwidth: float) -> float:
    """Unbiased squared maximum mean discrepancy; zero in expectation, and so also negative, for equal distributions.

    E k(x, x') + E k(y, y') − 2 E k(x, y) over distinct cells (Gretton et al. 2012, eq. 3), with the mixture
    k = mean_f exp(−‖x − y‖² / (f · bandwidth)), f in {¼, ½, 1, 2, 4}; at least two cells on either side.
    """
    within = sum((_kernel_sum(x, x, bandwidth) - len(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2 * _kernel_sum(a, b, bandwidth) / (len(a) * len(b)))


def energy_distance(a: Floats, b: Floats) -> float:
    """Unbiased energy distance 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ over distinct cells, Euclidean, not squared.

    Székely & Rizzo 2013; at least two cells on either side.
    """
    within = sum(_distance_sum(x, x) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(2 * _distance_sum(a, b) / (len(a) * len(b)) - within)


def frechet_parts(a: Floats, b: Floats) -> tuple[float, float]:
    """Fréchet distance between the Gaussians of two samples, as its part of the means and that of the covariances.

    ‖m_a − m_b‖² and tr(S_a + S_b − 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}) (Dowson & Landau 1982). The second is biased
    upwards for few cells, so it needs a floor; at least two cells on either side.
    """
    difference = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False, dtype=np.float64)) for x in (a, b))
    values, vectors = eigh(covariance_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(eigh(root @ covariance_b @ root, eigvals_only=True).clip(0)).sum()
    return float(difference @ difference), float(np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross)


def median_squared_distance(a: Floats) -> float:
    """Median of ‖x − x'‖² over distinct cells."""
    return float(np.median(euclidean_distances(a, squared=True)[np.triu_indices(len(a), k=1)]))


def squared_distances(a: Floats, b: Floats) -> Iterator[Floats]:
    """Blocks of rows of the matrix of ‖x − y‖², shape (rows, len(b))."""
    step = max(1, BLOCK // len(b))
    for start in range(0, len(a), step):
        yield euclidean_distances(a[start : start + step], b, squared=True)


def kernel_blocks(a: Floats, b: Floats, bandwidth: float) -> Iterator[Floats]:
    """Blocks of rows of the matrix of k(x, y), the mixture of Gaussian kernels of `mmd_squared`."""
    for distances in squared_distances(a, b):
        kernel = np.exp(distances / (-WIDEST * bandwidth))
        mixture = kernel / N_KERNELS
        for _ in range(N_KERNELS - 1):
            kernel *= kernel  # squaring halves the width of a Gaussian kernel
            mixture += kernel / N_KERNELS
        yield mixture


def _kernel_sum(a: Floats, b: Floats, bandwidth: float) -> float:
    """Sum of k(x, y) over all pairs."""
    return sum(float(kernel.sum()) for kernel in kernel_blocks(a, b, bandwidth))


def _distance_sum(a: Floats, b: Floats) -> float:
    return sum(float(np.sqrt(distances).sum()) for distances in squared_distances(a, b))
