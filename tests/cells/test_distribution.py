"""Distributions of counts, against closed forms; and that two states are found where genes have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_counts import example, mass
from scipy import sparse
from scipy.optimize import minimize
from scipy.stats import nbinom

from branchgen.cells.autoencoder import NegativeBinomialAutoencoder
from branchgen.cells.distribution import CountDistribution
from branchgen.config import EncodeSettings

COUNTS = np.array([[0, 1, 7, 2, 33, 480], [2, 0, 0, 0, 0, 0], [0, 5, 1, 3, 90, 700]])


def double(decoded: CountDistribution) -> CountDistribution:
    return replace(decoded, expected=decoded.expected.double(), dispersion=decoded.dispersion.double())


@pytest.mark.parametrize("two", [False, True])
def test_likelihood_is_that_of_the_closed_form(*, two: bool) -> None:
    decoded, counts = double(example(3, two=two)), torch.from_numpy(COUNTS).double()
    exact = np.log(mass(decoded, COUNTS)).sum(axis=1)
    found = -decoded.negative_log_likelihood(counts) - torch.lgamma(counts + 1).sum(dim=1)
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-6)


@pytest.mark.parametrize("two", [False, True])
def test_masses_sum_to_one_and_to_the_expected_counts(*, two: bool) -> None:
    decoded = example(two=two)
    counts = np.arange(60_000)[:, None]
    masses = mass(decoded, counts)
    np.testing.assert_allclose(masses.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose((counts * masses).sum(axis=0), decoded.expected[0].numpy(), rtol=1e-4)


def test_cells_without_counts_have_a_likelihood() -> None:
    decoded = double(example(2))
    exact = np.log(mass(decoded, np.zeros((2, 6)))).sum(axis=1)
    np.testing.assert_allclose(-decoded.negative_log_likelihood(torch.zeros(2, 6).double()).numpy(), exact, rtol=1e-6)


def test_gradients_are_those_of_the_likelihood() -> None:
    """Of all parameters, where counts are zero and where they are not."""
    counts = torch.from_numpy(COUNTS).double()
    logs = [part.double().log().requires_grad_() for part in (example(3).expected, example(3).dispersion)]

    def likelihood(log_expected: torch.Tensor, log_dispersion: torch.Tensor) -> torch.Tensor:
        decoded = replace(example(3), expected=log_expected.exp(), dispersion=log_dispersion.exp())
        return decoded.negative_log_likelihood(counts)

    assert torch.autograd.gradcheck(likelihood, logs, eps=1e-6, atol=1e-4)


def test_a_state_of_its_own_changes_nothing_where_it_is_the_same() -> None:
    plain = example(3, two=False)
    states = example().states
    assert states is not None
    ones = torch.ones_like(states.share)
    same = replace(plain, states=replace(states, ratio=ones, steadiness=ones))
    counts = torch.from_numpy(COUNTS).float()
    torch.testing.assert_close(same.negative_log_likelihood(counts), plain.negative_log_likelihood(counts))


def test_an_autoencoder_finds_states_of_genes_that_have_them() -> None:
    """Genes that are nearly Poisson in nineteen cells of twenty and six times as high in the others.

    One negative binomial has too few ones and too many twos and threes for them.
    """
    n_genes, bursting = 40, slice(0, 20)
    rng = np.random.default_rng(0)

    def simulated(n_cells: int) -> sparse.csr_matrix:
        rate = np.full((n_cells, n_genes), 0.5) * rng.lognormal(0, 0.2, (n_cells, 1))
        rate[:, bursting] *= np.where(rng.random((n_cells, 20)) < 0.05, 6, 1)
        return sparse.csr_matrix(rng.poisson(rate).astype(np.int32))

    train, ref, test = (simulated(n) for n in (1500, 300, 3000))
    settings = EncodeSettings(n_latent=2, n_hidden=16, max_epochs=60)
    model = NegativeBinomialAutoencoder.fit(train, ref, settings, 0, torch.device("cpu"), lambda *_: None)
    counts = torch.from_numpy(test.toarray()).float()
    mean, scale = model.encode(counts)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    decoded = model.decode(mean + scale * noise, torch.log(counts.sum(dim=1)))
    real = counts[:, bursting].numpy()
    shares = np.array([(real == count).mean() for count in range(5)])
    found = np.array([mass(decoded, np.full(counts.shape, count))[:, bursting].mean() for count in range(5)])
    # By its moments: Var = μ + μ²/θ.
    theta = real.mean() ** 2 / (real.var() - real.mean())
    likeliest = minimize(
        lambda log: -nbinom.logpmf(real, *_by_mean(real.mean(), np.exp(log[0]))).sum(), np.log([theta])
    )
    single = nbinom.pmf(np.arange(5), *_by_mean(real.mean(), np.exp(likeliest.x[0])))
    assert np.abs(found - shares).sum() < 0.6 * np.abs(single - shares).sum()
    states = decoded.states
    assert states is not None
    assert states.ratio[bursting].mean() > 1.8
    # Plain genes have next to no second state, or one that is much the same.
    apart = (states.share * (states.ratio - 1)).abs()
    assert apart[20:].mean() < 0.2 * apart[bursting].mean()


def _by_mean(mean: float, theta: float) -> tuple[float, float]:
    return theta, theta / (theta + mean)
