"""Hierarchies from data: which classes merge, when, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import CRITERIA, Criterion, Group, Sigma, merge_times
from branchgen.hierarchy.moments import Array, Moments
from branchgen.hierarchy.tree import HORIZON, Clade, Hierarchy

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
    """A hierarchy and the support of each of its branch points, by the name of the branch."""

    hierarchy: Hierarchy
    support: Mapping[str, Support]


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
        clade = _joined([clades.pop(a), clades.pop(b)], time)
        times = {pair: t for pair, t in times.items() if not {a, b} & set(pair)}
        pairs = [(merged, other) for other in clades]
        times.update(zip(pairs, merge_times(criterion, pairs), strict=True))
        clades[merged] = clade
    return next(iter(clades.values()))


def timed(criterion: Criterion, clade: Clade, codes: Mapping[str, int]) -> Clade:
    """The same tree with times by the criterion."""
    if not clade.children:
        return clade
    children = [timed(criterion, child, codes) for child in clade.children]
    groups = [tuple(sorted(codes[name] for name in child.classes)) for child in children]
    time = max(float(merge_times(criterion, [groups])[0]), *(child.time for child in children))
    return _joined(children, time, clade.name)


def _joined(children: Sequence[Clade], time: float, name: str = "") -> Clade:
    # A fixed order of the children keeps names of branches, and so the noise, free of the order of the classes.
    ordered = tuple(sorted(children, key=lambda child: min(child.classes)))
    return Clade(
        classes=tuple(name for child in ordered for name in child.classes), children=ordered, time=time, name=name
    )


def derive(
    latents: Array,
    scale: Array,
    codes: NDArray[np.int64],
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
    """Hierarchy of the classes, with support and intervals from resampled cells.

    Parameters
    ----------
    latents, scale
        Posterior means and standard deviations, shape (n_cells, d).
    codes
        Position of every cell's class in `classes`, shape (n_cells,).
    sigma
        Noise levels (n, d) at times (n,).
    criterion, epsilon
        ``fidelity`` or ``similarity`` and its budget.
    max_evaluations
        Largest cost of one cell of every class, as a share of that without a tree; see `within_cost`.
    min_branch_span
        Branch points closer in time become one.
    shrinkage
        See `Moments.of_classes`.
    tree
        A given tree; only its times are then derived.
    """
    position = {name: code for code, name in enumerate(classes)}

    def criterion_of(rows: NDArray[np.int64]) -> Criterion:
        moments = Moments.of_classes(latents[rows], scale[rows], codes[rows], len(classes), shrinkage)
        return CRITERIA[criterion](moments, sigma, epsilon)

    everything = criterion_of(np.arange(len(codes)))
    grown = merge_by_criterion(everything, classes) if tree is None else timed(everything, tree, position)
    hierarchy = Hierarchy.from_clades(grown, min_branch_span)
    while True:
        # A branch point with several children has a time of its own, not that of the pairs it was made of.
        shape = hierarchy.to_clade()
        again = Hierarchy.from_clades(timed(everything, shape, position), min_branch_span)
        settled = len(again.branches) == len(hierarchy.branches)
        hierarchy = again
        if settled:
            break
    hierarchy = within_cost(hierarchy, max_evaluations, min_branch_span)
    shape = hierarchy.to_clade()

    members = [np.flatnonzero(codes == code) for code in range(len(classes))]
    times: dict[str, list[float]] = {branch.name: [] for branch in hierarchy.branches}
    found: dict[str, int] = dict.fromkeys(times, 0)
    for _ in range(n_bootstrap):
        resampled = criterion_of(np.concatenate([rng.choice(rows, len(rows)) for rows in members]))
        clades = set()
        if tree is None:
            clades = {frozenset(clade.classes) for clade in merge_by_criterion(resampled, classes).walk()}
        for clade in timed(resampled, shape, position).walk():
            times[clade.name].append(clade.time)
            found[clade.name] += frozenset(clade.classes) in clades

    def support(name: str, time: float) -> Support:
        low, middle, high = np.quantile(times[name] or [time], [0.05, 0.5, 0.95])
        low, high = np.clip([time + low - middle, time + high - middle], 0.0, HORIZON)
        share = found[name] / n_bootstrap if tree is None and n_bootstrap else None
        return Support(share, float(low), float(high))

    inner = [clade for clade in shape.walk() if clade.children]
    return Derivation(hierarchy, {clade.name: support(clade.name, clade.time) for clade in inner})


def within_cost(hierarchy: Hierarchy, max_evaluations: float, min_branch_span: float) -> Hierarchy:
    """The hierarchy with all branch points moved towards the data by one factor, until it costs no more than allowed.

    The factor is at most a half, however little is allowed: below, classes would share what tells them apart.
    """
    clade = hierarchy.to_clade()
    if hierarchy.sharing() <= max_evaluations:
        return hierarchy
    factor, too_large = _LEAST_FACTOR, 1.0
    for _ in range(_BISECTIONS):
        middle = (factor + too_large) / 2
        if Hierarchy.from_clades(_scaled(clade, middle), min_branch_span).sharing() <= max_evaluations:
            factor = middle
        else:
            too_large = middle
    return Hierarchy.from_clades(_scaled(clade, factor), min_branch_span)


def _scaled(clade: Clade, factor: float) -> Clade:
    below = tuple(_scaled(child, factor) for child in clade.children)
    return Clade(classes=clade.classes, children=below, time=clade.time * factor, name=clade.name)


def flat(classes: Sequence[str]) -> Derivation:
    """Hierarchy that shares nothing: all classes part at once, as near to the noise as a branch point can be."""
    if len(classes) == 1:
        return Derivation(Hierarchy.from_clades(Clade(classes=tuple(classes)), 0.0), {})
    leaves = [Clade(classes=(name,), name=name) for name in classes]
    hierarchy = Hierarchy.from_clades(_joined(leaves, HORIZON), 0.0)
    root = hierarchy.branches[0]
    return Derivation(hierarchy, {root.name: Support(None, root.t_start, root.t_start)})


def divergence_over_time(
    criterion: Criterion, n_classes: int, times: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Measure of the criterion for every pair of classes: codes a and b (n_pairs,), values (n_times, n_pairs)."""
    a, b = np.triu_indices(n_classes, 1)
    pairs = [((int(i),), (int(j),)) for i, j in zip(a, b, strict=True)]
    values = np.stack([criterion.excess(pairs, np.full(len(pairs), time)) for time in times])
    return a, b, values


def tree_of_levels(levels: Sequence[Sequence[str]], classes: Sequence[str]) -> Clade:
    """Tree of nested columns, from coarse to fine, above the classes.

    `levels` holds, for every column, the value of every class; a value may stand under different values of the column
    before, and is then a different node. Nodes with a single child are contracted.
    """

    def grow(members: list[int], depth: int, name: str) -> Clade:
        if len(members) == 1:
            return Clade(classes=(classes[members[0]],), name=classes[members[0]])
        if depth == len(levels):
            return _joined([grow([code], depth, classes[code]) for code in members], 0.0, name)
        values = dict.fromkeys(levels[depth][code] for code in members)
        if len(values) == 1:
            return grow(members, depth + 1, next(iter(values)))
        parts = [grow([c for c in members if levels[depth][c] == value], depth + 1, value) for value in values]
        return _joined(parts, 0.0, name)

    if not levels:
        raise BranchgenError("a tree of nested columns needs at least one column")
    return grow(list(range(len(classes))), 0, "")
