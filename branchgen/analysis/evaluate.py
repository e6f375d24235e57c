"""Generated cells against held-out real ones, beside a floor and baselines, at equal numbers of every type."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from branchgen.analysis.classifiers import (
    N_FOLDS,
    HeldOut,
    MakeClassifier,
    boosted_trees,
    penalised_logistic,
    tell_apart,
)
from branchgen.analysis.correlation import correlated_genes
from branchgen.analysis.memorisation import NEARER, Memory
from branchgen.analysis.metrics import (
    MAX_GROUP_CELLS,
    METRICS,
    MIN_CELLS_OF_GENES,
    Values,
    View,
    at_most,
    branch_metrics,
    means_over_types,
    pooled_metrics,
    type_metrics,
)
from branchgen.analysis.pairs import pair_of, sources_of
from branchgen.analysis.samples import ALL, FLOOR, LIMIT, REAL, TEST, TRAIN, Study
from branchgen.analysis.threads import side_by_side
from branchgen.analysis.verdicts import VARIANCE, important_genes, verdict_table
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Branch, Hierarchy
from branchgen.seeds import numpy_rng

CLASS, BRANCH = "class", "branch"
KINDS = (ALL, CLASS, BRANCH)
"""What a row is about: all cells, those of a type, or those of all types below a branch."""
COLUMNS = ["source", "kind", "group", "metric", "value", "sd", "n_cells", "n_seeds"]

log = logging.getLogger(__name__)


@dataclass
class Runs:
    """What the comparisons found: a row for every repeat and metric, and the genes of every classifier."""

    rows: list[tuple[int, str, str, str, str, float, int]] = field(default_factory=list)
    n_cells: dict[tuple[str, str], int] = field(default_factory=dict)
    genes: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, repeat: int, source: str, kind: str, group: str, values: Values, n_cells: int) -> None:
        """Keep the values that are numbers."""
        self.rows += [
            (repeat, source, kind, group, metric, value, n_cells)
            for metric, value in values.items()
            if np.isfinite(value)
        ]

    @classmethod
    def joined(cls, parts: Iterable[Runs]) -> Runs:
        """All that several comparisons found."""
        whole = cls()
        for part in parts:
            whole.rows += part.rows
            whole.n_cells |= part.n_cells
            whole.genes |= part.genes
        return whole

    def table(self) -> pd.DataFrame:
        """One row per repeat, source, kind, group and metric."""
        columns = ["repeat", "source", "kind", "group", "metric", "value", "n_cells"]
        return pd.DataFrame(self.rows, columns=columns)


def evaluate(
    study: Study, hierarchy: Hierarchy, settings: EvaluateSettings, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics in long form, and a verdict on every type.

    Every source is compared with test at equal numbers of every type: the smaller of the two. Where a source lacks a
    type, as a split by donor may, the type is left out on both sides. All that is random (which cells are matched,
    folds, classifiers, draws, subsamples) is repeated `n_seeds` times; a metric is the mean, beside the standard
    deviation between the repeats. Neither depends on the order of the cells.
    Raises BranchgenError where the cells have types that the hierarchy does not.
    """
    strange = sorted(study.splits[TEST].n_per_type().keys() - set(hierarchy.classes))
    if strange:
        raise BranchgenError(
            f"the prepared cells are of type {', '.join(map(repr, strange))}, unknown to the hierarchy; "
            "give the hierarchy that was derived from them"
        )
    test = study.splits[TEST]
    types = tuple(test.n_per_type())
    genes_of = correlated_genes(study.splits["ref"], study.reference, types)
    memory = Memory(study.splits["train"], study.splits["holdout"], study.reference, seed)

    def compared(run: tuple[int, str]) -> Runs:
        return _compare(study, hierarchy, settings, seed, genes_of, memory, *run)

    each = side_by_side(compared, product(range(settings.n_seeds), sources_of(study)))
    runs = Runs.joined(each)
    table = runs.table()
    judged = tuple(name for name in sources_of(study) if name not in REAL)
    return summary(table, settings.n_seeds), verdict_table(table, judged, (*types, ALL), runs.n_cells, runs.genes)


def _compare(
    study: Study,
    hierarchy: Hierarchy,
    settings: EvaluateSettings,
    seed: int,
    genes_of: dict[str, NDArray[np.int64]],
    memory: Memory,
    repeat: int,
    source: str,
) -> Runs:
    """One source against test, once."""
    runs = Runs()
    real, other = pair_of(study, source, seed, repeat)
    log.info(
        "repeat %d: comparing %s with test, %d of %d cells", repeat + 1, source, len(real), len(study.splits[TEST])
    )
    rng = partial(numpy_rng, seed, "evaluate", source, repeat)
    a, b = View.of(real, study.reference), View.of(other, study.reference)
    of_types = type_metrics(a, b, genes_of, study.reference.bandwidth, settings.max_cells)
    values = pooled_metrics(a, b, study.reference.bandwidth, settings, rng)
    values |= means_over_types(of_types, real.n_per_type())
    # Real cells that no generator has seen are the floor of memorisation; holdout itself is its yardstick.
    seen = a if source == FLOOR else memory.about_their_means(a) if source == LIMIT else b
    remembered, of_each = memory.metrics(seen, settings.max_cells, repeat)
    if source == LIMIT:
        remembered = {name: value for name, value in remembered.items() if name == NEARER}
    values |= remembered
    for name, of_type in of_each.items():
        of_types.setdefault(name, {}).update(of_type)
    runs.add(repeat, source, ALL, ALL, values, len(real))
    for name, of_type in of_types.items():
        runs.add(repeat, source, CLASS, name, of_type, real.n_per_type()[name])
    _classify(runs, repeat, source, study, (a, b), settings, rng)
    if source not in {LIMIT, TRAIN}:
        _compare_branches(runs, repeat, source, study, hierarchy, (a, b), rng)
    return runs


def summary(runs: pd.DataFrame, n_seeds: int) -> pd.DataFrame:
    """Mean and standard deviation (n − 1; not a number for one repeat) over the repeats, in a fixed order."""
    order = list(METRICS)
    runs = runs[runs["metric"].isin(order)]
    keys = ["source", "kind", "group", "metric"]
    found = runs.groupby(keys, sort=False).agg(
        value=("value", "mean"), sd=("value", "std"), n_cells=("n_cells", "min"), n_seeds=("value", "size")
    )
    table = found.reset_index()
    ranks = pd.DataFrame(
        {
            "source": table["source"].map({name: i for i, name in enumerate(dict.fromkeys(runs["source"]))}),
            "kind": table["kind"].map(KINDS.index),
            "group": table["group"].map({name: i for i, name in enumerate(dict.fromkeys(runs["group"]))}),
            "metric": table["metric"].map(order.index),
        }
    )
    return table.loc[ranks.sort_values(keys).index, COLUMNS].reset_index(drop=True)


def branches_of(hierarchy: Hierarchy) -> list[Branch]:
    """Branches of several classes, but fewer than all: the first of each set of classes."""
    found: dict[frozenset[str], Branch] = {}
    for branch in hierarchy.branches:
        if 1 < len(branch.classes) < len(hierarchy.classes):
            found.setdefault(frozenset(branch.classes), branch)
    return list(found.values())


def _classify(
    runs: Runs,
    repeat: int,
    source: str,
    study: Study,
    views: tuple[View, View],
    settings: EvaluateSettings,
    rng: partial[np.random.Generator],
) -> None:
    """Classifiers between both samples: over all types and, of the floor and of generators, for every type."""
    pooled = at_most(*views, settings.max_cells, rng("rows"))
    groups = [(ALL, ALL, pooled, boosted_trees, N_FOLDS)]
    for name, n_cells in views[0].cells.n_per_type().items():
        runs.n_cells[source, name] = n_cells
        if source not in {LIMIT, TRAIN}:
            real, other = (view.of_types([name]) for view in views)
            some = at_most(real, other, MAX_GROUP_CELLS, rng("rows", name))
            groups.append((CLASS, name, some, penalised_logistic, MIN_CELLS_OF_GENES))
    runs.n_cells[source, ALL] = len(views[0])
    for kind, group, some, classifier, least in groups:
        if len(some[0]) < least:
            continue
        found = _told_apart(classifier, some, rng("c2st", kind, group))
        values = {"c2st_auc": found.auc, VARIANCE: found.variance}
        runs.add(repeat, source, kind, group, values, runs.n_cells[source, group])
        if repeat == 0 and source not in REAL:
            names = study.genes[study.reference.variable]
            runs.genes[source, group] = important_genes(found, names, rng("importance", kind, group))


def _compare_branches(
    runs: Runs,
    repeat: int,
    source: str,
    study: Study,
    hierarchy: Hierarchy,
    views: tuple[View, View],
    rng: partial[np.random.Generator],
) -> None:
    """Metrics of all types below every branch."""
    for branch in branches_of(hierarchy):
        real, other = (view.of_types(branch.classes) for view in views)
        a, b = at_most(real, other, MAX_GROUP_CELLS, rng("rows", BRANCH, branch.name))
        values = branch_metrics(a, b, study.reference.bandwidth)
        if len(a) >= MIN_CELLS_OF_GENES:
            values["c2st_auc"] = _told_apart(penalised_logistic, (a, b), rng("c2st", BRANCH, branch.name)).auc
        runs.add(repeat, source, BRANCH, branch.name, values, len(a))


def _told_apart(classifier: MakeClassifier, views: tuple[View, View], rng: np.random.Generator) -> HeldOut:
    a, b = (view.genes() for view in views)
    return tell_apart(classifier, a, b, rng)
