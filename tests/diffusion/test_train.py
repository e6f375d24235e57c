"""Training: batches have the right distribution, losses approach the exact denoiser's, and runs resume exactly."""

from typing import Any

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree

from branchgen.config import TrainSettings
from branchgen.diffusion import validation
from branchgen.diffusion.batches import N_SEGMENTS, BatchSampler, TrainingData, class_weights
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.train import TrainingState, fit
from branchgen.diffusion.validation import N_BINS, validation_losses
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import torch_generator


def data_of(tree: GaussianMixtureTree, sizes: list[int], seed: int) -> TrainingData:
    rng = np.random.default_rng(seed)
    z = torch.cat([tree.sample(name, n, rng) for name, n in zip(tree.classes, sizes, strict=True)]).float()
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return TrainingData(mean=z, scale=torch.zeros_like(z), codes=codes, classes=tree.classes)


def hierarchy_of(tree: GaussianMixtureTree) -> Hierarchy:
    return Hierarchy.from_clades(
        merge_by_criterion(Fidelity(tree.moments, tree.schedule.levels, 0.3), tree.classes), 0.03
    )


def state_of(tree: GaussianMixtureTree, hierarchy: Hierarchy, settings: TrainSettings) -> TrainingState:
    shape = Shape(
        n_latent=tree.moments.mean.shape[1],
        n_branches=len(hierarchy.branches),
        n_hidden=settings.n_hidden,
        n_blocks=settings.n_blocks,
        n_head=settings.n_head,
    )
    moments = tree.branch_moments(hierarchy)
    return TrainingState.begin(BranchedDenoiser(shape, tree.schedule, moments, torch_generator(0, "w")), settings)


def run(
    tree: GaussianMixtureTree, settings: TrainSettings, train: TrainingData, ref: TrainingData, **more: Any
) -> TrainingState:
    hierarchy = hierarchy_of(tree)
    state = state_of(tree, hierarchy, settings)
    if "resume" in more:
        state.restore(more["resume"])
    save, report = more.get("save", lambda checkpoint: None), more.get("report", lambda *_: None)
    every = settings.checkpoint_seconds
    fit(state, hierarchy, train, ref, tree.weights, settings, 0, checkpoint_seconds=every, save=save, report=report)
    return state


def test_batches_follow_class_weights_and_uniform_times() -> None:
    tree = binary_tree(5, 3)
    hierarchy = hierarchy_of(tree)
    data = data_of(tree, [50, 10, 400, 5, 35], 0)
    sampler = BatchSampler(hierarchy, data, tree.weights, 8)
    rng = np.random.default_rng(0)
    counts, times = np.zeros(5), []
    for _ in range(400):
        branch, cells, t = sampler.draw(rng)
        assert branch.shape == (N_SEGMENTS,)
        assert cells.shape == t.shape == (N_SEGMENTS, 8)
        for segment in range(N_SEGMENTS):
            owner = hierarchy.branches[branch[segment]]
            assert ((t[segment] >= owner.t_start) & (t[segment] < owner.t_end)).all()
            assert {data.classes[c] for c in data.codes[cells[segment]]} <= set(owner.classes)
        counts += np.bincount(data.codes[cells].ravel(), minlength=5)
        times.append(t.ravel())
    np.testing.assert_allclose(counts / counts.sum(), tree.weights, atol=0.01)
    histogram = np.histogram(np.concatenate(times), bins=10, range=(0, 1))[0] / counts.sum()
    np.testing.assert_allclose(histogram, 0.1, atol=0.005)


def test_class_weights() -> None:
    codes = np.repeat([0, 1], [90, 10])
    np.testing.assert_allclose(class_weights(codes, 2, "equal"), [0.5, 0.5])
    np.testing.assert_allclose(class_weights(codes, 2, "proportional"), [0.9, 0.1])
    np.testing.assert_allclose(class_weights(codes, 2, "sqrt"), [0.75, 0.25])


def test_training_reaches_the_exact_denoiser_in_every_noise_bin() -> None:
    """Excess of the denoising loss over the exact denoiser's is at most 5 % in each bin of noise levels."""
    tree = binary_tree(6, 8, separation=4.0, seed=3)
    hierarchy = hierarchy_of(tree)
    settings = TrainSettings(n_hidden=128, n_blocks=2, n_head=32, n_steps=1500, batch_size=512, validate_every=500)
    state = run(tree, settings, data_of(tree, [4000] * 6, 0), data_of(tree, [200] * 6, 1))

    held_out = data_of(tree, [4000] * 6, 2)
    rng = np.random.default_rng(5)
    network = state.average
    rows = rng.choice(24_000, 8000, replace=False)
    z = held_out.mean[rows]
    for number in range(N_BINS):
        t = (number + rng.random()) / N_BINS
        noise = torch.randn(z.shape, generator=torch_generator(7, number))
        x = z + tree.schedule.sigma(t, z) * noise
        learned, exact = 0.0, 0.0
        owner = hierarchy.branch_of([held_out.classes[c] for c in held_out.codes[rows]], np.full(len(rows), t))
        for position in np.unique(owner):
            chosen = torch.from_numpy(np.flatnonzero(owner == position))
            branch = hierarchy.branches[position]
            for denoise, kind in ((network.denoiser(int(position)), 0), (tree.denoiser(branch.classes), 1)):
                with torch.no_grad():
                    error = denoise(x[chosen] if kind == 0 else x[chosen].double(), t).float() - z[chosen]
                scaled = network.scaled(error[None], torch.full((1, 1), t), torch.tensor([position]))
                value = float((scaled**2).sum())
                learned, exact = (learned + value, exact) if kind == 0 else (learned, exact + value)
        assert learned / exact <= 1.05, f"noise bin {number}: {learned / exact:.3f}"


def small() -> tuple[GaussianMixtureTree, TrainSettings, TrainingData, TrainingData]:
    tree = binary_tree(3, 4)
    settings = TrainSettings(
        n_hidden=16, n_blocks=1, n_head=8, n_steps=24, batch_size=64, validate_every=6, checkpoint_seconds=0
    )
    return tree, settings, data_of(tree, [40, 30, 20], 0), data_of(tree, [10, 10, 10], 1)


def test_a_resumed_run_equals_the_uninterrupted_one() -> None:
    tree, settings, train, ref = small()
    checkpoints: list[dict[str, Any]] = []
    whole = run(tree, settings, train, ref, save=lambda c: checkpoints.append(torch_copy(c)))
    assert [checkpoint["step"] for checkpoint in checkpoints] == list(range(1, 25))
    for at in (1, 6, 13, 23):
        resumed = run(tree, settings, train, ref, resume=checkpoints[at - 1])
        assert resumed.step == whole.step
        assert resumed.history == whole.history
        assert all(torch.equal(resumed.best[name], whole.best[name]) for name in whole.best)
        for a, b in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
            assert torch.equal(a, b)


def torch_copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: torch_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [torch_copy(item) for item in value]
    return value


def test_training_stops_early_and_keeps_the_best_weights() -> None:
    """Two dozen cells are memorised; the weights kept are those before the held-out loss rose."""
    tree = binary_tree(2, 6)
    settings = TrainSettings(
        n_hidden=64, n_blocks=2, n_head=16, n_steps=2000, batch_size=256, validate_every=25, patience=4
    )
    train, ref = data_of(tree, [12, 12], 0), data_of(tree, [300, 300], 1)
    state = run(tree, settings, train, ref)
    assert state.step < 2000
    assert state.step == state.best_step + 4 * 25
    kept = state.average
    kept.load_state_dict(state.best)
    losses = validation_losses(kept, hierarchy_of(tree), ref, 0, "ref")
    assert losses.values.mean() == pytest.approx(state.best_loss, rel=1e-6)
    pooled = [row for row in state.history if row["branch"] == "all" and row["split"] == "ref"]
    last = [row["loss"] for row in pooled if row["step"] == state.step]
    assert np.mean(last) > state.best_loss


@pytest.mark.parametrize(("length", "n_segments"), [(1, 5), (7, 3), (1000, 1000)])
def test_held_out_losses_do_not_depend_on_how_cells_go_through_the_network(
    length: int, n_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = binary_tree(5, 6)
    ref, hierarchy = data_of(tree, [20, 1, 30, 7, 40], 1), hierarchy_of(tree)
    network = state_of(tree, hierarchy, TrainSettings(n_hidden=16, n_blocks=1, n_head=8)).average
    expected = validation_losses(network, hierarchy, ref, 0, "ref")
    monkeypatch.setattr(validation, "_LENGTH", length)
    monkeypatch.setattr(validation, "_N_SEGMENTS", n_segments)
    found = validation_losses(network, hierarchy, ref, 0, "ref")
    np.testing.assert_array_equal(found.branches, expected.branches)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4)
    assert found.values.shape == (N_BINS * 98,)
    assert (found.values > 0).all()


def test_history_reports_branches_and_noise_levels() -> None:
    tree, settings, train, ref = small()
    state = run(tree, settings, train, ref)
    names = {branch.name for branch in hierarchy_of(tree).branches}
    assert {row["branch"] for row in state.history} <= {"all", *names}
    last = [row for row in state.history if row["step"] == 24 and row["split"] == "ref"]
    whole = [row for row in last if row["branch"] == "all"]
    assert len(whole) == N_BINS
    assert sum(row["n_cells"] for row in whole) == 30 * N_BINS
    assert sum(row["n_cells"] for row in last if row["branch"] != "all") == 30 * N_BINS
    sigmas = [row["sigma"] for row in whole]
    np.testing.assert_allclose(np.diff(np.log(sigmas)), np.log(10 / 0.02) / N_BINS)
