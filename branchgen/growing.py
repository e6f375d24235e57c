"""An h5ad that grows while cells are generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.hdf5 import PatientStream

COMPRESSED = {"compression": "gzip"}
NUMBERS_OF_CHUNK = 2**16
"""Numbers of a chunk of the matrix."""
LARGEST_SHORT = np.iinfo(np.int32).max
ROWS_OF_CHUNK = 4096
"""Cells of a chunk of a table or an array."""


def write_in_blocks(cells: AnnData, blocks: Iterable[sparse.csr_matrix], path: Path) -> None:
    """Write cells without X, and in X and layers['counts'] the counts of these blocks; use inside `written_together`.

    X and layers['counts'] are one matrix on disk, under two names.
    """
    stream = PatientStream(path)
    with closing(stream):
        with h5py.File(stream, "w") as store:
            anndata.io.write_elem(store, "/", cells, dataset_kwargs=COMPRESSED)
            begin_matrix(store, cells.n_vars)
            for block in blocks:
                anndata.io.sparse_dataset(store["X"]).append(block)
                stream.raise_error()
            end_matrix(store)
            store["layers"]["counts"] = store["X"]
        stream.raise_error()


def begin_matrix(store: h5py.File, n_genes: int) -> None:
    """A matrix X without rows, to which rows can be appended, of more than 2³¹ counts in all, too."""
    empty = sparse.csr_matrix((0, n_genes), dtype="int32")
    # Left to itself, HDF5 takes the empty matrix for the size of things to come: chunks of a single number.
    how = {**COMPRESSED, "chunks": (NUMBERS_OF_CHUNK,), "indptr_dtype": "int64"}
    anndata.io.write_elem(store, "X", empty, dataset_kwargs=how)


def end_matrix(store: h5py.File) -> None:
    """Begins of rows as 32-bit numbers where these are enough: not everybody's programs take others."""
    matrix = store["X"]
    begins = matrix["indptr"][:]
    if begins[-1] <= LARGEST_SHORT:
        del matrix["indptr"]
        matrix.create_dataset(
            "indptr", data=begins.astype(np.int32), maxshape=(None,), chunks=(NUMBERS_OF_CHUNK,), **COMPRESSED
        )


class GrowingH5ad:
    """An h5ad to whose end cells are appended, in memory for one block of them; use inside `written_together`.

    X and layers['counts'] are one matrix on disk, under two names. `obs` is a table without rows whose columns have the
    types of those to come, categories included; `obsm` is the width of every array.
    """

    def __init__(self, path: Path, genes: Sequence[str], obs: pd.DataFrame, obsm: Mapping[str, int]) -> None:
        self._stream = PatientStream(path)
        self._store = h5py.File(self._stream, "w")
        begin_matrix(self._store, len(genes))
        empty = AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(genes)))
        for name in ("obs", "var"):
            anndata.io.write_elem(self._store, name, getattr(empty, name), dataset_kwargs=COMPRESSED)
        for name in ("obsm", "uns", "layers", "varm", "obsp", "varp"):
            anndata.io.write_elem(self._store, name, {})
        rows = self._store["obs"]
        for name in ("_index", *obs.columns):
            self._make_resizable(rows, f"{name}/codes" if isinstance(rows[name], h5py.Group) else name)
        for name, width in obsm.items():
            anndata.io.write_elem(self._store["obsm"], name, np.zeros((0, width), dtype=np.float32))
            self._make_resizable(self._store["obsm"], name)
        self._store["layers"]["counts"] = self._store["X"]

    @staticmethod
    def _make_resizable(group: h5py.Group, name: str) -> None:
        """Replace a dataset without rows by one that can grow."""
        old = group[name]
        kind, shape, attributes = old.dtype, old.shape, dict(old.attrs)
        del group[name]
        chunks = (ROWS_OF_CHUNK, *shape[1:])
        new = group.create_dataset(name, shape, kind, maxshape=(None, *shape[1:]), chunks=chunks, compression="gzip")
        new.attrs.update(attributes)

    def append(self, counts: sparse.csr_matrix, obs: pd.DataFrame, obsm: Mapping[str, NDArray[np.float32]]) -> None:
        """Add cells: counts (n_cells, n_genes), their table, and arrays (n_cells, width)."""
        anndata.io.sparse_dataset(self._store["X"]).append(counts)
        rows = self._store["obs"]
        _extend(rows["_index"], obs.index.to_numpy(dtype=object))
        for name in obs.columns:
            if isinstance(rows[name], h5py.Group):
                _extend(rows[name]["codes"], obs[name].cat.codes.to_numpy())
            else:
                _extend(rows[name], obs[name].to_numpy())
        for name, values in obsm.items():
            _extend(self._store["obsm"][name], values)
        self._stream.raise_error()

    def finish(self, uns: Mapping[str, str]) -> None:
        """Add what concerns all cells; the file is then complete."""
        for name, value in uns.items():
            anndata.io.write_elem(self._store["uns"], name, value)
        end_matrix(self._store)
        self._store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        self._store.flush()
        self._stream.raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
        self._stream.close()
        if error is None:
            self._stream.raise_error()


def _extend(dataset: h5py.Dataset, values: NDArray[Any]) -> None:
    """Add rows to the end of a dataset."""
    begin = len(dataset)
    dataset.resize(begin + len(values), axis=0)
    dataset[begin:] = values
