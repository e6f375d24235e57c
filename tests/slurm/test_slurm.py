"""The workflow on a real SLURM of one node: what is asked for, what is killed, and what is resumed.

Needs root, SLURM, munge and the extra `slurm`. Skipped where they are missing, unless BRANCHGEN_SLURM is set.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_slurm import Cluster, until
from run_workflow import ROOT, environment, snakemake, write_config

ON_GPU = {"encode", "train", "generate", "analyse", "transmute"}
CHECKPOINTS = "results/tiny/checkpoints"
LOG = "logs/tiny/train.log"


def on_slurm(folder: Path, config: Path, *arguments: str | Path) -> list[str | Path]:
    """Command line of Snakemake with the profile for SLURM, as a user gives it; SLURM here keeps no accounts."""
    return [
        Path(sys.executable).parent / "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--workflow-profile",
        ROOT / "workflow" / "profiles" / "slurm",
        "--directory",
        folder,
        "--configfile",
        config,
        "--slurm-status-command",
        "squeue",
        # A job takes about five seconds, and the status is asked for ten seconds after the first time.
        "--slurm-init-seconds-before-status-checks",
        "6",
        *arguments,
    ]


def submit(folder: Path, config: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Snakemake on SLURM to its end."""
    return subprocess.run(
        on_slurm(folder, config, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
        env=environment(),
    )


def test_the_whole_workflow_asks_for_a_gpu_where_one_is_used_and_nowhere_else(cluster: Cluster, folder: Path) -> None:
    before = len(cluster.jobs())
    run = submit(folder, write_config(folder, device="auto"))
    assert run.returncode == 0, run.stdout
    assert (folder / "results/tiny/metrics.parquet").exists()
    jobs = cluster.jobs()[before:]
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert {job["rule"] for job in jobs} > ON_GPU
    for job in jobs:
        found = job["TresPerJob"], job["Partition"]
        assert found == (("gres:gpu:1", "gpu") if job["rule"] in ON_GPU else ("", "cpu")), job["rule"]
    # On the CPU: every file is as without SLURM.
    assert "Nothing to be done" in snakemake("--directory", folder, "--configfile", folder / "config.yaml").stdout


def test_a_job_over_its_memory_is_killed_and_comes_back_with_more(cluster: Cluster, folder: Path) -> None:
    before = len(cluster.jobs())
    # Less than Snakemake itself takes within the job, for as long as the job lasts: SLURM here looks once a second.
    changes = ["prepare:mem_mb=80 if attempt == 1 else 2000", "encode:slurm_partition=cpu"]
    run = submit(folder, write_config(folder), "--set-resources", *changes, "--", "results/tiny/codec.pt")
    assert run.returncode == 0, run.stdout
    first, second, third = cluster.jobs()[before:]
    assert [job["rule"] for job in (first, second, third)] == ["prepare", "prepare", "encode"]
    assert first["JobState"] in {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}
    assert second["JobState"] == "COMPLETED"
    assert memory_mb(second) > memory_mb(first)
    # The configuration says `device: cpu`.
    assert third["TresPerJob"] == ""
    assert any("exceeded memory limit" in path.read_text() for path in folder.glob(".snakemake/slurm_logs/**/*.log"))


def test_cancelled_timed_out_and_interrupted(cluster: Cluster, folder: Path) -> None:
    """Training goes on from its last checkpoint each time, and Ctrl-C leaves no job behind."""
    endless = {"n_steps": 10**8, "patience": 10**6, "checkpoint_seconds": 1.0, "validate_every": 10**6}
    config = write_config(folder, train=endless)
    started = snakemake("--directory", folder, "--configfile", config, "--", "results/tiny/hierarchy.json")
    assert started.returncode == 0, started.stdout
    before = len(cluster.of_rule("train"))

    def attempts() -> list[dict[str, str]]:
        return cluster.of_rule("train")[before:]

    def resumed() -> int:
        log = folder / LOG
        found = re.search(r"resuming from step (\d+)", log.read_text() if log.exists() else "")
        return int(found[1]) if found else 0

    line = on_slurm(folder, config, "--", "results/tiny/model.pt")
    with in_background(line, folder / "snakemake.log") as process:
        until(lambda: (folder / CHECKPOINTS / "checkpoint.pt").exists(), 120, "no checkpoint was written")
        cluster.call("scancel", attempts()[0]["JobId"])
        until(lambda: resumed() > 0, 120, "training was not resumed after scancel")
        assert attempts()[0]["JobState"] == "CANCELLED"
        first = resumed()

        # The least that SLURM can limit a job to is a minute.
        cluster.call("scontrol", "update", f"JobId={attempts()[1]['JobId']}", "TimeLimit=1")
        until(lambda: resumed() > first, 240, "training was not resumed after its time had run out")
        assert attempts()[1]["JobState"] == "TIMEOUT"

        assert attempts()[2]["JobState"] == "RUNNING"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) != 0
    until(lambda: not cluster.waiting_or_running(), 60, "a job was left behind")
    assert attempts()[2]["JobState"] == "CANCELLED"
    assert len(attempts()) == 3
    assert (folder / CHECKPOINTS / "checkpoint.pt").exists()
    assert not (folder / "results/tiny/model.pt").exists()


def memory_mb(job: dict[str, str]) -> float:
    """Memory that a job has asked for."""
    found = re.fullmatch(r"([\d.]+)([MG])", job["MinMemoryNode"])
    assert found is not None
    return float(found[1]) * {"M": 1, "G": 1024}[found[2]]


@contextmanager
def in_background(line: list[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the test; what it says is shown where the test fails."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            line,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            # Tests that run in the background of a shell, and their children, are deaf to Ctrl-C otherwise.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        sys.stdout.write(log.read_text())
