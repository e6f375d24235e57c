"""Curves of variance and zeros against the mean: errors are those that are known."""

from __future__ import annotations

import numpy as np
import pytest

from branchgen.analysis.curves import N_BINS, curve, curve_error, curve_errors

MEAN = np.random.default_rng(0).lognormal(-1, 1.5, 2000)


def moments(dispersion: float, mean: np.ndarray = MEAN) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of negative binomials: mean, variance and share of zeros."""
    return mean, mean + dispersion * mean**2, (1 + dispersion * mean) ** (-1 / dispersion)


def test_curves_are_medians_of_equally_many_genes() -> None:
    mean, value = curve(np.arange(100.0)[::-1], np.arange(100.0)[::-1] ** 2)
    assert len(mean) == N_BINS
    assert mean == pytest.approx(np.arange(2, 100, 5))
    assert value == pytest.approx(np.arange(2, 100, 5) ** 2.0)


def test_equal_genes_have_no_error_and_neither_have_the_same_curve_at_other_means() -> None:
    assert curve_errors(moments(0.5), moments(0.5)) == {"mean_variance_curve": 0.0, "mean_zeros_curve": 0.0}
    other = curve_errors(moments(0.5), moments(0.5, np.random.default_rng(1).permutation(MEAN)[:1500] * 1.1))
    assert other["mean_variance_curve"] < 0.03
    assert other["mean_zeros_curve"] < 0.01


def test_a_variance_that_is_twice_as_large_is_off_by_its_logarithm() -> None:
    mean, variance, zeros = moments(0.5)
    errors = curve_errors((mean, variance, zeros), (mean, 2 * variance, zeros - 0.1))
    assert errors["mean_variance_curve"] == pytest.approx(np.log10(2))
    assert errors["mean_zeros_curve"] == pytest.approx(0.1)


def test_genes_without_variance_are_left_out() -> None:
    mean, variance, zeros = (np.append(values, end) for values, end in zip(moments(0.5), (0.0, 0.0, 1.0), strict=True))
    assert curve_errors(moments(0.5), (mean, variance, zeros))["mean_variance_curve"] == 0.0
    assert curve_errors(moments(0.5), tuple(np.zeros((3, 5)))) == {}  # type: ignore[arg-type]


def test_curves_without_a_common_mean_have_no_error() -> None:
    one = curve(np.arange(50.0), np.ones(50))
    assert np.isnan(curve_error(one, curve(np.arange(100.0, 150.0), np.ones(50))))
