"""A SLURM of one node that listens on the loopback interface alone, with all its files in one folder."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
SYSTEM = Path("/etc/slurm/slurm.conf")
# Snakemake takes SLURM_CONF from the environment of its jobs; this is where the programs look then.
FOUND_BY_JOBS = Path("/run/slurm/conf")
OURS = FOUND_BY_JOBS / "of-branchgen-tests"
"""Names the folder of a test run that has started a SLURM; still there where that run was killed."""
LOCK = Path("/run/branchgen-tests-slurm.lock")
A_WHOLE_RUN = 20 * 60
GPU = "fake"
"""Model of the node's GPUs: SLURM counts and assigns them, and there is nothing behind."""
DEVICES = ("/dev/null", "/dev/zero")
N_CPUS = 16


def missing() -> str | None:
    """Why SLURM cannot be started here; None where it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"needs SLURM and munge ({', '.join(absent)} not found)"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "needs the extra slurm"
    if os.geteuid() != 0:
        return "needs root, to start SLURM"
    if SYSTEM.exists() or (FOUND_BY_JOBS.exists() and not OURS.exists()) or "SLURM_CONF" in os.environ:
        return "this machine has a SLURM of its own"
    return None


class Cluster:
    """The running SLURM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, *line: str) -> str:
        """Output of one of SLURM's programs."""
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout

    def waiting_or_running(self) -> list[str]:
        """Jobs that are not over."""
        return self.call("squeue", "--noheader", "--format=%i %T %k").splitlines()

    def jobs(self) -> list[dict[str, str]]:
        """What SLURM knows of every job, in the order of submission; `rule` is Snakemake's."""
        found = []
        for line in self.call("scontrol", "--oneliner", "show", "job").splitlines():
            if not line.startswith("JobId="):
                continue  # "No jobs in the system"
            fields = dict(re.findall(r"(\w[\w/:]*)=(.*?)(?= \w[\w/:]*=|$)", line))
            rule = re.search(r"rule_(\w+?)(?:_wildcards_|$)", fields.get("Comment", ""))
            fields = {name: value.strip() for name, value in fields.items()}
            found.append({"TresPerJob": "", **fields, "rule": rule[1] if rule else ""})
        return sorted(found, key=lambda job: int(job["JobId"]))

    def of_rule(self, rule: str) -> list[dict[str, str]]:
        """Jobs of one rule: one for every attempt."""
        return [job for job in self.jobs() if job["rule"] == rule]


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start munge and SLURM, and stop all of it again, jobs included.

    One run at a time: another one's SLURM is waited for, and what a killed run has left is cleared away.
    """
    with LOCK.open("w") as lock:
        until(lambda: locked(lock), A_WHOLE_RUN, "another run of these tests has not ended")
        if OURS.exists():
            clear(Path(OURS.read_text()))
        with started(folder) as cluster:
            yield cluster


def locked(file: TextIO) -> bool:
    """Whether a lock could be had; it goes with the process that holds it, however that ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def clear(folder: Path) -> None:
    """Stop what still runs of a killed test run (daemons, jobs, Snakemake), and the way to find its SLURM."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # of processes that end meanwhile
            if f"{folder}/" in cmdline.read_text(errors="replace"):
                os.kill(int(cmdline.parent.name), signal.SIGKILL)
    shutil.rmtree(FOUND_BY_JOBS)


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """SLURM in one folder."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*line: str | Path) -> None:
        with (folder / f"{Path(str(line[0])).name}.out").open("wb") as out:
            processes.append(subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT))

    key, munge = folder / "key", folder / "munge.socket"
    folder.chmod(0o711)
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    config.write_text(configuration(folder, munge))
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={node()} Name=gpu Type={GPU} File={device}\n" for device in DEVICES)
    )
    FOUND_BY_JOBS.mkdir(parents=True)
    OURS.write_text(str(folder.parent))
    try:
        for name in ("slurm.conf", "gres.conf"):
            (FOUND_BY_JOBS / name).symlink_to(folder / name)
        files = [f"--{what}-file={folder / what}" for what in ("key", "log", "pid", "seed")]
        start("munged", "--force", "--foreground", f"--socket={munge}", *files)
        until(munge.exists, 10, "munge did not start")
        start("slurmctld", "-D", "-c", "-f", config)
        start("slurmd", "-D", "-c", "-f", config)
        cluster = Cluster(folder)
        until(lambda: "idle" in state(), 30, f"SLURM did not start; see {folder}")
        yield cluster
        cluster.call("scancel", "--full", f"--user={os.geteuid()}")
        until(lambda: not cluster.waiting_or_running(), 60, "jobs did not end")
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(FOUND_BY_JOBS)


def configuration(folder: Path, munge: Path) -> str:
    """Text of slurm.conf."""
    memory = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"RealMemory=(\d+)", memory)
    assert found is not None
    control, daemon = free_ports(2)
    settings = {
        "ClusterName": "local",
        "SlurmctldHost": f"{node()}(127.0.0.1)",
        "SlurmctldPort": control,
        "SlurmdPort": daemon,
        "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={munge}",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.log",
        # Without control groups, which containers do not have: processes are found by their parents, and memory is
        # counted, and limited, once a second.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": 1,
        "JobAcctGatherParams": "OverMemoryKill",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        # More cores than the machine may have.
        "SlurmdParameters": "config_overrides",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        # Ended jobs are remembered for as long as the tests take.
        "MinJobAge": 3600,
        "GresTypes": "gpu",
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines.append(
        f"NodeName={node()} NodeAddr=127.0.0.1 CPUs={N_CPUS} RealMemory={found[1]} Gres=gpu:{GPU}:{len(DEVICES)}"
    )
    lines += [f"PartitionName=cpu Nodes={node()} Default=YES", f"PartitionName=gpu Nodes={node()}"]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    return "\n".join(lines) + "\n"


def node() -> str:
    """Name of this machine without its domain."""
    return socket.gethostname().split(".")[0]


def free_ports(n: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def state() -> str:
    """State of the node, or nothing while SLURM starts."""
    run = subprocess.run(
        ["sinfo", "--noheader", "--partition=cpu", "--format=%T"], capture_output=True, text=True, check=False
    )
    return run.stdout


def until(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    """Wait until a condition holds; it must within some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, failure
        time.sleep(0.2)
