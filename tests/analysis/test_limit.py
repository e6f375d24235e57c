"""Errors of estimation: as large as those of repeated experiments, and seen by a classifier as fitted models are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.analysis.baselines import NegativeBinomial
from branchgen.analysis.classifiers import penalised_logistic, tell_apart
from branchgen.analysis.limit import relative_errors, with_errors

TRUTH = NegativeBinomial(
    rate=np.array([0.4, 0.3, 0.2, 0.1]) / 50,
    overdispersion=np.array([0.0, 0.1, 0.5, 2.0]),
    log_size=7.0,
    log_size_sd=0.3,
)
"""Four of many genes: the library sizes are hardly made by them."""


def drawn(n_cells: int, seed: int, truth: NegativeBinomial = TRUTH) -> sparse.csr_matrix:
    """Counts of the genes and, as one more, of all others."""
    counts = truth.draw(n_cells, np.random.default_rng(seed))
    others = np.random.default_rng(seed + 1000).poisson(1000, n_cells)
    return sparse.csr_matrix(sparse.hstack([counts, sparse.csr_matrix(others[:, None])], format="csr"))


def test_errors_are_the_spread_of_means_over_repeated_experiments() -> None:
    experiments = [drawn(100, seed) for seed in range(400)]
    means = np.array([np.asarray(counts.sum(axis=0)).ravel() / counts.sum() for counts in experiments])
    spread = means.std(axis=0) / means.mean(axis=0)
    said = np.mean([relative_errors(counts, np.repeat("a", 100)) for counts in experiments], axis=0)
    # The last gene makes most of the library size and so is hardly in error.
    assert said[:4] == pytest.approx(spread[:4], rel=0.12)


def test_differences_between_types_are_no_errors() -> None:
    a, b = drawn(300, 0), drawn(300, 1)
    b = sparse.csr_matrix(b[:, [3, 2, 1, 0, 4]])
    both = sparse.csr_matrix(sparse.vstack([a, b], format="csr"))
    within = relative_errors(both, np.repeat(["a", "b"], 300))
    assert (within < relative_errors(both, np.repeat("a", 600)))[:4].all()


def test_genes_without_counts_have_no_error() -> None:
    counts = sparse.csr_matrix([[0, 3], [0, 5], [0, 9]])
    assert relative_errors(counts, np.repeat("a", 3)).tolist() == [0, pytest.approx(0)]


def test_one_factor_per_gene_in_all_cells() -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson([4.0, 40.0, 400.0], (20_000, 3)))
    changed = with_errors(counts, np.array([0.0, 0.2, 0.2]), np.random.default_rng(1))
    assert (changed[:, 0] != counts[:, 0]).nnz == 0
    assert changed.dtype == counts.dtype
    factors = np.asarray(changed.mean(axis=0) / counts.mean(axis=0)).ravel()[1:]
    assert (np.abs(factors - 1) > 0.01).all()
    # The same factor everywhere: what is left of every cell is the rounding.
    left = np.abs(changed.toarray()[:, 1:] - factors * counts.toarray()[:, 1:])
    assert left.max() < 1.1


def test_factors_have_the_spread_of_the_errors() -> None:
    counts = sparse.csr_matrix(np.full((50, 2000), 1000))
    factors = with_errors(counts, np.full(2000, 0.3), np.random.default_rng(0)).mean(axis=0) / 1000
    assert factors.mean() == pytest.approx(1, abs=0.02)
    assert factors.std() == pytest.approx(0.3, rel=0.1)


def test_fewer_training_cells_are_seen_more() -> None:
    """As ideal classifiers of n_genes independent genes: Φ(√(n_genes / n) / √2), here .84, .69 and .56."""
    truth = NegativeBinomial(rate=np.full(200, 1 / 200), overdispersion=np.zeros(200), log_size=9.0, log_size_sd=0.0)
    cells, other = (truth.draw(3000, np.random.default_rng(seed)) for seed in (0, 1))
    areas = []
    for n_train in (100, 400, 4000):
        errors = relative_errors(truth.draw(n_train, np.random.default_rng(2)), np.repeat("a", n_train))
        wrong = with_errors(other, errors, np.random.default_rng(3))
        sides = [np.log1p(counts.toarray()) for counts in (cells, wrong)]
        areas.append(tell_apart(penalised_logistic, *sides, np.random.default_rng(4)).auc)
    assert areas == pytest.approx([0.84, 0.69, 0.56], abs=0.05)
