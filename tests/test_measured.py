"""The account of a process: its own, and not that of the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from branchgen.errors import BranchgenError
from branchgen.measured import measured

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_time_of_the_program() -> None:
    assert 1 <= measured(python("import time; time.sleep(1)"), "sleep").seconds < 20
    busy = measured(python("import time\nwhile time.process_time() < 1: pass"), "loop")
    assert 0.9 < busy.cpu_seconds < 1.5
    assert busy.seconds >= 0.9


@LINUX
def test_memory_is_not_that_of_the_process_that_asks() -> None:
    here = np.ones(40_000_000)  # 320 MB
    small, large = measured(python("pass"), "small"), measured(python("b'x' * 200_000_000"), "large")
    assert here.sum() == 40_000_000
    assert 2 < small.peak_mb < 60
    assert 200 < large.peak_mb < 260


@LINUX
def test_bytes_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written = measured(python(f"open({str(path)!r}, 'wb').write(b'x' * 7_000_000)"), "writing")
    read = measured(python(f"open({str(path)!r}, 'rb').read()"), "reading")
    assert written.mb_written == pytest.approx(7, abs=0.1)
    assert read.mb_read - written.mb_read == pytest.approx(7, abs=0.1)


def test_a_failure_is_reported_with_its_last_lines() -> None:
    code = "import sys; print('to output', flush=True); sys.exit('\\n'.join(f'line {i}' for i in range(20)))"
    with pytest.raises(BranchgenError, match=r"the work failed:\nline 15\nline 16\nline 17\nline 18\nline 19$"):
        measured(python(code), "the work")
    with pytest.raises(BranchgenError, match="the work failed"):
        measured(python("import os; os.kill(os.getpid(), 9)"), "the work")


def test_a_program_ends_before_the_one_that_asks(tmp_path: Path) -> None:
    mark, done = tmp_path / "mark", tmp_path / "done"
    inner = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): time.sleep(0.5); pathlib.Path({str(done)!r}).touch(); sys.exit(1)\n"
        f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(mark)!r}).touch(); time.sleep(60)"
    )
    outer = f"from branchgen.measured import measured; measured([{sys.executable!r}, '-c', {inner!r}], 'sleep')"
    process = subprocess.Popen(
        [sys.executable, "-c", outer],
        stderr=subprocess.DEVNULL,
        # Tests that run in the background of a shell, and their children, are deaf to Ctrl-C otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 30
    while not mark.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.wait(30)
    assert done.exists()
