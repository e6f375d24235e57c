"""CPU and GPU agree on the same noise."""

import dataclasses

import pytest
import torch
from oracle import binary_tree

from branchgen.config import TrainSettings
from branchgen.diffusion.batches import BatchSampler, TrainingData
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import TreeSampler, sample_blocks
from branchgen.diffusion.train import TrainingState, train_step
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import numpy_rng, torch_generator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

TREE = binary_tree(5, 8)
HIERARCHY = Hierarchy.from_clades(
    merge_by_criterion(Fidelity(TREE.moments, TREE.schedule.levels, 0.3), TREE.classes), 0.03
)
SHAPE = Shape(n_latent=8, n_branches=len(HIERARCHY.branches), n_hidden=32, n_blocks=2, n_head=16)


def trained(device: torch.device) -> tuple[BranchedDenoiser, list[float]]:
    """A network after ten steps, and their losses."""
    settings = TrainSettings(n_hidden=32, n_blocks=2, n_head=16, batch_size=256)
    moments = TREE.branch_moments(HIERARCHY)
    network = BranchedDenoiser(SHAPE, TREE.schedule, moments, torch_generator(0, "weights")).to(device)
    state = TrainingState.begin(network, settings)
    rng = numpy_rng(0, "data")
    z = torch.cat([TREE.sample(name, 200, rng) for name in TREE.classes]).float().to(device)
    codes = torch.arange(5).repeat_interleave(200).numpy()
    data = TrainingData(mean=z, scale=torch.zeros_like(z), codes=codes, classes=TREE.classes)
    sampler = BatchSampler(HIERARCHY, data, TREE.weights, 4)
    return network, [train_step(state, sampler, data, settings, 0) for _ in range(10)]


def test_training_agrees() -> None:
    _, cpu = trained(torch.device("cpu"))
    _, gpu = trained(torch.device("cuda"))
    assert gpu == pytest.approx(cpu, rel=1e-3)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "sde"])
def test_sampling_agrees(solver: str) -> None:
    network, _ = trained(torch.device("cpu"))
    sampler = TreeSampler(
        hierarchy=HIERARCHY,
        schedule=TREE.schedule,
        moments=TREE.branch_moments(HIERARCHY),
        denoiser_of=lambda name: network.denoiser(HIERARCHY.index[name]),
        solver=solver,
        n_steps=20,
        handover="transport",
        seed=0,
        like=network.mean,
    )
    wanted = dict.fromkeys(TREE.classes, 10)
    cpu = {name: x for name, _, x, _ in sample_blocks(sampler, wanted)}
    network.to("cuda")
    gpu = {name: x.cpu() for name, _, x, _ in sample_blocks(dataclasses.replace(sampler, like=network.mean), wanted)}
    for name in TREE.classes:
        torch.testing.assert_close(gpu[name], cpu[name], rtol=1e-2, atol=1e-2)
