"""Which classes merge with which: trees from expression profiles, from a criterion, and from nested columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import average, to_tree
from scipy.spatial.distance import squareform

from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Criterion, Group, merge_times
from branchgen.hierarchy.moments import Array
from branchgen.hierarchy.parts import Parts
from branchgen.hierarchy.tree import Clade

N_SPLITS, N_SPLITS_OF_RESAMPLE = 16, 4
"""Ways to halve the cells, and to halve those of a resample."""
PER = 1e5
"""Counts to which profiles are scaled before the logarithm: little is seen of genes that are rarer than one of them."""


def profile_distances(parts: Parts, rng: np.random.Generator, *, resample: bool = False) -> Array:
    """One less the correlation over genes of the classes' log profiles, shape (n_classes, n_classes).

    A profile of few cells is noisy, and noise lowers every correlation: rare classes would look strange to all others.
    So covariances, and variances too, are taken between profiles of two halves of the cells, whose noise is independent
    (as in Walther et al. 2016, NeuroImage 137), and are means over several ways to halve them. Not a number for a class
    whose halves have nothing in common: its profile is noise alone.

    Parameters
    ----------
    parts
        Cells of every class, with their shares; the only part of a class is in both halves.
    rng
        Halves the parts and, with `resample`, draws as many of every half and class with replacement.
    """
    n_classes = int(parts.codes.max()) + 1
    covariance = np.zeros((n_classes, n_classes))
    n_splits = N_SPLITS_OF_RESAMPLE if resample else N_SPLITS
    for _ in range(n_splits):
        halves = _halves(parts.codes, rng, resample=resample)
        a, b = (_centred(parts.profiles(rows, n_classes)) for rows in halves)
        covariance += a @ b.T
    covariance = (covariance + covariance.T) / 2
    variance = np.diag(covariance)
    spread = np.sqrt(np.where(variance > 0, variance, np.nan))
    distances = np.clip(1 - covariance / np.outer(spread, spread), 0, 2)
    np.fill_diagonal(distances, np.where(variance > 0, 0, np.nan))
    return np.asarray(distances)


def _halves(
    codes: NDArray[np.int64], rng: np.random.Generator, *, resample: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two halves of the parts of every class."""
    halves: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for code in range(int(codes.max()) + 1):
        rows = rng.permutation(np.flatnonzero(codes == code))
        middle = len(rows) // 2
        for half, part in zip(halves, (rows[:middle], rows[middle:]), strict=True):
            chosen = part if len(part) else rows
            half.append(rng.choice(chosen, len(chosen)) if resample else chosen)
    return np.concatenate(halves[0]), np.concatenate(halves[1])


def _centred(profiles: Array) -> Array:
    """Logarithms of profiles (n_classes, n_genes), less their means over genes."""
    logarithms = np.log1p(PER * profiles)
    return np.asarray(logarithms - logarithms.mean(axis=1, keepdims=True))


def tree_of_distances(distances: Array, classes: Sequence[str]) -> Clade:
    """Average linkage (UPGMA) of classes with these distances, (n_classes, n_classes); all times are zero.

    A class counts once, however many cells it has. Where a distance is not a number, it is that of classes which have
    nothing in common, one. Does not depend on the order of the classes, but for exact ties.
    """
    if len(classes) == 1:
        return Clade(classes=(classes[0],), name=classes[0])

    def grow(node: Any) -> Clade:
        if node.is_leaf():
            return Clade(classes=(classes[node.id],), name=classes[node.id])
        return joined([grow(node.left), grow(node.right)], 0.0)

    return grow(to_tree(average(squareform(np.nan_to_num(distances, nan=1.0), checks=False))))


def consensus(clade: Clade, found: Collection[frozenset[str]]) -> Clade:
    """The same tree without the clades that are not among those found; their children move up."""

    def below(clade: Clade) -> list[Clade]:
        kept: list[Clade] = []
        for child in clade.children:
            if child.children and frozenset(child.classes) not in found:
                kept.extend(below(child))
            else:
                kept.append(consensus(child, found))
        return kept

    return joined(below(clade), clade.time, clade.name) if clade.children else clade


def merge_by_criterion(criterion: Criterion, classes: Sequence[str]) -> Clade:
    """Agglomerative tree: the two groups that are earliest within the budget merge first.

    Times never fall towards the root. Does not depend on the order of the classes, but for exact ties, which names
    decide.
    """
    clades: dict[Group, Clade] = {(code,): Clade(classes=(name,), name=name) for code, name in enumerate(classes)}
    pairs = [(a, b) for a in clades for b in clades if a < b]
    times = dict(zip(pairs, merge_times(criterion, pairs), strict=True))
    while len(clades) > 1:
        a, b = min(times, key=lambda pair: (times[pair], *sorted(clades[group].classes[0] for group in pair)))
        merged: Group = tuple(sorted(a + b))
        time = max(float(times[a, b]), clades[a].time, clades[b].time)
        clade = joined([clades.pop(a), clades.pop(b)], time)
        times = {pair: t for pair, t in times.items() if not {a, b} & set(pair)}
        pairs = [(merged, other) for other in clades]
        times.update(zip(pairs, merge_times(criterion, pairs), strict=True))
        clades[merged] = clade
    return next(iter(clades.values()))


def tree_of_levels(levels: Sequence[Sequence[str]], classes: Sequence[str]) -> Clade:
    """Tree of nested columns, from coarse to fine, above the classes.

    `levels` holds, for every column, the value of every class; a value may stand under different values of the column
    before, and is then a different node. Nodes with a single child are contracted.
    """

    def grow(members: list[int], depth: int, name: str) -> Clade:
        if len(members) == 1:
            return Clade(classes=(classes[members[0]],), name=classes[members[0]])
        if depth == len(levels):
            return joined([grow([code], depth, classes[code]) for code in members], 0.0, name)
        values = dict.fromkeys(levels[depth][code] for code in members)
        if len(values) == 1:
            return grow(members, depth + 1, next(iter(values)))
        parts = [grow([c for c in members if levels[depth][c] == value], depth + 1, value) for value in values]
        return joined(parts, 0.0, name)

    if not levels:
        raise BranchgenError("a tree of nested columns needs at least one column")
    return grow(list(range(len(classes))), 0, "")


def joined(children: Sequence[Clade], time: float, name: str = "") -> Clade:
    """Clade of these children, ordered by name: names of branches, and so the noise, follow that order."""
    ordered = tuple(sorted(children, key=lambda child: min(child.classes)))
    return Clade(
        classes=tuple(name for child in ordered for name in child.classes), children=ordered, time=time, name=name
    )
