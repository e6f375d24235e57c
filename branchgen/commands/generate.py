"""`branchgen generate`: a model and its codec to generated cells."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import sparse
from torch import Tensor

from branchgen import files
from branchgen.cells.codec import Codec
from branchgen.cells.keys import ANCESTOR, CELL_TYPE, LATENT, LIBRARY_SIZE, PROVENANCE
from branchgen.config import GenerateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.checkpoint import Model, require_same_codec
from branchgen.diffusion.sample import BLOCK, allocate, n_evaluations, sample_blocks
from branchgen.errors import BranchgenError
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import numpy_rng

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: GenerateSettings) -> None:
    """Sample the wanted cells and write them as they come."""
    device = choose_device(arguments.device)
    model = Model.from_state(files.read_state(arguments.model, "model"))
    codec_state = files.read_state(arguments.codec, "codec")
    require_same_codec(model.codec, codec_state["hash"], str(arguments.model), str(arguments.codec))
    codec = Codec.from_state(codec_state).to(device)
    numbers = allocate(requested(settings.n_cells, model), model.hierarchy, model.class_counts)
    total = sum(numbers.values())
    if not total:
        raise BranchgenError("n_cells asks for no cell at all; ask for at least one")
    log.info("running on %s", describe(device))
    sampler = model.sampler(
        device, solver=settings.solver, n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed
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
                    {"model": files.file_hash(arguments.model), "codec": model.codec},
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


def requested(text: str, model: Model) -> dict[str, int]:
    """Table of class or branch to number that a text stands for: a number, ``train`` or a JSON object."""
    if text == "train":
        return dict(model.class_counts)
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, int) and not isinstance(value, bool):
        return dict.fromkeys(model.hierarchy.classes, value)
    if isinstance(value, Mapping) and all(isinstance(n, int) and not isinstance(n, bool) for n in value.values()):
        return dict(value)
    raise BranchgenError(
        f"n_cells is {text!r}; it must be a number, the word train, or a table of class to number such as "
        '{"' + model.hierarchy.classes[0] + '": 100}'
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
