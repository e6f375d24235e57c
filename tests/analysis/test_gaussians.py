"""Gaussians of classes: the moments of posterior samples, in and out."""

from __future__ import annotations

import numpy as np
import pytest

from branchgen.analysis.gaussians import ClassGaussians

CODES = np.repeat([0, 1], [4000, 40])


def latents(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of which the second is small; in the last coordinate nothing varies, and it has no posterior."""
    x = rng.standard_normal((len(CODES), 3)) @ np.array([[1.0, 0.8, 0], [0, 0.5, 0], [0, 0, 0]])
    x[CODES == 1] += [5, 0, 1]
    return x, np.tile([0.6, 0.0, 0.0], (len(CODES), 1))


def test_drawn_latents_have_mean_and_covariance_of_posterior_samples() -> None:
    x, scale = latents(np.random.default_rng(0))
    drawn = ClassGaussians.fit(x, scale, CODES, 2).draw(0, 200_000, np.random.default_rng(1)).astype(float)
    assert drawn.mean(axis=0) == pytest.approx(x[CODES == 0].mean(axis=0), abs=0.02)
    expected = np.cov(x[CODES == 0].T) + np.diag([0.36, 0, 0])
    assert np.cov(drawn.T) == pytest.approx(expected, abs=0.02)
    assert not drawn[:, 2].any()


def test_a_small_class_leans_on_the_common_covariance_by_its_number_of_cells() -> None:
    x, scale = latents(np.random.default_rng(0))
    found = ClassGaussians.fit(x, scale, CODES, 2)
    own = [np.cov(x[code == CODES].T) + np.diag([0.36, 0, 0]) for code in (0, 1)]
    expected = (40 * own[1] + 3 * (own[0] + own[1]) / 2) / 43
    np.testing.assert_allclose(found.root[1] @ found.root[1].T, expected, atol=1e-12)
    np.testing.assert_allclose(found.mean[1], x[CODES == 1].mean(axis=0))


def test_a_class_of_one_cell_has_the_mean_of_this_cell() -> None:
    x = np.array([[0.0, 1.0], [2.0, 1.0], [9.0, 9.0]])
    found = ClassGaussians.fit(x, np.full_like(x, 0.5), np.array([0, 0, 1]), 2)
    drawn = found.draw(1, 50_000, np.random.default_rng(0)).astype(float)
    assert drawn.mean(axis=0) == pytest.approx([9, 9], abs=0.05)
    assert (drawn.var(axis=0) > 0).all()
