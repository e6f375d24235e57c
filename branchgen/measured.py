"""What a program costs, by the system's account of its process.

This module is a program, too: a small one between the large process that asks and the one that is measured. To the peak
memory of a process, Linux counts what there was when it began, before it became another program, and that is the memory
of the process that started it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from branchgen.errors import BranchgenError

N_LINES = 5
"""Last lines of a program that failed, which are reported."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one process with those it waited for; NaN where the system does not tell (all but Linux).

    Bytes are those asked of the system, from a file or from what it keeps of one in memory; files that are mapped into
    memory, as libraries are, do not count.
    """

    seconds: float
    """From start to end."""
    cpu_seconds: float
    """Of all threads, in the program and in the system on its behalf."""
    peak_mb: float
    """Largest resident memory of a process."""
    mb_read: float
    mb_written: float


def measured(command: Sequence[str], what: str) -> Cost:
    """Cost of a command; BranchgenError with its last lines where it fails. Its end is waited for in any case."""
    line = [sys.executable, "-m", "branchgen.measured", *command]
    with tempfile.TemporaryFile() as said:
        # A group of its own, so that no signal ends the program in between and leaves the other.
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
        try:
            answer, _ = process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        said.seek(0)
        lines = [text for text in said.read().decode(errors="replace").splitlines() if text.strip()]
    if process.returncode:
        raise BranchgenError(f"{what} failed:\n" + "\n".join(lines[-N_LINES:]))
    return Cost(**{name: math.nan if value is None else value for name, value in json.loads(answer).items()})


def main(command: Sequence[str]) -> int:
    """Run a command, whose output is all turned to that of errors, and write what it cost; returns its exit code."""
    # What ends the command ends this program, too, but after it. A handler, unlike SIG_IGN, is not passed on to it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    if sys.platform == "linux":
        # The process has ended, but while nobody has asked for its exit code the system keeps its account.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - begun
    read, written = bytes_of(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "seconds": seconds if sys.platform == "linux" else time.perf_counter() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # Linux counts it in kilobytes.
        "peak_mb": usage.ru_maxrss / 1e3 if sys.platform == "linux" else None,
        "mb_read": read,
        "mb_written": written,
    }
    sys.stdout.write(json.dumps(cost))
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def bytes_of(number: int) -> tuple[float | None, float | None]:
    """Megabytes that a process has read and written, by its number; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{number}/io").read_text().splitlines()
    except OSError:
        return None, None
    found = {name: int(value) / 1e6 for name, value in (line.split(": ") for line in lines)}
    return found["rchar"], found["wchar"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
