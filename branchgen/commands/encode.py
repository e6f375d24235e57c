"""`branchgen encode`: counts to latent coordinates."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen import files, stores
from branchgen.cells.autoencoder import PASS, CountRows, NegativeBinomialAutoencoder, cells_of_epoch
from branchgen.cells.codec import Body, Codec, standardised
from branchgen.cells.counts import RawCounts, Rows, evenly
from branchgen.cells.keys import CELL_TYPE, COUNTS, LATENT, LATENT_SCALE, PROVENANCE, SPLIT, require
from branchgen.cells.principal import PrincipalComponents
from branchgen.cells.representation import by_class, cells_of_classes, offsets_of_rare_classes, representation
from branchgen.config import EncodeSettings
from branchgen.device import choose_device, describe
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import torch_generator

log = logging.getLogger(__name__)

MAX_HELD_OUT = 20_000
"""Held-out cells by which training stops, at most."""
ENCODED_AT_ONCE = 4096
"""Cells that are read and encoded at once."""


def run(arguments: argparse.Namespace, settings: EncodeSettings) -> None:
    """Fit the codec on train with ref held out, and encode all cells."""
    device = choose_device(arguments.device)
    with stores.opened_artefact(arguments.cells, "prepare") as cells:
        require(cells, str(arguments.cells), obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
        log.info("running on %s", describe(device))
        counts = RawCounts(cells, COUNTS, str(arguments.cells))
        codec = fit_codec(cells, counts, settings, arguments.seed, device)
        state = codec.to_state()
        mean, scale = encoded(codec, counts)

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
        stores.write_h5ad(latents, latents_path)
    log.info("codec %s: %d cells, %d coordinates", state["hash"], len(mean), codec.n_latent)


def fit_codec(cells: AnnData, counts: RawCounts, settings: EncodeSettings, seed: int, device: torch.device) -> Codec:
    """The codec with all that it knows of classes; of many cells, the counts are read as they are needed."""
    split, types = (cells.obs[name].astype(str).to_numpy(dtype=str) for name in (SPLIT, CELL_TYPE))
    rows = np.flatnonzero(split == "train")
    train = Rows(counts=counts, rows=rows) if len(rows) > PASS else counts[rows]
    ref = counts[evenly(np.flatnonzero(split == "ref"), MAX_HELD_OUT)]
    some = train[np.sort(cells_of_epoch(len(rows), seed, 1))]
    if settings.codec == "pca":
        body: Body = PrincipalComponents.fit(some, settings.n_latent, seed).to(device)
    else:
        body = fit_autoencoder(train, ref, settings, seed, device)
    like = torch.zeros(1, device=device)
    codec = standardised(settings.codec, tuple(map(str, cells.var_names)), body, some, like)

    judged = cells_of_classes(types, split)
    classes = by_class(counts[judged], types[judged], split[judged])
    offsets = offsets_of_rare_classes(codec, classes, partial(torch_generator, seed, "encode", "offsets"))
    if offsets:
        log.info("decoded with gene-wise offsets of their own: %s", ", ".join(offsets))
    codec = replace(codec, offsets=offsets)
    gains = {name: representation(codec.of_class(name), found).gain for name, found in classes.items()}
    return replace(codec, gains=gains)


def encoded(codec: Codec, counts: RawCounts) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior means and standard deviations of all cells, each (n_cells, n_latent)."""
    mean, scale = (np.empty((counts.shape[0], codec.n_latent), dtype=np.float32) for _ in range(2))
    for first in range(0, len(mean), ENCODED_AT_ONCE):
        place = slice(first, first + ENCODED_AT_ONCE)
        mean[place], scale[place] = codec.encode(counts[np.arange(len(mean))[place]])
    return mean, scale


def fit_autoencoder(
    train: CountRows, ref: sparse.csr_matrix, settings: EncodeSettings, seed: int, device: torch.device
) -> NegativeBinomialAutoencoder:
    """The autoencoder, fitted."""
    with Progress("encode", settings.max_epochs) as progress:
        losses: list[float] = []

        def report(epoch: int, train_loss: float, ref_loss: float) -> None:
            losses.append(ref_loss)
            progress.to(epoch, lambda: f"train {train_loss:.1f}, ref {ref_loss:.1f} nats per cell")

        body = NegativeBinomialAutoencoder.fit(train, ref, settings, seed, device, report)
    log.info("best of %d epochs: %d, %.1f nats per cell of ref", len(losses), np.argmin(losses) + 1, min(losses))
    return body
