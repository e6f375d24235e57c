"""Reading and writing of every kind of file: readable errors on the way in, atomic replacement on the way out."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from branchgen.errors import BranchgenError
from branchgen.provenance import check_format

if TYPE_CHECKING:
    import pandas as pd


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
