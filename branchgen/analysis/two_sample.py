"""How far two samples are apart: classifiers, nearest neighbours, kernels and Gaussian moments.

Every function takes two float arrays with one row per cell and the same columns, and is symmetric in them up to the
draws of its generator. Which transform the columns come from is the caller's business; it must not have been fitted on
either sample, or even two halves of the same cells become separable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

Floats = NDArray[np.floating[Any]]

N_FOLDS = 5
"""Folds of the cross-validation of a classifier, and so the least number of cells on either side."""
N_TREES = 100
"""Trees of the random forest."""
N_KERNELS = 5
"""Kernels of the mixture, each half as wide as the one before."""
WIDEST = 4.0
"""Width of the widest kernel, in bandwidths."""
BLOCK = 2**22
"""Distances held in memory at once."""


def c2st_auc(a: Floats, b: Floats, rng: np.random.Generator) -> float:
    """Area under the curve of gradient-boosted trees that tell `a` from `b`; 0.5 where they cannot, 1 where they can.

    Scores are out of fold (5-fold, stratified). The classifier two-sample test of Lopez-Paz & Oquab 2017.
    """
    # Early stopping would depend on the number of cells: scikit-learn turns it on above 10,000. A quarter of the
    # default bins halves the time and costs no power.
    trees = HistGradientBoostingClassifier(max_bins=63, early_stopping=False, random_state=_state(rng))
    # Its threads wait for each other at every node: on busy cores, several are many times slower than one.
    with threadpool_limits(1, user_api="openmp"):
        return _held_out_auc(trees, a, b, rng)


def forest_auc(a: Floats, b: Floats, rng: np.random.Generator) -> float:
    """The same with a random forest, which sees few coordinates (principal components) better than many."""
    forest = RandomForestClassifier(N_TREES, min_samples_leaf=3, n_jobs=-1, random_state=_state(rng))
    return _held_out_auc(forest, a, b, rng)


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


def _kernel_sum(a: Floats, b: Floats, bandwidth: float) -> float:
    """Sum of k(x, y) over all pairs."""
    total = 0.0
    for distances in squared_distances(a, b):
        kernel = np.exp(distances / (-WIDEST * bandwidth))
        total += kernel.sum()
        for _ in range(N_KERNELS - 1):
            kernel *= kernel  # squaring halves the width of a Gaussian kernel
            total += kernel.sum()
    return total / N_KERNELS


def _distance_sum(a: Floats, b: Floats) -> float:
    return sum(float(np.sqrt(distances).sum()) for distances in squared_distances(a, b))


def _held_out_auc(classifier: Any, a: Floats, b: Floats, rng: np.random.Generator) -> float:
    labels = np.repeat([0, 1], [len(a), len(b)])
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=_state(rng))
    scores = cross_val_predict(classifier, np.concatenate([a, b]), labels, cv=folds, method="predict_proba")
    return float(roc_auc_score(labels, scores[:, 1]))


def _state(rng: np.random.Generator) -> int:
    """Seed for scikit-learn, which takes 32 bits."""
    return int(rng.integers(2**32, dtype=np.uint32))
