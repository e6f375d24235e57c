"""`branchgen generate`: a model and its codec to generated cells."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict

from branchgen import files
from branchgen.cells.keys import LATENT, PROVENANCE
from branchgen.cells.numbers import requested_numbers
from branchgen.config import GenerateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.blocks import SEGMENT, Shard, allocate, blocks_of, cells_of_block
from branchgen.diffusion.sample import n_evaluations
from branchgen.errors import BranchgenError
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.trained import Cells, Trained, empty_table, joined

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
    shard = None if arguments.shard is None else Shard(number=number_of(arguments.shard), n_shards=settings.n_shards)
    total = sum(cells_of_block(numbers, block) for block in blocks_of(numbers, shard))
    shared, alone = n_evaluations(sampler, numbers, settings.ancestors)
    record = provenance(
        "generate",
        # The cells do not depend on the number of shards.
        {name: value for name, value in settings.to_dict().items() if name != "n_shards"},
        arguments.seed,
        trained.inputs,
        n_cells=numbers,
        network_evaluations={"with the tree": shared, "without": alone},
        **({} if shard is None else {"shard": asdict(shard)}),
    )
    waiting: list[Cells] = []

    def write() -> None:
        """Append the cells in memory to the file, and let go of them."""
        if waiting:
            made = joined(waiting)
            output.append(made.counts, made.obs, {LATENT: made.latents})
            waiting.clear()

    n_done = 0
    with (
        files.written_together(arguments.output_generated) as (path,),
        Progress("generate", total) as progress,
        GrowingH5ad(path, trained.codec.genes, empty_table(numbers), {LATENT: trained.codec.n_latent}) as output,
    ):
        for made in trained.generated(sampler, numbers, settings.ancestors, shard):
            waiting.append(made)
            if sum(len(cells.obs) for cells in waiting) >= settings.batch_size:
                write()
            n_done += len(made.obs)
            progress.to(n_done)
        write()
        output.finish({PROVENANCE: record})
    if shard is not None:
        log.info("shard %d of %d: %d of %d cells", shard.number, shard.n_shards, total, sum(numbers.values()))
    log.info(
        "%d cells; segments of %d cells go through the network %d times, without the tree it were %d (%.2f of that)",
        sum(numbers.values()),
        SEGMENT,
        shared,
        alone,
        shared / alone,
    )


def number_of(text: str) -> int:
    """Number of a shard."""
    if not text.isdecimal():
        raise BranchgenError(f"shard is {text!r}; it must be a number from 1 to n_shards")
    return int(text)
