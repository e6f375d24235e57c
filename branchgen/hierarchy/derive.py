"""Hierarchies from data: which classes merge, when, and how sure that is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from branchgen.hierarchy.criteria import CRITERIA, Criterion, Sigma, in_chunks, merge_times
from branchgen.hierarchy.moments import Array
from branchgen.hierarchy.parts import Parts
from branchgen.hierarchy.topology import consensus, joined, merge_by_criterion, profile_distances, tree_of_distances
from branchgen.hierarchy.tree import HORIZON, Clade, Hierarchy

log = logging.getLogger(__name__)

_LEAST_FACTOR = 0.5
_BISECTIONS = 12


@dataclass(frozen=True)
class Support:
    """How sure a branch point is.

    Share of resamples with the same clade (None where the tree was given), and an interval of its time: from the 5th to
    the 95th percentile over resamples, for the clade as it stands, as distances from their median. (Resampled cells are
    fewer different ones, and so part a little earlier; that shift is no part of the interval.)
    """

    support: float | None
    time_low: float
    time_high: float


@dataclass(frozen=True)
class Derivation:
    """A hierarchy and the support of each of its branch points, by the name of the branch.

    `factor` is that by which all branch points were moved towards the data; see `within_cost`.
    """

    hierarchy: Hierarchy
    support: Mapping[str, Support]
    factor: float = 1.0


@dataclass(frozen=True)
class Resamples:
    """Parts drawn with replacement inside every class: rows, the same in every iteration."""

    codes: NDArray[np.int64]
    seeds: Sequence[int]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        members = [np.flatnonzero(self.codes == code) for code in range(int(self.codes.max()) + 1)]
        for seed in self.seeds:
            rng = np.random.default_rng(seed)
            yield np.concatenate([rng.choice(rows, len(rows)) for rows in members])


def timed(criterion: Criterion, clade: Clade, codes: Mapping[str, int]) -> Clade:
    """The same tree with times by the criterion, none below those of its children."""
    if not clade.children:
        return clade
    children = [timed(criterion, child, codes) for child in clade.children]
    groups = [tuple(sorted(codes[name] for name in child.classes)) for child in children]
    time = max(float(merge_times(criterion, [groups])[0]), *(child.time for child in children))
    return joined(children, time, clade.name)


def spaced(clade: Clade, span: float) -> Clade:
    """The same tree with every branch point at least `span` above those below it."""
    below = tuple(spaced(child, span) for child in clade.children)
    # A little more, or rounding would decide whether a branch is too short.
    least = max((child.time + span * (1 + 1e-6) for child in below if child.children), default=0.0)
    return Clade(classes=clade.classes, children=below, time=max(clade.time, least), name=clade.name)


def derive(
    parts: Parts,
    classes: Sequence[str],
    *,
    sigma: Sigma,
    criterion: str,
    epsilon: float,
    max_evaluations: float,
    min_branch_span: float,
    shrinkage: float,
    n_bootstrap: int,
    rng: np.random.Generator,
    tree: Clade | None = None,
) -> Derivation:
    """Hierarchy of the classes, with support and intervals from resampled parts.

    The tree is the one that is given, or, where parts have shares, that of the expression profiles without the clades
    that fewer than half of the resamples have, and keeps its shape; or else groups merge as the criterion allows it,
    and branch points of nearly equal times become one.

    Parameters
    ----------
    parts
        The cells; the code of a part is the position of its class in `classes`.
    sigma
        Noise levels (n, d) at times (n,).
    criterion, epsilon
        ``fidelity`` or ``similarity`` and its budget.
    max_evaluations
        Largest cost of one cell of every class, as a share of that without a tree; see `within_cost`.
    min_branch_span
        Shortest branch between two branch points.
    shrinkage
        See `Moments.of_classes`.
    tree
        A given tree; only its times are then derived.
    """
    # Nothing that is drawn may depend on the order of the classes.
    order = np.argsort(np.array(classes))
    codes, classes = np.argsort(order)[parts.codes], [classes[code] for code in order]
    parts = replace(parts, codes=codes)
    position = {name: code for code, name in enumerate(classes)}
    seeds = rng.integers(2**63, size=n_bootstrap).tolist()
    resamples = Resamples(codes, seeds)

    def criterion_of(rows: NDArray[np.int64]) -> Criterion:
        return CRITERIA[criterion](parts.moments(rows, len(classes), shrinkage), sigma, epsilon)

    def resampled_trees() -> Iterator[Clade]:
        if tree is not None:
            return
        if parts.shares is None:
            yield from (merge_by_criterion(criterion_of(rows), classes) for rows in resamples)
        else:
            for seed in seeds:
                distances = profile_distances(parts, np.random.default_rng(seed), resample=True)
                yield tree_of_distances(distances, classes)

    def placed(clade: Clade) -> Hierarchy:
        kept = tree is not None or parts.shares is not None
        return Hierarchy.from_clades(spaced(clade, min_branch_span) if kept else clade, min_branch_span)

    everything = criterion_of(np.arange(len(codes)))
    found = Counter(frozenset(clade.classes) for tree_ in resampled_trees() for clade in tree_.walk())
    if tree is not None:
        shape = tree
    elif parts.shares is None:
        shape = settled(everything, merge_by_criterion(everything, classes), position, min_branch_span)
    else:
        distances = profile_distances(parts, rng)
        for code in np.flatnonzero(np.isnan(np.diag(distances))):
            log.warning(
                "class %s has no profile of its own, two halves of its cells have nothing in common: "
                "its place in the tree means nothing",
                classes[code],
            )
        shape = tree_of_distances(distances, classes)
        if n_bootstrap:
            shape = consensus(shape, {group for group, n in found.items() if 2 * n >= n_bootstrap})
    hierarchy, factor = within_cost(timed(everything, shape, position), placed, max_evaluations)

    shape = hierarchy.to_clade()
    times: dict[str, list[float]] = {branch.name: [] for branch in hierarchy.branches}
    for rows in resamples:
        for clade in timed(criterion_of(rows), shape, position).walk():
            times[clade.name].append(clade.time)

    def support(clade: Clade) -> Support:
        low, middle, high = np.quantile(times[clade.name] or [clade.time], [0.05, 0.5, 0.95])
        # As branch points move towards the data, so do their intervals.
        low, high = np.clip([clade.time + factor * (end - middle) for end in (low, high)], 0.0, HORIZON)
        share = found[frozenset(clade.classes)] / n_bootstrap if tree is None and n_bootstrap else None
        return Support(share, float(low), float(high))

    return Derivation(hierarchy, {clade.name: support(clade) for clade in shape.walk() if clade.children}, factor)


def settled(criterion: Criterion, clade: Clade, codes: Mapping[str, int], min_branch_span: float) -> Clade:
    """The tree with branch points of nearly equal times made one, which then has a time of its own."""
    hierarchy = Hierarchy.from_clades(clade, min_branch_span)
    while True:
        shape = hierarchy.to_clade()
        again = Hierarchy.from_clades(timed(criterion, shape, codes), min_branch_span)
        if len(again.branches) == len(hierarchy.branches):
            return shape
        hierarchy = again


def within_cost(clade: Clade, placed: Callable[[Clade], Hierarchy], max_evaluations: float) -> tuple[Hierarchy, float]:
    """The hierarchy of a tree, all branch points moved towards the data by one factor until it costs what is allowed.

    Returned with the factor, which is no less than a half, however little is allowed: below, classes would share what
    tells them apart.
    """
    hierarchy = placed(clade)
    if hierarchy.sharing() <= max_evaluations:
        return hierarchy, 1.0
    factor, too_large = _LEAST_FACTOR, 1.0
    for _ in range(_BISECTIONS):
        middle = (factor + too_large) / 2
        if placed(_scaled(clade, middle)).sharing() <= max_evaluations:
            factor = middle
        else:
            too_large = middle
    return placed(_scaled(clade, factor)), factor


def _scaled(clade: Clade, factor: float) -> Clade:
    below = tuple(_scaled(child, factor) for child in clade.children)
    return Clade(classes=clade.classes, children=below, time=clade.time * factor, name=clade.name)


def flat(classes: Sequence[str]) -> Derivation:
    """Hierarchy that shares nothing: all classes part at once, as near to the noise as a branch point can be."""
    if len(classes) == 1:
        return Derivation(Hierarchy.from_clades(Clade(classes=tuple(classes)), 0.0), {})
    leaves = [Clade(classes=(name,), name=name) for name in classes]
    hierarchy = Hierarchy.from_clades(joined(leaves, HORIZON), 0.0)
    root = hierarchy.branches[0]
    return Derivation(hierarchy, {root.name: Support(None, root.t_start, root.t_start)})


def divergence_over_time(
    criterion: Criterion, n_classes: int, times: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Measure of the criterion for every pair of classes: codes a and b (n_pairs,), values (n_times, n_pairs)."""
    a, b = np.triu_indices(n_classes, 1)
    if not len(a):
        return a, b, np.zeros((len(times), 0))
    pairs = [((int(i),), (int(j),)) for i, j in zip(a, b, strict=True)]
    values = np.empty((len(times), len(pairs)))
    for place in in_chunks(pairs):
        curve = criterion.curve(pairs[place])
        for row, time in zip(values, times, strict=True):
            row[place] = curve(np.full(len(pairs[place]), time))
    return a, b, values
