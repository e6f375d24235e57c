"""Coverage of the real cells, and memorisation of the training cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.analysis import two_sample
from branchgen.analysis.coverage import coverage_of, distance_ratio, duplicate_rate, nearer_train_share, row_bytes

RNG = np.random.default_rng(0)
REAL, OTHER = RNG.normal(size=(2, 400, 6))


def test_equal_samples_cover_each_other() -> None:
    found = coverage_of(REAL, OTHER)
    assert found.precision == pytest.approx(found.recall, abs=0.08)
    assert found.precision > 0.8
    assert found.density == pytest.approx(1.0, abs=0.1)
    # A ball around a real cell with k of its own kind misses all of n others with probability ≈ 2^−k.
    assert found.coverage == pytest.approx(1 - 2.0**-5, abs=0.04)


def test_a_collapsed_sample_is_precise_but_recalls_little() -> None:
    found = coverage_of(REAL, 0.2 * OTHER)
    assert found.precision > 0.98
    assert found.recall < 0.1
    assert found.coverage < 0.6


def test_a_scattered_sample_is_imprecise_and_few_of_its_cells_are_dense() -> None:
    found = coverage_of(REAL, 4 * OTHER)
    assert found.precision < 0.2
    assert found.density < 0.2
    assert found.recall > 0.9


def test_distant_samples_have_nothing_in_common() -> None:
    found = coverage_of(REAL, OTHER + 100)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_recall_is_precision_the_other_way_round_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = REAL, 1.5 * OTHER + 0.3
    whole = coverage_of(a, b)
    assert whole.recall == coverage_of(b, a).precision
    monkeypatch.setattr(two_sample, "BLOCK", 7 * len(b))
    assert coverage_of(a, b) == whole


def test_share_of_cells_nearer_to_train() -> None:
    train, holdout = REAL, OTHER
    assert nearer_train_share(train[:50] + 1e-6, train, holdout) == 1.0
    assert nearer_train_share(holdout[:50] + 1e-6, train, holdout) == 0.0
    assert nearer_train_share(RNG.normal(size=(50, 6)), train, train) == 0.5
    assert nearer_train_share(RNG.normal(size=(2000, 6)), train, holdout) == pytest.approx(0.5, abs=0.08)


def test_distance_ratio_is_zero_for_copies_and_exact_on_a_line() -> None:
    assert distance_ratio(REAL[:40], REAL, percentile=5) == 0.0
    assert distance_ratio(np.array([[1.0]]), np.array([[0.0], [3.0], [9.0]]), percentile=5) == pytest.approx(0.5)


def test_duplicates_of_training_cells_and_of_each_other() -> None:
    train = frozenset(row_bytes(sparse.csr_matrix([[1, 0, 2], [0, 0, 0]])))
    cells = sparse.csr_matrix([[1, 0, 2], [2, 0, 1], [2, 0, 1], [1, 2, 0], [0, 0, 0]])
    assert duplicate_rate(cells, train) == pytest.approx(3 / 5)
    shuffled = sparse.csr_matrix((np.array([2, 1]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3))
    assert duplicate_rate(shuffled, train) == 1.0  # the order in which a row is stored does not matter
