"""`branchgen generate`: a model and its codec to generated cells."""

from __future__ import annotations

import argparse
import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from branchgen import files
from branchgen.cells.keys import CELL_TYPE, LATENT, PROVENANCE
from branchgen.cells.numbers import requested_numbers
from branchgen.config import GenerateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.sample import BLOCK, allocate, n_evaluations
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.trained import Trained

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: GenerateSettings) -> None:
    """Sample the wanted cells and write them as they come."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    model = trained.model
    log.info("running on %s", describe(device))
    sampler = trained.sampler(
        solver=settings.solver,
        n_steps=settings.n_steps,
        handover=settings.handover,
        n_corrections=settings.n_corrections,
        seed=arguments.seed,
    )
    numbers = allocate(
        requested_numbers(settings.n_cells, model.n_train, model.newest), sampler.hierarchy, model.n_train
    )
    total = sum(numbers.values())
    shared, alone = n_evaluations(sampler, numbers, settings.ancestors)
    waiting: list[sparse.csr_matrix] = []
    tables: list[pd.DataFrame] = []
    latents: list[NDArray[np.float32]] = []
    n_done = 0

    def write() -> None:
        """Append the counts in memory to the file, and let go of them."""
        if waiting:
            output.append(sparse.vstack(waiting, format="csr"))
            waiting.clear()

    with (
        files.written_together(arguments.output_generated) as (path,),
        Progress("generate", total) as progress,
        GrowingH5ad(path, list(trained.codec.genes)) as output,
    ):
        for made in trained.generated(sampler, numbers, settings.ancestors):
            waiting.append(made.counts)
            tables.append(made.obs)
            latents.append(made.latents)
            if sum(counts.shape[0] for counts in waiting) >= settings.batch_size:
                write()
            n_done += len(made.obs)
            progress.to(n_done)
        write()
        obs = pd.concat(tables).assign(**{CELL_TYPE: lambda obs: pd.Categorical(obs[CELL_TYPE])})
        record = provenance(
            "generate",
            settings.to_dict(),
            arguments.seed,
            trained.inputs,
            n_cells=numbers,
            network_evaluations={"with the tree": shared, "without": alone},
        )
        output.finish(obs, {LATENT: np.concatenate(latents)}, {PROVENANCE: record})
    log.info(
        "%d cells; blocks of %d cells went through the network %d times, without the tree it were %d (%.2f of that)",
        total,
        BLOCK,
        shared,
        alone,
        shared / alone,
    )
