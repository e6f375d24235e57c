"""Whether generated counts have the statistics of real ones: genes, cells, and what differs between types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import wasserstein_distance

from branchgen.cells.keys import POPULATION

if TYPE_CHECKING:
    from anndata import AnnData

Doubles = NDArray[np.float64]

TARGET_TOTAL = 1e4
"""Counts per cell after normalisation."""
N_TOP = 100
"""Genes with the largest log-fold-changes that are compared."""


@dataclass(frozen=True, kw_only=True)
class CountErrors:
    """Errors of count statistics, all relative to the real ones and zero for equal samples."""

    gene_mean: float
    gene_variance: float
    gene_zeros: float
    library_size: float
    genes_detected: float


def normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts scaled to a total of 10⁴ per cell, float64; empty cells stay empty."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    values = counts.astype(np.float64)
    values.data *= np.repeat(TARGET_TOTAL / np.maximum(totals, 1), np.diff(counts.indptr))
    return values


def mean_profiles(at_branch: AnnData) -> dict[str, Doubles]:
    """Mean ln(1 + expected counts per 10⁴) of every population at one branch point, by its name, each (n_genes,)."""
    groups = at_branch.obs.groupby(POPULATION, observed=True).indices
    return {str(name): np.asarray(at_branch.X[rows], dtype=float).mean(axis=0) for name, rows in groups.items()}


def count_errors(real: sparse.csr_matrix, generated: sparse.csr_matrix) -> CountErrors:
    """Errors of the counts' marginal statistics; both of shape (n_cells, n_genes).

    Per gene, the median over genes of |generated − real| / real for mean, variance and share of zeros, among the
    genes where the real one is positive (NaN where there is none); per cell, the Wasserstein-1 distance between the
    distributions of the library size and of the number of detected genes, over the real mean.
    """
    gene = [_median_relative_error(a, b) for a, b in zip(gene_moments(real), gene_moments(generated), strict=True)]
    totals, detected = (
        wasserstein_distance(a, b) / a.mean() for a, b in zip(_per_cell(real), _per_cell(generated), strict=True)
    )
    return CountErrors(
        gene_mean=gene[0],
        gene_variance=gene[1],
        gene_zeros=gene[2],
        library_size=float(totals),
        genes_detected=float(detected),
    )


def profiles(expression: sparse.csr_matrix, types: NDArray[np.str_], names: Sequence[str]) -> Doubles:
    """Mean log-normalised expression of every named type, shape (n_types, n_genes).

    Means of logarithms, not logarithms of means: of a few dozen cells, the latter are mostly noise.
    """
    return np.stack([np.asarray(expression[types == name].mean(axis=0)).ravel() for name in names])


def pairwise_slopes(real: Doubles, generated: Doubles) -> Doubles:
    """Slopes of generated on real log-fold-changes, for every pair of types.

    With profiles p_c (rows of `real`) and q_c (of `generated`), the regression through the origin over genes:
    Σ_g (p_c − p_d)_g (q_c − q_d)_g / Σ_g (p_c − p_d)_g², below one where a generator washes out differences. Noise in
    the real profiles attenuates it as well, so it needs a floor. Pairs of equal real profiles are left out.
    """
    first, second = np.triu_indices(len(real), k=1)
    cross, square = real @ generated.T, real @ real.T

    def of_pairs(products: Doubles) -> Doubles:
        diagonal = np.diag(products)
        pairs: Doubles = diagonal[first] + diagonal[second] - products[first, second] - products[second, first]
        return pairs

    return of_pairs(cross)[of_pairs(square) > 0] / of_pairs(square)[of_pairs(square) > 0]


def slope(real: Doubles, generated: Doubles) -> float:
    """Slope through the origin of `generated` on `real`, one value per gene each."""
    return float(real @ generated / (real @ real))


def pairwise_overlaps(real: Doubles, generated: Doubles) -> Doubles:
    """Share of common genes among the hundred with the largest |log-fold-change|, for every pair of types c < d."""
    first, second = np.triu_indices(len(real), k=1)
    return np.array(
        [top_overlap(real[c] - real[d], generated[c] - generated[d]) for c, d in zip(first, second, strict=True)]
    )


def top_overlap(real: Doubles, generated: Doubles) -> float:
    """Share of common genes among the hundred with the largest values on either side; more than a hundred genes."""
    first, second = (np.argpartition(-np.abs(change), N_TOP)[:N_TOP] for change in (real, generated))
    return len(np.intersect1d(first, second)) / N_TOP


def against_others(of_types: Doubles) -> Doubles:
    """Log-fold-changes of every type against the mean profile of the other types, shape (n_types, n_genes)."""
    n_types = len(of_types)
    others = (of_types.sum(axis=0) - of_types) / (n_types - 1)
    changes: Doubles = of_types - others
    return changes


def gene_moments(counts: sparse.csr_matrix) -> tuple[Doubles, Doubles, Doubles]:
    """Mean, variance and share of zeros of every gene."""
    values = counts.astype(np.float64)
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    zeros = 1 - np.asarray((values > 0).sum(axis=0)).ravel() / values.shape[0]
    return mean, square - mean**2, zeros


def _median_relative_error(real: Doubles, generated: Doubles) -> float:
    present = real > 0
    if not present.any():
        return float("nan")
    return float(np.median(np.abs(generated[present] - real[present]) / real[present]))


def _per_cell(counts: sparse.csr_matrix) -> tuple[Doubles, Doubles]:
    """Library size and number of detected genes of every cell."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return totals, np.asarray((counts > 0).sum(axis=1), dtype=np.float64).ravel()
