"""Counts that are drawn have the distribution that they are to have, and come from the generators alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from exact_counts import example, mass, variance
from scipy import sparse

from branchgen.cells.distribution import CountDistribution
from branchgen.cells.drawing import drawn, drawn_on_device
from branchgen.seeds import device_generator

N_CELLS = 20_000
CPU = torch.device("cpu")
Draw = Callable[[CountDistribution, int], sparse.csr_matrix]


def on_device(decoded: CountDistribution, seed: int) -> sparse.csr_matrix:
    return drawn_on_device(decoded, device_generator(np.random.default_rng(seed), CPU))


def by_numpy(decoded: CountDistribution, seed: int) -> sparse.csr_matrix:
    return drawn(decoded, np.random.default_rng(seed).spawn(3))


@pytest.fixture(params=[on_device, by_numpy])
def draw(request: pytest.FixtureRequest) -> Draw:
    way: Draw = request.param
    return way


def within_errors(found: np.ndarray, wanted: np.ndarray, deviation: np.ndarray) -> bool:
    """Whether means over the cells are within five standard errors."""
    return bool((np.abs(found - wanted) < 5 * deviation / np.sqrt(N_CELLS)).all())


@pytest.mark.parametrize("two", [False, True])
def test_moments_and_small_counts_are_those_of_the_distribution(draw: Draw, *, two: bool) -> None:
    decoded = example(N_CELLS, two=two)
    counts = draw(decoded, 0).toarray().astype(float)
    expected, spread = decoded.expected[0].numpy().astype(float), variance(decoded)[0]
    assert within_errors(counts.mean(axis=0), expected, np.sqrt(spread))
    squares = (counts - expected) ** 2
    assert within_errors(squares.mean(axis=0), spread, squares.std(axis=0))
    for count in range(4):
        share = mass(decoded.first(1), np.array(count))[0]
        assert within_errors((counts == count).mean(axis=0), share, np.sqrt(share * (1 - share)) + 1e-9)


def test_counts_are_sparse_integers_in_order(draw: Draw) -> None:
    counts = draw(example(N_CELLS), 0)
    assert counts.shape == (N_CELLS, 6)
    assert counts.dtype == counts.indices.dtype == counts.indptr.dtype == np.int32
    assert counts.data.min() > 0
    rebuilt = sparse.csr_matrix(counts.toarray())
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(rebuilt, name))


def test_the_same_generator_gives_the_same_counts_and_another_gives_others(draw: Draw) -> None:
    first, again, other = (draw(example(100), seed) for seed in (0, 0, 1))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_a_generator_that_goes_on_gives_other_counts() -> None:
    rng = np.random.default_rng(0)
    seeds = [device_generator(rng, CPU).initial_seed() for _ in range(2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("n_cells", [0, 1])
def test_few_cells(draw: Draw, n_cells: int) -> None:
    ones = torch.ones(n_cells, 3)
    decoded = CountDistribution(expected=ones * 1e-9, dispersion=ones)
    assert draw(decoded, 0).toarray().tolist() == [[0, 0, 0]] * n_cells
