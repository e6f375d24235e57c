"""What the parts of generating cells cost, from noise to the file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from branchgen.cells.keys import LATENT
from branchgen.config import GenerateSettings
from branchgen.diffusion.blocks import BLOCK, allocate
from branchgen.diffusion.sample import sample_blocks
from branchgen.growing import GrowingH5ad
from branchgen.hierarchy.tree import ROOT
from branchgen.seeds import numpy_rng
from branchgen.trained import Cells, Trained, class_type, empty_table, generated_table, joined

PARTS = ("network", "decode", "draw", "sparse", "table", "append")
"""Latents by network and solver; expected counts and dispersions; counts; zeros left out; table of cells; file."""


class Clock:
    """Seconds of every part of some work, the queue of the device included."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device

    @contextmanager
    def runs(self, part: str) -> Iterator[None]:
        """Add the time of the context to a part."""
        begun = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[part] += time.perf_counter() - begun


def generation_seconds(trained: Trained, n_cells: int, seed: int, path: Path) -> Mapping[str, float]:
    """Seconds of every one of PARTS for so many cells of all classes, with default settings.

    The cells are written to a path. Decoding and leaving out zeros are done once more by themselves, because drawing
    does both in one.
    """
    settings = GenerateSettings()
    sampler = trained.sampler(solver=settings.solver, n_steps=settings.n_steps, handover=settings.handover, seed=seed)
    numbers = allocate({ROOT: n_cells}, sampler.hierarchy, trained.model.n_train)
    kind = class_type(numbers)
    clock = Clock(trained.device)
    waiting: list[Cells] = []
    with GrowingH5ad(path, trained.codec.genes, empty_table(numbers), {LATENT: trained.codec.n_latent}) as output:

        def write() -> None:
            with clock.runs("table"):
                made = joined(waiting)
            with clock.runs("append"):
                output.append(made.counts, made.obs, {LATENT: made.latents})
            waiting.clear()

        blocks = sample_blocks(sampler, numbers, settings.ancestors)
        while True:
            with clock.runs("network"):
                block = next(blocks, None)
            if block is None:
                break
            name, number, latents, wanted = block
            codec = trained.codec_of(name)
            with clock.runs("decode"):
                for decoded, _ in codec.decoded(latents[:wanted]):
                    decoded.expected.cpu(), decoded.dispersion.cpu()
            with clock.runs("draw"):
                counts = codec.draw_counts(latents[:wanted], numpy_rng(seed, "generate", "counts", name, number))
            table = counts.toarray()
            with clock.runs("sparse"):
                sparse.csr_matrix(table)
            with clock.runs("table"):
                obs = generated_table(name, number * BLOCK + np.arange(wanted), counts, kind)
                waiting.append(Cells(counts, obs, latents[:wanted].float().cpu().numpy()))
            if sum(len(cells.obs) for cells in waiting) >= settings.batch_size:
                write()
        if waiting:
            write()
        with clock.runs("append"):
            output.finish({})
    clock.seconds["draw"] -= clock.seconds["decode"] + clock.seconds["sparse"]
    return clock.seconds
