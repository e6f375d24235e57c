"""All measures of how well generated cells match real ones: one table of names, and what is computed for a group.

All functions take matched samples: as many cells of every type on either side. A measure that is not defined for so
few cells is left out. Classifiers between real and generated genes have a module of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.classifiers import N_FOLDS, random_forest, tell_apart
from branchgen.analysis.correlation import compare_correlations, correlations
from branchgen.analysis.coverage import N_NEIGHBOURS, coverage_of
from branchgen.analysis.curves import curve_errors
from branchgen.analysis.expression import (
    N_TOP,
    Doubles,
    against_others,
    count_errors,
    gene_moments,
    pairwise_overlaps,
    pairwise_slopes,
    profiles,
    slope,
    top_overlap,
)
from branchgen.analysis.permutation import mmd_p_value
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells
from branchgen.analysis.transfer import transfer_f1
from branchgen.analysis.two_sample import energy_distance, frechet_parts, mmd_squared, nearest_neighbour_accuracy
from branchgen.config import EvaluateSettings

METRICS = {
    "c2st_auc": "Boosted trees on genes, AUC",
    "forest_auc": "Random forest on PCs, AUC",
    "nearest_neighbour_accuracy": "1-NN accuracy",
    "mmd_squared": "MMD²",
    "mmd_p_value": "MMD², permutation p-value",
    "mmd_squared_by_type": "MMD², mean over types",
    "energy_distance": "Energy distance",
    "frechet_mean": "Fréchet, means",
    "frechet_covariance": "Fréchet, covariances",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "gene_mean": "Error of gene means",
    "gene_variance": "Error of gene variances",
    "gene_zeros": "Error of gene zeros",
    "mean_variance_curve": "Error of mean–variance curve",
    "mean_zeros_curve": "Error of mean–zeros curve",
    "library_size": "Error of library sizes",
    "genes_detected": "Error of genes detected",
    "correlation_error": "Error of gene correlations",
    "correlation_agreement": "Agreement of gene correlations",
    "lfc_slope": "Slope of log-fold-changes",
    "lfc_top_overlap": "Overlap of top 100 genes",
    "tstr_macro_f1": "Types learnt from it, macro-F1",
    "nearer_train": "Nearer to train than holdout",
    "distance_ratio_p5": "Distance ratio, 5th percentile",
    "duplicate_rate": "Duplicate rate",
}
"""Label of every metric, in the order of tables and figures."""
SCALES = {"mmd_squared": 1e3, "mmd_squared_by_type": 1e3}
"""Factors by which metrics that are small by nature are shown."""
OVER_TYPES = {
    "mmd_squared": "mmd_squared_by_type",
    "correlation_error": "correlation_error",
    "correlation_agreement": "correlation_agreement",
}
"""Metrics of types whose mean over types is a metric of all cells, by its name there."""
MIN_CELLS_PER_TYPE = 10
"""Types with fewer matched cells get no metrics of their own: they would be noise alone."""
MIN_CELLS_OF_GENES = 30
"""Types with fewer matched cells get no classifier and no gene–gene correlations of their own."""
MAX_PERMUTED_CELLS = 1000
"""Cells on either side of the permutation test, at most."""
MAX_GROUP_CELLS = 1000
"""Cells on either side of what is computed for every branch, and of every type's classifier, at most."""

Values = dict[str, float]
NamedGenerator = Callable[..., np.random.Generator]


@dataclass(frozen=True, kw_only=True)
class View:
    """Cells in the transforms of the reference: principal components and log-normalised variable genes."""

    cells: Cells
    scores: Doubles
    expression: sparse.csr_matrix

    @classmethod
    def of(cls, cells: Cells, reference: Reference) -> View:
        """All that the metrics look at."""
        scores, expression = reference.transform(cells.counts)
        return cls(cells=cells, scores=scores, expression=expression)

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: NDArray[np.int64]) -> View:
        """These cells, in this order."""
        return View(cells=self.cells.take(rows), scores=self.scores[rows], expression=self.expression[rows])

    def of_types(self, names: Sequence[str]) -> View:
        """The cells of these types."""
        return self.take(np.flatnonzero(np.isin(self.cells.types, names)))

    def genes(self) -> Doubles:
        """Dense log-normalised expression of the variable genes, shape (n_cells, n_variable)."""
        dense: Doubles = self.expression.toarray()
        return dense


def at_most(a: View, b: View, n_cells: int, rng: np.random.Generator) -> tuple[View, View]:
    """`n_cells` of matched cells, the same rows on both sides, so that the types stay matched; all where fewer."""
    if len(a) <= n_cells:
        return a, b
    rows = np.sort(rng.choice(len(a), n_cells, replace=False))
    return a.take(rows), b.take(rows)


def pooled_metrics(
    real: View, generated: View, bandwidth: float, settings: EvaluateSettings, rng: NamedGenerator
) -> Values:
    """Metrics over all types; at most `max_cells` a side for those that compare every cell with every other.

    `rng` gives the generator of a name.
    """
    counts = real.cells.counts, generated.cells.counts
    values: Values = asdict(count_errors(*counts))
    values |= curve_errors(gene_moments(counts[0]), gene_moments(counts[1]))
    values |= _fold_changes(real, generated)
    some = at_most(real, generated, settings.max_cells, rng("rows"))
    a, b = (view.scores for view in some)
    types = some[0].cells.types
    values["nearest_neighbour_accuracy"] = nearest_neighbour_accuracy(a, b)
    if len(a) >= N_FOLDS:
        values["forest_auc"] = tell_apart(random_forest, a, b, rng("forest")).auc
    if len(a) > 1:
        values["mmd_squared"] = mmd_squared(a, b, bandwidth)
        values["energy_distance"] = energy_distance(a, b)
        values["frechet_mean"], values["frechet_covariance"] = frechet_parts(a, b)
        shuffled = rng("permutations")
        rows = np.sort(shuffled.permutation(len(a))[:MAX_PERMUTED_CELLS])
        values["mmd_p_value"] = mmd_p_value(a[rows], b[rows], types[rows], bandwidth, settings.n_permutations, shuffled)
    if len(a) > N_NEIGHBOURS:
        values |= asdict(coverage_of(a, b))
    if len(set(types)) > 1:
        values["tstr_macro_f1"] = transfer_f1(b, types, a, types)
    return values


def type_metrics(
    real: View, generated: View, genes_of: dict[str, NDArray[np.int64]], bandwidth: float, max_cells: int
) -> dict[str, Values]:
    """Metrics of every type with enough cells, each against the same type; fold changes against the other types.

    `genes_of` are the genes of a type whose correlations are compared.
    """
    values: dict[str, Values] = {}
    names = large_types(real.cells)
    for name in names:
        # The types of matched samples are the same, row by row.
        rows = np.flatnonzero(real.cells.types == name)[:max_cells]
        a, b = real.take(rows), generated.take(rows)
        values[name] = {"mmd_squared": mmd_squared(a.scores, b.scores, bandwidth)}
        if len(rows) >= MIN_CELLS_OF_GENES and name in genes_of:
            of_type = (correlations(side.expression[:, genes_of[name]].toarray()) for side in (a, b))
            values[name] |= compare_correlations(*of_type)
    if len(names) < 2:
        return values
    changes = [against_others(of_types) for of_types in _profiles(real, generated, names)]
    for name, change, generated_change in zip(names, *changes, strict=True):
        if change.any():
            values[name]["lfc_slope"] = slope(change, generated_change)
        if len(change) >= 2 * N_TOP:
            values[name]["lfc_top_overlap"] = top_overlap(change, generated_change)
    return values


def branch_metrics(real: View, generated: View, bandwidth: float) -> Values:
    """Metrics of the cells of all types below a branch; none of fewer than ten cells."""
    if len(real) < MIN_CELLS_PER_TYPE:
        return {}
    found = coverage_of(real.scores, generated.scores)
    return {
        "mmd_squared": mmd_squared(real.scores, generated.scores, bandwidth),
        "precision": found.precision,
        "recall": found.recall,
    }


def means_over_types(of_types: dict[str, Values], n_cells: dict[str, int]) -> Values:
    """Means weighted by cells: standard errors go with 1/n, so rare types would drown the others."""
    means = {}
    for metric, name in OVER_TYPES.items():
        known = [type_ for type_, values in of_types.items() if np.isfinite(values.get(metric, np.nan))]
        if known:
            weights = [n_cells[type_] for type_ in known]
            means[name] = float(np.average([of_types[type_][metric] for type_ in known], weights=weights))
    return means


def large_types(cells: Cells) -> list[str]:
    """Types with cells enough for metrics of their own."""
    return [name for name, n in cells.n_per_type().items() if n >= MIN_CELLS_PER_TYPE]


def _fold_changes(real: View, generated: View) -> Values:
    """Means over all pairs of types with enough cells."""
    names = large_types(real.cells)
    if len(names) < 2:
        return {}
    of_types = _profiles(real, generated, names)
    slopes = pairwise_slopes(*of_types)
    values = {"lfc_slope": float(slopes.mean())} if len(slopes) else {}
    if real.expression.shape[1] >= 2 * N_TOP:
        values["lfc_top_overlap"] = float(pairwise_overlaps(*of_types).mean())
    return values


def _profiles(real: View, generated: View, names: Sequence[str]) -> tuple[Doubles, Doubles]:
    """Mean log-normalised expression of the variable genes in every named type, on either side."""
    a, b = (profiles(side.expression, side.cells.types, names) for side in (real, generated))
    return a, b
