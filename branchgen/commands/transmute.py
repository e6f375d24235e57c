"""`branchgen transmute`: real cells of one class as cells of another."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from branchgen import files
from branchgen.analysis.transmutation import transmuted_genes
from branchgen.cells.codec import Codec
from branchgen.cells.keys import (
    CELL_TYPE,
    COUNTS,
    LATENT,
    LIBRARY_SIZE,
    PROVENANCE,
    SOURCE_CELL,
    SOURCE_TYPE,
)
from branchgen.config import TransmuteSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.transmute import require_two_classes, transmute
from branchgen.errors import BranchgenError
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: TransmuteSettings) -> None:
    """Encode the cells of the source class, take them to the target class, and decode them at their library sizes."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    codec = trained.codec
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE,), layers=(COUNTS,))
    sampler = trained.sampler(n_steps=settings.n_steps, handover=settings.handover, seed=arguments.seed)
    require_two_classes(sampler.hierarchy, arguments.source, arguments.target)
    source, target = (of_class(cells, name, arguments.cells) for name in (arguments.source, arguments.target))
    log.info("running on %s", describe(device))
    counts = sparse.csr_matrix(source.layers[COUNTS])
    before = posterior_sample(codec, counts, arguments.seed, arguments.source)
    latents: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    drawn: list[sparse.csr_matrix] = []
    done = 0
    blocks = transmute(sampler, before.to(sampler.like), arguments.source, arguments.target, settings.noising)
    with Progress("transmute", source.n_obs) as progress:
        for number, block in enumerate(blocks):
            # The last coordinate is the library size: a cell keeps its own.
            block[:, -1] = before[done : done + len(block), -1].to(block)
            rng = numpy_rng(arguments.seed, "transmute", "counts", arguments.source, arguments.target, number)
            drawn.append(codec.draw_counts(block, rng))
            latents.append(block.float().cpu().numpy())
            done += len(block)
            progress.to(done)
    made = sparse.csr_matrix(sparse.vstack(drawn, format="csr"))
    result = paired(source, made, np.concatenate(latents), arguments.target)
    result.uns[PROVENANCE] = provenance(
        "transmute",
        settings.to_dict(),
        arguments.seed,
        {**trained.inputs, "cells": files.file_hash(arguments.cells)},
        source=arguments.source,
        target=arguments.target,
    )
    changes = transmuted_genes(counts, made, sparse.csr_matrix(target.layers[COUNTS]), source.var_names.to_numpy())
    with files.written_together(arguments.output_transmuted, arguments.output_changes) as (cells_path, changes_path):
        files.write_h5ad(result, cells_path)
        files.write_table(changes, changes_path)
    agreement = np.corrcoef(changes["change"], changes["expected_change"])[0, 1]
    log.info(
        "%d cells of %s as %s; over genes, their change correlates %.2f with the difference between the real cells",
        source.n_obs,
        arguments.source,
        arguments.target,
        agreement,
    )


def of_class(cells: AnnData, name: str, path: Path) -> AnnData:
    """The cells of one class; BranchgenError where the file has none."""
    found = cells[cells.obs[CELL_TYPE] == name]
    if not found.n_obs:
        raise BranchgenError(f"{path} has no cells of class {name!r}; train on these cells")
    return found


def posterior_sample(codec: Codec, counts: sparse.csr_matrix, seed: int, name: str) -> torch.Tensor:
    """Latents (n_cells, d) drawn from the codec's posterior: what the model was trained on."""
    mean, scale = codec.encode(counts)
    noise = numpy_rng(seed, "transmute", "posterior", name).standard_normal(mean.shape)
    return torch.from_numpy(mean + scale * noise.astype(np.float32))


def paired(
    source: AnnData, counts: sparse.csr_matrix, latents: np.ndarray[Any, np.dtype[np.float32]], target: str
) -> AnnData:
    """Transmuted cells in the order of the real ones, whose columns of obs they keep."""
    obs = source.obs.rename(columns={CELL_TYPE: SOURCE_TYPE}).assign(
        **{
            SOURCE_CELL: source.obs_names.to_numpy(),
            CELL_TYPE: pd.Categorical([target] * source.n_obs),
            LIBRARY_SIZE: np.asarray(counts.sum(axis=1)).ravel().astype(np.int64),
        }
    )
    obs.index = pd.Index([f"{name}_as_{target}" for name in source.obs_names])
    result = AnnData(X=counts, obs=obs, var=pd.DataFrame(index=source.var_names), obsm={LATENT: latents})
    result.layers[COUNTS] = result.X
    return result
