"""Solvers against exact denoisers: order of convergence, exactness, and the distribution they leave."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree
from torch import Tensor

from branchgen.diffusion.sampler import branch_times
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import SOLVERS, Process, Reference, dpmpp_2m, principal_axes, together
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import torch_generator


def solve(
    tree: GaussianMixtureTree,
    solver: str,
    x: Tensor,
    n_steps: int,
    ends: tuple[float, float],
    reference: Reference | None,
) -> Tensor:
    process = Process(
        denoise=tree.denoiser(tree.classes),
        schedule=tree.schedule,
        generators=[torch_generator(0, "solver")],
        reference=reference,
    )
    return SOLVERS[solver](process, x, np.linspace(*ends, n_steps + 1).tolist())[-1]


def orders(errors: list[float]) -> np.ndarray:
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "dpmpp_2m with reference"])
def test_global_error_is_of_second_order(solver: str) -> None:
    """Against a fine solution on a mixture, halving the step divides the error by about four."""
    tree = binary_tree(3, 4, seed=2)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 4))) * 3
    reference = None
    if solver.endswith("reference"):
        mean, covariance = tree.moments.pooled([0, 1, 2], tree.weights)
        reference = Reference.of(mean, *principal_axes(covariance, tree.schedule), x)
    ends = (0.8, 0.35)
    exact = solve(tree, "heun", x, 3000, ends, None)
    name = solver.split(maxsplit=1)[0]
    errors = [float((solve(tree, name, x, n, ends, reference) - exact).norm()) for n in (40, 80, 160, 320)]
    assert orders(errors).min() > 1.75
    assert orders(errors).max() < 2.4


def test_a_gaussian_is_integrated_exactly_in_any_number_of_steps() -> None:
    """With the Gaussian itself as reference x follows m + √((S + σ'²)/(S + σ²)) (x − m) to rounding."""
    tree = binary_tree(1, 6, seed=1)
    mean, covariance = tree.moments.mean[0], tree.moments.covariance[0]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 6))) * 10
    reference = Reference.of(mean, *principal_axes(covariance, tree.schedule), x)
    values, vectors = np.linalg.eigh(covariance)
    sigma, sigma_next = tree.schedule.levels(np.array([1.0, 0.0]))[:, 0]
    factor = np.sqrt((values + sigma_next**2) / (values + sigma**2))
    expected = mean + (x.numpy() - mean) @ (vectors * factor) @ vectors.T
    for n_steps in (1, 3, 20):
        found = solve(tree, "dpmpp_2m", x, n_steps, (1.0, 0.0), reference)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_without_a_reference_it_is_the_published_update() -> None:
    """One step of DPM-Solver++(2M) is x' = (σ'/σ) x + (1 − σ'/σ) D."""
    tree = binary_tree(3, 4)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 4)))
    sigma, sigma_next = tree.schedule.levels(np.array([0.7, 0.5]))[:, 0]
    expected = sigma_next / sigma * x + (1 - sigma_next / sigma) * tree.denoise(tree.classes, x, 0.7)
    torch.testing.assert_close(solve(tree, "dpmpp_2m", x, 1, (0.7, 0.5), None), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("solver", "n_steps"), [("heun", 60), ("sde", 100), ("pc", 300), ("dpmpp_2m", 40)])
def test_every_solver_leaves_the_right_distribution(solver: str, n_steps: int) -> None:
    """A mixture of three classes: class shares by the exact posterior, mean and covariance of the whole."""
    tree = binary_tree(3, 3, seed=4, separation=5.0)
    n = 8000
    mean, covariance = tree.moments.pooled([0, 1, 2], tree.weights)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3)))
    start = torch.from_numpy(np.linalg.cholesky(covariance + 100.0 * np.eye(3)).T)
    x = solve(tree, solver, torch.from_numpy(mean) + noise @ start, n_steps, (1.0, 0.0), None).numpy()
    error = np.abs(x.mean(axis=0) - mean) / np.sqrt(np.diag(covariance) / n)
    assert error.max() < 4
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.06 * np.diag(covariance).max())
    densities = np.stack([tree.log_density([c], torch.from_numpy(x), 0.0).numpy() for c in tree.classes])
    shares = np.bincount((densities + np.log(tree.weights)[:, None]).argmax(axis=0), minlength=3) / n
    assert np.abs(shares - tree.weights).max() < 0.03


def test_coordinates_with_noise_of_their_own() -> None:
    """Vector noise levels: independent coordinates solve as they would alone."""
    variance = np.array([0.5, 2.0])
    schedule = NoiseSchedule((0.01, 0.05), (5.0, 20.0))

    def denoise(x: Tensor, t: float) -> Tensor:
        v = torch.from_numpy(variance)
        return v / (v + schedule.sigma(t, x) ** 2) * x

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2)) * 10)
    reference = Reference.of(np.zeros(2), *principal_axes(np.array([[0.5, 0.3], [0.3, 2.0]]), schedule), x)
    process = Process(denoise=denoise, schedule=schedule, generators=[torch_generator(0)], reference=reference)
    high, low = schedule.levels(np.array([1.0, 0.0]))
    expected = x.numpy() * np.sqrt((variance + low**2) / (variance + high**2))
    np.testing.assert_allclose(SOLVERS["dpmpp_2m"](process, x, [1.0, 0.4, 0.0])[-1].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("solver", ["sde", "pc"])
def test_noise_comes_from_the_generator_alone(solver: str) -> None:
    tree = binary_tree(2, 3)
    x = torch.zeros(10, 3, dtype=torch.float64)
    run: Callable[[], Tensor] = lambda: solve(tree, solver, x, 10, (1.0, 0.0), None)  # noqa: E731
    assert torch.equal(run(), run())


def test_a_mixture_in_closed_form_stands_in_between_the_steps() -> None:
    """Well-separated classes under one branch: a third of the error with no more evaluations of the denoiser."""
    tree = binary_tree(6, 8, separation=10.0)
    criterion = Fidelity(tree.moments, tree.schedule.levels, 1.0)
    hierarchy = Hierarchy.from_clades(merge_by_criterion(criterion, tree.classes), 0.03)
    sampler = tree.sampler(hierarchy)
    root, asked = hierarchy.branches[0], []

    def denoise(x: torch.Tensor, t: float) -> torch.Tensor:
        asked.append(t)
        return tree.denoise(root.classes, x, t)

    process = Process(
        denoise=denoise, schedule=tree.schedule, generators=[torch_generator(0)], reference=sampler.references[0]
    )
    refined = dataclasses.replace(process, mixture=sampler.mixture_of("root"))
    x = 10 * torch.randn((500, 8), generator=torch_generator(1), dtype=torch.float64)
    times = branch_times(root, 10)
    exact = dpmpp_2m(process, x, branch_times(root, 640))[-1]
    asked.clear()
    errors = [float((dpmpp_2m(way, x, times)[-1] - exact).norm(dim=1).median()) for way in (process, refined)]
    assert asked == [*times[:-1], *times[:-1]]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_segments_of_several_branches_are_solved_as_each_alone(solver: str) -> None:
    """Each with a denoiser, a reference, times and noise of its own; the denoisers of a network are asked once."""
    tree = binary_tree(3, 4)
    hierarchy = Hierarchy.from_clades(
        merge_by_criterion(Fidelity(tree.moments, tree.schedule.levels, 1.0), tree.classes), 0.03
    )
    sampler = tree.sampler(hierarchy)
    names = [branch.name for branch in hierarchy.branches][:3]
    x = 5 * torch.randn((3, 20, 4), generator=torch_generator(1), dtype=torch.float64)
    grids = [np.linspace(start, end, 6).tolist() for start, end in ((1.0, 0.6), (0.7, 0.2), (0.5, 0.0))]
    references = [sampler.references[hierarchy.index[name]] for name in names]
    for of in (sampler.denoiser_of, sampler.mixture_of):
        denoisers = [of(name) for name in names]
        process = Process(
            denoise=together(denoisers),
            schedule=tree.schedule,
            generators=[torch_generator(0, name) for name in names],
            reference=Reference.of_segments(references),
            mixture=together([sampler.mixture_of(name) for name in names]),
        )
        states = SOLVERS[solver](process, x, list(torch.tensor(grids, dtype=torch.float64).T[..., None]))
        assert len(states) == 6
        assert torch.equal(states[0], x)
        for number, name in enumerate(names):
            alone = Process(
                denoise=denoisers[number],
                schedule=tree.schedule,
                generators=[torch_generator(0, name)],
                reference=references[number],
                mixture=sampler.mixture_of(name),
            )
            for state, expected in zip(states, SOLVERS[solver](alone, x[number], grids[number]), strict=True):
                torch.testing.assert_close(state[number], expected, rtol=1e-9, atol=1e-9)
