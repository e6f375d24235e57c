"""Progress: notes are made only when they are shown, for making one may wait for a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from branchgen import progress
from branchgen.progress import SECONDS_BETWEEN_LINES, Progress


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[float], None]:
    """Sets the clock."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_a_note_is_made_when_its_line_is_due(at: Callable[[float], None], caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []

    def note(step: int) -> str:
        made.append(step)
        return f"loss {step}"

    with Progress("train", 100) as steps:
        for step in range(1, 100):
            at(step * SECONDS_BETWEEN_LINES / 40)
            steps.to(step, lambda step=step: note(step))
    assert made == [40, 80]
    assert [message.split("left ")[1] for message in caplog.messages] == ["loss 40", "loss 80"]
    assert caplog.messages[0].startswith("train: 40 of 100, 0.7/s, 90 s left")


def test_progress_that_is_not_shown_says_nothing(at: Callable[[float], None], caplog: pytest.LogCaptureFixture) -> None:
    with Progress("train", 2, shown=False) as steps:
        at(10 * SECONDS_BETWEEN_LINES)
        steps.to(1, lambda: pytest.fail("a note was made"))
    assert not caplog.messages
