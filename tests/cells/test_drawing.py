"""Counts drawn on a device have the distribution that they are to have, and come from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from branchgen.cells.drawing import drawn_on_device
from branchgen.seeds import device_generator

N_CELLS = 20_000
EXPECTED = np.array([0.01, 0.3, 2.0, 2.0, 40.0, 500.0])
DISPERSION = np.array([0.02, 5.0, 0.3, 1e4, 3.0, 50.0])
CPU = torch.device("cpu")


def drawn(seed: int) -> sparse.csr_matrix:
    parameters = (torch.tensor(row, dtype=torch.float32).expand(N_CELLS, -1) for row in (EXPECTED, DISPERSION))
    return drawn_on_device(*parameters, device_generator(np.random.default_rng(seed), CPU))


def within_errors(found: np.ndarray, wanted: np.ndarray, deviation: np.ndarray) -> bool:
    """Whether means over the cells are within five standard errors."""
    return bool((np.abs(found - wanted) < 5 * deviation / np.sqrt(N_CELLS)).all())


def test_moments_and_zeros_are_those_of_the_negative_binomial() -> None:
    counts = drawn(0).toarray().astype(float)
    variance = EXPECTED + EXPECTED**2 / DISPERSION
    zeros = (DISPERSION / (DISPERSION + EXPECTED)) ** DISPERSION
    assert within_errors(counts.mean(axis=0), EXPECTED, np.sqrt(variance))
    squares = (counts - EXPECTED) ** 2
    assert within_errors(squares.mean(axis=0), variance, squares.std(axis=0))
    assert within_errors((counts == 0).mean(axis=0), zeros, np.sqrt(zeros * (1 - zeros)) + 1e-9)


def test_counts_are_sparse_integers_in_order() -> None:
    counts = drawn(0)
    assert counts.shape == (N_CELLS, len(EXPECTED))
    assert counts.dtype == counts.indices.dtype == counts.indptr.dtype == np.int32
    assert counts.data.min() > 0
    rebuilt = sparse.csr_matrix(counts.toarray())
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(rebuilt, name))


def test_the_same_generator_gives_the_same_counts_and_another_gives_others() -> None:
    first, again, other = drawn(0), drawn(0), drawn(1)
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_a_generator_that_goes_on_gives_other_counts() -> None:
    rng = np.random.default_rng(0)
    seeds = [device_generator(rng, CPU).initial_seed() for _ in range(2)]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("n_cells", [0, 1])
def test_few_cells(n_cells: int) -> None:
    ones = torch.ones(n_cells, 3)
    assert drawn_on_device(ones * 1e-9, ones, torch.Generator()).toarray().tolist() == [[0, 0, 0]] * n_cells
