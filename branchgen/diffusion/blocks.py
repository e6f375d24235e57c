"""How many cells of which class, and their division into blocks and shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

SEGMENT = 64
"""Cells of a segment, of which all are made where any is wanted; a change changes every generated cell."""
BLOCK = 8 * SEGMENT
"""Cells of a block, which is made at once."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several parts of the wanted cells, numbered from one."""

    number: int
    n_shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.n_shards:
            raise BranchgenError(f"shard is {self.number}; it must be one of 1 to {self.n_shards} (n_shards)")


def blocks_of(n_cells: Mapping[str, int], shard: Shard | None = None) -> range:
    """Numbers of the blocks of the wanted cells, or of those that are a shard's.

    Shards are of about equally many cells each; one after the other, they have every block once.
    """
    n_blocks = max((-(-count // BLOCK) for count in n_cells.values()), default=0)
    if shard is None:
        return range(n_blocks)
    ends = np.cumsum([cells_of_block(n_cells, block) for block in range(n_blocks)])
    total = int(ends[-1]) if n_blocks else 0
    # A block belongs to the shard in whose part of all cells its middle lies.
    middles = np.concatenate([[0], ends[:-1]]) + ends if n_blocks else ends
    edges = [2 * total * number / shard.n_shards for number in (shard.number - 1, shard.number)]
    first, last = (int(position) for position in np.searchsorted(middles, edges))
    return range(first, last)


def cells_of_block(n_cells: Mapping[str, int], block: int) -> int:
    """Wanted cells of all classes in a block."""
    return sum(cells_of_classes(n_cells, block).values())


def cells_of_classes(n_cells: Mapping[str, int], block: int) -> dict[str, int]:
    """Wanted cells of every class that has some in a block."""
    return {name: min(count - block * BLOCK, BLOCK) for name, count in n_cells.items() if count > block * BLOCK}


def segments_of_block(block: int, n_cells: Iterable[int]) -> range:
    """Numbers of the segments that hold the first cells of a block, as many as the largest of these numbers."""
    first = block * (BLOCK // SEGMENT)
    return range(first, first - (-max(n_cells, default=0) // SEGMENT))


def allocate(request: Mapping[str, int], hierarchy: Hierarchy, class_counts: Mapping[str, int]) -> dict[str, int]:
    """Number of cells per class for a table of classes or inner branches to numbers.

    An inner branch stands for all classes below it in the proportions of `class_counts` (the training cells), rounded
    by largest remainders. Raises BranchgenError for a name the hierarchy does not have.
    """
    numbers: dict[str, int] = dict.fromkeys(hierarchy.classes, 0)
    for name, count in request.items():
        if count < 0:
            raise BranchgenError(f"n_cells asks for {count} cells of {name!r}; a number of cells is at least 0")
        below = hierarchy.node(name).classes
        share = np.array([class_counts[other] for other in below], dtype=float)
        for other, part in zip(below, _largest_remainders(count, share / share.sum()), strict=True):
            numbers[other] += int(part)
    return numbers


def _largest_remainders(total: int, share: NDArray[np.float64]) -> NDArray[np.int64]:
    exact = total * share
    parts = np.floor(exact).astype(np.int64)
    for position in np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]:
        parts[position] += 1
    return parts
