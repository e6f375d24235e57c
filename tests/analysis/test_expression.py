"""Count statistics and log-fold-changes on counts whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.analysis.expression import (
    against_others,
    count_errors,
    normalised,
    pairwise_overlaps,
    pairwise_slopes,
    profiles,
    slope,
    top_overlap,
)

RNG = np.random.default_rng(0)
COUNTS = sparse.csr_matrix(RNG.poisson(RNG.gamma(1.0, 2.0, 30), (200, 30)))


def test_normalised_cells_have_ten_thousand_counts_and_empty_ones_none() -> None:
    counts = sparse.csr_matrix(np.array([[1, 3, 0], [0, 0, 0], [5, 5, 10]]))
    assert normalised(counts).toarray() == pytest.approx(np.array([[2500, 7500, 0], [0, 0, 0], [2500, 2500, 5000]]))


def test_equal_counts_have_no_error_and_doubled_ones_a_known_one() -> None:
    same = count_errors(COUNTS, COUNTS)
    assert (same.gene_mean, same.gene_variance, same.gene_zeros, same.library_size, same.genes_detected) == (0,) * 5
    double = count_errors(COUNTS, 2 * COUNTS)
    assert double.gene_mean == pytest.approx(1.0)
    assert double.gene_variance == pytest.approx(3.0)
    assert double.library_size == pytest.approx(1.0)
    assert (double.gene_zeros, double.genes_detected) == (0, 0)


def test_genes_without_zeros_leave_their_error_undefined() -> None:
    full = sparse.csr_matrix(np.full((4, 3), 2))
    assert np.isnan(count_errors(full, full).gene_zeros)


def test_profiles_are_means_of_every_type() -> None:
    expression = sparse.csr_matrix(np.array([[1.0, 0.0], [3.0, 2.0], [7.0, 7.0]]))
    found = profiles(expression, np.array(["b", "b", "a"]), ["a", "b"])
    assert found == pytest.approx(np.array([[7.0, 7.0], [2.0, 1.0]]))


def test_pairwise_slopes_are_regressions_through_the_origin() -> None:
    real = RNG.normal(size=(5, 40))
    generated = 0.6 * real + RNG.normal(scale=0.3, size=(5, 40)) + RNG.normal(size=40)
    expected = [
        np.linalg.lstsq((real[c] - real[d])[:, None], generated[c] - generated[d], rcond=None)[0][0]
        for c in range(5)
        for d in range(c + 1, 5)
    ]
    assert pairwise_slopes(real, generated) == pytest.approx(np.array(expected))
    assert slope(real[0], generated[0]) == pytest.approx(
        np.linalg.lstsq(real[0][:, None], generated[0], rcond=None)[0][0]
    )


def test_attenuated_differences_have_the_slope_of_the_attenuation() -> None:
    real = RNG.normal(size=(4, 250))
    common = real.mean(axis=0)
    generated = common + 0.4 * (real - common)
    assert pairwise_slopes(real, generated) == pytest.approx(np.full(6, 0.4))
    changes, washed_out = against_others(real), against_others(generated)
    assert [slope(a, b) for a, b in zip(changes, washed_out, strict=True)] == pytest.approx([0.4] * 4)
    assert pairwise_overlaps(real, generated) == pytest.approx(np.ones(6))  # ranks do not see attenuation


def test_equal_real_profiles_have_no_slope() -> None:
    assert pairwise_slopes(np.ones((2, 5)), RNG.normal(size=(2, 5))).size == 0


def test_a_type_against_the_others() -> None:
    found = against_others(np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 6.0]]))
    assert found == pytest.approx(np.array([[3.0, -3.0], [-1.5, -3.0], [-1.5, 6.0]]))


def test_overlap_of_the_top_hundred() -> None:
    change = np.arange(300.0)
    assert top_overlap(change, -change) == 1.0
    assert top_overlap(change, change[::-1]) == 0.0
    assert top_overlap(change, np.roll(change, 25)) == pytest.approx(0.75)
