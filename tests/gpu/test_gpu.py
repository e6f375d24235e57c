"""CPU and GPU agree on the same noise; what only a GPU does, it does right."""

import dataclasses

import numpy as np
import pytest
import torch
from exact_counts import example, variance
from oracle import binary_tree

from branchgen.cells.codec import Codec
from branchgen.cells.distribution import CountDistribution
from branchgen.config import TrainSettings
from branchgen.diffusion.batches import BatchSampler, TrainingData
from branchgen.diffusion.computing import Computing
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import sample_blocks
from branchgen.diffusion.sampler import TreeSampler
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
PLAIN, COMPILED = Computing(), Computing(compiled=True)
SHAPE = Shape(n_latent=8, n_branches=len(HIERARCHY.branches), n_hidden=32, n_blocks=2, n_head=16)


class Constant:
    """Body of a codec that decodes every latent to the same distribution of the counts of every gene."""

    def decode(self, latent: torch.Tensor, log_library: torch.Tensor) -> CountDistribution:
        return example(len(latent), device="cuda")


def trained(device: torch.device, computing: Computing = PLAIN) -> tuple[BranchedDenoiser, list[float]]:
    """A network after ten steps, and their losses."""
    state, sampler, data, settings = begun(device)
    forward = computing.forward_of(state.network)
    losses = [float(train_step(state, sampler, data, settings, 0, forward)) for _ in range(10)]
    return state.network, losses


def begun(device: torch.device) -> tuple[TrainingState, BatchSampler, TrainingData, TrainSettings]:
    """All that a training step needs."""
    settings = TrainSettings(n_hidden=32, n_blocks=2, n_head=16, batch_size=256)
    moments = TREE.branch_moments(HIERARCHY)
    network = BranchedDenoiser(SHAPE, TREE.schedule, moments, torch_generator(0, "weights")).to(device)
    state = TrainingState.begin(network, settings)
    rng = numpy_rng(0, "data")
    z = torch.cat([TREE.sample(name, 200, rng) for name in TREE.classes]).float().to(device)
    codes = torch.arange(5).repeat_interleave(200).numpy()
    data = TrainingData(mean=z, scale=torch.zeros_like(z), codes=codes, classes=TREE.classes)
    return state, BatchSampler(HIERARCHY, data, TREE.weights, 4), data, settings


def test_training_agrees() -> None:
    _, cpu = trained(torch.device("cpu"))
    _, gpu = trained(torch.device("cuda"))
    assert gpu == pytest.approx(cpu, rel=1e-3)


@pytest.mark.parametrize(("computing", "tolerance"), [(Computing(precision="bfloat16"), 0.05), (COMPILED, 1e-3)])
def test_other_ways_to_train_agree(computing: Computing, tolerance: float) -> None:
    _, plain = trained(torch.device("cuda"))
    _, other = trained(torch.device("cuda"), computing)
    assert other == pytest.approx(plain, rel=tolerance)


def test_counts_drawn_on_the_gpu_have_the_moments_of_the_distribution() -> None:
    codec = Codec(
        kind="nb",
        genes=tuple("abcdef"),
        body=Constant(),
        centre=torch.zeros(2).cuda(),
        spread=torch.ones(2).cuda(),
    )
    latents = torch.zeros(50_000, 2).cuda()
    counts = codec.draw_counts(latents, np.random.default_rng(0))
    assert counts.dtype == np.int32
    assert (counts != codec.draw_counts(latents, np.random.default_rng(0))).nnz == 0
    dense, mean, spread = counts.toarray().astype(float), example().expected[0].numpy(), variance(example())[0]
    assert (np.abs(dense.mean(axis=0) - mean) < 5 * np.sqrt(spread / len(dense))).all()
    squares = (dense - mean) ** 2
    assert (np.abs(squares.mean(axis=0) - spread) < 5 * squares.std(axis=0) / np.sqrt(len(dense))).all()


@pytest.mark.parametrize("solver", ["dpmpp_2m", "sde"])
def test_sampling_agrees(solver: str) -> None:
    network, _ = trained(torch.device("cpu"))
    sampler = TreeSampler(
        hierarchy=HIERARCHY,
        schedule=TREE.schedule,
        moments=TREE.branch_moments(HIERARCHY),
        denoiser_of=lambda name: network.denoiser(HIERARCHY.index[name]),
        mixture_of=lambda name: network.mixture_of(HIERARCHY.index[name]),
        solver=solver,
        n_steps=10,
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
