"""The tree recursion that samples cells: integrate a branch once for all below it, hand over, recurse.

Work comes in blocks of `BLOCK` cells. Block i of a branch is one run of the solver with generators of its own, named by
seed, branch and block; it serves block i of every class below. Shapes and noise so never depend on how many cells, or
which classes, are asked for, and neither do the results.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from branchgen.diffusion.blocks import BLOCK, Shard, blocks_of
from branchgen.diffusion.handover import HANDOVERS, BranchMoments, Handover, levels_at, start
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import EVALUATIONS, SOLVERS, Denoise, Process, Reference, langevin, noise_like
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
        pairs = zip(self.moments.mean, self.moments.covariance, strict=True)
        return [Reference.of(mean, covariance, self.schedule, self.like) for mean, covariance in pairs]

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

    def runs(self, branches: Sequence[Branch]) -> list[tuple[Branch, list[float]]]:
        """Uppermost part of every trained branch among these, from noise to data, and the times of all of its parts."""
        found: dict[str, tuple[Branch, list[float]]] = {}
        for branch in branches:
            _, times = found.setdefault(self.trunk_of[self.hierarchy.index[branch.name]], (branch, []))
            times += self.times(branch)[bool(times) :]
        return list(found.values())

    def enter(self, parent: int, child: int, x: Tensor, block: int, scope: str) -> Tensor:
        """Hand a block of cells over from a branch to its child at the branch point."""
        branch, name = self.hierarchy.branches[parent], self.trunk_of[child]
        if child not in self._maps:
            sigma = levels_at(self.schedule, branch.t_start)
            self._maps[child] = HANDOVERS[self.handover](self.moments, parent, child, sigma)
        return self._maps[child](x, torch_generator(self.seed, scope, "handover", name, block))

    @cached_property
    def _maps(self) -> dict[int, Handover]:
        return {}


@dataclass(frozen=True)
class Passage:
    """A block of cells in one branch: x at its t_end, where they enter, and at its t_start, where they leave.

    At time zero they leave as data, without the smallest noise level.
    """

    branch: Branch
    entering: Tensor
    leaving: Tensor


def branch_times(branch: Branch, n_steps: int) -> list[float]:
    """Falling grid of times of one branch, ends included, for `n_steps` steps between noise and data.

    The grid ends on the branch point itself, so no step straddles two branches.
    """
    steps = max(1, round(branch.span / HORIZON * n_steps))
    return [float(t) for t in np.linspace(branch.t_end, branch.t_start, steps + 1)]


@torch.no_grad()
def descend(sampler: TreeSampler, block: int, classes: Collection[str], scope: str = "sample") -> Iterator[Passage]:
    """Passages of one block through every branch above the wanted classes, parents first.

    `scope` is part of the generators' names; another scope gives other cells.
    """
    tree = sampler.hierarchy
    wanted = set(classes)

    def visit(position: int, entering: Tensor) -> Iterator[Passage]:
        # The parts of a divided branch are one run of the solver, or its old classes would change.
        parts = [part for part in sampler.parts(position) if wanted.intersection(tree.branches[part].classes)]
        name = sampler.trunk_of[position]
        between = {tree.branches[part].t_start: entering for part in parts[:-1]}
        process = Process(
            denoise=_watched(sampler.denoiser_of(name), between),
            schedule=sampler.schedule,
            generator=torch_generator(sampler.seed, scope, "noise", name, block),
            reference=sampler.references[position],
            mixture=sampler.mixture_of(name),
        )
        if position and sampler.n_corrections:
            generator = torch_generator(sampler.seed, scope, "correction", name, block)
            time = tree.branches[position].t_end
            entering = langevin(replace(process, generator=generator), entering, time, sampler.n_corrections)
        ((_, times),) = sampler.runs([tree.branches[part] for part in parts])
        last = SOLVERS[sampler.solver](process, entering, times)
        if times[-1] == 0:
            # The smallest noise level is well below what any network can see, but is not nothing.
            last = sampler.references[position].without_noise(last, sampler.schedule.sigma(0.0, last))
        for part in parts:
            branch = tree.branches[part]
            leaving = between.get(branch.t_start, last)
            yield Passage(branch, entering, leaving)
            entering = leaving
            for child in tree.children[part]:
                if child not in parts and wanted.intersection(tree.branches[child].classes):
                    yield from visit(child, sampler.enter(part, child, leaving, block, scope))

    generator = torch_generator(sampler.seed, scope, "start", sampler.trunk_of[0], block)
    noise = noise_like(sampler.like.new_empty(BLOCK, len(sampler.schedule.sigma_min)), generator)
    yield from visit(0, start(sampler.moments, 0, noise, levels_at(sampler.schedule, HORIZON)))


def _watched(denoise: Denoise, states: dict[float, Tensor]) -> Denoise:
    """The same denoiser, which leaves in `states` what x is at each of their times.

    A solver's state at a time is what it gives the denoiser there last, before it steps on.
    """
    if not states:
        return denoise

    def watched(x: Tensor, t: float) -> Tensor:
        if t in states:
            states[t] = x
        return denoise(x, t)

    return watched


def sample_blocks(
    sampler: TreeSampler, n_cells: Mapping[str, int], ancestors: str = "shared", shard: Shard | None = None
) -> Iterator[tuple[str, int, Tensor, int]]:
    """Blocks of latents of the wanted numbers of cells per class, or of a shard of them.

    Yields class, number of the block, latents (BLOCK, d), and how many of its cells, from the first, are wanted.
    With ``ancestors="independent"`` every class goes down from the root by itself, on noise of its own.
    """
    for block in blocks_of(n_cells, shard):
        left = {name: count - block * BLOCK for name, count in n_cells.items() if count > block * BLOCK}
        for classes, scope in _descents(left, ancestors):
            for passage in descend(sampler, block, classes, scope):
                if passage.branch.t_start == 0:
                    name = passage.branch.classes[0]
                    yield name, block, passage.leaving, min(left[name], BLOCK)


def n_evaluations(sampler: TreeSampler, n_cells: Mapping[str, int], ancestors: str = "shared") -> tuple[int, int]:
    """Times that a block of cells goes through the network, and how often it would without a tree."""
    tree, per_step = sampler.hierarchy, EVALUATIONS[sampler.solver]
    ours = alone = 0
    for block in blocks_of(n_cells):
        wanted = {name for name, count in n_cells.items() if count > block * BLOCK}
        for classes, _ in _descents(wanted, ancestors):
            branches = [branch for branch in tree.branches if not classes.isdisjoint(branch.classes)]
            ours += per_step * sum(len(sampler.times(branch)) - 1 for branch in branches)
            ours += sampler.n_corrections * (len({sampler.trunk_of[tree.index[b.name]] for b in branches}) - 1)
        alone += per_step * sampler.n_steps * len(wanted)
    return ours, alone


def _descents(wanted: Collection[str], ancestors: str) -> list[tuple[frozenset[str], str]]:
    """Classes that go down together, and the scope of their noise."""
    if ancestors == "shared":
        return [(frozenset(wanted), "sample")]
    return [(frozenset([name]), f"sample {name}") for name in wanted]
