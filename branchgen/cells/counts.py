"""The raw counts of an AnnData, checked and in one form: sparse rows of integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.errors import BranchgenError

BLOCK = 2**22
"""Entries of the matrix, zeros included, that are read at once."""
GAP = 256
"""Rows between two wanted ones up to which they are read at once: to begin anew costs as much as a few hundred rows."""
LARGEST_LOG = 25.0
"""Fractional values up to this look like logarithms: log₂ of 10⁷ normalised counts is 23."""


class RawCounts:
    """The raw counts in one slot of some cells, (n_cells, n_genes), read as they are needed: in memory or from a file.

    `slot` is ``X`` or the name of a layer; its values may be of any numeric type as long as they are integers.
    BranchgenError says what else was found.
    """

    def __init__(self, cells: AnnData, slot: str, source: str) -> None:
        matrix = _slot(cells, slot, source)
        self._where = f"the counts in {_name(slot)} of {source}"
        self._slots = _slots(cells)
        if matrix.dtype.kind not in "biuf":
            raise BranchgenError(f"{self._where} are of type {matrix.dtype}; they must be numbers")
        if getattr(matrix, "format", "csr") != "csr":
            # Its rows are all over the file.
            matrix = sparse.csr_matrix(matrix.to_memory() if hasattr(matrix, "to_memory") else matrix)
        self._matrix = matrix
        self.shape: tuple[int, int] = matrix.shape

    def blocks(self, *, check: bool = False) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Rows and their counts, CSR int32 with every entry stored once and no zeros, some cells at a time.

        With `check`, the values are looked at, too, and after the last block there is a BranchgenError unless all of
        them are counts.
        """
        found = Values()
        for first in range(0, self.shape[0], self._n_rows):
            rows = slice(first, min(first + self._n_rows, self.shape[0]))
            yield rows, self._read(rows, found if check else None)
        if check:
            found.require_counts(self._where)
            if not found.high:
                raise BranchgenError(f"{self._where} are all zero; name the slot with the raw counts ({self._slots})")

    @property
    def _n_rows(self) -> int:
        return max(1, BLOCK // max(1, self.shape[1]))

    def _read(self, rows: slice, found: Values | None = None) -> sparse.csr_matrix:
        """Counts of some cells; `found` is told of the values as they were."""
        block = self._matrix[rows]
        if hasattr(block, "tocsr"):
            block = sparse.csr_matrix(block)
            if not block.has_canonical_format:
                block = block.copy()
                block.sum_duplicates()
        if found is not None:
            found.add(block.data if sparse.issparse(block) else block)
        with np.errstate(invalid="ignore"):  # what is no number is found out by the check
            counts = sparse.csr_matrix(block).astype(np.int32)
        counts.eliminate_zeros()
        return counts

    def __getitem__(self, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Counts of these cells, ascending: CSR int32, shape (n_rows, n_genes)."""
        parts = [block[inside] for inside, block in self.of(rows)]
        empty = sparse.csr_matrix((0, self.shape[1]), dtype=np.int32)
        return sparse.csr_matrix(sparse.vstack(parts or [empty], format="csr"))

    def select(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> sparse.csr_matrix:
        """Counts of these cells, ascending, and genes: CSR int32, shape (n_rows, n_columns)."""
        empty = sparse.csr_matrix((0, len(columns)), dtype=np.int32)
        return sparse.csr_matrix(sparse.vstack([empty, *self.selected(rows, columns)], format="csr"))

    def selected(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Iterator[sparse.csr_matrix]:
        """The same, some cells after the other."""
        for inside, block in self.of(rows):
            part = block[inside][:, columns]
            part.sort_indices()
            yield part

    def totals(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """UMIs of these genes in each of these cells, ascending; shape (n_rows,)."""
        wanted = np.zeros(self.shape[1], dtype=np.int64)
        wanted[columns] = 1
        found = [block[inside] @ wanted for inside, block in self.of(rows)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *found])

    def n_cells_with(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of these cells, ascending, in which every gene is detected, shape (n_genes,)."""
        found = np.zeros(self.shape[1], dtype=np.int64)
        for inside, block in self.of(rows):
            found += block[inside].getnnz(axis=0)
        return found

    def of(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], sparse.csr_matrix]]:
        """Blocks that have all of these rows, ascending, and where in the block they are; what is far is not read."""
        begin = 0
        while begin < len(rows):
            end = begin + int(np.searchsorted(rows[begin:], rows[begin] + self._n_rows))
            apart = np.flatnonzero(np.diff(rows[begin:end]) > GAP)
            end = begin + int(apart[0]) + 1 if len(apart) else end
            yield rows[begin:end] - rows[begin], self._read(slice(int(rows[begin]), int(rows[end - 1]) + 1))
            begin = end


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some cells of those whose counts are in a file, ascending, as if they were all: (n_cells, n_genes)."""

    counts: RawCounts
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and genes."""
        return len(self.rows), self.counts.shape[1]

    def __getitem__(self, chosen: NDArray[np.int64]) -> sparse.csr_matrix:
        """Counts of some of them, ascending: CSR int32, shape (n_chosen, n_genes)."""
        return self.counts[self.rows[chosen]]


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows at equal distances, at most as many."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


@dataclass
class Values:
    """What has been seen of some values."""

    low: float = 0.0
    high: float = 0.0
    fractional: int = 0
    undefined: int = 0

    def add(self, block: NDArray[Any]) -> None:
        """Look at more of them."""
        finite = np.isfinite(block)
        self.undefined += block.size - int(finite.sum())
        self.low = min(self.low, float(block.min(initial=0, where=finite)))
        self.high = max(self.high, float(block.max(initial=0, where=finite)))
        if block.dtype.kind == "f":
            self.fractional += int((block != np.rint(block))[finite].sum())

    def require_counts(self, where: str) -> None:
        """Raise BranchgenError unless all values are counts: finite integers from 0 to 2³¹ − 1."""
        low, high, fractional = self.low, self.high, self.fractional
        right = "give the raw integer counts, in X or in a layer"
        if self.undefined:
            raise BranchgenError(f"{where} hold {self.undefined} NaN or infinite values; {right}")
        if low < 0 and fractional:
            found = f"{fractional} fractional values, from {low:.3g} to {high:.3g}"
            raise BranchgenError(f"{where} look scaled: {found}; {right}")
        if low < 0:
            raise BranchgenError(f"{where} are negative down to {low:g}; {right}")
        if fractional:
            kind = "look log-normalised" if high <= LARGEST_LOG else "look normalised or corrected"
            raise BranchgenError(f"{where} {kind}: {fractional} fractional values, up to {high:.4g}; {right}")
        if high > np.iinfo(np.int32).max:
            raise BranchgenError(f"{where} reach {high:.4g}, more than any count; {right}")


def _slot(cells: AnnData, slot: str, source: str) -> Any:
    if slot != "X" and slot not in cells.layers:
        raise BranchgenError(f"{source} has no layer {slot!r} to take the counts from; it has {_slots(cells)}")
    matrix = cells.X if slot == "X" else cells.layers[slot]
    if matrix is None:
        raise BranchgenError(f"{source} has no X to take the counts from; it has {_slots(cells)}")
    return matrix


def _slots(cells: AnnData) -> str:
    """Every slot that might hold counts, for a sentence."""
    names = ["X"] if cells.X is not None else []
    return ", ".join([*names, *(f"the layer {name!r}" for name in cells.layers)]) or "no matrix at all"


def _name(slot: str) -> str:
    return "X" if slot == "X" else f"layer {slot!r}"
