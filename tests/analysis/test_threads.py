"""Work side by side: in order, one thread each, and the same whatever the number of threads."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest
from simulate import simulate_cells
from split_cells import tree_of, with_splits
from threadpoolctl import threadpool_info

from branchgen.analysis import threads
from branchgen.analysis.evaluate import evaluate
from branchgen.analysis.samples import read_study
from branchgen.analysis.threads import side_by_side
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError


@pytest.fixture(params=[1, 3])
def n_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(threads, "threadpool_info", lambda: [{"num_threads": request.param}])
    return request.param


def test_results_are_in_order_and_as_many_at_a_time_as_there_are_threads(n_threads: int) -> None:
    together = threading.Barrier(n_threads, timeout=20)

    def square(number: int) -> tuple[int, int]:
        # Ends only when as many items are under way as there are threads.
        together.wait()
        return number**2, threading.get_ident()

    found = side_by_side(square, range(6))
    assert [value for value, _ in found] == [0, 1, 4, 9, 16, 25]
    assert len({ident for _, ident in found}) == n_threads


def test_every_item_has_one_thread_and_the_libraries_have_theirs_back(n_threads: int) -> None:
    before = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    inside = side_by_side(lambda _: [pool["num_threads"] for pool in threadpool_info()], range(4))
    assert all(set(numbers) == {1} for numbers in inside)
    assert {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()} == before


def test_an_exception_ends_the_work(n_threads: int) -> None:
    begun = []

    def fail(number: int) -> None:
        begun.append(number)
        if number:
            time.sleep(0.01)
        raise BranchgenError(f"no {number}")

    with pytest.raises(BranchgenError, match="no 0"):
        side_by_side(fail, range(1000))
    assert len(begun) < 1000


def test_an_evaluation_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = with_splits(simulate_cells(n_cells=260, n_genes=60, n_types=3))
    settings = EvaluateSettings(n_genes=40, n_components=10, n_seeds=1, n_permutations=19)
    generated = cells[cells.obs["split"] == "spare"].copy()
    study = read_study(generated, cells[cells.obs["split"] != "spare"].copy(), {}, settings, 0)
    found = []
    for number in (1, 4):
        monkeypatch.setattr(threads, "threadpool_info", lambda number=number: [{"num_threads": number}])
        found.append(evaluate(study, tree_of(cells), settings, 0))
    for alone, together in zip(*found, strict=True):
        pd.testing.assert_frame_equal(alone, together, check_exact=True)
    assert np.isfinite(found[0][0]["value"]).all()
