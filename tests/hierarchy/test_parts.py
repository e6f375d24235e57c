"""Parts of classes say of them what their cells do: moments, profiles, and how both vary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.parts import N_PARTS, Block, Parts, deal

SIZES = [7, 1, 350, 2 * N_PARTS]
CODES = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
N = len(CODES)
RNG = np.random.default_rng(1)
LATENTS = RNG.normal(size=(N, 3)) @ RNG.normal(size=(3, 3)) + 5 * CODES[:, None]
SCALE = RNG.uniform(0.1, 0.5, size=(N, 3))
SHARES = sparse.csr_matrix(RNG.dirichlet(np.ones(6), N) * (RNG.random((N, 6)) < 0.5))


@pytest.fixture(params=[1, 50, N])
def parts(request: pytest.FixtureRequest) -> Parts:
    """The cells in blocks of a size."""
    part, classes = deal(CODES, np.random.default_rng(2))
    places = np.array_split(np.arange(N), -(-N // request.param))
    return Parts.of_blocks(
        classes,
        (Block(parts=part[at], latents=LATENTS[at], scale=SCALE[at], shares=SHARES[at]) for at in places),
    )


def test_moments_are_those_of_the_cells(parts: Parts) -> None:
    found = parts.moments(np.arange(len(parts.codes)), len(SIZES), 4.0)
    expected = Moments.of_classes(LATENTS, SCALE, CODES, len(SIZES), 4.0)
    for name in ("mean", "covariance", "mean_noise", "covariance_noise", "known"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_profiles_are_those_of_the_cells(parts: Parts) -> None:
    found = parts.profiles(np.arange(len(parts.codes)), len(SIZES))
    expected = np.stack([SHARES[code == CODES].toarray().mean(axis=0) for code in range(len(SIZES))])
    np.testing.assert_allclose(found, expected)


def test_parts_that_occur_twice_count_twice(parts: Parts) -> None:
    every = np.arange(len(parts.codes))
    of_first = np.flatnonzero(parts.codes == 0)
    assert len(of_first) == 7
    found = parts.profiles(np.concatenate([every, of_first[:3]]), len(SIZES))
    cells = SHARES[np.flatnonzero(CODES == 0)].toarray()
    weighted = parts.shares[of_first]
    np.testing.assert_allclose(np.sort(weighted, axis=0), np.sort(cells, axis=0))
    np.testing.assert_allclose(found[0], (weighted.sum(axis=0) + weighted[:3].sum(axis=0)) / 10)


def test_cells_are_dealt_evenly() -> None:
    part, classes = deal(CODES, np.random.default_rng(0))
    np.testing.assert_array_equal(classes[part], CODES)
    for code, size in enumerate(SIZES):
        sizes = np.bincount(part[code == CODES])
        sizes = sizes[sizes > 0]
        assert len(sizes) == min(size, N_PARTS)
        assert sizes.max() - sizes.min() <= 1


def test_the_order_of_classes_deals_no_other_cells() -> None:
    order = np.array([2, 0, 3, 1])
    part, _ = deal(CODES, np.random.default_rng(0))
    other, _ = deal(order[CODES], np.random.default_rng(0))
    together = part[:, None] == part
    np.testing.assert_array_equal(together, other[:, None] == other)


def test_resampled_parts_vary_as_resampled_cells_do() -> None:
    """The mean of n cells of variance one has variance 1/n, and their sample variance 2/n."""
    n, rng = 20 * N_PARTS, np.random.default_rng(0)
    latents = rng.normal(size=(n, 200))
    codes = np.zeros(n, dtype=np.int64)
    means, variances = [], []
    cells = Parts.of_cells(latents, np.zeros_like(latents), codes, rng)
    for _ in range(60):
        found = cells.moments(rng.choice(N_PARTS, N_PARTS), 1, 0.0)
        means.append(found.mean[0])
        variances.append(np.diag(found.covariance[0]))
    assert np.var(means, axis=0).mean() == pytest.approx(1 / n, rel=0.05)
    assert np.var(variances, axis=0).mean() == pytest.approx(2 / n, rel=0.05)
