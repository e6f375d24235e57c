"""`branchgen transmute`: real cells of one class as cells of another."""

from __future__ import annotations

import argparse
import logging

import numpy as np
from scipy import sparse

from branchgen import files, stores
from branchgen.analysis.transmutation import transmuted_genes
from branchgen.cells.keys import CELL_TYPE, COUNTS, PROVENANCE
from branchgen.config import TransmuteSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.transmute import require_two_classes
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.trained import Trained, of_class

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: TransmuteSettings) -> None:
    """Encode the cells of the source class, take them to the target class, and decode them at their library sizes."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE,), layers=(COUNTS,))
    sampler = trained.sampler(n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed)
    require_two_classes(sampler.hierarchy, arguments.source, arguments.target)
    source, target = (of_class(cells, name, str(arguments.cells)) for name in (arguments.source, arguments.target))
    log.info("running on %s", describe(device))
    with Progress("transmute", source.n_obs) as progress:
        names = arguments.source, arguments.target
        result = trained.transmuted(sampler, source, *names, settings.noising, progress.to)
    result.uns[PROVENANCE] = provenance(
        "transmute",
        settings.to_dict(),
        arguments.seed,
        {**trained.inputs, "cells": files.file_hash(arguments.cells)},
        source=arguments.source,
        target=arguments.target,
    )
    before, after, aim = (sparse.csr_matrix(part.layers[COUNTS]) for part in (source, result, target))
    changes = transmuted_genes(before, after, aim, source.var_names.to_numpy())
    with files.written_together(arguments.output_transmuted, arguments.output_changes) as (cells_path, changes_path):
        stores.write_h5ad(result, cells_path)
        files.write_table(changes, changes_path)
    agreement = np.corrcoef(changes["change"], changes["expected_change"])[0, 1]
    log.info(
        "%d cells of %s as %s; over genes, their change correlates %.2f with the difference between the real cells",
        source.n_obs,
        arguments.source,
        arguments.target,
        agreement,
    )
