"""The tree of classes in diffusion time.

Time runs from 0 (data) to 1 (noise). A `Branch` is an edge of the tree: a set of classes over a half-open span of
time [t_start, t_end). The branches of a `Hierarchy` tile the whole (class × time) plane, so that every class has
exactly one branch at every time. A branch whose children split its classes ends in a *branch point* at its t_start; a
branch with a single child of the same classes ends in a *stage boundary*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from branchgen.errors import BranchgenError

HORIZON = 1.0
"""Time of pure noise."""
ROOT = "root"
"""Name of the branch that ends at the horizon."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Classes that are generated together from time t_end down to t_start.

    `name` is unique and stays when the tree grows; random generators are named after it.
    """

    name: str
    classes: tuple[str, ...]
    t_start: float
    t_end: float

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise BranchgenError(
                f"branch {self.name!r} has the classes {self.classes}; they must be distinct, at least one"
            )
        if not 0 <= self.t_start < self.t_end <= HORIZON:
            raise BranchgenError(
                f"branch {self.name!r} spans [{self.t_start}, {self.t_end}); it must be a part of [0, {HORIZON:g})"
            )

    @property
    def span(self) -> float:
        """Length in time."""
        return self.t_end - self.t_start


@dataclass(frozen=True, kw_only=True)
class Clade:
    """A node of a tree without branches: the classes below it, and the time at which its children part.

    A leaf has no children and time 0.
    """

    classes: tuple[str, ...]
    children: tuple[Clade, ...] = ()
    time: float = 0.0
    name: str = ""

    def walk(self) -> Iterator[Clade]:
        """Iterate over the clade and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Hierarchy:
    """Branches that tile the (class × time) plane, root first, every parent before its children.

    Raises BranchgenError where the branches overlap or leave a gap.
    """

    branches: tuple[Branch, ...]

    def __post_init__(self) -> None:
        names = [branch.name for branch in self.branches]
        if len(set(names)) != len(names):
            raise BranchgenError(f"two branches of the hierarchy share a name: {sorted(names)}")
        for name in self.classes:
            end = 0.0
            for branch in reversed(self.path(name)):
                if branch.t_start != end:
                    raise BranchgenError(
                        f"class {name!r} has no branch or several at time {min(end, branch.t_start):g}: "
                        f"{branch.name!r} starts at {branch.t_start:g}, the one below ends at {end:g}"
                    )
                end = branch.t_end
            if end != HORIZON:
                raise BranchgenError(f"class {name!r} has no branch from time {end:g} to {HORIZON:g}")
        for index, branch in enumerate(self.branches):
            parent = self.parents[index]
            if parent is None and index:
                raise BranchgenError(f"branch {branch.name!r} has no parent; only the first branch may be the root")
            if parent is not None and not set(branch.classes) <= set(self.branches[parent].classes):
                raise BranchgenError(f"branch {branch.name!r} holds classes that its parent does not")

    @classmethod
    def from_clades(cls, root: Clade, min_span: float) -> Self:
        """Hierarchy of a tree with times; branches shorter than `min_span` are merged into their parents.

        The branch of a clade runs from the clade's own time up to its parent's. Near-equal times so make a branch
        point with more than two children. Names come from the clades; unnamed inner ones are numbered. A single class
        has a single branch, of its own name.
        """
        branches: list[Branch] = []
        taken = {ROOT, *root.classes}

        def name_of(clade: Clade) -> str:
            if not clade.children:
                return clade.classes[0]
            name = clade.name if clade.name and clade.name not in taken else f"node {len(branches)}"
            taken.add(name)
            return name

        def grow(clade: Clade, t_end: float, name: str) -> None:
            t_start = _bounded(clade.time, t_end, min_span) if clade.children else 0.0
            branches.append(Branch(name=name, classes=clade.classes, t_start=t_start, t_end=t_end))
            for child in _children_beyond(clade, t_start - min_span):
                grow(child, t_start, name_of(child))

        grow(root, HORIZON, ROOT if root.children else name_of(root))
        return cls(tuple(branches))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All classes, in the order of the root."""
        return self.branches[0].classes

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of every branch by its name."""
        return {branch.name: position for position, branch in enumerate(self.branches)}

    @cached_property
    def parents(self) -> tuple[int | None, ...]:
        """Position of every branch's parent; None for the root."""
        ends: dict[tuple[str, float], int] = {}
        for position, branch in enumerate(self.branches):
            for name in branch.classes:
                ends[name, branch.t_start] = position
        return tuple(ends.get((branch.classes[0], branch.t_end)) for branch in self.branches)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Positions of every branch's children, in the order of the branches."""
        below: list[list[int]] = [[] for _ in self.branches]
        for position, parent in enumerate(self.parents):
            if parent is not None:
                below[parent].append(position)
        return tuple(tuple(positions) for positions in below)

    @cached_property
    def branch_points(self) -> tuple[int, ...]:
        """Positions of the branches whose end is a branch point."""
        return tuple(position for position, below in enumerate(self.children) if len(below) > 1)

    @cached_property
    def _paths(self) -> dict[str, tuple[Branch, ...]]:
        """Branches of every class from the root to the leaf."""
        found: dict[str, list[Branch]] = {}
        for branch in sorted(self.branches, key=lambda branch: -branch.t_end):
            for name in branch.classes:
                found.setdefault(name, []).append(branch)
        return {name: tuple(branches) for name, branches in found.items()}

    def path(self, name: str) -> tuple[Branch, ...]:
        """Branches of a class from the root to the leaf."""
        return self._paths.get(name, ())

    def branch_point(self, a: str, b: str) -> Branch:
        """Lowest branch that two classes share; they part at its t_start."""
        return min((branch for branch in self.path(a) if b in branch.classes), key=lambda branch: branch.t_start)

    def branch_of(self, classes: Sequence[str], times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Positions of the branches of cells at times in [0, 1); both arguments have shape (n_cells,)."""
        found = np.full(len(classes), -1)
        names = np.asarray(classes)
        for name in np.unique(names):
            rows = names == name
            upwards = self.path(str(name))[::-1]
            # A branch begins where the one below it ends; times before the first and after the last are in none.
            owners = np.array([self.index[branch.name] for branch in upwards] + [-1])
            found[rows] = owners[np.searchsorted([branch.t_end for branch in upwards], times[rows], side="right")]
        if (found < 0).any() or (times < 0).any():
            raise BranchgenError("a class is unknown to the hierarchy, or a time is outside [0, 1)")
        return found

    def node(self, name: str) -> Branch:
        """Branch with this name; BranchgenError lists the names."""
        if name not in self.index:
            raise BranchgenError(f"no class or branch is called {name!r}; there are {', '.join(self.index)}")
        return self.branches[self.index[name]]

    def sharing(self) -> float:
        """Network evaluations for one cell of every class, as a fraction of those without a tree."""
        return sum(branch.span for branch in self.branches) / len(self.classes)

    def to_clade(self) -> Clade:
        """The same tree as nested clades, with names."""

        def grow(position: int) -> Clade:
            branch = self.branches[position]
            below = tuple(grow(child) for child in self.children[position])
            return Clade(classes=branch.classes, children=below, time=branch.t_start, name=branch.name)

        return grow(0)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values, one mapping per branch."""
        return [
            {
                "name": branch.name,
                "classes": list(branch.classes),
                "t_start": branch.t_start,
                "t_end": branch.t_end,
                "parent": None if parent is None else self.branches[parent].name,
            }
            for branch, parent in zip(self.branches, self.parents, strict=True)
        ]

    @classmethod
    def from_list(cls, records: Sequence[Mapping[str, Any]]) -> Self:
        """Inverse of `to_list`."""
        return cls(
            tuple(
                Branch(
                    name=record["name"],
                    classes=tuple(record["classes"]),
                    t_start=float(record["t_start"]),
                    t_end=float(record["t_end"]),
                )
                for record in records
            )
        )


def _bounded(time: float, t_end: float, min_span: float) -> float:
    """Time of a branch point that leaves room for its branch above it and for the leaves below it."""
    room = min(max(min_span, 1e-3), t_end / 3)
    return min(max(time, room), t_end - room)


def _children_beyond(clade: Clade, time: float) -> list[Clade]:
    """Children of a clade, inner ones that part later than `time` replaced by their own children."""
    found: list[Clade] = []
    for child in clade.children:
        if child.children and child.time > time:
            found.extend(_children_beyond(child, time))
        else:
            found.append(child)
    return found
