"""Independent work, side by side, with results that do not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

In = TypeVar("In")
Out = TypeVar("Out")


def side_by_side(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Results of a function for every item, in their order; an exception ends the work.

    As many items at a time as the libraries below would have threads: the cores, or fewer by OMP_NUM_THREADS, which
    Snakemake sets. Every item has a single thread to itself: sums over several depend on how many there are, and small
    models wait for each other at every step.
    """
    n_threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    # The limit of BLAS is that of the process, the limit of OpenMP that of the thread which sets it.
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(n_threads, initializer=lambda: threadpool_limits(1, user_api="openmp")) as executor,
    ):
        return list(executor.map(function, items))
