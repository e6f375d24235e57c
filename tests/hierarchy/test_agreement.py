"""Agreement of trees against what can be counted by hand, and simulated trees that have the times they are to have."""

import math

import numpy as np
import pytest

from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.agreement import restricted, robinson_foulds, time_agreement, triplet_agreement
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.derive import timed
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.simulate import EARLIEST, GAP, LATEST, POSTERIOR, RARE, WITHIN, random_tree, simulate
from branchgen.hierarchy.topology import joined
from branchgen.hierarchy.tree import Clade

A, B, C, D = (Clade(classes=(name,), name=name) for name in "ABCD")
PAIRS = joined([joined([A, B], 0.2), joined([C, D], 0.3)], 0.6)
COMB = joined([joined([joined([A, B], 0.2), C], 0.4), D], 0.6)
STAR = joined([A, B, C, D], 0.6)


def test_triplets_by_hand() -> None:
    """Of four triplets, a comb agrees with two pairs in ABC and ABD; a star resolves none."""
    assert triplet_agreement(PAIRS, PAIRS) == 1
    assert triplet_agreement(PAIRS, COMB) == 0.5
    assert triplet_agreement(PAIRS, STAR) == 0
    assert math.isnan(triplet_agreement(STAR, PAIRS))


def test_a_tree_of_more_classes_is_judged_by_those_that_are_known() -> None:
    assert triplet_agreement(joined([joined([A, B], 0.1), C], 0.5), PAIRS) == 1


def test_a_tree_of_some_classes_keeps_what_it_says_of_them() -> None:
    assert restricted(COMB, {"A", "C", "D"}) == joined([joined([A, C], 0.4), D], 0.6)
    assert restricted(PAIRS, {"A", "B"}) == joined([A, B], 0.2)
    assert restricted(PAIRS, {"A", "C", "elsewhere"}) == joined([A, C], 0.6)
    assert restricted(COMB, {"C"}) == C
    assert restricted(COMB, set("ABCD")) == COMB


def test_robinson_foulds_by_hand() -> None:
    """AB and CD against AB and ABC: two of four clades differ."""
    assert robinson_foulds(PAIRS, PAIRS) == 0
    assert robinson_foulds(PAIRS, COMB) == 0.5
    assert robinson_foulds(PAIRS, STAR) == 1


def test_times_are_compared_by_rank_where_both_trees_have_the_clade() -> None:
    other = joined([joined([A, B], 0.1), joined([C, D], 0.7)], 0.9)
    assert time_agreement(PAIRS, other) == pytest.approx(1)
    swapped = joined([joined([A, B], 0.8), joined([C, D], 0.7)], 0.9)
    assert time_agreement(PAIRS, swapped) == pytest.approx(0.5)
    assert math.isnan(time_agreement(PAIRS, COMB))


def test_random_trees_have_every_shape_and_branch_points_in_order() -> None:
    depths = set()
    for seed in range(30):
        tree = random_tree(8, np.random.default_rng(seed))
        assert sorted(tree.classes) == [f"type {name}" for name in "ABCDEFGH"]
        times = sorted(clade.time for clade in tree.walk() if clade.children)
        assert len(times) == 7
        assert np.diff(times).min() > 0
        assert times[0] > EARLIEST - GAP
        assert times[-1] < LATEST + GAP
        for clade in tree.walk():
            assert all(child.time < clade.time for child in clade.children)
        depths.add(max(sum(name in clade.classes for clade in tree.walk()) for name in tree.classes))
    assert min(depths) <= 5
    assert max(depths) == 8


def test_two_simulated_classes_part_at_their_time() -> None:
    schedule = NoiseSchedule.uniform(0.1, 10.0, 8)
    for time in (0.3, 0.5, 0.7):
        tree = joined([A, B], time)
        rng = np.random.default_rng(0)
        cells = simulate(tree, schedule.levels, n_cells=8000, n_genes=20, n_latent=8, n_counts=50, rng=rng)
        mean = np.stack([cells.latents[cells.codes == code].mean(axis=0) for code in (0, 1)])
        exact = Moments.exact(mean, np.stack([(WITHIN**2 + POSTERIOR**2) * np.eye(8)] * 2))
        found = timed(Fidelity(exact, schedule.levels, 0.5), tree, {"A": 0, "B": 1}).time
        assert found == pytest.approx(time, abs=0.03)
        assert (cells.codes == 0).mean() == pytest.approx(RARE, rel=0.1)
        np.testing.assert_allclose(cells.shares.sum(axis=1), 1)
