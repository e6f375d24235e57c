"""Progress of long work: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_NOTES = 0.5


class Progress:
    """Counts steps of work with a total, with rate and remaining time; a context manager."""

    def __init__(self, what: str, total: int, done: int = 0, *, shown: bool = True) -> None:
        self._what, self._total, self._begun, self._done = what, total, done, done
        self._started = self._spoken = time.monotonic()
        self._shown = shown
        self._bar = tqdm(desc=what, total=total, initial=done) if shown and sys.stderr.isatty() else None

    def to(self, done: int, note: Callable[[], str] = str) -> None:
        """Say that `done` steps of the total are finished; the note is made only when it is shown."""
        now = time.monotonic()
        if self._bar is not None:
            if now - self._spoken >= SECONDS_BETWEEN_NOTES or done >= self._total:
                self._bar.set_postfix_str(note(), refresh=False)
                self._spoken = now
            self._bar.update(done - self._done)
        self._done = done
        if self._shown and self._bar is None and now - self._spoken >= SECONDS_BETWEEN_LINES:
            rate = (done - self._begun) / (now - self._started)
            left = (self._total - done) / rate if rate else float("inf")
            log.info("%s: %d of %d, %.1f/s, %.0f s left %s", self._what, done, self._total, rate, left, note())
            self._spoken = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
