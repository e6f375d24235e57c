"""The permutation test: its statistic is the unbiased one, and its p-values are those of a test."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kstest

from branchgen.analysis.permutation import mmd_p_value
from branchgen.analysis.two_sample import mmd_squared

BANDWIDTH = 8.0


def p_value(a: np.ndarray, b: np.ndarray, types: np.ndarray, n: int = 99, seed: int = 0) -> float:
    return mmd_p_value(a, b, types, BANDWIDTH, n, np.random.default_rng(seed))


def test_p_values_are_uniform_where_samples_are_exchangeable() -> None:
    rng = np.random.default_rng(0)
    types = np.repeat(["a", "b"], [30, 10])
    values = []
    for seed in range(300):
        sides = rng.normal(size=(2, 40, 4))
        sides[:, 30:] += 5  # the types differ, the sides do not
        values.append(p_value(*sides, types, seed=seed))
    # Uniform on {1, …, 100} / 100; half a step makes it continuous.
    assert kstest(np.array(values) - 0.005, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_shift_has_the_smallest_p_value() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 60, 4))
    assert p_value(a, b + 1.0, np.full(60, "a")) == 0.01
    assert p_value(a, b + 1.0, np.full(60, "a"), n=199) == 0.005


def test_cells_change_sides_within_their_type() -> None:
    rng = np.random.default_rng(0)
    # Each type is shifted the other way: the pooled samples are alike but for this, and shuffling over types
    # would make a difference of its own.
    a, b = rng.normal(size=(2, 40, 2))
    types = np.repeat(["a", "b"], 20)
    shift = np.where(types == "a", 2.0, -2.0)[:, None]
    assert p_value(a, b + shift, types) == 0.01


def test_the_statistics_are_those_of_the_unbiased_estimator() -> None:
    # Three cells a side have 20 labellings, each with its mirror image: the p-value of many draws is their share.
    a, b = np.random.default_rng(2).normal(size=(2, 3, 2))
    cells = np.concatenate([a, b])
    observed = mmd_squared(a, b, BANDWIDTH)
    labellings = [
        mmd_squared(cells[list(rows)], cells[[i for i in range(6) if i not in rows]], BANDWIDTH)
        for rows in itertools.combinations(range(6), 3)
    ]
    share = np.mean(np.array(labellings) >= observed - 1e-12)
    assert 0.1 < share < 1
    assert p_value(a, b, np.full(3, "a"), n=4000) == pytest.approx(share, abs=0.03)
