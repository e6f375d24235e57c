"""New classes on a tree whose branches stay what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Criterion, merge_times
from branchgen.hierarchy.tree import HORIZON, ROOT, Branch, Hierarchy

Grid = Callable[[Branch], Sequence[float]]
"""Falling times, ends included, at which cells of a branch can be had."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a new class leaves the tree: a branch, by its own name however often it was divided, and a time."""

    name: str
    host: str
    time: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "host": self.host, "time": self.time}


@dataclass(frozen=True)
class Grown:
    """A hierarchy with new classes; `trunks` has, for each of its branches, the trained branch that it is a part of.

    A branch from which a new class leaves is divided there. Its parts are one trained branch still: cells of the old
    classes run through them as if there were no division.
    """

    hierarchy: Hierarchy
    trunks: tuple[str, ...]

    @cached_property
    def ends(self) -> dict[str, str]:
        """Lowest part of every trained branch: the one that ends where the whole does."""
        lowest: dict[str, Branch] = {}
        for branch, trunk in zip(self.hierarchy.branches, self.trunks, strict=True):
            if trunk not in lowest or branch.t_start < lowest[trunk].t_start:
                lowest[trunk] = branch
        return {trunk: branch.name for trunk, branch in lowest.items()}


def grown(hierarchy: Hierarchy, places: Sequence[Place], grid: Grid) -> Grown:
    """The hierarchy with new classes, in the order of their places, each at the time of the grid next to its own.

    So no solver step of an old class changes. A class that leaves where the branch ends is one child more there; one
    whose branch has no time to leave at, as it is a single step long, leaves with the branch itself.
    Raises BranchgenError for a class that is there already, and for a host that is not.
    """
    branches = list(hierarchy.branches)
    spans = {branch.name: branch for branch in branches}
    trunks = {branch.name: branch.name for branch in branches}
    for place in places:
        if place.name in {name for branch in branches for name in (branch.name, *branch.classes)}:
            raise BranchgenError(f"the hierarchy has a class or branch {place.name!r} already; name the new one anew")
        if place.host not in spans:
            raise BranchgenError(f"no branch is called {place.host!r}; there are {', '.join(spans)}")
        time = _nearest(grid(spans[place.host]), place.time)
        host = next(b for b in branches if trunks[b.name] == place.host and b.t_start <= time <= b.t_end)
        if time == host.t_end:
            tree = Hierarchy(tuple(branches))
            parent = tree.parents[tree.index[host.name]]
            host = host if parent is None else branches[parent]
        if host.t_start < time < host.t_end:
            branches, host = _divided(branches, host, time, place.name, trunks)
        above = {b.name for b in branches if set(host.classes) <= set(b.classes) and b.t_end >= host.t_end}
        branches = [replace(b, classes=(*b.classes, place.name)) if b.name in above else b for b in branches]
        leaf = Branch(name=place.name, classes=(place.name,), t_start=0.0, t_end=time)
        branches.append(leaf)
        spans[leaf.name], trunks[leaf.name] = leaf, leaf.name
    tree = Hierarchy(tuple(branches))
    return Grown(tree, tuple(trunks[branch.name] for branch in tree.branches))


def _divided(
    branches: list[Branch], host: Branch, time: float, new: str, trunks: dict[str, str]
) -> tuple[list[Branch], Branch]:
    """The branches with one divided at a time, and its upper part.

    But for the root, a name goes on to mean the same classes.
    """
    upper_name = ROOT if host.t_end == HORIZON else f"{host.name} with {new}"
    lower_name = f"{ROOT} without {new}" if host.name == ROOT else host.name
    upper, lower = replace(host, name=upper_name, t_start=time), replace(host, name=lower_name, t_end=time)
    trunk = trunks[host.name]
    trunks.update({upper_name: trunk, lower_name: trunk})
    position = branches.index(host)
    return [*branches[:position], upper, lower, *branches[position + 1 :]], upper


def _nearest(grid: Sequence[float], time: float) -> float:
    """Time of a branch's grid, but for noise and data themselves, that is nearest."""
    possible = [t for t in grid[1:] if t > 0] or [grid[0]]
    return min(possible, key=lambda t: abs(t - time))


def place(tree: Grown, name: str, nearest: str, criterion: Criterion, codes: Mapping[str, int], factor: float) -> Place:
    """Where a new class belongs: on the path of the old class nearest to it, at the time by the criterion.

    From the data upwards, the first branch before whose end the class and those of the branch are within the budget.

    Parameters
    ----------
    codes
        Position of every class, the new one among them, in the moments of the criterion.
    factor
        By which the hierarchy's own branch points were moved towards the data.
    """
    host, last = nearest, 0.0
    for branch in tree.hierarchy.path(nearest)[::-1]:
        host = tree.trunks[tree.hierarchy.index[branch.name]]
        groups = [(codes[name],), tuple(sorted(codes[other] for other in branch.classes))]
        time = max(float(merge_times(criterion, [groups])[0]) * factor, last)
        if time < branch.t_end:
            return Place(name=name, host=host, time=time)
        last = branch.t_end
    return Place(name=name, host=host, time=HORIZON)
