"""An h5ad that grows while cells are generated."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anndata
import h5py
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class GrowingH5ad:
    """An h5ad whose counts are appended block by block, in memory for one block; use inside `written_together`.

    X and layers['counts'] are one matrix on disk, under two names.
    """

    def __init__(self, path: Path, genes: list[str]) -> None:
        self._genes = genes
        self._stream = _PatientStream(path)
        self._store = h5py.File(self._stream, "w")
        empty = sparse.csr_matrix((0, len(genes)), dtype="int32")
        anndata.io.write_elem(self._store, "X", empty, dataset_kwargs={"compression": "gzip"})

    def append(self, counts: sparse.csr_matrix) -> None:
        """Add cells (n_cells, n_genes)."""
        anndata.io.sparse_dataset(self._store["X"]).append(counts)
        self._stream.raise_error()

    def finish(self, obs: pd.DataFrame, obsm: dict[str, Any], uns: dict[str, Any]) -> None:
        """Add the tables of all cells; the file is then complete."""
        frame = anndata.AnnData(obs=obs, var=pd.DataFrame(index=self._genes), obsm=obsm, uns=uns)
        for name in ("obs", "var", "obsm", "uns", "layers", "varm", "obsp", "varp"):
            anndata.io.write_elem(
                self._store, name, getattr(frame, name) if name in {"obs", "var"} else dict(getattr(frame, name))
            )
        self._store["layers"]["counts"] = self._store["X"]
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


class _PatientStream(io.FileIO):
    """A file that HDF5 believes always to be written: HDF5 does not survive a failing write.

    The first error is kept, for `raise_error` where it can be dealt with; from then on writes are held in memory, so
    that HDF5 reads what it wrote and comes to its end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None
        self._held: list[tuple[int, bytes]] = []

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        start = self.tell()
        if self._error is None:
            try:
                written = 0
                while written < view.nbytes:
                    written += super().write(view[written:])
            except OSError as error:
                self._error = error
        if self._error is not None:
            self._held.append((start, bytes(view)))
            self.seek(start + view.nbytes)
        return view.nbytes

    def readinto(self, data: WriteableBuffer, /) -> int:
        view = memoryview(data)
        start = self.tell()
        found = super().readinto(view) or 0
        view[found:] = bytes(view.nbytes - found)  # beyond the end are zeros, as in HDF5's own drivers
        for position, held in self._held:
            first, last = max(start, position), min(start + view.nbytes, position + len(held))
            if first < last:
                view[first - start : last - start] = held[first - position : last - position]
        self.seek(start + view.nbytes)
        return view.nbytes

    def truncate(self, size: int | None = None, /) -> int:
        length = self.tell() if size is None else size
        if self._error is None:
            try:
                return super().truncate(length)
            except OSError as error:
                self._error = error
        return length

    def raise_error(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error
