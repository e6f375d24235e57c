"""Correlations between genes: exact values, what a generator of independent genes misses, and the table's order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.analysis.correlation import (
    N_CORRELATED,
    clustered,
    compare_correlations,
    correlated_genes,
    correlation_table,
    correlations,
    pairs,
)
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells

RNG = np.random.default_rng(0)


def two_programs(n_cells: int) -> np.ndarray:
    """Twelve genes, alternately of one program and of another."""
    programs = RNG.normal(size=(n_cells, 2))
    return np.tile(programs, 6) + 0.5 * RNG.normal(size=(n_cells, 12))


def test_correlations_are_pearsons_and_constant_genes_have_none() -> None:
    expression = two_programs(50)
    expression[:, 3] = 2.5
    found = correlations(expression)
    others = np.delete(np.arange(12), 3)
    assert found[np.ix_(others, others)] == pytest.approx(np.corrcoef(expression[:, others], rowvar=False))
    assert not found[3].any()
    assert not found[:, 3].any()


def test_independent_genes_lose_the_correlations_that_other_real_cells_have() -> None:
    real, other = two_programs(400), two_programs(400)
    independent = np.column_stack([RNG.permutation(gene) for gene in other.T])
    floor, fake = (compare_correlations(correlations(real), correlations(cells)) for cells in (other, independent))
    assert floor["correlation_error"] < 0.05
    assert floor["correlation_agreement"] > 0.98
    # Half of the pairs share a program, with a correlation of 1 / 1.25; all of it is lost.
    assert fake["correlation_error"] == pytest.approx(30 / 66 * 0.8, abs=0.06)
    assert abs(fake["correlation_agreement"]) < 0.3


def test_equal_correlations_have_no_error_and_equal_ones_on_a_side_no_agreement() -> None:
    found = correlations(two_programs(30))
    assert compare_correlations(found, found) == pytest.approx({"correlation_error": 0.0, "correlation_agreement": 1.0})
    none = compare_correlations(found, np.eye(12))
    assert none["correlation_error"] == pytest.approx(np.abs(pairs(found)).mean())
    assert np.isnan(none["correlation_agreement"])


def test_the_table_has_every_pair_once_per_source_in_the_order_of_a_clustering() -> None:
    real, other = (correlations(two_programs(300)) for _ in range(2))
    genes = np.array([f"gene_{i}" for i in range(12)])
    order = clustered(real)
    assert {frozenset(order[:6] % 2), frozenset(order[6:] % 2)} == {frozenset({0}), frozenset({1})}
    table = correlation_table("B", 300, genes, {"test": real, "branchgen": other})
    assert len(table) == 2 * 66
    assert table["gene_a"].unique().tolist() == genes[order][:-1].tolist()
    for source, matrix in (("test", real), ("branchgen", other)):
        part = table[table["source"] == source]
        expected = [matrix[int(a[5:]), int(b[5:])] for a, b in zip(part["gene_a"], part["gene_b"], strict=True)]
        assert part["correlation"].to_numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_genes_of_a_type_are_those_that_it_expresses_most() -> None:
    n_genes = N_CORRELATED + 60
    mean = RNG.permutation(np.linspace(1, 20, n_genes))
    counts = np.concatenate([RNG.poisson(1000 * mean, (4, n_genes)), np.ones((3, n_genes))])
    reference = Reference(
        variable=np.arange(10, n_genes), components=np.eye(n_genes), offset=np.zeros(n_genes), bandwidth=1.0
    )
    ref = Cells(counts=sparse.csr_matrix(counts.astype(np.int32)), types=np.repeat(["B", "T"], [4, 3]))
    found = correlated_genes(ref, reference, ["B", "NK"])
    assert list(found) == ["B"]  # ref has no NK
    assert len(found["B"]) == N_CORRELATED
    kept = mean[10:][found["B"]]
    assert kept.min() > 0.97 * np.sort(mean[10:])[-N_CORRELATED]
