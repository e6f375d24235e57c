"""`branchgen analyse`: what happens at the branch points."""

from __future__ import annotations

import argparse
import logging

import numpy as np
from anndata import AnnData
from scipy import sparse

from branchgen import files, stores
from branchgen.analysis.branch_points import branch_gene_table, branch_point_cells, branch_point_table
from branchgen.analysis.fate_cells import fate_cells
from branchgen.analysis.fates import Latents, fates, separability_table
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
    sampler = trained.sampler(n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed)
    tree = sampler.hierarchy
    if set(cells.obs[CELL_TYPE][cells.obs[SPLIT] == "train"]) != set(tree.classes):
        raise BranchgenError(f"{arguments.cells} has other classes than {arguments.model}; train on these cells")
    log.info("running on %s", describe(device))
    branch_points = branch_point_cells(sampler, trained.codec, model.offsets, settings.n_cells)
    branch_points.uns[PROVENANCE] = provenance(
        "analyse",
        settings.to_dict(),
        arguments.seed,
        {**trained.inputs, "cells": files.file_hash(arguments.cells)},
    )
    table = branch_point_table(sampler, model.support, model.n_train)
    genes = branch_gene_table(sampler, branch_points, cells)
    mean, scale = (part.astype(float) for part in trained.codec.encode(sparse.csr_matrix(cells.layers[COUNTS])))
    latents = Latents(mean=mean, scale=scale)
    found = fates(sampler, latents, settings.n_draws)
    placed = fate_cells(cells, latents, found, tree)
    placed.uns[PROVENANCE] = branch_points.uns[PROVENANCE]
    unseen = np.flatnonzero(np.isin(cells.obs[SPLIT], ("test", "holdout")))
    types = cells.obs[CELL_TYPE].astype(str).to_numpy()
    separability = separability_table(sampler, latents.take(unseen), types[unseen], settings.n_draws)
    outputs = {
        "branch_points": branch_points,
        "table": table,
        "genes": genes,
        "fates": placed,
        "separability": separability,
    }
    with files.written_together(*(getattr(arguments, f"output_{name}") for name in outputs)) as paths:
        for path, output in zip(paths, outputs.values(), strict=True):
            write = stores.write_h5ad if isinstance(output, AnnData) else files.write_table
            write(output, path)
    log.info("%d branch points, %d cells", len(tree.branch_points), branch_points.n_obs)
    own = (placed.obs[CELL_TYPE].cat.codes.to_numpy() == found.of_classes.argmax(axis=1)).mean()
    log.info("%d real cells; %.0f %% are most likely of their own class when noised", placed.n_obs, 100 * own)
