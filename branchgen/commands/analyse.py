"""`branchgen analyse`: what happens at the branch points."""

from __future__ import annotations

import argparse
import logging

from branchgen import files
from branchgen.analysis.branch_points import branch_gene_table, branch_point_cells, branch_point_table
from branchgen.cells.keys import CELL_TYPE, COUNTS, PROVENANCE, SPLIT
from branchgen.config import AnalyseSettings
from branchgen.device import choose_device, describe
from branchgen.errors import BranchgenError
from branchgen.provenance import provenance
from branchgen.trained import Trained

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: AnalyseSettings) -> None:
    """Sample the populations at the branch points, and compare the children in model and data."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    model = trained.model
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
    if set(cells.obs[CELL_TYPE][cells.obs[SPLIT] == "train"]) != set(model.hierarchy.classes):
        raise BranchgenError(f"{arguments.cells} has other classes than {arguments.model}; train on these cells")
    log.info("running on %s", describe(device))
    sampler = trained.sampler(n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed)
    branch_points = branch_point_cells(sampler, trained.codec, settings.n_cells)
    branch_points.uns[PROVENANCE] = provenance(
        "analyse",
        settings.to_dict(),
        arguments.seed,
        {**trained.inputs, "cells": files.file_hash(arguments.cells)},
    )
    table = branch_point_table(sampler, model.support, model.class_counts)
    genes = branch_gene_table(sampler, branch_points, cells)
    outputs = (arguments.output_branch_points, arguments.output_table, arguments.output_genes)
    with files.written_together(*outputs) as (cells_path, table_path, genes_path):
        files.write_h5ad(branch_points, cells_path)
        files.write_table(table, table_path)
        files.write_table(genes, genes_path)
    log.info("%d branch points, %d cells", len(model.hierarchy.branch_points), branch_points.n_obs)
