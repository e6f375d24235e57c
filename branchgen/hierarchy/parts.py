"""Cells of every class dealt into parts: what a hierarchy is derived from, in one pass over the cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.hierarchy.moments import Array, Moments

N_PARTS = 100
"""Parts of a class, at most."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some cells: latents and scales (n, d), shares (n, n_genes) or none, and the part of each (n,)."""

    parts: NDArray[np.int64]
    latents: Array
    scale: Array
    shares: sparse.csr_matrix | None = None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Sums over the cells of every part, of which moments and profiles of classes are made.

    Cells are dealt at random, so that a class of resampled parts varies as one of resampled cells does: the variance of
    a mean is the same. A class of few cells has a part for each, and its parts are its cells.
    """

    codes: NDArray[np.int64]
    """Class of every part, (n_parts,)."""
    n_cells: NDArray[np.float64]
    """Cells of every part, (n_parts,)."""
    total: Array
    """Σ z of posterior means z, (n_parts, d)."""
    product: Array
    """Σ z zᵀ, (n_parts, d, d)."""
    known: Array
    """Σ of the posteriors' variances, (n_parts, d)."""
    shares: Array | None
    """Σ of counts divided by the cell's total, (n_parts, n_genes), where they are known."""

    @classmethod
    def of_blocks(cls, codes: NDArray[np.int64], blocks: Iterable[Block]) -> Self:
        """Sums over all cells of the parts of these classes, (n_parts,), which come some at a time."""
        n = len(codes)
        n_cells, shares = np.zeros(n), None
        total, product, known = np.zeros((n, 0)), np.zeros((n, 0, 0)), np.zeros((n, 0))
        for block in blocks:
            d = block.latents.shape[1]
            if not total.shape[1]:
                total, product, known = np.zeros((n, d)), np.zeros((n, d, d)), np.zeros((n, d))
            rows = np.arange(len(block.parts))
            members = sparse.csr_matrix((np.ones(len(rows)), (block.parts, rows)), shape=(n, len(rows)))
            n_cells += np.bincount(block.parts, minlength=n)
            total += members @ block.latents
            known += members @ block.scale**2
            for part in np.unique(block.parts):
                chosen = block.latents[members.indices[members.indptr[part] : members.indptr[part + 1]]]
                product[part] += chosen.T @ chosen
            if block.shares is not None:
                shares = np.zeros((n, block.shares.shape[1])) if shares is None else shares
                summed = members @ block.shares
                for part in np.flatnonzero(np.diff(summed.indptr)):
                    inside = slice(summed.indptr[part], summed.indptr[part + 1])
                    shares[part, summed.indices[inside]] += summed.data[inside]
        return cls(codes=codes, n_cells=n_cells, total=total, product=product, known=known, shares=shares)

    @classmethod
    def of_cells(
        cls,
        latents: Array,
        scale: Array,
        codes: NDArray[np.int64],
        rng: np.random.Generator,
        shares: sparse.csr_matrix | None = None,
    ) -> Self:
        """Parts of cells that are in memory, all with a row in each argument."""
        parts, classes = deal(codes, rng)
        return cls.of_blocks(classes, [Block(parts=parts, latents=latents, scale=scale, shares=shares)])

    def moments(self, rows: NDArray[np.int64], n_classes: int, shrinkage: float) -> Moments:
        """Moments of the classes of some parts, which may occur more than once; see `Moments.of_classes`."""
        chosen = _chosen(self.codes, rows, n_classes)
        n_cells = chosen @ self.n_cells
        mean, known = (chosen @ values / n_cells[:, None] for values in (self.total, self.known))
        d = mean.shape[1]
        square = (chosen @ self.product.reshape(len(self.codes), d * d)).reshape(n_classes, d, d)
        spread = square - n_cells[:, None, None] * mean[:, :, None] * mean[:, None, :]
        spread = (spread + spread.transpose(0, 2, 1)) / 2 / np.maximum(n_cells - 1, 1)[:, None, None]
        return Moments.shrunk(n_cells, mean, spread + known[:, :, None] * np.eye(d), known, shrinkage)

    def profiles(self, rows: NDArray[np.int64], n_classes: int) -> Array:
        """Mean share of every gene in the classes of some parts, (n_classes, n_genes)."""
        assert self.shares is not None
        chosen = _chosen(self.codes, rows, n_classes)
        return np.asarray(chosen @ self.shares / (chosen @ self.n_cells)[:, None])


def deal(codes: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part of every cell, (n_cells,), and class of every part, (n_parts,); the order of classes does not matter."""
    order = np.lexsort((rng.random(len(codes)), codes))
    sizes = np.bincount(codes)
    n_parts = np.minimum(sizes, N_PARTS)
    number = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    parts = np.empty(len(codes), dtype=np.int64)
    parts[order] = np.repeat(np.cumsum(n_parts) - n_parts, sizes) + number % np.repeat(n_parts, sizes)
    return parts, np.repeat(np.arange(len(sizes)), n_parts)


def _chosen(codes: NDArray[np.int64], rows: NDArray[np.int64], n_classes: int) -> sparse.csr_matrix:
    """How often a part is among the rows, at its class: (n_classes, n_parts)."""
    return sparse.csr_matrix((np.ones(len(rows)), (codes[rows], rows)), shape=(n_classes, len(codes)))
