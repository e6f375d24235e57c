"""`python -m branchgen` is the command `branchgen`."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

from branchgen.cli import main


def run() -> NoReturn:
    """Run one command and end the process with its exit code."""
    # The end of a cluster job's time is a SIGTERM, which ends Python before temporary files are removed.
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    run()
