"""Transport between Gaussians and their mixtures, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from branchgen.diffusion.mixture import GaussianMixture, MixtureMap, coupling, gaussian_map
from branchgen.diffusion.solvers import eigenvectors
from branchgen.errors import BranchgenError


def mixture(k: int, d: int, seed: int, spread: float = 2.0) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(k, d, d))
    weights = rng.dirichlet(np.full(k, 3.0))
    mean = rng.normal(size=(k, d)) * spread
    basis, variance = eigenvectors(roots @ roots.transpose(0, 2, 1) / d + 0.1 * np.eye(d))
    return GaussianMixture(names=tuple(range(k)), weights=weights, mean=mean, basis=basis, variance=variance)


def covariances(of: GaussianMixture) -> np.ndarray:
    return of.roots @ of.roots


def drawn(source: GaussianMixture, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    component = rng.choice(len(source.names), n, p=source.weights)
    x = source.mean[component] + np.einsum(
        "nij,nj->ni", source.roots[component], rng.normal(size=(n, source.mean.shape[1]))
    )
    return x, component


def test_the_gaussian_map_matches_moments_and_is_a_gradient() -> None:
    both = mixture(2, 6, 0)
    covariance = covariances(both)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True)).T)
    x = both.mean[0] + x @ np.linalg.cholesky(covariance[0]).T
    carry = gaussian_map(both.mean[0], covariance[0], both.mean[1], covariance[1])
    carried = carry(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(carried.mean(axis=0), both.mean[1], atol=1e-10)
    np.testing.assert_allclose(np.cov(carried.T, bias=True), covariance[1], atol=1e-9)
    # An optimal map is the gradient of a convex function: its matrix is symmetric and positive.
    unit = carry(torch.eye(6, dtype=torch.float64)) - carry(torch.zeros(6, 6, dtype=torch.float64))
    torch.testing.assert_close(unit, unit.T)
    assert torch.linalg.eigvalsh(unit).min() > 0


@pytest.mark.parametrize("spread", [0.3, 8.0])
def test_a_mixture_is_carried_to_a_part_of_itself_exactly(spread: float) -> None:
    """Moments of the whole and of each component's share, however far apart the components are."""
    source = mixture(5, 3, 1, spread)
    chosen = np.array([1, 3])
    target = source.take(chosen)
    rng = np.random.default_rng(2)
    x, _ = drawn(source, 800_000, rng)
    carried = MixtureMap(source, target)(torch.from_numpy(x), torch.Generator().manual_seed(0)).numpy()
    expected, _ = drawn(target, 800_000, rng)
    scale = np.sqrt(np.diag(np.cov(expected.T)))
    np.testing.assert_allclose(carried.mean(axis=0) / scale, expected.mean(axis=0) / scale, atol=0.015)
    np.testing.assert_allclose(np.cov((carried / scale).T), np.cov((expected / scale).T), atol=0.03)
    # Not the moments alone: the density that a sample meets is distributed alike.
    densities = [
        np.log(
            sum(
                w * multivariate_normal(m, s).pdf(points)
                for w, m, s in zip(target.weights, target.mean, covariances(target), strict=True)
            )
        )
        for points in (carried, expected)
    ]
    np.testing.assert_allclose(*(np.quantile(values, np.linspace(0.02, 0.98, 9)) for values in densities), atol=0.06)


def test_samples_of_the_childs_own_classes_stay_where_they_are() -> None:
    source = mixture(4, 3, 3, spread=30.0)
    x, component = drawn(source, 4_000, np.random.default_rng(0))
    target = source.take(np.array([0, 2]))
    carried = MixtureMap(source, target)(torch.from_numpy(x), torch.Generator().manual_seed(0)).numpy()
    own = np.isin(component, [0, 2])
    assert np.array_equal(carried[own], x[own])
    assert not (carried[~own] == x[~own]).any()


def test_components_of_the_same_axes_are_carried_by_the_optimal_map() -> None:
    source = mixture(2, 4, 5, spread=40.0)
    source = replace(source, basis=source.basis[[0, 0]])
    x, component = drawn(source, 300, np.random.default_rng(1))
    carried = MixtureMap(source, source.take(np.array([1])))(torch.from_numpy(x), torch.Generator().manual_seed(0))
    covariance = covariances(source)
    carry = gaussian_map(source.mean[0], covariance[0], source.mean[1], covariance[1])
    rows = component == 0
    np.testing.assert_allclose(carried.numpy()[rows], carry(torch.from_numpy(x[rows])).numpy(), atol=1e-9)


def test_the_way_from_one_component_to_another_is_what_the_coupling_takes_it_for() -> None:
    """And no shorter than the optimal one; noise brings the two together."""
    for noise, longest in ((0.0, 1.5), (3.0, 1.001)):
        own = mixture(2, 6, 9, spread=0.5)
        source = replace(own, weights=np.array([1 - 1e-12, 1e-12]), variance=own.variance + noise**2)
        covariance = covariances(source)
        x, _ = drawn(source, 100_000, np.random.default_rng(3))
        target = replace(source.take(np.array([1])), names=(7,))
        carried = MixtureMap(source, target)(torch.from_numpy(x), torch.Generator().manual_seed(0)).numpy()
        way = ((carried - x) ** 2).sum(axis=1).mean()
        apart = ((source.mean[0] - source.mean[1]) ** 2).sum()
        cost = apart + ((source.roots[0] - source.roots[1]) ** 2).sum()
        optimal = gaussian_map(source.mean[0], covariance[0], source.mean[1], covariance[1])
        shortest = ((optimal(torch.from_numpy(x)).numpy() - x) ** 2).sum(axis=1).mean()
        assert way == pytest.approx(cost, rel=0.02)
        assert shortest * 0.9999 < way < longest * shortest


def test_a_coupling_has_both_marginals_and_prefers_the_near() -> None:
    a, b = mixture(4, 2, 6), mixture(5, 2, 7)
    conditional = coupling(a, b)
    np.testing.assert_allclose(conditional.sum(axis=1), 1)
    np.testing.assert_allclose(a.weights @ conditional, b.weights, atol=1e-9)
    assert (conditional > 0).sum() <= 4 + 5 - 1
    np.testing.assert_allclose(coupling(a, a), np.eye(4), atol=1e-9)


def test_a_target_outside_the_source_is_refused() -> None:
    source = mixture(3, 2, 8)
    with pytest.raises(BranchgenError, match="one of its own components"):
        MixtureMap(source.take(np.array([0, 1])), source)
