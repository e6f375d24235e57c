"""`branchgen prepare`: raw counts to the cells that are modelled."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
from anndata import AnnData

from branchgen import files, stores
from branchgen.cells.datasets import load_embedded
from branchgen.cells.keys import CELL_TYPE, PROVENANCE, SPLIT
from branchgen.cells.prepare import Removed, prepare
from branchgen.config import PrepareSettings
from branchgen.errors import BranchgenError
from branchgen.growing import write_in_blocks
from branchgen.provenance import provenance, state_hash
from branchgen.seeds import numpy_rng

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: PrepareSettings) -> None:
    """Read the source, validate, filter, split, select genes, write the prepared cells."""
    source: str = arguments.source
    counts: str = arguments.counts or "X"
    like = None if arguments.like is None else stores.read_artefact(Path(arguments.like), "prepare")
    with opened_source(source) as (cells, digest):
        log.info("%s: %d cells, %d genes, counts in %s", source, cells.n_obs, cells.n_vars, counts)
        prepared = prepare(
            cells,
            label_key=arguments.label_key,
            counts=counts,
            split_key=arguments.split_key,
            settings=settings,
            source=source,
            rng=numpy_rng(arguments.seed, "prepare", "split"),
            genes=None if like is None else list(map(str, like.var_names)),
        )
        found = prepared.cells
        table = pd.crosstab(found.obs[CELL_TYPE], found.obs[SPLIT], dropna=False)
        log_result(found, prepared.removed, table)
        found.uns[PROVENANCE] = provenance(
            "prepare",
            settings.to_dict(),
            arguments.seed,
            {source: digest} if like is None else {source: digest, "like": files.file_hash(Path(arguments.like))},
            label_key=arguments.label_key,
            counts=counts,
            split_key=arguments.split_key,
            removed=prepared.removed.to_dict(),
            n_cells_per_class={str(name): int(size) for name, size in table.sum(axis=1).items()},
        )
        with files.written_together(arguments.output_cells) as (path,):
            write_in_blocks(found, prepared.blocks(), path)


@contextmanager
def opened_source(source: str) -> Iterator[tuple[AnnData, str]]:
    """Cells of a store, whose counts are read as they are needed, or of an embedded data set, and their hash."""
    if source.startswith("scanpy:"):
        cells = load_embedded(source)
        yield cells, state_hash({"counts": cells.X.data, "genes": cells.X.indices, "cells": cells.X.indptr})
        return
    if "://" in source:
        raise BranchgenError(
            f"the source {source} is a URL; download it first: "
            f"branchgen fetch --url {source} --sha256 HASH --output-cells FILE"
        )
    path = Path(source)
    with ExitStack() as stack:
        with warnings.catch_warnings():
            # `prepare` refuses duplicate names with a sentence of its own.
            warnings.filterwarnings("ignore", message=r".* names are not unique", category=UserWarning)
            cells = stack.enter_context(stores.opened_cells(path))
        yield cells, files.store_hash(path)


def log_result(prepared: AnnData, removed: Removed, table: pd.DataFrame) -> None:
    """Log what was removed and what is left: the table has a row per class, a column per split."""
    for reason, number in removed.to_dict().items():
        text = ", ".join(f"{name} ({size} cells)" for name, size in number.items()) if reason == "classes" else number
        log.info("removed %s: %s", reason.replace("_", " "), text or 0)
    log.info("kept %d cells, %d genes, %d classes", prepared.n_obs, prepared.n_vars, len(table))
    log.info("cells per class and split\n%s", table.to_string())
    for name, sizes in table.iterrows():
        absent = [str(split) for split, size in sizes.items() if not size]
        if absent:
            log.info("class %s has no cells in %s: its donors or batches are all elsewhere", name, " and ".join(absent))
