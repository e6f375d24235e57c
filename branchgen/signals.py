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


_NOTHING, _CHECKPOINT = 0, 1
"""What may be asked for, besides the end: that is asked for by the number of its signal, which is larger."""


class Requests:
    """Signals that ask for a checkpoint, and maybe for the end after it.

    Of several processes, `largest` is the largest of the numbers that they give, so that they hear of a signal at the
    same step. A second signal to end does not wait for the checkpoint. But where one launcher passes signals on
    (`passed_on`), the second is the first once more: schedulers signal the launcher and the processes.
    """

    def __init__(self, largest: Callable[[int], int] = int, *, passed_on: bool = False) -> None:
        self._largest, self._passed_on = largest, passed_on
        self._asked = self._heard = _NOTHING

    @contextmanager
    def noted(self) -> Iterator[Requests]:
        """SIGUSR1 asks for a checkpoint; SIGTERM and SIGINT, for the time of the context, for a last one."""
        with handled({signal.SIGUSR1: self._save, signal.SIGTERM: self._end, signal.SIGINT: self._end}):
            yield self

    def listen(self) -> bool:
        """Whether any process has been asked for a checkpoint; all of them have to listen at the same steps."""
        self._heard = self._largest(self._asked)
        return self.heard

    @property
    def heard(self) -> bool:
        """What was found when last listened, until it is answered."""
        return self._heard > _NOTHING

    def answered(self) -> None:
        """A checkpoint is written; raises Terminated or KeyboardInterrupt where it was to be the last."""
        heard, self._heard = self._heard, _NOTHING
        # What was asked for in the meantime waits for the next step, of which the others know.
        if self._asked <= heard:
            self._asked = _NOTHING
        if heard > _CHECKPOINT:
            _raise(heard)

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._asked = max(self._asked, _CHECKPOINT)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._asked > _CHECKPOINT and not self._passed_on:
            _raise(number)
        self._asked = max(self._asked, number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(number)
