"""Mixtures of Gaussians of a class: their density and moments, and how many of them there are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from branchgen.hierarchy.mixtures import MOST_CELLS, Prior, TiedMixture, choose_mixture, class_mixtures, fit_mixture
from branchgen.hierarchy.moments import Moments

D = 4
APART = np.array([[0.0, 0, 0, 0], [6, 0, 0, 0], [0, 7, 0, 0]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
WITHIN = np.diag([1.0, 0.5, 2.0, 0.1]) + 0.05
PRIOR = Prior(np.eye(D), 4.0)
SCALE = 0.1


def drawn(n_cells: int, mixture: TiedMixture, seed: int) -> np.ndarray:
    """Posterior means of cells whose posterior samples are of the mixture."""
    rng = np.random.default_rng(seed)
    part = rng.choice(len(mixture.weights), n_cells, p=mixture.weights)
    root = np.linalg.cholesky(mixture.covariance - SCALE**2 * np.eye(D))
    return mixture.mean[part] + rng.standard_normal((n_cells, D)) @ root.T


def scale_of(latents: np.ndarray) -> np.ndarray:
    return np.full_like(latents, SCALE)


THREE = TiedMixture(WEIGHTS, APART, WITHIN)
ONE = TiedMixture.single(APART[0], WITHIN)


def test_density_and_moments() -> None:
    cells = np.random.default_rng(0).normal(size=(5, D)) * 3
    expected = [np.log(w) + multivariate_normal(m, WITHIN).logpdf(cells) for w, m in zip(WEIGHTS, APART, strict=True)]
    np.testing.assert_allclose(THREE.log_joint(cells), np.transpose(expected))
    mean, covariance = THREE.moments
    np.testing.assert_allclose(mean, WEIGHTS @ APART)
    np.testing.assert_allclose(covariance, WITHIN + np.cov(APART.T, aweights=WEIGHTS, ddof=0))


def test_three_gaussians_are_found() -> None:
    latents = drawn(4000, THREE, 1)
    found = choose_mixture(latents, scale_of(latents), PRIOR, 8, np.random.default_rng(2))
    order = [int(np.argmin(((found.mean - mean) ** 2).sum(axis=1))) for mean in APART]
    assert sorted(order) == [0, 1, 2] == list(range(len(found.weights)))
    np.testing.assert_allclose(found.weights[order], WEIGHTS, atol=0.03)
    np.testing.assert_allclose(found.mean[order], APART, atol=0.15)
    np.testing.assert_allclose(found.covariance, WITHIN, atol=0.12)


@pytest.mark.parametrize("n_cells", [1, 5, 60, 2000])
def test_one_gaussian_is_left_as_it_is(n_cells: int) -> None:
    """In most draws: what is added by chance grows the density of cells left out by more than an error at times."""
    chosen = []
    for seed in range(20):
        latents = drawn(n_cells, ONE, seed)
        found = choose_mixture(latents, scale_of(latents), PRIOR, 8, np.random.default_rng(seed))
        chosen.append(len(found.weights))
    assert np.mean(np.array(chosen) == 1) >= 0.8


def test_a_single_gaussian_has_the_moments_of_the_class() -> None:
    latents = drawn(30, THREE, 3)
    single = fit_mixture(latents, scale_of(latents), PRIOR, 1, np.random.default_rng(0))
    codes = np.zeros(30, dtype=int)
    of_class = Moments.of_classes(latents, scale_of(latents), codes, 1, 0.0)
    np.testing.assert_allclose(single.mean[0], of_class.mean[0])
    np.testing.assert_allclose(single.covariance, PRIOR.shrunk(of_class.covariance[0], 30))


def test_few_cells_lean_on_the_prior_within_their_gaussians() -> None:
    latents = np.repeat(APART[:2], 8, axis=0)
    found = fit_mixture(latents, np.zeros_like(latents), PRIOR, 2, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(found.mean[:, 0]), [0, 6], atol=1e-3)
    np.testing.assert_allclose(found.covariance, 4 / (16 + 4) * np.eye(D), atol=1e-2)


def test_coordinates_in_which_nothing_varies_do_no_harm() -> None:
    latents = drawn(400, THREE, 4)
    latents[:, 3] = 2.0
    flat = Prior(np.diag([1.0, 1, 1, 0]), 4.0)
    found = choose_mixture(latents, np.zeros_like(latents), flat, 4, np.random.default_rng(0))
    assert len(found.weights) >= 3
    np.testing.assert_allclose(found.mean[:, 3], 2.0)


def test_of_the_classes_those_that_are_no_gaussian() -> None:
    latents = np.concatenate([drawn(300, ONE, 5), drawn(MOST_CELLS + 500, THREE, 6)])
    codes = np.repeat([0, 1], [300, MOST_CELLS + 500])
    rngs = [np.random.default_rng(7), np.random.default_rng(8)]
    found = class_mixtures(latents, scale_of(latents), codes, PRIOR, 4, rngs)
    assert list(found) == [1]
    assert len(found[1].weights) == 3
    assert not class_mixtures(latents, scale_of(latents), codes, PRIOR, 1, rngs)
