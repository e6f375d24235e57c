"""What a job does when it is told to end: it cleans up, and training saves where it stands first.

Schedulers send SIGTERM before SIGKILL, when a job is cancelled or its time is up, and many can be asked for a warning
some time before (SLURM: --signal=USR1@120).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from branchgen.errors import Terminated

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    """Handlers of signals for the time of the context; none in other threads than the first, which get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminate(number: int, frame: FrameType | None) -> None:
    """Handler that ends the work as an exception does, so that what is half-written is removed."""
    raise Terminated(number)


class Requests:
    """Signals that ask for a checkpoint, and maybe for the end after it; a second one does not wait for it."""

    def __init__(self) -> None:
        self.pending = False
        self._last: int | None = None

    @contextmanager
    def noted(self) -> Iterator[Requests]:
        """SIGUSR1 asks for a checkpoint; SIGTERM and SIGINT, for the time of the context, for a last one."""
        with handled({signal.SIGUSR1: self._save, signal.SIGTERM: self._end, signal.SIGINT: self._end}):
            yield self

    def answered(self) -> None:
        """A checkpoint is written; raises Terminated or KeyboardInterrupt where it was to be the last."""
        self.pending = False
        if self._last is not None:
            _raise(self._last)

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.pending = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._last is not None:
            _raise(number)
        self.pending, self._last = True, number


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(number)
