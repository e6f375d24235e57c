"""Cells in h5ad files and zarr stores: read at once, or as they are needed; and what wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchgen.cells.keys import PROVENANCE
from branchgen.errors import BranchgenError
from branchgen.files import require_file
from branchgen.hdf5 import PatientStream
from branchgen.provenance import check_format

if TYPE_CHECKING:
    from anndata import AnnData

SLOTS = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp")
"""Parts of an h5ad besides its matrices."""


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
