"""Where an artefact comes from: hashes of its content and of its inputs, written into every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from branchgen import __version__
from branchgen.errors import BranchgenError

FORMAT_VERSION = 2
"""Version of the layout of every artefact; a reader refuses any other."""


def state_hash(state: Any) -> str:
    """SHA-256 (hex, 16 digits) of nested mappings and lists of plain values, NumPy arrays and torch tensors.

    Depends on names, dtypes, shapes and values; not on the order of a mapping or on how it is serialised.
    """
    digest = hashlib.sha256()
    _update(digest, state)
    return digest.hexdigest()[:16]


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for name in sorted(value):
            digest.update(f"{{{name}".encode())
            _update(digest, value[name])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _update(digest, item)
    elif hasattr(value, "detach") or hasattr(value, "__array__"):
        array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    else:
        digest.update(repr(value).encode())


def provenance(
    command: str, settings: Mapping[str, Any], seed: int | None, inputs: Mapping[str, Any], **more: Any
) -> str:
    """JSON text that says which command, settings, seed and inputs made a file.

    A string, because nested or ragged lists cannot be stored in `uns`.
    """
    record = {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "command": command,
        "settings": dict(settings),
        "seed": seed,
        "inputs": dict(inputs),
        **more,
    }
    return json.dumps(record, sort_keys=True)


def check_format(found: Any, source: str) -> None:
    """Raise BranchgenError unless `found` is the format version that this version of branchgen reads."""
    if found != FORMAT_VERSION:
        raise BranchgenError(
            f"{source} has format version {found!r} but branchgen {__version__} reads version {FORMAT_VERSION}; "
            "make it again with this version of branchgen"
        )
