"""Commands that are killed (SIGKILL) at any moment: run again, they write what they would have written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_commands import command_line

N_KILLS = 7
"""Of each command; more than twenty in all."""
COMMANDS: dict[str, dict[str, Any]] = {
    "encode": {"codec": "nb", "n_hidden": 32, "max_epochs": 60, "patience": 60},
    "train": {"n_steps": 800, "validate_every": 50, "patience": 1000, "checkpoint_seconds": 0.05},
    "generate": {"n_cells": 3000, "batch_size": 100},
}


def begin(command: str, tiny_run: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A command that has begun its work."""
    line = [sys.executable, "-m", "branchgen", *command_line(command, tiny_run, folder, **COMMANDS[command])]
    # As many threads decide how sums are rounded.
    process = subprocess.Popen(line, stderr=subprocess.PIPE, bufsize=0, env={**os.environ, "OMP_NUM_THREADS": "1"})
    # Python and its libraries take longer to start than the work takes, and nobody knows how long.
    assert process.stderr is not None
    first = process.stderr.readline()
    assert b"running on" in first, first + process.stderr.read()
    return process


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_was_killed_again_and_again_writes_the_same_files(
    command: str, tiny_run: Path, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    process = begin(command, tiny_run, whole)
    started = time.monotonic()
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    seconds = time.monotonic() - started

    rng = np.random.default_rng(list(command.encode()))
    n_killed, n_starts, steps = 0, 0, []
    # Some are done before; what was resumed often is.
    while n_killed < N_KILLS:
        n_starts += 1
        assert n_starts <= 5 * N_KILLS
        process = begin(command, tiny_run, folder)
        time.sleep(rng.uniform() * seconds)
        process.kill()
        _, messages = process.communicate(timeout=30)
        n_killed += process.returncode < 0
        steps += [line for line in messages.decode().splitlines() if "resuming" in line]
        assert set(content(folder)) <= {name for path in content(whole) for name in (path, hidden(path))} | CHECKPOINTS
    assert bool(steps) == (command == "train")

    process = begin(command, tiny_run, folder)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert content(folder) == content(whole)


CHECKPOINTS = {
    f"model.pt.checkpoints/{name}" for name in ("checkpoint.pt", "checkpoint_before.pt", ".checkpoint.part.pt")
}


def hidden(path: str) -> str:
    """Name of a file while it is written."""
    return str(Path(path).with_name(f".{Path(path).stem}.part{Path(path).suffix}"))
