"""`branchgen benchmark-solver`: how far cells of few solver steps are from those of many."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from branchgen import files
from branchgen.benchmark_config import BenchmarkSolverSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.sample import n_evaluations, sample_blocks
from branchgen.errors import BranchgenError
from branchgen.trained import Trained

log = logging.getLogger(__name__)

Latents = Mapping[str, NDArray[np.float32]]


def run(arguments: argparse.Namespace, settings: BenchmarkSolverSettings) -> None:
    """Generate the same cells in several numbers of steps, and compare them with those of the most."""
    try:
        numbers = [int(text) for text in settings.n_steps.split(",")]
    except ValueError as error:
        raise BranchgenError(f"n_steps is {settings.n_steps!r}; it must be numbers such as 10,20,40") from error
    if not 2 <= min(numbers) <= max(numbers) < settings.n_exact_steps:
        most = settings.n_exact_steps - 1
        raise BranchgenError(f"n_steps is {settings.n_steps!r}; a number must be from 2 to {most} (n_exact_steps - 1)")
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    log.info("running on %s", describe(device))
    exact, _ = made(trained, settings, settings.n_exact_steps, arguments.seed)
    rows: list[dict[str, object]] = []
    for n_steps in numbers:
        latents, share = made(trained, settings, n_steps, arguments.seed)
        for name, z in latents.items():
            rows.append({"n_steps": n_steps, "class": name, "evaluations": share, **apart(z, exact[name])})
        log.info("%d steps", n_steps)
    table = pd.DataFrame(rows)
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    print(table.drop(columns="class").groupby("n_steps").mean().round(4).to_string())


def made(trained: Trained, settings: BenchmarkSolverSettings, n_steps: int, seed: int) -> tuple[Latents, float]:
    """Latents of a block of cells of every class, and the evaluations of the network per cell."""
    sampler = trained.sampler(solver=settings.solver, n_steps=n_steps, handover="transport", seed=seed)
    wanted = dict.fromkeys(sampler.hierarchy.classes, BLOCK)
    latents = {name: z.cpu().numpy() for name, _, z, _ in sample_blocks(sampler, wanted)}
    return latents, n_evaluations(sampler, wanted)[0] / len(wanted)


def apart(z: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    """How far latents (n_cells, d) are from the exact ones: cells in units of the spread of the class, and moments."""
    spread = np.sqrt(exact.var(axis=0).sum())
    distances = np.linalg.norm(z - exact, axis=1) / spread
    return {
        "median": float(np.median(distances)),
        "quantile_99": float(np.quantile(distances, 0.99)),
        "mean_shift": float(np.linalg.norm(z.mean(axis=0) - exact.mean(axis=0)) / spread),
        "variance_ratio": float(z.var(axis=0).sum() / spread**2),
    }
