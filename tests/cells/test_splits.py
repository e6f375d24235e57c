"""Splits: shares as asked, no class left out, groups kept together, the same for a seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from branchgen.cells.splits import FRACTIONS, assignment_cost, grouped_split, split_sizes, stratified_split
from branchgen.errors import BranchgenError

SHARES = np.array(FRACTIONS)


def test_sizes_are_within_one_cell_of_the_shares_once_each_split_is_due_one() -> None:
    for n_cells in range(10, 500):
        sizes = split_sizes(n_cells)
        assert sizes.sum() == n_cells
        assert (np.abs(sizes - SHARES * n_cells) < 1).all()


def test_sizes_leave_no_split_of_a_small_class_empty() -> None:
    for n_cells in range(4, 10):
        sizes = split_sizes(n_cells)
        assert sizes.sum() == n_cells
        assert sizes.min() >= 1
    assert split_sizes(20).tolist() == [12, 2, 3, 3]


def test_stratified_split_gives_every_class_its_shares() -> None:
    codes = np.repeat([0, 1, 2], [200, 40, 5])
    names = [f"cell {number}" for number in range(len(codes))]
    splits = stratified_split(codes, names, np.random.default_rng(0))
    for code, size in enumerate([200, 40, 5]):
        assert np.bincount(splits[codes == code], minlength=4).tolist() == split_sizes(size).tolist()


def test_stratified_split_depends_on_names_not_on_the_order_of_cells() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(3, size=120)
    names = np.array([f"cell {number}" for number in range(len(codes))])
    order = rng.permutation(len(codes))
    splits = stratified_split(codes, list(names), np.random.default_rng(7))
    shuffled = stratified_split(codes[order], list(names[order]), np.random.default_rng(7))
    np.testing.assert_array_equal(splits[order], shuffled)
    other = stratified_split(codes, list(names), np.random.default_rng(8))
    assert (splits != other).any()


def table_of_groups(n_groups: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and group of the cells of groups with very different sizes and compositions."""
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(3.5, 0.8, n_groups).astype(int) + 5
    codes = [rng.choice(n_classes, size=size, p=rng.dirichlet(np.ones(n_classes))) for size in sizes]
    groups = np.repeat([f"donor {number}" for number in range(n_groups)], sizes).astype(object)
    return np.concatenate(codes), groups


@pytest.mark.parametrize(("n_groups", "seed"), [(4, 0), (5, 1), (6, 2), (7, 3)])
def test_grouped_split_finds_the_best_of_all_assignments(n_groups: int, seed: int) -> None:
    codes, groups = table_of_groups(n_groups, 3, seed)
    splits = grouped_split(codes, groups, "donor", np.random.default_rng(0))
    names, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((n_groups, 4))
    np.add.at(counts, (members, codes), 1)
    counts[:, -1] = counts[:, :-1].sum(axis=1)
    shares = counts / counts.sum(axis=0)
    assignments = itertools.product(range(4), repeat=n_groups)
    best = min(assignment_cost(shares, np.array(assignment)) for assignment in assignments)
    found = np.array([splits[groups == name][0] for name in names])
    assert assignment_cost(shares, found) == pytest.approx(best)


def test_grouped_split_keeps_groups_together_and_every_class_in_every_split() -> None:
    codes, groups = table_of_groups(40, 5, seed=4)
    splits = grouped_split(codes, groups, "donor", np.random.default_rng(0))
    for name in np.unique(groups):
        assert len(set(splits[groups == name])) == 1
    for code in range(5):
        share = np.bincount(splits[codes == code], minlength=4) / (codes == code).sum()
        assert (share > 0).all()
        assert np.abs(share - SHARES).max() < 0.05


def test_grouped_split_puts_a_class_of_a_single_group_into_train() -> None:
    groups = np.repeat(np.array(list("abcdef"), dtype=object), 20)
    codes = np.zeros(120, dtype=np.int64)
    codes[:4] = 1
    splits = grouped_split(codes, groups, "donor", np.random.default_rng(0))
    assert (splits[:20] == 0).all()
    assert sorted(set(splits)) == [0, 1, 2, 3]


def test_grouped_split_does_not_depend_on_the_order_of_cells() -> None:
    codes, groups = table_of_groups(12, 3, seed=5)
    order = np.random.default_rng(1).permutation(len(codes))
    splits = grouped_split(codes, groups, "donor", np.random.default_rng(2))
    np.testing.assert_array_equal(
        grouped_split(codes[order], groups[order], "donor", np.random.default_rng(2)), splits[order]
    )


def test_too_few_groups_are_refused_with_their_names() -> None:
    groups = np.array(["a", "b", "c"] * 10, dtype=object)
    with pytest.raises(
        BranchgenError, match=r"obs\['donor'\] has 3 different values \(a, b, c\) but there are 4 splits"
    ):
        grouped_split(np.zeros(30, dtype=np.int64), groups, "donor", np.random.default_rng(0))
