"""All that sampling from a tree needs, and the times at which it asks the network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from branchgen.diffusion.handover import HANDOVERS, BranchMoments, Handover, levels_at, start
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import Denoise, Reference, noise_like
from branchgen.hierarchy.tree import HORIZON, Branch, Hierarchy
from branchgen.seeds import torch_generator


@dataclass(frozen=True, kw_only=True)
class TreeSampler:
    """All that is needed to sample: the tree, its noise, a denoiser per branch, and the choices of solver."""

    hierarchy: Hierarchy
    schedule: NoiseSchedule
    moments: BranchMoments
    denoiser_of: Callable[[str], Denoise]
    """Denoiser by the name of a trained branch."""
    mixture_of: Callable[[str], Denoise]
    """The mixture in closed form from which it differs by what was learned."""
    solver: str
    n_steps: int
    handover: str
    seed: int
    like: Tensor
    """A tensor on the device and in the dtype of the samples."""
    n_corrections: int = 0
    """Langevin steps under a child as it is entered."""
    trunks: tuple[str, ...] = ()
    """Trained branch of every branch, where new classes have divided some; see `grown`. Generators are named by it."""

    @cached_property
    def references(self) -> list[Reference]:
        """Gaussian reference of every branch."""
        parts = zip(self.moments.mean, *self.moments.axes(self.schedule), strict=True)
        return [Reference.of(mean, basis, variance, self.like) for mean, basis, variance in parts]

    @cached_property
    def trunk_of(self) -> tuple[str, ...]:
        """Name of the trained branch of every branch: its own, unless it is a part of one."""
        return self.trunks or tuple(self.hierarchy.index)

    def parts(self, position: int) -> list[int]:
        """Positions of a branch and of those below it that are parts of the same trained branch."""
        below = [p for p in self.hierarchy.children[position] if self.trunk_of[p] == self.trunk_of[position]]
        return [position, *(part for child in below for part in self.parts(child))]

    def times(self, branch: Branch) -> list[float]:
        """Falling times of the solver in a branch, ends included: its share of the grid of its trained branch."""
        trunk = self.trunk_of[self.hierarchy.index[branch.name]]
        parts = [b for b, name in zip(self.hierarchy.branches, self.trunk_of, strict=True) if name == trunk]
        whole = replace(branch, t_start=min(b.t_start for b in parts), t_end=max(b.t_end for b in parts))
        return [t for t in branch_times(whole, self.n_steps) if branch.t_start <= t <= branch.t_end]

    def run(self, position: int, classes: Collection[str]) -> tuple[list[int], list[float]]:
        """Branches that the run of the solver which begins in one goes through on the way to some classes, and times.

        The parts of a divided branch are one run, or its old classes would change.
        """
        branches = self.hierarchy.branches
        parts = [part for part in self.parts(position) if not set(branches[part].classes).isdisjoint(classes)]
        key = tuple(parts)
        if key not in self._grids:
            ((_, self._grids[key]),) = self.runs([branches[part] for part in parts])
        return parts, self._grids[key]

    @cached_property
    def _grids(self) -> dict[tuple[int, ...], list[float]]:
        return {}

    def runs(self, branches: Sequence[Branch]) -> list[tuple[Branch, list[float]]]:
        """Uppermost part of every trained branch among these, from noise to data, and the times of all of its parts."""
        found: dict[str, tuple[Branch, list[float]]] = {}
        for branch in branches:
            _, times = found.setdefault(self.trunk_of[self.hierarchy.index[branch.name]], (branch, []))
            times += self.times(branch)[bool(times) :]
        return list(found.values())

    def begin(self, n_cells: int, segment: int, scope: str) -> Tensor:
        """A segment of cells at the root, from noise of its own."""
        generator = torch_generator(self.seed, scope, "start", self.trunk_of[0], segment)
        noise = noise_like(self.like.new_empty(n_cells, len(self.schedule.sigma_min)), generator)
        return start(self.moments, 0, noise, levels_at(self.schedule, HORIZON))

    def enter(self, parent: int, child: int, x: Tensor, segment: int, scope: str) -> Tensor:
        """Hand a segment of cells over from a branch to its child at the branch point."""
        branch, name = self.hierarchy.branches[parent], self.trunk_of[child]
        if child not in self._maps:
            sigma = levels_at(self.schedule, branch.t_start)
            self._maps[child] = HANDOVERS[self.handover](self.moments, parent, child, sigma)
        return self._maps[child](x, torch_generator(self.seed, scope, "handover", name, segment))

    @cached_property
    def _maps(self) -> dict[int, Handover]:
        return {}


def branch_times(branch: Branch, n_steps: int) -> list[float]:
    """Falling grid of times of one branch, ends included, for `n_steps` steps between noise and data.

    The grid ends on the branch point itself, so no step straddles two branches.
    """
    steps = max(1, round(branch.span / HORIZON * n_steps))
    return [float(t) for t in np.linspace(branch.t_end, branch.t_start, steps + 1)]
