"""Which cells train the model and which judge it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from branchgen.cells.keys import SPLITS
from branchgen.errors import BranchgenError

FRACTIONS = (0.6, 0.1, 0.15, 0.15)
"""Share of the cells in every split, in the order of SPLITS."""
N_RESTARTS = 20
"""Largest number of random starts of the search for an assignment of groups to splits."""
ABSENT = (1e6, 1e3, 1e3, 1e3)
"""What it costs the search to leave a class out of a split; squared deviations of shares are below 4."""

Codes = NDArray[np.int64]


def stratified_split(codes: Codes, names: Sequence[str], rng: np.random.Generator) -> Codes:
    """Position in SPLITS of every cell, drawn within every class so that each split has its share of it.

    `codes` holds the classes of the cells as numbers from 0, `names` the unique names of the cells; both have shape
    (n_cells,). The split of a cell depends on its name, not on the order of the cells. Every class of at least four
    cells is in every split.
    """
    splits = np.empty(len(codes), dtype=np.int64)
    by_name = np.argsort(np.asarray(names, dtype=str), kind="stable")
    for code in np.unique(codes):
        members = by_name[codes[by_name] == code]
        splits[rng.permutation(members)] = np.repeat(np.arange(len(SPLITS)), split_sizes(len(members)))
    return splits


def split_sizes(n_cells: int) -> Codes:
    """Cells of a class in every split: the shares by largest remainder, but at least one where there are four."""
    shares = np.array(FRACTIONS) * n_cells
    sizes = np.floor(shares + 1e-9).astype(np.int64)
    largest_first = np.argsort(sizes - shares, kind="stable")
    sizes[largest_first[: n_cells - sizes.sum()]] += 1
    if n_cells >= len(SPLITS):
        for empty in np.flatnonzero(sizes == 0):
            sizes[empty] += 1
            sizes[sizes.argmax()] -= 1
    return sizes


def grouped_split(codes: Codes, groups: NDArray[np.object_], key: str, rng: np.random.Generator) -> Codes:
    """Position in SPLITS of every cell, all cells of a group (a donor, a batch) in the same split.

    Minimises the squared deviation of the shares from FRACTIONS, summed over the splits and over the classes and
    all cells together; leaving a class out of a split is avoided before that. Local search over moves and swaps
    of groups from random starts. `groups` has shape (n_cells,); `key` is its name in obs, for the errors.
    Raises BranchgenError if there are fewer groups than splits.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < len(SPLITS):
        raise BranchgenError(
            f"obs[{key!r}] has {len(names)} different values ({', '.join(map(str, names))}) but there are "
            f"{len(SPLITS)} splits; give a column with more donors or batches, or none to split by class"
        )
    counts = np.zeros((len(names), codes.max() + 1))
    np.add.at(counts, (members, codes), 1)
    counts = np.hstack([counts, counts.sum(axis=1, keepdims=True)])
    shares = counts / counts.sum(axis=0)
    # One start costs n_groups² per sweep, and with many groups any local optimum is close to the best.
    n_restarts = max(1, min(N_RESTARTS, 2000 // len(names)))
    found = [_search(shares, rng) for _ in range(n_restarts)]
    best = min(found, key=lambda assignment: (round(assignment_cost(shares, assignment), 9), assignment.tolist()))
    return best[members]


def assignment_cost(shares: NDArray[np.float64], assignment: Codes) -> float:
    """Cost that `grouped_split` minimises; `shares` (n_groups, n_classes + 1), `assignment` (n_groups,)."""
    return float(_cost(_sums(shares, assignment)))


def _sums(shares: NDArray[np.float64], assignment: Codes) -> NDArray[np.float64]:
    """Share of every class in every split, shape (n_splits, n_classes + 1)."""
    return np.stack([shares[assignment == split].sum(axis=0) for split in range(len(SPLITS))])


def _cost(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cost of shares (..., n_splits, n_classes + 1)."""
    deviation = ((sums - np.array(FRACTIONS)[:, None]) ** 2).sum(axis=(-2, -1))
    # Sums of shares that were added and taken away again miss zero by a rounding error.
    absent = ((sums < 1e-9) * np.array(ABSENT)[:, None]).sum(axis=(-2, -1))
    cost: NDArray[np.float64] = deviation + absent
    return cost


def _search(shares: NDArray[np.float64], rng: np.random.Generator) -> Codes:
    """Assignment that no move of a group and no swap of two groups improves."""
    n_groups, n_splits = len(shares), len(SPLITS)
    drawn = rng.choice(n_splits, size=n_groups - n_splits, p=FRACTIONS)
    assignment = rng.permutation(np.concatenate([np.arange(n_splits), drawn]))
    improved = True
    while improved:
        improved = False
        for group in rng.permutation(n_groups):
            sums = _sums(shares, assignment)
            costs = _cost(sums + _changes(shares, assignment, group))
            best = int(costs.argmin())
            if costs[best] < _cost(sums) - 1e-9:
                improved = True
                if best < n_splits:
                    assignment[group] = best
                else:
                    other = best - n_splits
                    assignment[[group, other]] = assignment[[other, group]]
    return assignment


def _changes(shares: NDArray[np.float64], assignment: Codes, group: int) -> NDArray[np.float64]:
    """Change of the sums when a group moves to each split, then when it swaps with each group.

    Shape (n_splits + n_groups, n_splits, n_classes + 1).
    """
    n_groups, n_splits = len(shares), len(SPLITS)
    changes = np.zeros((n_splits + n_groups, n_splits, shares.shape[1]))
    moves, swaps = np.arange(n_splits), n_splits + np.arange(n_groups)
    here = assignment[group]
    changes[moves, here] -= shares[group]
    changes[moves, moves] += shares[group]
    changes[swaps, here] += shares - shares[group]
    changes[swaps, assignment] -= shares - shares[group]
    return changes
