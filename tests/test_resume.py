"""Training that is cut off goes on to the model that it would have become, bit for bit."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata
import pytest
import torch
from run_commands import command_line, run_command

from branchgen.commands.train import Checkpoints
from branchgen.diffusion.train import TrainingState, train_step
from branchgen.growing import GrowingH5ad
from branchgen.provenance import state_hash

SETTINGS: dict[str, Any] = {"n_steps": 60, "validate_every": 7, "checkpoint_seconds": 0}
"""A checkpoint after every step; the last validation does not fall on a checkpoint that is tested."""
CHECKPOINT = Path("model.pt.checkpoints") / "checkpoint.pt"
BEFORE = Path("model.pt.checkpoints") / "checkpoint_before.pt"


def content(folder: Path) -> list[str]:
    """Hashes of the model with all it holds, and of the table of losses."""
    state = torch.load(folder / "model.pt", weights_only=True)
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt", "training.parquet"]
    return [state_hash(state), state_hash({"table": (folder / "training.parquet").read_bytes()})]


def train(tiny_run: Path, folder: Path, **changes: Any) -> int:
    return run_command("train", tiny_run, folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def whole(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(tiny_run, folder) == 0
    return folder


@pytest.fixture
def interrupted(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a training that Ctrl-C has stopped after its 25th step."""
    save = Checkpoints.save

    def save_and_stop(self: Checkpoints, training: dict[str, Any]) -> None:
        save(self, training)
        if training["step"] == 25:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        assert train(tiny_run, tmp_path) == 130
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()) == [CHECKPOINT, BEFORE]
    return tmp_path


def first_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps of the checkpoints that a training will write, as it writes them."""
    steps: list[int] = []
    save = Checkpoints.save

    def remember(self: Checkpoints, training: dict[str, Any]) -> None:
        steps.append(training["step"])
        save(self, training)

    monkeypatch.setattr(Checkpoints, "save", remember)
    return steps


def test_an_interrupted_training_goes_on_where_it_was(
    interrupted: Path, tiny_run: Path, whole: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = first_steps(monkeypatch)
    caplog.set_level(logging.INFO)
    assert train(tiny_run, interrupted) == 0
    assert "resuming from step 25" in caplog.messages
    assert steps == list(range(26, 61))
    assert content(interrupted) == content(whole)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_version(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({**state, "format_version": 999}, path)


def flip_a_byte(path: Path) -> None:
    """In the middle of the largest tensor, where neither the archive nor torch looks."""
    content = bytearray(path.read_bytes())
    state = torch.load(path, weights_only=True)["training"]["network"]
    largest = max(state.values(), key=lambda value: value.numel()).numpy().tobytes()
    content[content.index(largest) + len(largest) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "is not a checkpoint file of branchgen, or it is damaged"),
        (empty, "is not a checkpoint file of branchgen, or it is damaged"),
        (of_another_version, "has format version 999"),
        (flip_a_byte, "is damaged, its content does not fit its hash"),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_a_checkpoint_that_cannot_be_read_is_reported_and_training_goes_on_from_the_one_before(
    both: bool,
    spoil: Callable[[Path], None],
    reason: str,
    interrupted: Path,
    tiny_run: Path,
    whole: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoiled = [CHECKPOINT, BEFORE] if both else [CHECKPOINT]
    for path in spoiled:
        spoil(interrupted / path)
    steps = first_steps(monkeypatch)
    assert train(tiny_run, interrupted) == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(spoiled)
    for path, warning in zip(spoiled, warnings, strict=True):
        assert warning.startswith("not used: ")
        assert f"{interrupted / path} {reason}" in warning
    assert steps[0] == (1 if both else 25)
    assert content(interrupted) == content(whole)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 0)], ids=str
)
def test_a_signal_is_answered_by_a_checkpoint(
    number: signal.Signals,
    code: int,
    tiny_run: Path,
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of the 25th step, which is finished first; SIGUSR1 alone does not end the training."""

    def interrupted_step(state: TrainingState, *further: Any) -> float:
        if state.step == 24:
            os.kill(os.getpid(), number)
        return train_step(state, *further)

    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch:
        steps = first_steps(patch)
        patch.setattr("branchgen.diffusion.train.train_step", interrupted_step)
        assert train(tiny_run, tmp_path, checkpoint_seconds=3600) == code
    assert steps == [25]
    assert "checkpoint at step 25, as a signal asked for one" in caplog.messages
    if code:
        assert last_step(tmp_path) == 25
        assert "interrupted" in (error := capsys.readouterr().err) or "ended by SIGTERM" in error
        assert train(tiny_run, tmp_path) == 0
        assert "resuming from step 25" in caplog.messages
        assert content(tmp_path) == content(whole)
    weights = [
        state_hash(torch.load(folder / "model.pt", weights_only=True)["weights"]) for folder in (tmp_path, whole)
    ]
    assert weights[0] == weights[1]


def test_a_command_that_is_terminated_leaves_nothing_behind(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    append = GrowingH5ad.append

    def terminated(self: GrowingH5ad, *cells: Any) -> None:
        append(self, *cells)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(GrowingH5ad, "append", terminated)
    assert run_command("generate", tiny_run, tmp_path) == 143
    assert "branchgen generate: ended by SIGTERM" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"learning_rate": 0.001}, {"n_steps": 40}, {"class_weighting": "equal"}], ids=str
)
def test_a_checkpoint_of_another_training_is_not_used(
    change: dict[str, Any],
    interrupted: Path,
    tiny_run: Path,
    whole: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    steps = first_steps(monkeypatch)
    assert train(tiny_run, interrupted, **change) == 0
    assert f"not used: {interrupted / CHECKPOINT} is of other inputs or settings" in caplog.messages
    assert steps[0] == 1
    afresh = tmp_path_factory.mktemp("afresh")
    assert train(tiny_run, afresh, **change) == 0
    assert content(interrupted) == content(afresh)
    assert content(interrupted) != content(whole)


def test_a_checkpoint_of_other_inputs_is_not_used(
    interrupted: Path, tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tmp_path / "inputs"
    assert run_command("derive", tiny_run, inputs, epsilon=0.1) == 0
    caplog.set_level(logging.INFO)
    steps = first_steps(monkeypatch)
    assert train(tiny_run, interrupted, hierarchy=inputs / "hierarchy.json", n_steps=60) == 0
    assert f"not used: {interrupted / CHECKPOINT} is of other inputs or settings" in caplog.messages
    assert steps[0] == 1


def test_checkpoints_stand_where_they_are_wanted(tiny_run: Path, whole: Path, tmp_path: Path) -> None:
    """And their folder is gone in the end, with what an earlier kill may have left in it."""
    folder, elsewhere = tmp_path / "results", tmp_path / "checkpoints"
    elsewhere.mkdir()
    (elsewhere / ".checkpoint.123.pt").write_bytes(b"half")
    assert train(tiny_run, folder, checkpoints=elsewhere) == 0
    assert not elsewhere.exists()
    assert content(folder) == content(whole)


def test_no_checkpoint_is_written_before_its_time(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = first_steps(monkeypatch)
    assert train(tiny_run, tmp_path, checkpoint_seconds=3600) == 0
    assert steps == []


def last_step(folder: Path) -> int:
    """Step of the last checkpoint; 0 before the first."""
    # While the last but one gives way to the last, it is the only one, and a kill can leave it so.
    for path in (folder / CHECKPOINT, folder / BEFORE):
        with suppress(FileNotFoundError):
            return int(torch.load(path, weights_only=True)["training"]["step"])
    return 0


def test_a_killed_training_becomes_the_same_model_and_generates_the_same_cells(tiny_run: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle of a training in a process of its own, and another process that goes on."""
    settings = {"n_steps": 240, "validate_every": 50, "checkpoint_seconds": 0}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_command("train", tiny_run, whole, **settings) == 0

    def start() -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "branchgen", *command_line("train", tiny_run, killed, **settings)]
        return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    process = start()
    deadline = time.monotonic() + 120
    while last_step(killed) < 60:
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reached = last_step(killed)
    assert 60 <= reached < 240
    assert not (killed / "model.pt").exists()

    process = start()
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert f"resuming from step {reached}\n" in log
    assert content(killed) == content(whole)

    cells = []
    for folder in (killed, whole):
        assert run_command("generate", tiny_run, folder, model=folder / "model.pt") == 0
        cells.append(anndata.read_h5ad(folder / "generated.h5ad"))
    assert (cells[0].X != cells[1].X).nnz == 0
    assert (cells[0].obsm["X_latent"] == cells[1].obsm["X_latent"]).all()
