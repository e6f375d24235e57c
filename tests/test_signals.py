"""Requests for a checkpoint: what several processes agree on, and signals that come twice."""

from __future__ import annotations

import os
import signal

import pytest

from branchgen.errors import Terminated
from branchgen.signals import Requests


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_a_second_signal_does_not_wait_for_the_checkpoint() -> None:
    with Requests().noted(), pytest.raises(Terminated):
        send(signal.SIGTERM, signal.SIGTERM)


def test_a_signal_that_a_launcher_passes_on_is_the_same_signal() -> None:
    with Requests(passed_on=True).noted() as requests:
        send(signal.SIGTERM, signal.SIGTERM)
        assert requests.listen()
        with pytest.raises(Terminated) as ended:
            requests.answered()
    assert ended.value.number == signal.SIGTERM


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_the_end_of_another_process_is_the_end_of_this_one(number: int, error: type[BaseException]) -> None:
    with Requests(lambda _: number).noted() as requests:
        assert requests.listen()
        with pytest.raises(error):
            requests.answered()


def test_a_signal_after_listening_waits_for_the_next_step() -> None:
    """The others do not know of it yet."""
    with Requests().noted() as requests:
        assert not requests.listen()
        send(signal.SIGTERM)
        assert not requests.heard
        requests.answered()
        assert requests.listen()
        with pytest.raises(Terminated):
            requests.answered()


def test_a_checkpoint_is_written_once_and_the_end_is_not_forgotten() -> None:
    with Requests().noted() as requests:
        send(signal.SIGUSR1)
        assert requests.listen()
        send(signal.SIGTERM)
        requests.answered()
        assert requests.listen()
        with pytest.raises(Terminated):
            requests.answered()
    with Requests().noted() as requests:
        send(signal.SIGUSR1, signal.SIGUSR1)
        assert requests.listen()
        requests.answered()
        assert not requests.listen()
