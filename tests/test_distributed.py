"""Training by several processes: the curve of one, one voice, checkpoints by the first, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from run_commands import command_line, run_command

from branchgen import distributed
from branchgen.diffusion.batches import N_SEGMENTS
from branchgen.diffusion.computing import Processes
from branchgen.errors import BranchgenError

SETTINGS: dict[str, Any] = {"n_steps": 150, "validate_every": 50, "learning_rate": 0.01}
LONG: dict[str, Any] = {"n_steps": 800, "validate_every": 100}
TOLERANCE = 1e-5
CHECKPOINT = Path("model.pt.checkpoints") / "checkpoint.pt"


def start(n: int, inputs: Path, folder: Path, **changes: Any) -> subprocess.Popen[str]:
    """A training by n processes, with both streams in one."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    line = [*launcher, "-m", "branchgen", *command_line("train", inputs, folder, **changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def train(n: int, inputs: Path, folder: Path, **changes: Any) -> tuple[int, str]:
    """Exit code and output of a training by n processes."""
    process = start(n, inputs, folder, **changes)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def curves_agree(one: Path, other: Path) -> None:
    """The same losses but for rounding, in all branches and at all noise levels."""
    tables = [pd.read_parquet(folder / "training.parquet") for folder in (one, other)]
    names = ["step", "split", "branch", "sigma", "n_cells"]
    pd.testing.assert_frame_equal(tables[0][names], tables[1][names])
    np.testing.assert_allclose(tables[0]["loss"], tables[1]["loss"], rtol=TOLERANCE)


@pytest.mark.parametrize("n", [1, 2, 8, N_SEGMENTS])
def test_shares_make_up_the_batch(n: int) -> None:
    segments = list(range(N_SEGMENTS))
    assert [i for rank in range(n) for i in segments[Processes(rank=rank, n=n).share]] == segments


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(distributed, "choose_device", torch.device)
    for name in ("auto", "cuda"):
        assert distributed._own_device(name) == torch.device("cuda:3")
    assert distributed._own_device("cpu") == torch.device("cpu")
    assert chosen == [torch.device("cuda:3")] * 2
    with pytest.raises(BranchgenError, match="device 'cuda:1' is one GPU for several processes"):
        distributed._own_device("cuda:1")


def test_two_processes_train_as_one(tiny_run: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_command("train", tiny_run, one, **SETTINGS) == 0
    code, output = train(2, tiny_run, two, **SETTINGS)
    assert code == 0, output
    curves_agree(one, two)
    losses = pd.read_parquet(one / "training.parquet").query("split == 'train' and branch == 'all'")
    curve = losses.groupby("step")["loss"].mean()
    assert curve[0] - curve[150] > 100 * TOLERANCE
    assert sorted(path.name for path in two.iterdir()) == ["model.pt", "training.parquet"]
    assert output.count("running on") == output.count("stopped at step 150") == 1
    assert "each of 2 processes" in output


def test_an_error_is_said_once(tiny_run: Path, tmp_path: Path) -> None:
    code, output = train(2, tiny_run, tmp_path, latents=tmp_path / "nothing.h5ad")
    assert code != 0
    assert output.count(f"branchgen train: {tmp_path / 'nothing.h5ad'} does not exist") == 1
    assert "most recent call last" not in output.split("branchgen train:")[0]


def test_processes_that_cannot_share_a_batch_equally_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    code, output = train(3, tiny_run, tmp_path)
    assert code != 0
    assert output.count("branchgen train: 3 processes cannot train one model") == 1
    assert "start one of 1, 2, 4, 8, 16, 32\n" in output


def test_all_end_after_a_signal_and_one_process_goes_on(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the second process gets the signal, but the first one writes the checkpoint, at the same step."""
    caplog.set_level("INFO")
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_command("train", tiny_run, one, **LONG) == 0
    process = start(2, tiny_run, two, **LONG, checkpoint_seconds=0.2)
    deadline = time.monotonic() + 120
    while not (two / CHECKPOINT).exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
    assert len(workers) == 2
    (second,) = (pid for pid in workers if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(second, signal.SIGTERM)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    # The launcher kills after half a minute what does not end by itself.
    assert time.monotonic() - asked < 20
    assert process.returncode != 0
    # The launcher ends the second where the first is gone, maybe in the middle of its sentence.
    assert output.count("branchgen train: ended by SIGTERM") in {1, 2}
    step = torch.load(two / CHECKPOINT, weights_only=True)["training"]["step"]
    assert f"checkpoint at step {step}, as a signal asked for one" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)

    assert run_command("train", tiny_run, two, **LONG) == 0
    assert f"resuming from step {step}" in caplog.messages
    curves_agree(one, two)
