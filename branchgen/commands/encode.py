"""`branchgen encode`: counts to latent coordinates."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse

from branchgen import files
from branchgen.cells.autoencoder import NegativeBinomialAutoencoder
from branchgen.cells.codec import Body, standardised
from branchgen.cells.keys import CELL_TYPE, COUNTS, LATENT, LATENT_SCALE, PROVENANCE, SPLIT, require
from branchgen.cells.principal import PrincipalComponents
from branchgen.cells.representation import by_class, offsets_of_rare_classes, representation
from branchgen.config import EncodeSettings
from branchgen.device import choose_device, describe
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import torch_generator

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: EncodeSettings) -> None:
    """Fit the codec on train with ref held out, and encode all cells."""
    device = choose_device(arguments.device)
    cells = files.read_artefact(arguments.cells, "prepare")
    require(cells, str(arguments.cells), obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
    log.info("running on %s", describe(device))
    counts = sparse.csr_matrix(cells.layers[COUNTS])
    split = cells.obs[SPLIT].to_numpy()
    train, ref = counts[split == "train"], counts[split == "ref"]
    body = fit_body(train, ref, settings, arguments.seed, device)
    like = torch.zeros(1, device=device)
    codec = standardised(settings.codec, tuple(map(str, cells.var_names)), body, train, like)
    types = cells.obs[CELL_TYPE].astype(str).to_numpy()
    classes = by_class(counts, types, split.astype(str))
    offsets = offsets_of_rare_classes(codec, classes, partial(torch_generator, arguments.seed, "encode", "offsets"))
    if offsets:
        log.info("decoded with gene-wise offsets of their own: %s", ", ".join(offsets))
    codec = replace(codec, offsets=offsets)
    codec = replace(
        codec, gains={name: representation(codec.of_class(name), cells).gain for name, cells in classes.items()}
    )
    state = codec.to_state()
    mean, scale = codec.encode(counts)

    latents = AnnData(obs=cells.obs, obsm={LATENT: mean, LATENT_SCALE: scale})
    record = provenance(
        "encode",
        settings.to_dict(),
        arguments.seed,
        {"cells": files.file_hash(arguments.cells)},
        codec=state["hash"],
        genes=list(codec.genes),
    )
    latents.uns[PROVENANCE] = record
    with files.written_together(arguments.output_codec, arguments.output_latents) as (codec_path, latents_path):
        files.write_state({**state, "provenance": record}, codec_path)
        files.write_h5ad(latents, latents_path)
    log.info("codec %s: %d cells, %d coordinates", state["hash"], len(mean), codec.n_latent)


def fit_body(
    train: sparse.csr_matrix, ref: sparse.csr_matrix, settings: EncodeSettings, seed: int, device: torch.device
) -> Body:
    """The codec's model, fitted."""
    if settings.codec == "pca":
        return PrincipalComponents.fit(train, settings.n_latent, seed).to(device)
    with Progress("encode", settings.max_epochs) as progress:
        losses: list[float] = []

        def report(epoch: int, train_loss: float, ref_loss: float) -> None:
            losses.append(ref_loss)
            progress.to(epoch, lambda: f"train {train_loss:.1f}, ref {ref_loss:.1f} nats per cell")

        body = NegativeBinomialAutoencoder.fit(train, ref, settings, seed, device, report)
    log.info("best of %d epochs: %d, %.1f nats per cell of ref", len(losses), np.argmin(losses) + 1, min(losses))
    return body
