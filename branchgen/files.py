"""Reading and writing of every kind of file: readable errors on the way in, atomic replacement on the way out."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from branchgen.errors import BranchgenError
from branchgen.provenance import check_format

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import ReadableBuffer, WriteableBuffer
    from anndata import AnnData
    from scipy.sparse import csr_matrix


@contextmanager
def written_together(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths beside `paths`; all are moved into place at the end, or none of them and nothing stays behind.

    A failing write (a full disk, a quota, a missing permission) is reported as a BranchgenError.
    """
    # The process number keeps two runs that write the same file apart; the suffix tells writers the format.
    temporary = tuple(path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") for path in paths)
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        yield temporary
        assert all(source.exists() for source in temporary), "a command left out one of its outputs"
        for source, target in zip(temporary, paths, strict=True):
            os.replace(source, target)
    except OSError as error:
        names = ", ".join(map(str, paths))
        reason = error.strerror or str(error)
        if error.filename is not None:
            reason += f" ({error.filename})"
        raise BranchgenError(f"cannot write {names}: {reason}; check free space and permissions") from error
    finally:
        for source in temporary:
            with suppress(OSError):  # where nothing could be written there is nothing to remove
                source.unlink()


def require_file(path: Path) -> None:
    """Raise BranchgenError unless `path` is a file that can be read."""
    if not path.exists():
        raise BranchgenError(f"{path} does not exist; check the path (it is relative to {Path.cwd()})")
    if not path.is_file():
        raise BranchgenError(f"{path} is not a file")
    if not os.access(path, os.R_OK):
        raise BranchgenError(f"{path} cannot be read; check its permissions")


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    require_file(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_h5ad(path: Path) -> AnnData:
    """AnnData in memory; BranchgenError says whether the file is missing, of another kind, or damaged."""
    import anndata
    import h5py

    require_file(path)
    if not h5py.is_hdf5(path):
        raise BranchgenError(f"{path} is not an h5ad file (no HDF5 signature); write it with AnnData.write_h5ad")
    try:
        return anndata.read_h5ad(path)
    except BranchgenError:
        raise
    except Exception as error:  # anndata and h5py raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BranchgenError(f"{path} cannot be read as h5ad, it may be truncated: {reason}") from error


def write_h5ad(cells: AnnData, path: Path) -> None:
    """Write an AnnData; call inside `written_together`."""
    import anndata
    import h5py

    # HDF5 does not survive a failing write: it prints tracebacks and may crash when the process ends. So the file
    # is built in memory, where it is compressed and smaller than the cells, and then written in one go.
    image = io.BytesIO()
    with h5py.File(image, "w") as store:
        anndata.io.write_elem(store, "/", cells, dataset_kwargs={"compression": "gzip"})
    path.write_bytes(image.getbuffer())


class GrowingH5ad:
    """An h5ad whose counts are appended block by block, in memory for one block; use inside `written_together`.

    X and layers['counts'] are one matrix on disk, under two names.
    """

    def __init__(self, path: Path, genes: list[str]) -> None:
        import anndata
        import h5py
        from scipy import sparse

        self._genes = genes
        self._stream = _PatientStream(path)
        self._store = h5py.File(self._stream, "w")
        empty = sparse.csr_matrix((0, len(genes)), dtype="int32")
        anndata.io.write_elem(self._store, "X", empty, dataset_kwargs={"compression": "gzip"})

    def append(self, counts: csr_matrix) -> None:
        """Add cells (n_cells, n_genes)."""
        import anndata

        anndata.io.sparse_dataset(self._store["X"]).append(counts)
        self._stream.raise_error()

    def finish(self, obs: pd.DataFrame, obsm: dict[str, Any], uns: dict[str, Any]) -> None:
        """Add the tables of all cells; the file is then complete."""
        import anndata
        import pandas as pd

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


def read_artefact(path: Path, command: str) -> AnnData:
    """AnnData that `branchgen <command>` wrote; refuses other files and other format versions."""
    cells = read_h5ad(path)
    record = read_provenance(cells, path)
    if record["command"] != command:
        raise BranchgenError(f"{path} was written by 'branchgen {record['command']}', not by 'branchgen {command}'")
    return cells


def read_provenance(cells: AnnData, path: Path) -> dict[str, Any]:
    """Provenance record of an AnnData that branchgen wrote."""
    if "branchgen" not in cells.uns:
        raise BranchgenError(f"{path} was not written by branchgen (no uns['branchgen'])")
    try:
        record: dict[str, Any] = json.loads(cells.uns["branchgen"])
    except (TypeError, ValueError) as error:
        raise BranchgenError(f"uns['branchgen'] of {path} is not a record that branchgen wrote") from error
    if not isinstance(record, dict):
        raise BranchgenError(f"uns['branchgen'] of {path} is not a record that branchgen wrote")
    check_format(record.get("format_version"), str(path))
    return record


def read_state(path: Path, kind: str) -> dict[str, Any]:
    """State dictionary of plain types and tensors that branchgen wrote, of the named kind (codec, model)."""
    import torch

    require_file(path)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BranchgenError(f"{path} is not a {kind} file of branchgen, or it is damaged") from error
    if not isinstance(state, dict) or state.get("kind") != kind:
        raise BranchgenError(f"{path} is not a {kind} file of branchgen")
    check_format(state.get("format_version"), str(path))
    return state


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a state dictionary; call inside `written_together`."""
    import torch

    # torch hides the reason of a failing write, so it writes into memory.
    image = io.BytesIO()
    torch.save(state, image)
    path.write_bytes(image.getbuffer())


def read_json(path: Path, *names: str) -> dict[str, Any]:
    """JSON object that branchgen wrote, with values of these names."""
    require_file(path)
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise BranchgenError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(record, dict):
        raise BranchgenError(f"{path} is not a JSON file of branchgen; it holds no named values")
    check_format(record.get("format_version"), str(path))
    for name in names:
        if name not in record:
            raise BranchgenError(f"{path} has no {name!r}; it must have {', '.join(names)}")
    return record


def read_table(path: Path) -> pd.DataFrame:
    """Parquet table."""
    import pandas as pd

    require_file(path)
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise BranchgenError(f"{path} is not a Parquet table, or it is damaged") from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a Parquet table; call inside `written_together`."""
    table.to_parquet(path, engine="pyarrow", index=False)
