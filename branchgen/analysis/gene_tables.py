"""Genes of real and of generated cells side by side: moments, fold changes at the branch points, correlations.

Every source is matched with test, type by type, as in the metrics; these are the tables behind the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from branchgen.analysis.correlation import correlated_genes, correlation_table, correlations
from branchgen.analysis.expression import Doubles, gene_moments, slope
from branchgen.analysis.metrics import MIN_CELLS_OF_GENES, MIN_CELLS_PER_TYPE, large_types
from branchgen.analysis.pairs import pair_of, sources_of
from branchgen.analysis.samples import ALL, LIMIT, TEST, TRAIN, Cells, Study
from branchgen.hierarchy.tree import Hierarchy

Pairs = dict[str, tuple[Cells, Cells]]
Contrast = tuple[str, str, Sequence[str], Sequence[str]]


def matched_pairs(study: Study, seed: int) -> Pairs:
    """Matched test cells and cells of every source but the training cells: those of the first repeat."""
    return {source: pair_of(study, source, seed, 0) for source in sources_of(study) if source not in {LIMIT, TRAIN}}


def gene_table(study: Study, pairs: Pairs) -> pd.DataFrame:
    """Moments of the counts of every gene: source, group (``all`` or a type), gene, mean, variance, zeros, n_cells.

    zeros is the share of cells without a count. The source ``test`` has all real cells that the others are compared
    with; types with fewer than ten cells are left out.
    """
    tables = []
    for source, cells in {TEST: study.splits[TEST], **{name: other for name, (_, other) in pairs.items()}}.items():
        for group in (ALL, *large_types(cells)):
            part = cells if group == ALL else cells.of_types([group])
            mean, variance, zeros = gene_moments(part.counts)
            columns = {"mean": mean, "variance": variance, "zeros": zeros}
            tables.append(
                pd.DataFrame({"source": source, "group": group, "gene": study.genes, **columns, "n_cells": len(part)})
            )
    return _compact(pd.concat(tables, ignore_index=True), "source", "group", "gene")


def fold_change_table(study: Study, hierarchy: Hierarchy, pairs: Pairs) -> pd.DataFrame:
    """Log-fold-changes at every branch point: branch, child, gene, source, real, generated, slope, n_cells.

    real and generated are the difference in mean log-normalised expression (natural logarithm) of a variable gene
    between a child and its siblings, on either side of the comparison; of two children only the first is listed, the
    second being its negative. slope is that of generated on real over the genes, through the origin; n_cells the
    number on the smaller side. Left out where that is below ten.
    """
    columns = ["branch", "child", "source", "gene", "real", "generated", "slope", "n_cells"]
    names = study.genes[study.reference.variable]
    tables = []
    for source, (real, other) in pairs.items():
        expression = [study.reference.expression(cells.counts) for cells in (real, other)]
        for branch, child, own, siblings in contrasts(hierarchy):
            inside, beside = (np.flatnonzero(np.isin(real.types, classes)) for classes in (own, siblings))
            n_cells = min(len(inside), len(beside))
            if n_cells < MIN_CELLS_PER_TYPE:
                continue
            change, generated = (
                np.asarray(side[inside].mean(axis=0) - side[beside].mean(axis=0)).ravel() for side in expression
            )
            steepness = slope(change, generated) if change.any() else np.nan
            values = {"real": change, "generated": generated, "slope": steepness, "n_cells": n_cells}
            tables.append(pd.DataFrame({"branch": branch, "child": child, "source": source, "gene": names, **values}))
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return _compact(found[columns], "branch", "child", "source", "gene")


def contrasts(hierarchy: Hierarchy) -> list[Contrast]:
    """Branch, child, and the classes of the child and of its siblings, for every comparison at a branch point."""
    found: list[Contrast] = []
    for position in hierarchy.branch_points:
        children = [hierarchy.branches[child] for child in hierarchy.children[position]]
        for child in children[:1] if len(children) == 2 else children:
            siblings = [name for other in children if other is not child for name in other.classes]
            found.append((hierarchy.branches[position].name, child.name, child.classes, siblings))
    return found


def correlations_table(study: Study, pairs: Pairs) -> pd.DataFrame:
    """Gene–gene correlations within types: group, source, gene_a, gene_b, correlation, n_cells.

    n_cells are the real cells of the type. The genes are those that a type expresses most, in the order of a
    clustering; ``test`` is the real source. Types with fewer than 30 cells are left out.
    """
    test = study.splits[TEST]
    types = [name for name, n in test.n_per_type().items() if n >= MIN_CELLS_OF_GENES]
    genes_of = correlated_genes(study.splits["ref"], study.reference, types)
    tables = []
    for name, genes in genes_of.items():
        found: dict[str, Doubles] = {}
        for source, cells in {TEST: test, **{source: other for source, (_, other) in pairs.items()}}.items():
            part = cells.of_types([name])
            if len(part) >= MIN_CELLS_OF_GENES:
                found[source] = correlations(study.reference.expression(part.counts)[:, genes].toarray())
        n_cells = test.n_per_type()[name]
        tables.append(correlation_table(name, n_cells, study.genes[study.reference.variable][genes], found))
    columns = ["group", "source", "gene_a", "gene_b", "correlation", "n_cells"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return _compact(table, "group", "source", "gene_a", "gene_b")


def _compact(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """With the repeated texts as categories, in their order of appearance."""
    return table.assign(**{name: pd.Categorical(table[name], table[name].unique()) for name in columns})
