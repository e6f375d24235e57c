"""`branchgen benchmark-steps`: what a training step and a sampling step cost, by the number of branches."""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from branchgen import files
from branchgen.benchmark_config import BenchmarkStepsSettings
from branchgen.config import TrainSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.batches import N_SEGMENTS, BatchSampler, TrainingData
from branchgen.diffusion.blocks import SEGMENT
from branchgen.diffusion.computing import Computing
from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import PACK
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import Process, Reference, dpmpp_2m, together
from branchgen.diffusion.train import TrainingState, train_step
from branchgen.errors import BranchgenError
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Clade, Hierarchy
from branchgen.seeds import numpy_rng, torch_generator

log = logging.getLogger(__name__)

N_LATENT = 33
N_CELLS_PER_CLASS = 100


def run(arguments: argparse.Namespace, settings: BenchmarkStepsSettings) -> None:
    """Time steps on random latents under trees of each size, and write and print a table."""
    device = choose_device(arguments.device)
    try:
        sizes = [int(text) for text in settings.n_branches.split(",")]
    except ValueError as error:
        raise BranchgenError(f"n_branches is {settings.n_branches!r}; it must be numbers such as 10,50,200") from error
    if min(sizes) < 3:
        raise BranchgenError(f"n_branches is {settings.n_branches!r}; a tree has at least 3 branches")
    log.info("running on %s; batch %d, width %d", describe(device), settings.batch_size, settings.n_hidden)
    trials = {size: steps_of(size, settings, device) for size in sizes}
    seconds: dict[tuple[int, str], list[float]] = {(size, kind): [] for size in sizes for kind in ("train", "sample")}
    # The sizes take turns, so that a machine that slows down slows all of them.
    for repeat in range(settings.n_repeats + 1):
        for size, steps in trials.items():
            for kind, step in steps.items():
                duration = timed(step, device)
                if repeat:
                    seconds[size, kind].append(duration)
    table = pd.DataFrame(
        [
            {
                "n_branches": size,
                "step": kind,
                "median_ms": 1e3 * statistics.median(values),
                "min_ms": 1e3 * min(values),
                "max_ms": 1e3 * max(values),
                "ratio": statistics.median(values) / statistics.median(seconds[sizes[0], kind]),
            }
            for (size, kind), values in seconds.items()
        ]
    )
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.2f}"))


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's queue included."""
    begun = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def steps_of(
    n_branches: int, settings: BenchmarkStepsSettings, device: torch.device
) -> dict[str, Callable[[], object]]:
    """One training step and one step of the sampler under a tree with so many branches."""
    hierarchy = caterpillar(n_branches)
    train = TrainSettings(n_hidden=settings.n_hidden, batch_size=settings.batch_size)
    codes = np.repeat(np.arange(len(hierarchy.classes)), N_CELLS_PER_CLASS)
    z = torch.randn((len(codes), N_LATENT), generator=torch_generator(0, "latents")).to(device)
    data = TrainingData(mean=z, scale=torch.zeros_like(z), codes=codes, classes=hierarchy.classes)
    n = len(hierarchy.branches)
    n_classes = len(hierarchy.classes)
    exact = Moments.exact(np.zeros((n_classes, N_LATENT)), np.stack([np.eye(N_LATENT)] * n_classes))
    moments = BranchMoments.pooled(hierarchy, hierarchy.classes, exact, np.full(n_classes, 1 / n_classes))
    schedule = NoiseSchedule.uniform(0.02, 10.0, N_LATENT)
    shape = Shape(
        n_latent=N_LATENT, n_branches=n, n_hidden=train.n_hidden, n_blocks=train.n_blocks, n_head=train.n_head
    )
    network = BranchedDenoiser(shape, schedule, moments, torch_generator(0, "weights")).to(device)
    state, forward = TrainingState.begin(network, train), Computing().forward_of(network)
    weights = numpy_rng(0, "weights").dirichlet(np.full(len(hierarchy.classes), 5.0))
    sampler = BatchSampler(hierarchy, data, weights, max(settings.batch_size // N_SEGMENTS, 1))
    # Segments of different branches, as those of many small classes are.
    chosen = np.linspace(0, n - 1, PACK).round().astype(int).tolist()
    reference = Reference.of(np.zeros(N_LATENT), np.eye(N_LATENT), np.ones(N_LATENT), z)
    process = Process(
        denoise=together([network.denoiser(branch) for branch in chosen]),
        schedule=schedule,
        generators=[torch_generator(0)] * PACK,
        reference=Reference.of_segments([reference] * PACK),
        mixture=together([network.mixture_of(branch) for branch in chosen]),
    )
    x = torch.randn((PACK, SEGMENT, N_LATENT), generator=torch_generator(0, "sample")).to(device)
    times = [x.new_full((PACK, 1), t) for t in (0.5, 0.45)]

    @torch.no_grad()
    def sample() -> None:
        dpmpp_2m(process, x, times)

    return {"train": lambda: train_step(state, sampler, data, train, 0, forward), "sample": sample}


def caterpillar(n_branches: int) -> Hierarchy:
    """A tree of the wanted number of branches, or one more: one class parts at a time, the deepest tree there is."""
    n_classes = (n_branches + 2) // 2
    names = [f"type {i}" for i in range(n_classes)]
    clade = Clade(classes=(names[0],))
    for i, name in enumerate(names[1:], 1):
        children = (clade, Clade(classes=(name,)))
        clade = Clade(classes=(*clade.classes, name), children=children, time=0.9 * i / n_classes)
    return Hierarchy.from_clades(clade, 1e-4)
