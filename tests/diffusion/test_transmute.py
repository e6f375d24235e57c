"""Cells of one class as cells of another, with exact denoisers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree

from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.transmute import NOISINGS, transmute
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy

TREE = binary_tree(6, 8, separation=6.0)


def sampler_of(tree: GaussianMixtureTree, n_steps: int = 40, handover: str = "transport") -> TreeSampler:
    criterion = Fidelity(tree.moments, tree.schedule.levels, 0.3)
    hierarchy = Hierarchy.from_clades(merge_by_criterion(criterion, tree.classes), 0.03)
    return tree.sampler(hierarchy, n_steps=n_steps, handover=handover)


def cells(tree: GaussianMixtureTree, name: str, n: int) -> torch.Tensor:
    return tree.sample(name, n, np.random.default_rng(0))


def transmuted(sampler: TreeSampler, x: torch.Tensor, source: str, target: str, noising: str) -> torch.Tensor:
    return torch.cat(list(transmute(sampler, x, source, target, noising)))


@pytest.mark.parametrize("noising", NOISINGS)
@pytest.mark.parametrize("other", [1, 2, 5])
def test_cells_become_cells_of_the_other_class(noising: str, other: int) -> None:
    """Means within 4 standard errors and variances within 8 %, from near and from far classes."""
    n = 8 * BLOCK
    source, target = TREE.classes[0], TREE.classes[other]
    found = transmuted(sampler_of(TREE), cells(TREE, source, n), source, target, noising).numpy()
    variance = np.diag(TREE.moments.covariance[other])
    assert (np.abs(found.mean(axis=0) - TREE.moments.mean[other]) < 4 * np.sqrt(variance / n)).all()
    assert found.var(axis=0) / variance == pytest.approx(np.ones(len(variance)), abs=0.08)


def with_a_state() -> GaussianMixtureTree:
    """Two classes that differ in the first coordinate; the second, a state that both have, is wide in either."""
    mean = np.zeros((2, 3))
    mean[:, 0] = [-2.0, 2.0]
    covariance = np.stack([np.diag([0.2, 1.5, 0.2])] * 2)
    schedule = binary_tree(2, 3).schedule
    return GaussianMixtureTree(("a", "b"), Moments.exact(mean, covariance), np.array([0.5, 0.5]), schedule)


def test_the_flow_keeps_what_classes_have_in_common_and_fresh_noise_some_of_it() -> None:
    tree = with_a_state()
    x = cells(tree, "a", 2 * BLOCK)
    kept = {}
    for noising in NOISINGS:
        found = transmuted(sampler_of(tree), x, "a", "b", noising)
        kept[noising] = float(np.corrcoef(x[:, 1], found[:, 1])[0, 1])
        assert float(found[:, 0].mean()) == pytest.approx(2.0, abs=0.1)
    assert kept["flow"] > 0.99
    assert 0.02 < kept["fresh"] < kept["flow"] - 0.2


def test_there_and_back_again_by_the_flow() -> None:
    tree = with_a_state()
    sampler = sampler_of(tree, n_steps=200)
    x = cells(tree, "a", BLOCK)
    back = transmuted(sampler, transmuted(sampler, x, "a", "b", "flow"), "b", "a", "flow")
    assert torch.allclose(back, x, atol=0.05)


@pytest.mark.parametrize("noising", NOISINGS)
def test_a_cell_does_not_depend_on_the_number_of_cells(noising: str) -> None:
    source, target = TREE.classes[0], TREE.classes[4]
    x = cells(TREE, source, BLOCK + 7)
    sampler = sampler_of(TREE, n_steps=6)
    whole = transmuted(sampler, x, source, target, noising)
    assert whole.shape == x.shape
    assert torch.equal(transmuted(sampler, x[:3], source, target, noising), whole[:3])
    other_seed = transmuted(dataclasses.replace(sampler, seed=1), x, source, target, noising)
    assert torch.equal(other_seed, whole) == (noising == "flow")


def test_names_must_be_two_classes() -> None:
    x = cells(TREE, TREE.classes[0], 2)
    with pytest.raises(BranchgenError, match="no class is called 'T'; there are "):
        transmuted(sampler_of(TREE), x, TREE.classes[0], "T", "flow")
    with pytest.raises(BranchgenError, match="name two classes"):
        transmuted(sampler_of(TREE), x, TREE.classes[0], TREE.classes[0], "flow")
