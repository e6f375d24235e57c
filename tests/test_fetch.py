"""Downloads from a server on this machine: kept only when the hash is right, nothing left otherwise."""

from __future__ import annotations

import hashlib
import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from branchgen.cli import main
from branchgen.commands import fetch

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /cells.h5ad in full, /cut.h5ad half, /moved.h5ad with the first one's address."""

    def do_GET(self) -> None:
        if self.path == "/moved.h5ad":
            self.send_response(302)
            self.send_header("Location", "/cells.h5ad")
            self.end_headers()
        elif self.path in ("/cells.h5ad", "/cut.h5ad"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/cells.h5ad" else CONTENT[: len(CONTENT) // 2])
        else:
            self.send_error(404)

    def log_message(self, format: str, *values: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def fetched(url: str, output: Path, sha256: str = SHA256) -> int:
    return main(["fetch", "--url", url, "--sha256", sha256, "--output-cells", str(output)])


@pytest.mark.parametrize("name", ["cells.h5ad", "moved.h5ad"])
def test_a_download_with_the_right_hash_is_kept(name: str, server: str, tmp_path: Path) -> None:
    output = tmp_path / "data" / "cells.h5ad"
    assert fetched(f"{server}/{name}", output, SHA256.upper()) == 0
    assert output.read_bytes() == CONTENT
    assert list(output.parent.iterdir()) == [output]


def test_progress_is_logged(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch, "LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        assert fetched(f"{server}/cells.h5ad", tmp_path / "cells.h5ad") == 0
    assert f"{server}/cells.h5ad: 1.0 MB of 5.1 MB (20%)" in caplog.messages
    assert f"{server}/cells.h5ad: 5.1 MB of 5.1 MB (100%)" in caplog.messages


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("url", "sha256", "sentence"),
    [
        ("{server}/cells.h5ad", "0" * 64, f"has the SHA-256 {SHA256} but {'0' * 64} was asked for; if the file was"),
        ("{server}/absent.h5ad", SHA256, "cannot download {server}/absent.h5ad: HTTP Error 404: Not Found; check the"),
        ("{server}/cut.h5ad", SHA256, f"the connection ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes; check"),
        ("http://127.0.0.1:{port}/x", SHA256, "Connection refused; check the address and the network"),
        ("http://[broken/x", SHA256, "cannot download http://[broken/x: Invalid IPv6 URL; check the address"),
        ("file:///etc/hostname", SHA256, "must begin with http:// or https://; a file on disk needs no fetch"),
        ("{server}/cells.h5ad", "abc", "the SHA-256 'abc' must be 64 hexadecimal digits"),
    ],
)
def test_failing_downloads_are_one_sentence_and_leave_the_old_file(
    url: str, sha256: str, sentence: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cells.h5ad"
    output.write_text("old")
    assert fetched(url.format(server=server, port=unused_port()), output, sha256) == 2
    error = capsys.readouterr().err
    assert error.startswith("branchgen fetch: ")
    assert error.count("\n") == 1
    assert sentence.format(server=server) in error
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]
