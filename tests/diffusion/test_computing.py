"""Ways to compute a training step: bfloat16 and compiled, beside the plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle import GaussianMixtureTree, binary_tree

from branchgen.config import TrainSettings
from branchgen.diffusion.batches import TrainingData
from branchgen.diffusion.computing import Computing
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.train import TrainingState, fit
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import numpy_rng, torch_generator

TREE = binary_tree(4, 6, separation=4.0, seed=3)
HIERARCHY = Hierarchy.from_clades(
    merge_by_criterion(Fidelity(TREE.moments, TREE.schedule.levels, 0.3), TREE.classes), 0.03
)
SETTINGS = TrainSettings(n_hidden=64, n_blocks=2, n_head=16, n_steps=200, batch_size=256, validate_every=50)
PLAIN = Computing()
BFLOAT16 = Computing(precision="bfloat16")
COMPILED = Computing(compiled=True)


def data_of(tree: GaussianMixtureTree, n: int, name: str) -> TrainingData:
    """Cells with curved classes, so that there is something to learn besides the Gaussians."""
    rng = numpy_rng(0, name)
    z = torch.cat([tree.sample(name, n, rng) for name in tree.classes]).float()
    z = z + 0.5 * z.roll(1, dims=1) ** 2
    return TrainingData(
        mean=z, scale=torch.zeros_like(z), codes=np.repeat(np.arange(len(tree.classes)), n), classes=tree.classes
    )


def network() -> BranchedDenoiser:
    shape = Shape(n_latent=6, n_branches=len(HIERARCHY.branches), n_hidden=64, n_blocks=2, n_head=16)
    return BranchedDenoiser(shape, TREE.schedule, TREE.branch_moments(HIERARCHY), torch_generator(0, "weights"))


def trained(computing: Computing, n_steps: int = 200) -> tuple[TrainingState, list[float]]:
    """State after training, and the losses of all steps."""
    settings = TrainSettings(**{**SETTINGS.to_dict(), "n_steps": n_steps})
    state, losses = TrainingState.begin(network(), settings), []

    def report(step: int, loss: torch.Tensor, held_out: float) -> None:
        losses.append(float(loss))

    train, ref = data_of(TREE, 400, "train"), data_of(TREE, 100, "ref")
    fit(state, HIERARCHY, train, ref, TREE.weights, settings, 0, computing=computing, report=report)
    return state, losses


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch_generator(0, "inputs")
    x = torch.randn((3, 50, 6), generator=generator)
    return x, torch.rand((3, 50), generator=generator), torch.tensor([0, 1, 2])


def curve(state: TrainingState) -> np.ndarray[Any, Any]:
    return np.array([row["loss"] for row in state.history if row["split"] == "ref" and row["branch"] == "all"])


def test_bfloat16_trains_almost_as_well() -> None:
    (plain, losses), (state, losses16) = trained(PLAIN), trained(BFLOAT16)
    assert losses16 != losses
    np.testing.assert_allclose(losses16, losses, rtol=0.05)
    before, after, after16 = curve(plain)[:8].mean(), curve(plain)[-8:].mean(), curve(state)[-8:].mean()
    assert after < 0.9 * before
    assert abs(after16 - after) < 0.1 * (before - after)


def test_bfloat16_is_for_the_learned_part_alone() -> None:
    net = network()
    # A new network adds nothing to the Gaussians.
    for computing in (PLAIN, BFLOAT16):
        assert torch.equal(computing.forward_of(net)(*inputs()), net(*inputs()))
    with torch.no_grad():
        net.heads.second.fill_(0.1)
    assert torch.equal(PLAIN.forward_of(net)(*inputs()), net(*inputs()))
    rounded = BFLOAT16.forward_of(net)(*inputs())
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, net(*inputs()))
    torch.testing.assert_close(rounded, net(*inputs()), rtol=0.05, atol=0.05)


def test_weights_moments_and_validation_of_bfloat16_are_float32() -> None:
    state, _ = trained(BFLOAT16, n_steps=5)
    optimizer = state.optimizer.to_state()
    of_optimizer = [value for slots in optimizer["adamw"]["state"].values() for value in slots.values()]
    of_optimizer += [value for pair in optimizer["moments"] for value in pair]
    for value in (*state.network.state_dict().values(), *state.best.values(), *of_optimizer):
        assert value.dtype == torch.float32


def test_a_compiled_network_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as a whole, without the compiler of the kernels, which takes minutes on a CPU."""
    traced: list[torch.nn.Module] = []

    def trace(module: torch.nn.Module, **options: Any) -> Any:
        traced.append(module)
        return compile_(module, backend="aot_eager", fullgraph=True, **options)

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    (plain, losses), (state, compiled) = trained(PLAIN, n_steps=20), trained(COMPILED, n_steps=20)
    assert traced == [state.network]
    np.testing.assert_allclose(compiled, losses, rtol=1e-4)
    np.testing.assert_allclose(curve(state), curve(plain), rtol=1e-4)
    assert sorted(state.network.state_dict()) == sorted(plain.network.state_dict())
