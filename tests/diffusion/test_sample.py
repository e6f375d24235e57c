"""The tree recursion with exact denoisers, and what it must not depend on."""

import dataclasses

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree

from branchgen.diffusion.blocks import BLOCK, SEGMENT, Shard, allocate
from branchgen.diffusion.handover import levels_at, start
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import descend, n_evaluations, sample_blocks
from branchgen.diffusion.sampler import TreeSampler, branch_times
from branchgen.diffusion.solvers import SOLVERS, Denoise, Process, langevin
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Clade, Hierarchy


def sampler_of(tree: GaussianMixtureTree, hierarchy: Hierarchy, handover: str, solver: str = "dpmpp_2m") -> TreeSampler:
    return tree.sampler(hierarchy, solver=solver, handover=handover)


def derived(tree: GaussianMixtureTree, epsilon: float) -> Hierarchy:
    criterion = Fidelity(tree.moments, tree.schedule.levels, epsilon)
    return Hierarchy.from_clades(merge_by_criterion(criterion, tree.classes), 0.03)


def samples(sampler: TreeSampler, n_cells: dict[str, int]) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for name, _, latents, wanted in sample_blocks(sampler, n_cells):
        parts.setdefault(name, []).append(latents[:wanted].numpy())
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def errors(tree: GaussianMixtureTree, hierarchy: Hierarchy, handover: str, n: int) -> tuple[float, float, float]:
    """Largest error of a class mean in standard errors, smallest and largest variance ratio over classes."""
    found = samples(sampler_of(tree, hierarchy, handover), dict.fromkeys(tree.classes, n))
    deviations, ratios = [], []
    for code, name in enumerate(tree.classes):
        variance = np.diag(tree.moments.covariance[code])
        deviations.append(np.abs(found[name].mean(axis=0) - tree.moments.mean[code]) / np.sqrt(variance / n))
        ratios.append(found[name].var(axis=0) / variance)
    return float(np.max(deviations)), float(np.min(ratios)), float(np.max(ratios))


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
def test_exact_denoisers_give_every_class_its_moments(epsilon: float) -> None:
    """12 leaves in 20 dimensions, 10 steps, derived times: 240 means within 4 standard errors, variances within 5 %."""
    tree = binary_tree(12, 20, separation=5.0)
    deviation, low, high = errors(tree, derived(tree, epsilon), "transport", 64 * BLOCK)
    assert deviation < 4
    assert low > 0.95
    assert high < 1.05


def shape_ratio(tree: GaussianMixtureTree, hierarchy: Hierarchy, handover: str) -> float:
    """Variance of the squared Mahalanobis distance over that of a Gaussian, 2 d; mean over classes."""
    found = samples(sampler_of(tree, hierarchy, handover), dict.fromkeys(tree.classes, 4 * BLOCK))
    ratios = []
    for code, name in enumerate(tree.classes):
        apart = found[name] - tree.moments.mean[code]
        distance = (apart @ np.linalg.inv(tree.moments.covariance[code]) * apart).sum(axis=1)
        ratios.append(distance.var() / (2 * apart.shape[1]))
    return float(np.mean(ratios))


def test_transport_keeps_the_shape_of_a_class_where_two_moments_are_not_enough() -> None:
    """Well apart, the shared branch is far from Gaussian: the linear map leaves its modes inside every class."""
    tree = binary_tree(12, 20, separation=10.0)
    hierarchy = derived(tree, 1.0)
    assert abs(shape_ratio(tree, hierarchy, "transport") - 1) < 0.03
    assert shape_ratio(tree, hierarchy, "linear") < 0.95


def test_identity_fails_the_same_check_when_branches_part_too_early() -> None:
    """At a budget of 3 nats a sample that enters its child as it is lands elsewhere; transport carries it over."""
    tree = binary_tree(12, 20, separation=5.0)
    deviation, _, high = errors(tree, derived(tree, 3.0), "identity", 2 * BLOCK)
    assert deviation > 10
    assert high > 1.5


def test_grids_end_on_branch_points() -> None:
    hierarchy = derived(binary_tree(12, 20, separation=5.0), 1.0)
    for branch in hierarchy.branches:
        times = branch_times(branch, 20)
        assert times[0] == branch.t_end and times[-1] == branch.t_start
        assert np.all(np.diff(times) < 0)
    for name in hierarchy.classes:
        steps = sum(len(branch_times(branch, 20)) - 1 for branch in hierarchy.path(name))
        assert 18 <= steps <= 24


@pytest.mark.parametrize("solver", ["dpmpp_2m", "sde"])
def test_cells_do_not_depend_on_what_else_is_sampled(solver: str) -> None:
    tree = binary_tree(5, 4)
    sampler = sampler_of(tree, derived(tree, 1.0), "transport", solver)
    everything = samples(sampler, dict.fromkeys(tree.classes, BLOCK + 40))
    for name in tree.classes:
        alone = samples(sampler, {name: 30})[name]
        assert np.array_equal(alone, everything[name][:30])
    tail = samples(sampler, {tree.classes[0]: BLOCK + 7})[tree.classes[0]]
    assert np.array_equal(tail, everything[tree.classes[0]][: BLOCK + 7])


def with_a_network(tree: GaussianMixtureTree, hierarchy: Hierarchy) -> TreeSampler:
    """In single precision, with layers as wide as real ones; what it has learned is noise."""
    shape = Shape(
        n_latent=tree.moments.mean.shape[1], n_branches=len(hierarchy.branches), n_hidden=256, n_blocks=3, n_head=64
    )
    generator = torch.Generator().manual_seed(0)
    network = BranchedDenoiser(shape, tree.schedule, tree.branch_moments(hierarchy), generator)
    network.requires_grad_(requires_grad=False)
    for weight in network.parameters():
        weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return dataclasses.replace(
        sampler_of(tree, hierarchy, "transport"),
        denoiser_of=lambda name: network.denoiser(hierarchy.index[name]),
        mixture_of=lambda name: network.mixture_of(hierarchy.index[name]),
        like=network.mean,
    )


@pytest.mark.parametrize("ancestors", ["shared", "independent"])
def test_a_cell_is_the_same_whatever_goes_through_the_network_with_it(ancestors: str) -> None:
    """Segments of other branches, and how full a pack is, leave no trace in single precision either."""
    tree = binary_tree(9, 13)
    sampler = with_a_network(tree, derived(tree, 1.0))

    def latents(n_cells: dict[str, int], shard: Shard | None = None) -> dict[str, torch.Tensor]:
        found: dict[str, list[torch.Tensor]] = {}
        for name, _, x, wanted in sample_blocks(sampler, n_cells, ancestors, shard):
            found.setdefault(name, []).append(x[:wanted])
        return {name: torch.cat(parts) for name, parts in found.items()}

    rng = np.random.default_rng(0)
    wanted = {name: int(n) for name, n in zip(tree.classes, rng.integers(1, BLOCK + 200, 9), strict=True)}
    whole = latents(wanted)
    assert {name: len(x) for name, x in whole.items()} == wanted
    for name in tree.classes:
        assert torch.equal(latents({name: 70})[name][: wanted[name]], whole[name][:70])
    some = {name: int(rng.integers(1, wanted[name] + 1)) for name in tree.classes[::2]}
    assert all(torch.equal(x, whole[name][: len(x)]) for name, x in latents(some).items())
    shards = [latents(wanted, Shard(number=number, n_shards=2)) for number in (1, 2)]
    for name in tree.classes:
        assert torch.equal(torch.cat([part[name] for part in shards if name in part]), whole[name])


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_as_many_as_are_made(solver: str) -> None:
    tree = binary_tree(4, 3, separation=5.0)
    hierarchy = derived(tree, 1.0)
    made = 0

    def counted(name: str) -> Denoise:
        denoise = tree.denoiser(hierarchy.node(name).classes)

        def evaluate(x: torch.Tensor, t: float) -> torch.Tensor:
            nonlocal made
            made += len(x) // SEGMENT
            return denoise(x, t)

        return evaluate

    sampler = dataclasses.replace(sampler_of(tree, hierarchy, "identity", solver), denoiser_of=counted)
    some = {tree.classes[0]: BLOCK + 1, tree.classes[1]: 3}
    samples(sampler, some)
    per_step = {"dpmpp_2m": 1, "heun": 2, "sde": 1, "pc": 2}[solver]
    assert n_evaluations(sampler, some) == (made, (BLOCK // SEGMENT + 2) * sampler.n_steps * per_step)
    shared, alone = n_evaluations(sampler, dict.fromkeys(tree.classes, 10))
    assert shared / alone == pytest.approx(hierarchy.sharing(), abs=0.05)
    assert n_evaluations(sampler, {tree.classes[0]: 0}) == (0, 0)
    made = 0
    corrected = dataclasses.replace(sampler, n_corrections=2)
    samples(corrected, some)
    assert n_evaluations(corrected, some)[0] == made


def test_langevin_steps_mend_what_the_hand_over_leaves_wrong() -> None:
    """With cells handed over as they are, exact denoisers, and branches shared for very long."""
    tree = binary_tree(4, 3, separation=5.0, equal=True)
    hierarchy = derived(tree, 0.7)
    numbers = dict.fromkeys(tree.classes, 4 * BLOCK)

    def error(n_corrections: int) -> float:
        found = samples(
            dataclasses.replace(sampler_of(tree, hierarchy, "identity"), n_corrections=n_corrections), numbers
        )
        apart = [np.abs(found[name].mean(axis=0) - tree.moments.mean[code]) for code, name in enumerate(tree.classes)]
        return float(np.max(apart))

    few, many = error(0), error(12)
    assert few > 0.2
    assert many < few / 3


def test_langevin_steps_keep_a_gaussian_as_it_is() -> None:
    tree = binary_tree(2, 3)
    sampler = sampler_of(tree, derived(tree, 0.1), "transport")
    position, t = sampler.hierarchy.index[tree.classes[0]], 0.4
    mean, covariance = tree.moments.mean[0], tree.moments.covariance[0]
    noised = covariance + np.diag(levels_at(tree.schedule, t) ** 2)
    x = torch.from_numpy(np.random.default_rng(0).multivariate_normal(mean, noised, 100_000))
    process = Process(
        denoise=tree.denoiser([tree.classes[0]]),
        schedule=tree.schedule,
        generators=[torch.Generator().manual_seed(0)],
        reference=sampler.references[position],
    )
    moved = langevin(process, x, t, 5).numpy()
    np.testing.assert_allclose(moved.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(moved.T), noised, atol=0.02)
    # Five steps keep a third of where a cell was.
    kept = [np.corrcoef(moved[:, i], x[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(kept, 0.8**5, atol=0.02)


def test_independent_classes_share_no_noise_and_save_no_work() -> None:
    tree = binary_tree(4, 3, separation=1.0, equal=True)
    hierarchy = derived(tree, 1.0)
    sampler = sampler_of(tree, hierarchy, "transport")
    wanted = dict.fromkeys(tree.classes[:2], BLOCK)

    def correlation(ancestors: str) -> float:
        found = {name: x.numpy() for name, _, x, _ in sample_blocks(sampler, wanted, ancestors)}
        a, b = (found[name] - found[name].mean(axis=0) for name in wanted)
        return float((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))

    assert correlation("shared") > 0.3
    assert abs(correlation("independent")) < 0.1
    # Steps are whole in every branch.
    ours, alone = n_evaluations(dataclasses.replace(sampler, n_steps=40), wanted, "independent")
    assert ours == pytest.approx(alone, rel=0.1)
    # A class is the same, whatever else is asked for.
    (alone_,) = sample_blocks(sampler, {tree.classes[1]: 5}, "independent")
    beside = {name: x for name, _, x, _ in sample_blocks(sampler, wanted, "independent")}
    assert torch.equal(alone_[2], beside[tree.classes[1]][:SEGMENT])


def test_the_start_is_the_roots_own_gaussian() -> None:
    tree = binary_tree(6, 4)
    hierarchy = derived(tree, 1.0)
    moments = tree.branch_moments(hierarchy)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(200_000, 4)))
    x = start(moments, 0, noise, levels_at(tree.schedule, 1.0)).numpy()
    np.testing.assert_allclose(np.cov(x.T), moments.covariance[0] + 100 * np.eye(4), atol=1.5)


def test_passages_are_parents_first_and_connected() -> None:
    tree = binary_tree(5, 4)
    hierarchy = derived(tree, 1.0)
    wanted = dict.fromkeys(tree.classes, 5)
    passages = {p.branch.name: p for p in descend(sampler_of(tree, hierarchy, "identity"), 0, wanted)}
    assert next(iter(passages)) == "root"
    for position, branch in enumerate(hierarchy.branches):
        parent = hierarchy.parents[position]
        if parent is not None:
            assert torch.equal(passages[branch.name].entering, passages[hierarchy.branches[parent].name].leaving)


def test_inner_branches_stand_for_their_classes_by_their_cells() -> None:
    leaves = tuple(Clade(classes=(n,)) for n in "abc")
    hierarchy = Hierarchy.from_clades(Clade(classes=("a", "b", "c"), children=leaves, time=0.5), 0.01)
    counts = {"a": 100, "b": 50, "c": 1}
    assert allocate({"root": 151}, hierarchy, counts) == counts
    assert sum(allocate({"root": 17, "b": 2}, hierarchy, counts).values()) == 19
    assert allocate({"c": 5}, hierarchy, counts) == {"a": 0, "b": 0, "c": 5}
    with pytest.raises(BranchgenError, match="no class or branch is called 'd'"):
        allocate({"d": 1}, hierarchy, counts)
    with pytest.raises(BranchgenError, match="at least 0"):
        allocate({"a": -1}, hierarchy, counts)
