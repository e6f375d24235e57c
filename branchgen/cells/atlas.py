"""Simulated counts of an atlas of any size, block by block: the classes are the leaves of a random tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.errors import BranchgenError

BLOCK = 1024
"""Cells of a block."""
MEDIAN_TOTAL = 180.0
"""Median counts of a cell; with 2,000 genes, 7 % of all counts are then not zero, as in atlases of droplets."""
TOTAL_SD = 0.4
"""Standard deviation of the log of the counts of a cell."""
GENE_SD = 1.5
"""Standard deviation over genes of the log-mean, at the root."""
DRIFT, DRIFTING = 0.8, 0.15
"""Standard deviation of the change of a log-mean along a branch, and the share of the genes that change."""
N_DIRECTIONS, LOADING = 6, 0.15
"""Directions in which the cells of a class differ, and the standard deviation of a log-mean's change along one."""
INVERSE_DISPERSION = 2
"""Of the negative binomial; at this value its tail has a simple form, see `tail`."""
EVENNESS = 5.0
"""Concentration of the Dirichlet distribution of the classes' shares."""
FEWEST = 20
"""Cells of a class at least, so that every split has some."""

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Log-means (n_classes, n_genes) of the classes, what they vary along (N_DIRECTIONS, n_genes), and their cells."""

    log_means: Array
    loadings: Array
    numbers: NDArray[np.int64]

    def blocks(self, rng: np.random.Generator) -> Iterator[tuple[sparse.csr_matrix, NDArray[np.int64]]]:
        """Counts (int32) and class codes of up to BLOCK cells at a time, the classes in random order.

        In memory are a block and the codes of all cells.
        """
        codes = rng.permutation(np.repeat(np.arange(len(self.numbers)), self.numbers))
        for first in range(0, len(codes), BLOCK):
            block = codes[first : first + BLOCK]
            yield self.counts(block, rng), block

    def counts(self, codes: NDArray[np.int64], rng: np.random.Generator) -> sparse.csr_matrix:
        """Negative-binomial counts (n_cells, n_genes) of cells of these classes."""
        n_cells, n_genes = len(codes), self.log_means.shape[1]
        rate = self.log_means[codes]
        rate += rng.standard_normal((n_cells, N_DIRECTIONS), dtype=np.float32) @ self.loadings
        np.exp(rate, out=rate)
        totals = rng.lognormal(np.log(MEDIAN_TOTAL), TOTAL_SD, (n_cells, 1)).astype(np.float32)
        rate *= totals / rate.sum(axis=1, keepdims=True)
        # By inversion, because most counts are zero: one comparison tells them, and the rest is worked on alone.
        success: Array = np.divide(INVERSE_DISPERSION, INVERSE_DISPERSION + rate, dtype=np.float32)
        # Never zero, which no tail would be below.
        level: Array = np.float32(1) - rng.random((n_cells, n_genes), dtype=np.float32)
        positive = level <= tail(0, success)
        places = np.flatnonzero(positive)
        values = inverted(level.ravel()[places], success.ravel()[places])
        ends = np.concatenate([[0], np.cumsum(np.count_nonzero(positive, axis=1))])
        return sparse.csr_matrix((values, places % n_genes, ends), shape=(n_cells, n_genes))


def random_atlas(n_cells: int, n_classes: int, n_genes: int, rng: np.random.Generator) -> Atlas:
    """Classes that have drifted apart along a tree in which one clade after the other, drawn at random, divides.

    Raises BranchgenError for fewer than two classes, and where they had hardly a cell each.
    """
    if n_classes < 2 or n_cells < 2 * FEWEST * n_classes:
        raise BranchgenError(
            f"an atlas of {n_cells} cells cannot have {n_classes} classes; it has at least 2, and at least "
            f"{2 * FEWEST} cells for each"
        )
    leaves = [rng.normal(0, GENE_SD, n_genes)]
    while len(leaves) < n_classes:
        parent = leaves.pop(int(rng.integers(len(leaves))))
        leaves += [parent + rng.normal(0, DRIFT, n_genes) * (rng.random(n_genes) < DRIFTING) for _ in range(2)]
    shares = rng.dirichlet(np.full(n_classes, EVENNESS))
    numbers = FEWEST + rng.multinomial(n_cells - FEWEST * n_classes, shares)
    return Atlas(
        log_means=np.stack(leaves).astype(np.float32),
        loadings=rng.normal(0, LOADING, (N_DIRECTIONS, n_genes)).astype(np.float32),
        numbers=numbers,
    )


def tail(count: int, success: Array) -> Any:
    """Probability of more than `count`, under the negative binomial of two successes."""
    return (1 - success) ** (count + 1) * (1 + (count + 1) * success)


def inverted(level: Array, success: Array) -> NDArray[np.int32]:
    """Counts, all positive, at levels in (0, P(count > 0)]: the least whose tail is below the level."""
    counts = np.ones(len(level), dtype=np.int32)
    larger = np.flatnonzero(level <= tail(1, success))
    while len(larger):
        counts[larger] += 1
        larger = larger[level[larger] <= tail(int(counts[larger[0]]), success[larger])]
    return counts
