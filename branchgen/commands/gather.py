"""`branchgen gather`: shards of generated cells to one file."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
from scipy import sparse

from branchgen import files, stores
from branchgen.cells.keys import LATENT, PROVENANCE
from branchgen.errors import BranchgenError
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.trained import Cells, empty_table

log = logging.getLogger(__name__)

BATCH = 4096
"""Cells held in memory."""


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Append the cells of every shard, in their order."""
    del settings
    paths = in_order([Path(name) for name in arguments.shards])
    record = {name: value for name, value in record_of(paths[0]).items() if name != "shard"}
    with h5py.File(paths[0]) as store:
        genes = list(anndata.io.read_elem(store["var"]).index)
        n_latent = store["obsm"][LATENT].shape[1]
    numbers = record["n_cells"]
    n_done = 0
    with (
        files.written_together(arguments.output_generated) as (path,),
        Progress("gather", sum(numbers.values())) as progress,
        GrowingH5ad(path, genes, empty_table(numbers), {LATENT: n_latent}) as output,
    ):
        for shard in paths:
            for cells in batches(shard):
                output.append(cells.counts, cells.obs, {LATENT: cells.latents})
                n_done += len(cells.obs)
                progress.to(n_done)
        if n_done != sum(numbers.values()):
            raise BranchgenError(
                f"the shards hold {n_done} cells where {sum(numbers.values())} were asked for; generate them again"
            )
        output.finish({PROVENANCE: json.dumps(record)})
    log.info("%d cells of %d shards", n_done, len(paths))


def record_of(path: Path) -> dict[str, Any]:
    """Provenance of a shard."""
    stores.require_h5ad(path)
    with h5py.File(path) as store:
        text = store["uns"][PROVENANCE][()] if PROVENANCE in store.get("uns", {}) else b"{}"
    record: dict[str, Any] = json.loads(text)
    if record.get("command") != "generate" or "shard" not in record:
        raise BranchgenError(f"{path} is no shard; it must be written by 'branchgen generate --shard'")
    return record


def in_order(paths: list[Path]) -> list[Path]:
    """The shards by their numbers; BranchgenError unless they are all parts of the same cells, each once."""
    records = {path: record_of(path) for path in paths}
    first = records[paths[0]]
    for path, record in records.items():
        if {**record, "shard": None} != {**first, "shard": None}:
            raise BranchgenError(
                f"{path} and {paths[0]} are shards of different cells (model, settings or seed); generate them again"
            )
    found = sorted((record["shard"]["number"], path) for path, record in records.items())
    wanted = list(range(1, first["shard"]["n_shards"] + 1))
    if [number for number, _ in found] != wanted or len(found) != len(paths):
        raise BranchgenError(
            f"--shards has the numbers {', '.join(str(number) for number, _ in found)} of {len(wanted)}; it must have "
            "each once"
        )
    return [path for _, path in found]


def batches(path: Path) -> Iterator[Cells]:
    """Cells of a shard, some at a time."""
    with h5py.File(path) as store:
        obs = anndata.io.read_elem(store["obs"])
        counts, latents = anndata.io.sparse_dataset(store["X"]), store["obsm"][LATENT]
        for first in range(0, len(obs), BATCH):
            rows = slice(first, first + BATCH)
            yield Cells(sparse.csr_matrix(counts[rows]), obs.iloc[rows], latents[rows])
