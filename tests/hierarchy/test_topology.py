"""Trees from expression profiles: simulated ones come back, whatever the abundances and the order of the classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.derive import derive
from branchgen.hierarchy.parts import Parts
from branchgen.hierarchy.topology import consensus, joined, profile_distances, tree_of_distances
from branchgen.hierarchy.tree import Clade

N_GENES = 1000
N_TREES = 40


def leaf(name: str) -> Clade:
    return Clade(classes=(name,), name=name)


def clades_of(tree: Clade) -> set[frozenset[str]]:
    return {frozenset(clade.classes) for clade in tree.walk() if clade.children}


def simulated(rng: np.random.Generator, n_classes: int) -> tuple[Clade, np.ndarray]:
    """A random tree, balanced or not, and log profiles (n_classes, n_genes) that drift apart along it.

    Branch points are spread over (0, 1), the largest branch at the last one; classes are at time 1.
    """
    tree = leaf("?")
    nodes: list[tuple[frozenset[int], float]] = [(frozenset(range(n_classes)), 0.0)]
    profile = rng.normal(0, 1.5, N_GENES) + np.zeros((n_classes, 1))
    clades: list[frozenset[int]] = []
    times = (np.arange(n_classes - 1) + 0.5) / n_classes
    for time in times:
        splittable = [i for i, (members, _) in enumerate(nodes) if len(members) > 1]
        members, begun = nodes.pop(int(rng.choice(splittable)))
        profile[list(members)] += rng.normal(0, np.sqrt(time - begun), N_GENES)
        clades.append(members)
        shuffled = rng.permutation(sorted(members))
        cut = int(rng.integers(1, len(members)))
        nodes += [(frozenset(part.tolist()), float(time)) for part in (shuffled[:cut], shuffled[cut:])]
    for members, begun in nodes:
        profile[list(members)] += rng.normal(0, np.sqrt(1 - begun), N_GENES)

    def build(group: frozenset[int]) -> Clade:
        if len(group) == 1:
            return leaf(name_of(next(iter(group))))
        inside = [clade for clade in clades if clade < group] + [frozenset([code]) for code in group]
        largest = [part for part in inside if not any(part < other for other in inside)]
        return joined([build(part) for part in largest], 0.0)

    tree = build(frozenset(range(n_classes)))
    return tree, profile


def name_of(code: int) -> str:
    return f"type {code:02d}"


def cells_of(
    profile: np.ndarray, n_cells: np.ndarray, rng: np.random.Generator
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Shares of negative-binomial counts of about 1,500 a cell, and codes."""
    codes = np.repeat(np.arange(len(profile)), n_cells)
    fractions = np.exp(0.5 * profile)
    fractions /= fractions.sum(axis=1, keepdims=True)
    rate = rng.lognormal(np.log(1500), 0.4, len(codes))[:, None] * fractions[codes]
    counts = sparse.csr_matrix(rng.poisson(rng.gamma(2.0, rate / 2.0)).astype(float))
    return sparse.csr_matrix(sparse.diags_array(1 / np.asarray(counts.sum(axis=1)).ravel()) @ counts), codes


def parts_of(shares: sparse.csr_matrix, codes: np.ndarray) -> Parts:
    """Cells that have shares and nothing else."""
    nothing = np.zeros((len(codes), 1))
    return Parts.of_cells(nothing, nothing, codes, np.random.default_rng(3), shares)


def found(shares: sparse.csr_matrix, codes: np.ndarray, names: list[str]) -> Clade:
    return tree_of_distances(profile_distances(parts_of(shares, codes), np.random.default_rng(0)), names)


def test_simulated_trees_of_uneven_classes_come_back() -> None:
    """With 8 to 16 classes, one of them of 1 % of the cells: nine trees in ten are exact (of 100, 92)."""
    exact = 0
    for seed in range(N_TREES):
        rng = np.random.default_rng(seed)
        n_classes = int(rng.integers(8, 17))
        tree, profile = simulated(rng, n_classes)
        n_cells = rng.integers(40, 200, n_classes)
        n_cells[rng.integers(n_classes)] = max(10, n_cells.sum() // 100)
        names = [name_of(code) for code in range(n_classes)]
        exact += clades_of(found(*cells_of(profile, n_cells, rng), names)) == clades_of(tree)
    assert exact >= 0.85 * N_TREES


def test_order_of_the_classes_does_not_matter() -> None:
    distances = np.abs(np.random.default_rng(0).normal(size=(10, 10)))
    distances += distances.T
    np.fill_diagonal(distances, 0)
    names, order = [name_of(code) for code in range(10)], np.random.default_rng(1).permutation(10)
    shuffled = tree_of_distances(distances[np.ix_(order, order)], [names[code] for code in order])
    assert shuffled == tree_of_distances(distances, names)


def test_few_cells_are_no_distance() -> None:
    """Distances between profiles are those of the true ones, on the mean, whatever the numbers of cells."""
    _, profile = simulated(np.random.default_rng(0), 4)
    true = np.exp(0.5 * profile) / np.exp(0.5 * profile).sum(axis=1, keepdims=True)
    expected = 1 - np.corrcoef(np.log1p(1e5 * true))
    for n_cells in ([400, 400, 400, 400], [400, 400, 400, 12]):
        drawn = [cells_of(profile, np.array(n_cells), np.random.default_rng(seed)) for seed in range(5)]
        means = np.mean([profile_distances(parts_of(*cells), np.random.default_rng(0)) for cells in drawn], axis=0)
        np.testing.assert_allclose(means, expected, atol=0.05)


def test_the_only_cell_of_a_class_is_in_both_halves() -> None:
    shares = sparse.csr_matrix([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.0, 0.2, 0.8]])
    for resample in (False, True):
        distances = profile_distances(
            parts_of(shares, np.array([0, 0, 1])), np.random.default_rng(0), resample=resample
        )
        assert np.isfinite(distances).all()
        assert distances[0, 1] > 0.5


@pytest.mark.parametrize("n_classes", [1, 2])
def test_few_classes_have_one_tree(n_classes: int) -> None:
    names = [name_of(code) for code in range(n_classes)]
    tree = tree_of_distances(1 - np.eye(n_classes), names)
    assert tree.classes == tuple(names)
    assert len(tree.children) == (n_classes if n_classes > 1 else 0)


def test_consensus_drops_what_was_not_found_and_keeps_what_is_below_it() -> None:
    ab = joined([leaf("a"), leaf("b")], 0.1)
    abc = joined([ab, leaf("c")], 0.2)
    tree = joined([abc, joined([leaf("d"), leaf("e")], 0.1)], 0.3)
    whole = [frozenset(clade.classes) for clade in tree.walk()]
    assert consensus(tree, whole) == tree
    without = consensus(tree, [group for group in whole if group != {"a", "b", "c"}])
    assert clades_of(without) == {frozenset("abcde"), frozenset("ab"), frozenset("de")}
    assert [child.classes for child in without.children] == [("a", "b"), ("c",), ("d", "e")]
    assert clades_of(consensus(tree, [])) == {frozenset("abcde")}


def test_a_class_without_a_profile_is_far_from_all_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """Two cells that share no gene, one in each half: their correlation is below zero."""
    rng = np.random.default_rng(0)
    profile = rng.normal(0, 2, 30) + np.repeat(rng.normal(0, 1, (2, 30)), 2, axis=0) + rng.normal(0, 0.3, (4, 30))
    shares, codes = cells_of(profile, np.array([40, 40, 40, 40]), rng)
    strange = sparse.csr_matrix(np.repeat(np.eye(2), 15, axis=1) / 15)
    shares, codes = sparse.csr_matrix(sparse.vstack([shares, strange])), np.append(codes, [4, 4])
    distances = profile_distances(parts_of(shares, codes), np.random.default_rng(0))
    assert np.isnan(distances[4]).all()
    assert np.isfinite(distances[:4, :4]).all()
    assert clades_of(found(shares, codes, list("abcde"))) >= {frozenset("ab"), frozenset("cd"), frozenset("abcd")}

    latents = np.repeat(rng.normal(size=(5, 3)), [40, 40, 40, 40, 2], axis=0) + 0.1 * rng.normal(size=(162, 3))
    derive(
        Parts.of_cells(latents, np.full_like(latents, 0.1), codes, np.random.default_rng(0), shares),
        list("abcde"),
        sigma=NoiseSchedule.uniform(0.1, 10.0, 3).levels,
        criterion="fidelity",
        epsilon=0.5,
        max_evaluations=1.0,
        min_branch_span=0.01,
        shrinkage=3.0,
        n_bootstrap=0,
        rng=np.random.default_rng(0),
    )
    assert [record.getMessage()[:37] for record in caplog.records] == ["class e has no profile of its own, tw"]
