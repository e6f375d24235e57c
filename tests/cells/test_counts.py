"""Counts come out as sparse integers from whatever form held them; anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from branchgen.cells import counts as module
from branchgen.cells.counts import RawCounts, Rows, evenly
from branchgen.errors import BranchgenError
from branchgen.stores import opened_cells

COUNTS = np.random.default_rng(0).poisson(0.7, size=(30, 11))


def raw_counts(cells: AnnData, slot: str, source: str) -> sparse.csr_matrix:
    """All counts, checked."""
    counts = RawCounts(cells, slot, source)
    return sparse.vstack([block for _, block in counts.blocks(check=True)], format="csr")


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "dense integers": lambda x: x.astype(np.int64),
    "dense float": lambda x: x.astype(np.float32),
    "dense columns first": lambda x: np.asfortranarray(x.astype(np.float64)),
    "csr float": lambda x: sparse.csr_matrix(x.astype(np.float32)),
    "csc unsigned": lambda x: sparse.csc_matrix(x.astype(np.uint16)),
    "csr array": lambda x: sparse.csr_array(x.astype(np.float64)),
    "csc array": lambda x: sparse.csc_array(x),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [5, 25, 2**22])
def test_every_form_gives_the_same_sparse_integers(form: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    matrix = FORMS[form](COUNTS)
    cells = AnnData(X=None, shape=COUNTS.shape, layers={"raw": matrix})
    found = raw_counts(cells, "raw", "cells.h5ad")
    assert isinstance(found, sparse.csr_matrix)
    assert found.dtype == np.int32
    assert found.has_canonical_format
    assert found.nnz == (COUNTS > 0).sum()
    np.testing.assert_array_equal(found.toarray(), COUNTS)


def test_stored_zeros_and_entries_stored_twice_leave_the_input_as_it_is() -> None:
    parts = (np.array([1.0, 2.0, 0.0, 3.0]), np.array([1, 1, 0, 2]), np.array([0, 3, 4]))
    matrix = sparse.csr_matrix(parts, shape=(2, 3))
    found = raw_counts(AnnData(X=matrix), "X", "cells.h5ad")
    np.testing.assert_array_equal(found.toarray(), [[0, 3, 0], [0, 0, 3]])
    assert found.nnz == 2
    np.testing.assert_array_equal(matrix.data, [1, 2, 0, 3])


def spoiled(change: Callable[[np.ndarray], None]) -> np.ndarray:
    matrix = COUNTS.astype(np.float64)
    change(matrix)
    return matrix


REFUSED = {
    "negative": (spoiled(lambda x: np.put(x, 3, -2)), "the counts in X of cells.h5ad are negative down to -2;"),
    "logarithms": (np.log1p(COUNTS * 3.3), r"look log-normalised: 1\d\d fractional values, up to 2\.\d+; give the raw"),
    "scaled": ((COUNTS - COUNTS.mean(0)) / COUNTS.std(0), r"look scaled: \d+ fractional values, from -1.* to \d"),
    "per ten thousand": (COUNTS * 123.4, "look normalised or corrected: .* fractional values"),
    "undefined": (spoiled(lambda x: np.put(x, [3, 70], np.nan)), "hold 2 NaN or infinite values"),
    "infinite": (spoiled(lambda x: np.put(x, 4, np.inf)), "hold 1 NaN or infinite values"),
    "all zero": (0 * COUNTS, "are all zero"),
    "too large": (spoiled(lambda x: np.put(x, 4, 2**31)), "more than any count"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("block", [7, 2**22])
def test_what_are_not_counts_is_named(
    what: str, form: Callable[[np.ndarray], Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    matrix, message = REFUSED[what]
    with pytest.raises(BranchgenError, match=message):
        raw_counts(AnnData(X=form(matrix)), "X", "cells.h5ad")


def test_an_absent_slot_is_refused_with_the_slots_that_exist() -> None:
    cells = AnnData(X=COUNTS, layers={"spliced": COUNTS})
    with pytest.raises(
        BranchgenError, match="no layer 'counts' to take the counts from; it has X, the layer 'spliced'"
    ):
        raw_counts(cells, "counts", "cells.h5ad")
    without = AnnData(X=None, shape=COUNTS.shape, layers={"spliced": COUNTS})
    with pytest.raises(BranchgenError, match="no X to take the counts from; it has the layer 'spliced'"):
        raw_counts(without, "X", "cells.h5ad")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [5, 40, 2**22])
def test_some_cells_and_genes(form: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    counts = RawCounts(AnnData(X=FORMS[form](COUNTS)), "X", "cells.h5ad")
    rows, columns = np.array([0, 3, 4, 5, 29]), np.array([7, 2])
    found = counts.select(rows, columns)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.toarray(), COUNTS[rows][:, columns])
    np.testing.assert_array_equal(counts.n_cells_with(rows), (COUNTS[rows] > 0).sum(axis=0))
    np.testing.assert_array_equal(counts.totals(rows, columns), COUNTS[rows][:, columns].sum(axis=1))
    assert all(part.has_canonical_format for part in counts.selected(rows, columns))
    assert counts.select(rows[:0], columns).shape == (0, 2)
    assert counts[rows].dtype == np.int32
    np.testing.assert_array_equal(counts[rows].toarray(), COUNTS[rows])
    assert counts[rows[:0]].shape == (0, COUNTS.shape[1])
    some = Rows(counts=counts, rows=rows)
    assert some.shape == (5, COUNTS.shape[1])
    np.testing.assert_array_equal(some[np.array([1, 4])].toarray(), COUNTS[[3, 29]])


@pytest.mark.parametrize("form", FORMS)
def test_cells_that_are_far_from_the_wanted_ones_are_not_read(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP", 4)
    counts = RawCounts(AnnData(X=FORMS[form](COUNTS)), "X", "cells.h5ad")
    read: list[slice] = []
    original = counts._read
    monkeypatch.setattr(counts, "_read", lambda rows: read.append(rows) or original(rows))
    rows = np.array([1, 4, 8, 20, 21, 29])
    np.testing.assert_array_equal(counts[rows].toarray(), COUNTS[rows])
    assert read == [slice(1, 9), slice(20, 22), slice(29, 30)]


def test_rows_at_equal_distances() -> None:
    rows = np.arange(10, 31, 2)
    np.testing.assert_array_equal(evenly(rows, 11), rows)
    np.testing.assert_array_equal(evenly(rows, 3), [10, 20, 30])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_counts_are_read_from_a_store_block_by_block(
    form: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 40)
    path = tmp_path / name
    matrix = FORMS[form](COUNTS)
    cells = AnnData(X=matrix, layers={"raw": matrix}, obs=pd.DataFrame({"type": pd.Categorical(["a", "b"] * 15)}))
    cells.uns["branchgen"] = "a record"
    cells.obsm["place"] = np.arange(60.0).reshape(30, 2)
    (cells.write_h5ad if path.suffix == ".h5ad" else cells.write_zarr)(path)
    with opened_cells(path) as stored:
        assert stored.uns["branchgen"] == "a record"
        pd.testing.assert_frame_equal(stored.obs, cells.obs)
        np.testing.assert_array_equal(stored.obsm["place"][4:6], [[8, 9], [10, 11]])
        for slot in ("X", "raw"):
            counts = RawCounts(stored, slot, name)
            assert type(stored.X) is not np.ndarray
            sizes = [block.shape[0] for _, block in counts.blocks(check=True)]
            assert sizes == [3] * 10
            every = np.arange(COUNTS.shape[0]), np.arange(COUNTS.shape[1])
            np.testing.assert_array_equal(counts.select(*every).toarray(), COUNTS)
            np.testing.assert_array_equal(counts[every[0][::3]].toarray(), COUNTS[::3])


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BranchgenError, match=r"is a folder, but not a zarr store of cells"), opened_cells(tmp_path):
        pass
