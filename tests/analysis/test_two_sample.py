"""Distances between samples: closed forms on Gaussians, and what each test says of equal and of unequal samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from branchgen.analysis import two_sample
from branchgen.analysis.two_sample import (
    energy_distance,
    frechet_parts,
    median_squared_distance,
    mmd_squared,
    nearest_neighbour_accuracy,
)


def gaussians(n: int, d: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of unit Gaussians whose means are `shift` apart along the first coordinate."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, d))
    b[:, 0] += shift
    return a, b


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_mmd_of_gaussians(shift: float) -> None:
    d, bandwidth = 3, 5.0
    values = [mmd_squared(*gaussians(60, d, shift, seed), bandwidth) for seed in range(1000)]
    widths = bandwidth * np.array([0.25, 0.5, 1, 2, 4])
    # E exp(−‖z‖² / w) for z ~ N(δ, 2 I) is (1 + 4/w)^(−d/2) exp(−δ² / (w + 4)).
    expected = np.mean(2 * (1 + 4 / widths) ** (-d / 2) * (1 - np.exp(-(shift**2) / (widths + 4))))
    assert abs(np.mean(values) - expected) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, rel=0.05)


def test_mmd_is_unbiased() -> None:
    values = [mmd_squared(*gaussians(12, 4, seed=seed), bandwidth=8.0) for seed in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.min(values) < 0


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_energy_distance_of_gaussians(shift: float) -> None:
    def mean_absolute(mean: float, sd: float) -> float:
        """E|z| of z ~ N(mean, sd²)."""
        return sd * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * sd**2)) + mean * (1 - 2 * norm.cdf(-mean / sd))

    expected = 2 * mean_absolute(shift, np.sqrt(2)) - 2 * mean_absolute(0.0, np.sqrt(2))
    values = [energy_distance(*gaussians(60, 1, shift, seed)) for seed in range(1000)]
    assert abs(np.mean(values) - expected) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, rel=0.06, abs=2e-3)


def test_frechet_parts_are_exact_for_a_linear_map() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 4))
    a -= a.mean(axis=0)
    a = a @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False))).T  # its covariance is exactly I
    root = rng.normal(size=(4, 4))
    stretch = root @ root.T + 0.1 * np.eye(4)
    mean, covariance = frechet_parts(a, a @ stretch + np.array([3.0, 0, 0, 4.0]))
    assert mean == pytest.approx(25.0)
    # S_b = stretch², so that tr(I + S_b − 2 S_b^{1/2}) = ‖stretch − I‖².
    assert covariance == pytest.approx(((stretch - np.eye(4)) ** 2).sum())


def test_distances_are_symmetric_and_vanish_on_the_same_moments() -> None:
    a, b = gaussians(60, 3, 1.0)
    assert mmd_squared(a, b, 3.0) == pytest.approx(mmd_squared(b, a, 3.0))
    assert energy_distance(a, b) == pytest.approx(energy_distance(b, a))
    assert frechet_parts(a, b) == pytest.approx(frechet_parts(b, a))
    assert frechet_parts(a, a) == pytest.approx((0.0, 0.0), abs=1e-10)


def test_blocks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = gaussians(101, 3, 1.0)
    whole = mmd_squared(a, b, 3.0), energy_distance(a, b)
    monkeypatch.setattr(two_sample, "BLOCK", 7 * 101)
    assert (mmd_squared(a, b, 3.0), energy_distance(a, b)) == pytest.approx(whole, rel=1e-6)


def test_nearest_neighbour_accuracy_of_equal_distant_and_copied_samples() -> None:
    a, b = gaussians(500, 5)
    assert nearest_neighbour_accuracy(a, b) == pytest.approx(0.5, abs=0.06)
    assert nearest_neighbour_accuracy(a, b + 100) == 1.0
    assert nearest_neighbour_accuracy(a, a + 1e-6) == 0.0


def test_median_squared_distance_leaves_out_the_cells_themselves() -> None:
    assert median_squared_distance(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(4.0)
