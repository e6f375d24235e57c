"""The tree recursion that samples cells: integrate a branch once for all below it, hand over, recurse.

Cells come in segments of `SEGMENT`. Segment i of a branch has generators of its own, named by seed, branch and number,
and serves segment i of every class below. Segments of several branches go through the solver together, always in packs
of `PACK`. Shapes and noise so never depend on how many cells, or which classes, are asked for, and neither do results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from branchgen.diffusion.blocks import SEGMENT, Shard, blocks_of, cells_of_classes, segments_of_block
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.solvers import EVALUATIONS, SOLVERS, OfBranch, Process, Reference, langevin, together
from branchgen.hierarchy.tree import Branch
from branchgen.seeds import torch_generator

PACK = 8
"""Segments that go through the solver together."""


@dataclass(frozen=True)
class Passage:
    """A segment of cells in one branch: x at its t_end, where they enter, and at its t_start, where they leave.

    At time zero they leave as data, without the smallest noise level. `segment` is the number of the segment among
    those of its class.
    """

    branch: Branch
    segment: int
    entering: Tensor
    leaving: Tensor


@dataclass(frozen=True)
class _Waiting:
    """A segment of cells before a branch, and the classes that they are to become."""

    position: int
    segment: int
    x: Tensor
    scope: str
    classes: frozenset[str]


@torch.no_grad()
def descend(
    sampler: TreeSampler, block: int, n_cells: Mapping[str, int], ancestors: str = "shared", scope: str = "sample"
) -> Iterator[Passage]:
    """Passages of the first cells of a block, so many per class, through every branch above them, parents first.

    `scope` is part of the generators' names; another scope gives other cells. With ``ancestors="independent"`` every
    class goes down from the root by itself, on noise of its own.
    """
    tree = sampler.hierarchy
    waiting: dict[Any, list[_Waiting]] = {}

    def wait(one: _Waiting) -> None:
        waiting.setdefault(_kind(sampler, one), []).append(one)

    for wanted, name in _descents(n_cells, ancestors, scope):
        for number, segment in enumerate(segments_of_block(block, wanted.values())):
            classes = frozenset(of for of, count in wanted.items() if count > number * SEGMENT)
            wait(_Waiting(0, segment, sampler.begin(SEGMENT, segment, name), name, classes))
    while waiting:
        # Of the longest queue, for packs that are as full as they can be.
        kind = max(waiting, key=lambda kind: len(waiting[kind]))
        queue = waiting.pop(kind)
        if len(queue) > PACK:
            waiting[kind] = queue[PACK:]
        for one, passages in zip(queue[:PACK], _through(sampler, queue[:PACK]), strict=True):
            for passage in passages:
                yield passage
                above = tree.index[passage.branch.name]
                for child in tree.children[above]:
                    below = one.classes.intersection(tree.branches[child].classes)
                    if below and sampler.trunk_of[child] != sampler.trunk_of[above]:
                        x = sampler.enter(above, child, passage.leaving, one.segment, one.scope)
                        wait(_Waiting(child, one.segment, x, one.scope, below))


def _kind(sampler: TreeSampler, one: _Waiting) -> Any:
    """What segments have in common that can go through the solver together."""
    name = sampler.trunk_of[one.position]
    families = (
        denoise.function if isinstance(denoise, OfBranch) else None
        for denoise in (sampler.denoiser_of(name), sampler.mixture_of(name))
    )
    _, times = sampler.run(one.position, one.classes)
    return (len(times), one.position == 0, *families)


def _through(sampler: TreeSampler, pack: Sequence[_Waiting]) -> list[list[Passage]]:
    """Passages of a pack of segments, each through the parts of one trained branch."""
    runs = [sampler.run(one.position, one.classes) for one in pack]
    # What fills the pack up is there for the shape alone.
    filling = PACK - len(pack)
    full = [*pack, *[pack[-1]] * filling]
    grids = [times for _, times in [*runs, *[runs[-1]] * filling]]
    names = [sampler.trunk_of[one.position] for one in pack]
    x = torch.stack([one.x for one in full])
    times = list(torch.tensor(grids, dtype=x.dtype, device=x.device).T[..., None])

    def generators(purpose: str) -> list[torch.Generator]:
        return [
            torch_generator(sampler.seed, one.scope, purpose, sampler.trunk_of[one.position], one.segment)
            for one in full
        ]

    reference = Reference.of_segments([sampler.references[one.position] for one in full])
    process = Process(
        denoise=together([sampler.denoiser_of(name) for name in names]),
        schedule=sampler.schedule,
        generators=generators("noise"),
        reference=reference,
        mixture=together([sampler.mixture_of(name) for name in names]),
    )
    if pack[0].position and sampler.n_corrections:
        corrected = replace(process, generators=generators("correction"))
        x = langevin(corrected, x, times[0], sampler.n_corrections)
    states = SOLVERS[sampler.solver](process, x, times)
    # The smallest noise level is well below what any network can see, but is not nothing.
    data = reference.without_noise(states[-1], sampler.schedule.sigma(0.0, x))
    found = []
    for number, (one, (parts, grid)) in enumerate(zip(pack, runs, strict=True)):
        places = [grid.index(sampler.hierarchy.branches[part].t_start) for part in parts]
        ends = [data[number] if grid[place] == 0 else states[place][number] for place in places]
        found.append(
            [
                Passage(sampler.hierarchy.branches[part], one.segment, entering, leaving)
                for part, entering, leaving in zip(parts, [x[number], *ends[:-1]], ends, strict=True)
            ]
        )
    return found


def sample_blocks(
    sampler: TreeSampler, n_cells: Mapping[str, int], ancestors: str = "shared", shard: Shard | None = None
) -> Iterator[tuple[str, int, Tensor, int]]:
    """Blocks of latents of the wanted numbers of cells per class, or of a shard of them.

    Yields class, number of the block, latents (n, d) in whole segments, and how many of the cells, from the first, are
    wanted. `ancestors` as in `descend`.
    """
    leaves = [branch for branch in sampler.hierarchy.branches if branch.t_start == 0]
    for block in blocks_of(n_cells, shard):
        wanted = cells_of_classes(n_cells, block)
        found: dict[str, dict[int, Tensor]] = {name: {} for name in wanted}
        for passage in descend(sampler, block, wanted, ancestors):
            if passage.branch.t_start == 0:
                found[passage.branch.classes[0]][passage.segment] = passage.leaving
        # Packs come as they are full; cells in the order of the tree.
        for name in (leaf.classes[0] for leaf in leaves):
            if name in found:
                segments = found.pop(name)
                yield name, block, torch.cat([segments[number] for number in sorted(segments)]), wanted[name]


def n_evaluations(sampler: TreeSampler, n_cells: Mapping[str, int], ancestors: str = "shared") -> tuple[int, int]:
    """Times that a segment of cells goes through the network, and how often it would without a tree."""
    tree, per_step = sampler.hierarchy, EVALUATIONS[sampler.solver]
    steps = [len(sampler.times(branch)) - 1 for branch in tree.branches]
    ours = alone = 0
    for block in blocks_of(n_cells):
        for wanted, _ in _descents(cells_of_classes(n_cells, block), ancestors, ""):
            trunks: dict[str, int] = {}
            for position, branch in enumerate(tree.branches):
                segments = len(segments_of_block(block, (wanted.get(name, 0) for name in branch.classes)))
                ours += per_step * segments * steps[position]
                trunks[sampler.trunk_of[position]] = max(trunks.get(sampler.trunk_of[position], 0), segments)
            ours += sampler.n_corrections * (sum(trunks.values()) - trunks[sampler.trunk_of[0]])
        segments = sum(len(segments_of_block(block, [count])) for count in cells_of_classes(n_cells, block).values())
        alone += per_step * sampler.n_steps * segments
    return ours, alone


def _descents(n_cells: Mapping[str, int], ancestors: str, scope: str) -> list[tuple[Mapping[str, int], str]]:
    """Cells of the classes that go down together, and the scope of their noise."""
    if ancestors == "shared":
        return [(n_cells, scope)]
    return [({name: count}, f"{scope} {name}") for name, count in n_cells.items()]
