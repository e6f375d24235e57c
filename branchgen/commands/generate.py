"""`branchgen generate`: a model and its codec to generated cells."""

from __future__ import annotations

import argparse
import logging

import numpy as np
import pandas as pd
from scipy import sparse
from torch import Tensor

from branchgen import files
from branchgen.cells.codec import Codec
from branchgen.cells.keys import ANCESTOR, CELL_TYPE, LATENT, LIBRARY_SIZE, PROVENANCE
from branchgen.cells.numbers import requested_numbers
from branchgen.config import GenerateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.sample import BLOCK, allocate, n_evaluations, sample_blocks
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: GenerateSettings) -> None:
    """Sample the wanted cells and write them as they come."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    model, codec = trained.model, trained.codec
    numbers = allocate(requested_numbers(settings.n_cells, model.class_counts), model.hierarchy, model.class_counts)
    total = sum(numbers.values())
    log.info("running on %s", describe(device))
    sampler = trained.sampler(
        solver=settings.solver, n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed
    )
    shared, alone = n_evaluations(sampler, numbers)
    batch = Batch(codec, arguments.seed, settings.batch_size)
    with (
        files.written_together(arguments.output_generated) as (path,),
        Progress("generate", total) as progress,
        GrowingH5ad(path, list(codec.genes)) as output,
    ):
        for name, block, latents, wanted in sample_blocks(sampler, numbers):
            batch.add(name, block, latents, wanted)
            if batch.is_full:
                batch.write(output)
            progress.to(batch.n_seen)
        batch.write(output)
        output.finish(
            pd.concat(batch.obs).assign(**{CELL_TYPE: lambda obs: pd.Categorical(obs[CELL_TYPE])}),
            {LATENT: np.concatenate(batch.latents)},
            {
                PROVENANCE: provenance(
                    "generate",
                    settings.to_dict(),
                    arguments.seed,
                    trained.inputs,
                    n_cells=numbers,
                    network_evaluations={"with the tree": shared, "without": alone},
                )
            },
        )
    log.info(
        "%d cells; blocks of %d cells went through the network %d times, without the tree it were %d (%.2f of that)",
        total,
        BLOCK,
        shared,
        alone,
        shared / alone,
    )


class Batch:
    """Generated cells on their way to the file, and what the file's tables need in the end."""

    def __init__(self, codec: Codec, seed: int, size: int) -> None:
        self.obs: list[pd.DataFrame] = []
        self.latents: list[np.ndarray[tuple[int, int], np.dtype[np.float32]]] = []
        self.n_seen = 0
        self._codec = codec
        self._seed = seed
        self._size = size
        self._counts: list[sparse.csr_matrix] = []

    @property
    def is_full(self) -> bool:
        """Whether the cells in memory have reached the batch size."""
        return bool(sum(counts.shape[0] for counts in self._counts) >= self._size)

    def add(self, name: str, block: int, latents: Tensor, wanted: int) -> None:
        """Decode a whole block, and keep its first cells."""
        rng = numpy_rng(self._seed, "generate", "counts", name, block)
        counts = self._codec.draw_counts(latents, rng)[:wanted]
        number = block * BLOCK + np.arange(wanted)
        self._counts.append(counts)
        self.latents.append(latents[:wanted].float().cpu().numpy())
        self.obs.append(
            pd.DataFrame(
                {
                    CELL_TYPE: name,
                    LIBRARY_SIZE: np.asarray(counts.sum(axis=1)).ravel().astype(np.int64),
                    ANCESTOR: number,
                },
                index=[f"{name}_{i}" for i in number],
            )
        )
        self.n_seen += wanted

    def write(self, output: GrowingH5ad) -> None:
        """Append the cells in memory to the file, and let go of their counts."""
        if self._counts:
            output.append(sparse.vstack(self._counts, format="csr"))
            self._counts = []
