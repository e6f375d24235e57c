"""The negative binomial that a generator must beat fits and draws what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.analysis.baselines import NegativeBinomial, draw_types, fit_negative_binomial

TRUTH = NegativeBinomial(
    rate=np.array([0.4, 0.3, 0.2, 0.1]), overdispersion=np.array([0.0, 0.1, 0.5, 2.0]), log_size=5.0, log_size_sd=0.3
)


def test_drawn_counts_have_the_moments_of_the_parameters() -> None:
    counts = TRUTH.draw(60_000, np.random.default_rng(0)).toarray().astype(float)
    size_mean, size_square = np.exp(5.0 + 0.3**2 / 2), np.exp(2 * 5.0 + 2 * 0.3**2)
    mean = TRUTH.rate * size_mean
    # Var x = E[μ + α μ²] + Var μ with μ = s · rate.
    square = TRUTH.rate**2 * size_square
    variance = mean + TRUTH.overdispersion * square + square - mean**2
    assert counts.mean(axis=0) == pytest.approx(mean, rel=0.02)
    assert counts.var(axis=0) == pytest.approx(variance, rel=0.05)


def test_fit_recovers_the_parameters() -> None:
    found = fit_negative_binomial(TRUTH.draw(60_000, np.random.default_rng(1)))
    assert found.rate == pytest.approx(TRUTH.rate, rel=0.03)
    assert found.log_size == pytest.approx(
        np.log(TRUTH.draw(60_000, np.random.default_rng(2)).sum(axis=1)).mean(), abs=0.02
    )


def test_fit_recovers_the_overdispersion_of_many_genes() -> None:
    # With many genes the library size is no longer made by the gene itself.
    truth = NegativeBinomial(
        rate=np.full(200, 1 / 200), overdispersion=np.repeat([0.0, 0.5], 100), log_size=6.0, log_size_sd=0.3
    )
    found = fit_negative_binomial(truth.draw(20_000, np.random.default_rng(0)))
    assert found.overdispersion[100:].mean() == pytest.approx(0.5, rel=0.03)
    assert found.overdispersion[:100].mean() < 0.02
    assert (found.overdispersion >= 0).all()


def test_genes_and_cells_without_counts_are_no_obstacle() -> None:
    counts = sparse.csr_matrix(np.array([[0, 3, 0], [0, 0, 0], [1, 5, 0]]))
    found = fit_negative_binomial(counts)
    drawn = found.draw(50, np.random.default_rng(0))
    assert np.isfinite([*found.rate, *found.overdispersion, found.log_size, found.log_size_sd]).all()
    assert drawn.dtype == np.int32
    assert not drawn[:, 2].nnz


def test_cells_of_a_type_depend_on_its_own_generator_alone() -> None:
    counts = TRUTH.draw(60, np.random.default_rng(0))
    types = np.repeat(["a", "b", "c"], 20)

    def rngs() -> dict[str, np.random.Generator]:
        return {name: np.random.default_rng(number) for number, name in enumerate("abcd")}

    some, labels = draw_types(counts, types, {"b": 7, "c": 0, "d": 5}, rngs())
    assert labels.tolist() == ["b"] * 7  # of type d there is nothing to fit
    more, more_labels = draw_types(counts, types, {"a": 3, "b": 7}, rngs())
    assert (some != more[more_labels == "b"]).nnz == 0
