"""The branched denoiser: heads are isolated, cells independent, preconditioning in closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from oracle import binary_tree

from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.validation import denoising_loss
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.mixtures import TiedMixture
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import torch_generator

D, N_BRANCHES = 5, 4
SHAPE = Shape(n_latent=D, n_branches=N_BRANCHES, n_hidden=16, n_blocks=2, n_head=8)
SCHEDULE = NoiseSchedule.uniform(0.02, 10.0, D)


def moments_of(mean: np.ndarray, covariance: np.ndarray) -> BranchMoments:
    n = len(mean)
    return BranchMoments(mean, covariance, np.full(n, 1 / n), tuple((i,) for i in range(n)))


def network() -> BranchedDenoiser:
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.2, 2.0, (N_BRANCHES, D))
    moments = moments_of(rng.normal(size=(N_BRANCHES, D)), np.stack([np.diag(v) for v in variance]))
    net = BranchedDenoiser(SHAPE, SCHEDULE, moments, torch_generator(0, "weights"))
    with torch.no_grad():  # heads and blocks start at zero; here they must matter
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch_generator(0, "more", len(weight))))
    return net


def test_only_the_batchs_heads_get_gradients() -> None:
    net = network()
    z = torch.randn((2, 3, D), generator=torch_generator(0))
    t = torch.rand((2, 3), generator=torch_generator(1))
    denoising_loss(net, z, t, torch.tensor([2, 0]), torch.randn(z.shape, generator=torch_generator(2))).sum().backward()
    for weight in net.heads.parameters():
        assert weight.grad is not None
        touched = weight.grad.flatten(1).abs().sum(dim=1) > 0
        assert touched.tolist() == [True, False, True, False]
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in net.blocks.parameters())


def test_a_cell_does_not_depend_on_its_neighbours_or_segment() -> None:
    net = network()
    x, t = torch.randn((3, 4, D), generator=torch_generator(0)), torch.rand((3, 4), generator=torch_generator(1))
    branch = torch.tensor([1, 3, 1])
    together = net(x, t, branch)
    other = x.clone()
    other[0, 1:] += 1
    torch.testing.assert_close(net(other, t, branch)[0, 0], together[0, 0])
    for segment in range(3):
        for row in range(4):
            alone = net(x[segment, row][None, None], t[segment, row][None, None], branch[segment : segment + 1])
            torch.testing.assert_close(alone[0, 0], together[segment, row])
    torch.testing.assert_close(net.denoiser(3)(x[1], float(t[1, 0]))[0], together[1, 0])


def test_an_untrained_network_is_the_denoiser_of_the_branchs_gaussian() -> None:
    """With F = 0, D = m + S (S + σ²)⁻¹ (x − m), correlations included."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(N_BRANCHES, D, D))
    mean, covariance = rng.normal(size=(N_BRANCHES, D)), roots @ roots.transpose(0, 2, 1)
    net = BranchedDenoiser(SHAPE, SCHEDULE, moments_of(mean, covariance), torch_generator(0))
    x = torch.randn((6, D), generator=torch_generator(1))
    for t in (0.0, 0.4, 1.0):
        noised = covariance[2] + np.diag(SCHEDULE.levels(np.array([t]))[0] ** 2)
        expected = mean[2] + (x.numpy() - mean[2]) @ np.linalg.solve(noised, covariance[2])
        np.testing.assert_allclose(net.denoiser(2)(x, t).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_an_untrained_network_knows_a_mixture_of_classes_of_one_covariance() -> None:
    """However far apart the classes are, at every branch of the tree."""
    tree = binary_tree(5, D, separation=8.0)
    common = np.broadcast_to(tree.moments.covariance[0], tree.moments.covariance.shape)
    tree = dataclasses.replace(tree, moments=Moments.exact(tree.moments.mean, common))
    criterion = Fidelity(tree.moments, tree.schedule.levels, 0.5)
    hierarchy = Hierarchy.from_clades(merge_by_criterion(criterion, tree.classes), 0.03)
    moments = tree.branch_moments(hierarchy)
    shape = Shape(**{**SHAPE.to_dict(), "n_branches": len(hierarchy.branches)})
    net = BranchedDenoiser(shape, tree.schedule, moments, torch_generator(0))
    for position, branch in enumerate(hierarchy.branches):
        for t in (branch.t_start, (branch.t_start + branch.t_end) / 2):
            z = tree.sample(branch.classes[0], 50, np.random.default_rng(0))
            x = z + tree.schedule.sigma(t, z) * torch.randn(z.shape, generator=torch_generator(1)).double()
            expected = tree.denoise(branch.classes, x, t)
            found = net.denoiser(position)(x.float(), t).detach().double()
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def test_an_untrained_network_knows_classes_that_are_mixtures_themselves() -> None:
    """Three classes, of two Gaussians, one and two, all of one covariance, at every branch of their tree."""
    tree = binary_tree(5, D, separation=8.0)
    common = tree.moments.covariance[0]
    tree = dataclasses.replace(
        tree, moments=Moments.exact(tree.moments.mean, np.broadcast_to(common, tree.moments.covariance.shape))
    )
    names, parts = ("one", "two", "three"), ([0, 1], [2], [3, 4])
    weights = np.array([tree.weights[codes].sum() for codes in parts])
    mixtures = {
        code: TiedMixture(tree.weights[codes] / weights[code], tree.moments.mean[codes], common)
        for code, codes in enumerate(parts)
        if len(codes) > 1
    }
    pooled = [tree.moments.pooled(codes, tree.weights) for codes in parts]
    wrong = Moments.exact(np.stack([mean for mean, _ in pooled]) + 1, np.stack([spread for _, spread in pooled]))
    wrong.mean[1] -= 1
    right = wrong.replaced(dict(enumerate(pooled)))
    hierarchy = Hierarchy.from_clades(merge_by_criterion(Fidelity(right, tree.schedule.levels, 0.5), names), 0.03)
    moments = BranchMoments.pooled(hierarchy, names, wrong, weights, mixtures)
    again = BranchMoments.from_state(moments.to_state())
    shape = Shape(**{**SHAPE.to_dict(), "n_branches": len(hierarchy.branches)})
    for known in (moments, again):
        net = BranchedDenoiser(shape, tree.schedule, known, torch_generator(0))
        for position, branch in enumerate(hierarchy.branches):
            codes = [code for name in branch.classes for code in parts[names.index(name)]]
            mean, covariance = tree.moments.pooled(codes, tree.weights)
            np.testing.assert_allclose(known.mean[position], mean)
            np.testing.assert_allclose(known.covariance[position], covariance)
            members = [tree.classes[code] for code in codes]
            for t in (branch.t_start, (branch.t_start + branch.t_end) / 2):
                z = torch.cat([tree.sample(name, 20, np.random.default_rng(0)) for name in members])
                x = z + tree.schedule.sigma(t, z) * torch.randn(z.shape, generator=torch_generator(1)).double()
                found = net.denoiser(position)(x.float(), t).detach().double()
                torch.testing.assert_close(found, tree.denoise(members, x, t), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_the_targets_of_a_gaussian_have_unit_loss(t: float) -> None:
    """E (z − D)² / c_out² = 1 for every noise level where D is the linear denoiser."""
    root = np.random.default_rng(0).normal(size=(D, D))
    moments = moments_of(np.zeros((1, D)), (root @ root.T)[None])
    net = BranchedDenoiser(Shape(**{**SHAPE.to_dict(), "n_branches": 1}), SCHEDULE, moments, torch_generator(0))
    z = torch.randn((1, 40_000, D), generator=torch_generator(1)) @ torch.from_numpy(root.T).float()
    loss = denoising_loss(
        net, z, torch.full((1, 40_000), t), torch.tensor([0]), torch.randn(z.shape, generator=torch_generator(2))
    )
    assert float(loss.mean().detach()) == pytest.approx(1, abs=0.02)


def test_weights_come_from_the_generator() -> None:
    moments = moments_of(np.zeros((4, D)), np.stack([np.eye(D)] * 4))
    one, two, other = (BranchedDenoiser(SHAPE, SCHEDULE, moments, torch_generator(s)) for s in (0, 0, 1))
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.std() == 0 or not torch.equal(a, c) or not a.any() or bool((a == 1).all())
    assert not torch.equal(one.enter.weight, other.enter.weight)
