"""The raw counts of an AnnData, checked and in one form: sparse rows of integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.errors import BranchgenError

BLOCK = 2**22
"""Numbers looked at or made dense at once."""
LARGEST_LOG = 25.0
"""Fractional values up to this look like logarithms: log₂ of 10⁷ normalised counts is 23."""


def raw_counts(cells: AnnData, slot: str, source: str) -> sparse.csr_matrix:
    """Counts of the cells, CSR int32 of shape (n_cells, n_genes), without stored zeros.

    `slot` is ``X`` or the name of a layer; its values may be of any numeric type as long as they are integers.
    BranchgenError says what else was found.
    """
    matrix = _slot(cells, slot, source)
    where = f"the counts in {_name(slot)} of {source}"
    if matrix.dtype.kind not in "biuf":
        raise BranchgenError(f"{where} are of type {matrix.dtype}; they must be numbers")
    if sparse.issparse(matrix):
        matrix = _canonical(matrix)
    check_counts(_blocks(matrix), where)
    if sparse.issparse(matrix):
        parts = (matrix.data.astype(np.int32), matrix.indices, matrix.indptr)
        counts = sparse.csr_matrix(parts, shape=matrix.shape)
    else:
        rows = [sparse.csr_matrix(block.astype(np.int32)) for block in _blocks(matrix)]
        counts = sparse.vstack(rows, format="csr")
    if counts.nnz and not counts.data.all():
        counts = counts.copy()
        counts.eliminate_zeros()
    if not counts.nnz:
        raise BranchgenError(f"{where} are all zero; name the slot with the raw counts ({_slots(cells)})")
    return counts


def check_counts(blocks: Iterable[NDArray[Any]], where: str) -> None:
    """Raise BranchgenError unless all values are counts: finite integers from 0 to 2³¹ − 1."""
    low, high, fractional, undefined = 0.0, 0.0, 0, 0
    for block in blocks:
        finite = np.isfinite(block)
        undefined += block.size - int(finite.sum())
        low = min(low, float(block.min(initial=0, where=finite)))
        high = max(high, float(block.max(initial=0, where=finite)))
        if block.dtype.kind == "f":
            fractional += int((block != np.rint(block))[finite].sum())
    right = "give the raw integer counts, in X or in a layer"
    if undefined:
        raise BranchgenError(f"{where} hold {undefined} NaN or infinite values; {right}")
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


def _blocks(matrix: Any) -> Iterator[NDArray[Any]]:
    """Values of a matrix, about BLOCK at a time: the stored ones if it is sparse, whole rows if it is dense."""
    values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix)
    n_rows = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), n_rows):
        yield values[start : start + n_rows]


def _name(slot: str) -> str:
    return "X" if slot == "X" else f"layer {slot!r}"


def _canonical(matrix: Any) -> sparse.csr_matrix:
    """The same matrix as CSR with every entry stored once; the argument stays as it is."""
    rows = sparse.csr_matrix(matrix)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows
