"""All measures of how well generated cells match real ones, in one table of names and two functions.

Both functions take matched samples: as many cells of every type on either side. A measure that is not defined for so
few cells is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.coverage import N_NEIGHBOURS, coverage_of
from branchgen.analysis.expression import (
    N_TOP,
    Doubles,
    against_others,
    count_errors,
    pairwise_overlaps,
    pairwise_slopes,
    profiles,
    slope,
    top_overlap,
)
from branchgen.analysis.reference import Reference
from branchgen.analysis.two_sample import (
    N_FOLDS,
    c2st_auc,
    energy_distance,
    forest_auc,
    frechet_parts,
    mmd_squared,
    nearest_neighbour_accuracy,
)
from branchgen.seeds import numpy_rng

METRICS = {
    "c2st_auc": "Boosted trees on genes, AUC",
    "forest_auc": "Random forest on PCs, AUC",
    "nearest_neighbour_accuracy": "1-NN accuracy",
    "mmd_squared": "MMD²",
    "mmd_squared_by_type": "MMD², mean over types",
    "energy_distance": "Energy distance",
    "frechet_mean": "Fréchet, means",
    "frechet_covariance": "Fréchet, covariances",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "lfc_slope": "Slope of log-fold-changes",
    "lfc_top_overlap": "Overlap of top 100 genes",
    "gene_mean": "Error of gene means",
    "gene_variance": "Error of gene variances",
    "gene_zeros": "Error of gene zeros",
    "library_size": "Error of library sizes",
    "genes_detected": "Error of genes detected",
    "nearer_train": "Nearer to train than holdout",
    "distance_ratio_p5": "Distance ratio, 5th percentile",
    "duplicate_rate": "Duplicate rate",
}
"""Label of every metric, in the order of tables and figures."""
MIN_CELLS_PER_TYPE = 10
"""Types with fewer matched cells get no metrics of their own: they would be noise alone."""

Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Counts, CSR of shape (n_cells, n_genes), and type of every cell."""

    counts: sparse.csr_matrix
    types: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.types)

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """These cells, in this order."""
        return Cells(counts=self.counts[rows], types=self.types[rows])

    def n_per_type(self) -> dict[str, int]:
        """Number of cells of every type, in the order of the names."""
        names, numbers = np.unique(self.types, return_counts=True)
        return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def pooled_metrics(real: Cells, generated: Cells, reference: Reference, max_cells: int, seed: int, name: str) -> Values:
    """Metrics over all types; at most `max_cells` a side for those that compare every cell with every other.

    Generators are named after `seed` and `name`, the source of the generated cells.
    """
    values: Values = dict(
        zip(_COUNT_METRICS, asdict(count_errors(real.counts, generated.counts)).values(), strict=True)
    )
    values |= _fold_changes(real, generated, reference)
    if len(real) > max_cells:
        # The same rows on both sides, so that the types stay matched.
        rows = np.sort(numpy_rng(seed, "evaluate", name, "rows").choice(len(real), max_cells, replace=False))
        real, generated = real.take(rows), generated.take(rows)
    a, b = reference.project(real.counts), reference.project(generated.counts)
    values["nearest_neighbour_accuracy"] = nearest_neighbour_accuracy(a, b)
    if len(a) >= N_FOLDS:
        genes = reference.expression(real.counts).toarray(), reference.expression(generated.counts).toarray()
        values["c2st_auc"] = c2st_auc(*genes, numpy_rng(seed, "evaluate", name, "c2st"))
        values["forest_auc"] = forest_auc(a, b, numpy_rng(seed, "evaluate", name, "forest"))
    if len(a) > 1:
        values["mmd_squared"] = mmd_squared(a, b, reference.bandwidth)
        values["energy_distance"] = energy_distance(a, b)
        values["frechet_mean"], values["frechet_covariance"] = frechet_parts(a, b)
    if len(a) > N_NEIGHBOURS:
        values |= asdict(coverage_of(a, b))
    return values


def type_metrics(real: Cells, generated: Cells, reference: Reference, max_cells: int) -> dict[str, Values]:
    """Metrics of every type with enough cells: MMD², and its log-fold-changes against the mean of the other types."""
    values: dict[str, Values] = {}
    names = _large_types(real)
    for name in names:
        rows = np.flatnonzero(real.types == name)[:max_cells], np.flatnonzero(generated.types == name)[:max_cells]
        a, b = reference.project(real.counts[rows[0]]), reference.project(generated.counts[rows[1]])
        values[name] = {"mmd_squared": mmd_squared(a, b, reference.bandwidth)}
    if len(names) < 2:
        return values
    changes = [against_others(of_types) for of_types in _profiles(real, generated, names, reference)]
    for name, change, generated_change in zip(names, *changes, strict=True):
        if change.any():
            values[name]["lfc_slope"] = slope(change, generated_change)
        if len(change) >= 2 * N_TOP:
            values[name]["lfc_top_overlap"] = top_overlap(change, generated_change)
    return values


_COUNT_METRICS = ("gene_mean", "gene_variance", "gene_zeros", "library_size", "genes_detected")


def _fold_changes(real: Cells, generated: Cells, reference: Reference) -> Values:
    """Means over all pairs of types with enough cells."""
    names = _large_types(real)
    if len(names) < 2:
        return {}
    of_types = _profiles(real, generated, names, reference)
    slopes = pairwise_slopes(*of_types)
    values = {"lfc_slope": float(slopes.mean())} if len(slopes) else {}
    if len(reference.variable) >= 2 * N_TOP:
        values["lfc_top_overlap"] = float(pairwise_overlaps(*of_types).mean())
    return values


def _profiles(real: Cells, generated: Cells, names: Sequence[str], reference: Reference) -> tuple[Doubles, Doubles]:
    """Mean log-normalised expression of the variable genes in every named type, on either side."""
    a, b = (profiles(reference.expression(cells.counts), cells.types, names) for cells in (real, generated))
    return a, b


def _large_types(cells: Cells) -> list[str]:
    return [name for name, n in cells.n_per_type().items() if n >= MIN_CELLS_PER_TYPE]
