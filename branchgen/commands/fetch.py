"""`branchgen fetch`: download an h5ad and check that it is the one that was meant."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import logging
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

from branchgen import __version__, files
from branchgen.errors import BranchgenError

log = logging.getLogger(__name__)

CHUNK = 2**20
"""Bytes read at once."""
TIMEOUT = 60.0
"""Seconds without an answer after which the download fails."""
LOG_SECONDS = 10.0
"""Seconds between lines of progress."""


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Download the file and keep it only if its SHA-256 is the one that was given."""
    url: str = arguments.url
    expected: str = arguments.sha256.strip().lower()
    if not re.match("https?://", url, re.IGNORECASE):
        raise BranchgenError(f"the URL {url} must begin with http:// or https://; a file on disk needs no fetch")
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise BranchgenError(f"the SHA-256 {arguments.sha256!r} must be 64 hexadecimal digits")
    digest = hashlib.sha256()
    with files.written_together(arguments.output_cells) as (path,):
        with path.open("wb") as stream:
            for chunk in downloaded(url):
                digest.update(chunk)
                stream.write(chunk)
        found = digest.hexdigest()
        if found != expected:
            raise BranchgenError(
                f"{url} has the SHA-256 {found} but {expected} was asked for; "
                "if the file was changed on purpose, give the new SHA-256"
            )
    log.info("%s: SHA-256 as asked for", arguments.output_cells)


def downloaded(url: str) -> Iterator[bytes]:
    """Content of an address, in chunks; BranchgenError where the connection fails or ends early."""
    try:
        # Some hosts refuse the name that urllib gives itself.
        request = urllib.request.Request(url, headers={"User-Agent": f"branchgen/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            yield from _chunks(answer, url, total)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        raise BranchgenError(f"cannot download {url}: {reason}; check the address and the network") from error


def _chunks(answer: BinaryIO, url: str, total: int | None) -> Iterator[bytes]:
    size, logged = 0, time.monotonic()
    while chunk := answer.read(CHUNK):
        size += len(chunk)
        if time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            log.info("%s: %s", url, _progress(size, total))
        yield chunk
    # http.client does not tell the end of the file from a connection that was cut.
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")
    log.info("%s: %s", url, _progress(size, total))


def _progress(size: int, total: int | None) -> str:
    megabytes = f"{size / 1e6:.1f} MB"
    return megabytes if not total else f"{megabytes} of {total / 1e6:.1f} MB ({size / total:.0%})"
