"""Reading and writing of every kind of file: readable errors on the way in, atomic replacement on the way out."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchgen.cells.keys import PROVENANCE
from branchgen.errors import BranchgenError
from branchgen.hdf5 import PatientStream
from branchgen.provenance import check_format

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

SLOTS = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp")
"""Parts of an h5ad besides its matrices."""


@contextmanager
def written_together(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths beside `paths`; all are moved into place at the end, or none of them and nothing stays behind.

    A process that is killed cannot clean up: its temporary files are those of the next one that writes the same paths.
    A failing write (a full disk, a quota, a missing permission) is reported as a BranchgenError, as are files that
    another process is writing.
    """
    # The suffix tells writers the format.
    temporary = tuple(path.with_name(f".{path.stem}.part{path.suffix}") for path in paths)
    with ExitStack() as claims:
        try:
            for source, path in zip(temporary, paths, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                claims.enter_context(_claimed(source, path))
            yield temporary
            assert all(source.stat().st_size for source in temporary), "a command left out one of its outputs"
            for source, target in zip(temporary, paths, strict=True):
                os.replace(source, target)
        except OSError as error:
            names = ", ".join(map(str, paths))
            reason = error.strerror or str(error)
            if error.filename is not None:
                reason += f" ({error.filename})"
            raise BranchgenError(f"cannot write {names}: {reason}; check free space and permissions") from error


@contextmanager
def _claimed(source: Path, target: Path) -> Iterator[None]:
    """Make a temporary file, or take that of a process which is gone; in the end it is removed, unless it was moved."""
    descriptor = os.open(source, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BranchgenError(
                f"{target} is being written by another process; wait until it is done, or stop it"
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            with suppress(OSError):  # it was moved, or its folder cannot be written to
                source.unlink()
    finally:
        os.close(descriptor)


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


def store_hash(path: Path) -> str:
    """The same; of a folder, of the names and hashes of its files."""
    if not path.is_dir():
        return file_hash(path)
    parts = sorted((str(file.relative_to(path)), file) for file in path.rglob("*") if file.is_file())
    return hashlib.sha256("".join(f"{name} {file_hash(file)}\n" for name, file in parts).encode()).hexdigest()


def require_h5ad(path: Path) -> None:
    """Raise BranchgenError unless `path` is a file of HDF5 that can be read."""
    import h5py

    require_file(path)
    if not h5py.is_hdf5(path):
        raise BranchgenError(f"{path} is not an h5ad file (no HDF5 signature); write it with AnnData.write_h5ad")


def read_h5ad(path: Path) -> AnnData:
    """AnnData in memory; BranchgenError says whether the file is missing, of another kind, or damaged."""
    import anndata

    require_h5ad(path)
    with _readable(path):
        return _with_twins(path) or anndata.read_h5ad(path)


@contextmanager
def opened_cells(path: Path) -> Iterator[AnnData]:
    """Tables of cells in an h5ad or a zarr store, whose X, layers and arrays stay there until they are needed.

    Other slots are left out, but for uns['branchgen'], if it is there. All is well while the context lasts.
    """
    import anndata
    import h5py
    import zarr

    folder = path.is_dir()
    (_require_zarr if folder else require_h5ad)(path)
    with ExitStack() as stack:
        with _readable(path):
            store: Any = zarr.open_group(path, mode="r") if folder else stack.enter_context(closing(h5py.File(path)))
            if "encoding-type" in store["obs"].attrs:
                tables = {name: anndata.io.read_elem(store[name]) for name in ("obs", "var")}
                layers, obsm = (
                    {name: _lazily(store[slot][name]) for name in store.get(slot, ())} for slot in ("layers", "obsm")
                )
                x = _lazily(store["X"]) if "X" in store else None
                cells = anndata.AnnData(x, layers=layers, obsm=obsm, **tables)
                if PROVENANCE in store.get("uns", ()):
                    cells.uns[PROVENANCE] = anndata.io.read_elem(store["uns"][PROVENANCE])
            else:
                # Of an old version of anndata, which knows how to read it.
                cells = anndata.read_h5ad(path, backed="r")
                stack.enter_context(closing(cells.file))
        with _readable(path, OSError):
            yield cells


def _lazily(matrix: Any) -> Any:
    """A matrix of a store, sparse or dense, that is read where it is sliced; a table is read.

    Numbers that stand in a file one after the other are mapped into memory: the system reads what is looked at, and
    lets go of it where memory is short.
    """
    import anndata
    import h5py
    import numpy as np

    if hasattr(matrix, "keys"):
        sparse = str(matrix.attrs.get("encoding-type")) in {"csr_matrix", "csc_matrix"}
        return anndata.io.sparse_dataset(matrix) if sparse else anndata.io.read_elem(matrix)
    numbers = isinstance(matrix, h5py.Dataset) and matrix.dtype.kind in "biuf"
    offset = matrix.id.get_offset() if numbers else None
    if offset is None:
        return matrix
    return np.memmap(matrix.file.filename, matrix.dtype, "r", offset, matrix.shape)


def _require_zarr(path: Path) -> None:
    """Raise BranchgenError unless a folder is a zarr store."""
    if not any((path / name).exists() for name in (".zgroup", "zarr.json")):
        raise BranchgenError(f"{path} is a folder, but not a zarr store of cells; write it with AnnData.write_zarr")


@contextmanager
def _readable(path: Path, kind: type[Exception] = Exception) -> Iterator[None]:
    """Say of errors of a kind that the file is damaged."""
    try:
        yield
    except BranchgenError:
        raise
    except kind as error:  # anndata and h5py raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BranchgenError(f"{path} cannot be read as h5ad, it may be truncated: {reason}") from error


def _with_twins(path: Path) -> AnnData | None:
    """Cells of a file in which layers are X itself, read once for all of them; None where there are none."""
    import anndata
    import h5py

    with h5py.File(path) as store:
        if "X" not in store or "layers" not in store:
            return None
        twins = [name for name in store["layers"] if store["layers"][name] == store["X"]]
        if not twins:
            return None
        slots = {name: anndata.io.read_elem(store[name]) for name in SLOTS if name in store}
        layers = {name: anndata.io.read_elem(store["layers"][name]) for name in store["layers"] if name not in twins}
        cells = anndata.AnnData(anndata.io.read_elem(store["X"]), layers=layers, **slots)
    for name in twins:
        cells.layers[name] = cells.X
    return cells


def write_h5ad(cells: AnnData, path: Path) -> None:
    """Write an AnnData; call inside `written_together`. Layers that are X itself are one matrix with it on disk.

    Arrays of obsm are written as they are: coordinates do not compress, and can be mapped into memory.
    """
    import anndata
    import h5py

    twins = [name for name, layer in cells.layers.items() if layer is cells.X]
    slots = {name: dict(getattr(cells, name)) for name in ("uns", "varm", "obsp", "varp")}
    layers = {name: layer for name, layer in cells.layers.items() if name not in twins}
    others = anndata.AnnData(cells.X, obs=cells.obs, var=cells.var, layers=layers, **slots)
    stream = PatientStream(path)
    with closing(stream):
        with h5py.File(stream, "w") as store:
            anndata.io.write_elem(store, "/", others, dataset_kwargs={"compression": "gzip"})
            for name, values in cells.obsm.items():
                anndata.io.write_elem(store["obsm"], name, values)
            for name in twins:
                store["layers"][name] = store["X"]
        stream.raise_error()


@contextmanager
def opened_artefact(path: Path, *commands: str) -> Iterator[AnnData]:
    """The same as `read_artefact`, but as `opened_cells`."""
    with opened_cells(path) as cells:
        _require_command(cells, path, commands)
        yield cells


def read_artefact(path: Path, *commands: str) -> AnnData:
    """AnnData that one of these commands wrote; refuses other files and other format versions."""
    cells = read_h5ad(path)
    _require_command(cells, path, commands)
    return cells


def _require_command(cells: AnnData, path: Path, commands: Sequence[str]) -> None:
    command = read_provenance(cells, path)["command"]
    if command not in commands:
        right = " or ".join(f"'branchgen {name}'" for name in commands)
        raise BranchgenError(f"{path} was written by 'branchgen {command}', not by {right}")


def read_provenance(cells: AnnData, path: Path) -> dict[str, Any]:
    """Provenance record of an AnnData that branchgen wrote."""
    if PROVENANCE not in cells.uns:
        raise BranchgenError(f"{path} was not written by branchgen (no uns['branchgen'])")
    try:
        record: dict[str, Any] = json.loads(cells.uns[PROVENANCE])
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
    """Write a state dictionary; call inside `written_together`. Equal states give equal bytes."""
    import torch

    # torch hides the reason of a failing write, so it writes into memory.
    image = io.BytesIO()
    torch.save(_own(state), image)
    path.write_bytes(image.getbuffer())


def _own(value: Any) -> Any:
    """A copy without parts in common: pickle writes an object once, however often it occurs.

    So a state that was read from a checkpoint would give other bytes than the one that was written to it.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {_own(key): _own(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_own, value))
    return sys.intern(value) if type(value) is str else value


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


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Parquet table with columns of these names, and whatever others it has."""
    import pandas as pd

    require_file(path)
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise BranchgenError(f"{path} is not a Parquet table, or it is damaged") from error
    for name in columns:
        if name not in table:
            raise BranchgenError(f"{path} has no column {name!r}; it must have {', '.join(columns)}")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a Parquet table; call inside `written_together`."""
    table.to_parquet(path, engine="pyarrow", index=False)
