"""`branchgen benchmark-transmute`: transmuted cells of every pair of classes, judged beside simpler ways."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor

from branchgen import files
from branchgen.analysis.states import Judges, Labels, guided, shifted
from branchgen.benchmark_config import BenchmarkTransmuteSettings
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT
from branchgen.device import choose_device, describe
from branchgen.diffusion.sampler import TreeSampler
from branchgen.errors import BranchgenError
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)

TYPE_TARGET, STATE_TARGET = 0.90, 0.85
"""Shares of cells that are to be of the new class, and in their old state."""


def run(arguments: argparse.Namespace, settings: BenchmarkTransmuteSettings) -> None:
    """Transmute the held-out cells between all classes that are large enough in both states, and judge them."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE, SPLIT, arguments.state_key), layers=(COUNTS,))
    states = cells.obs[arguments.state_key].astype(str).to_numpy()
    if len(set(states)) != 2:
        raise BranchgenError(
            f"obs[{arguments.state_key!r}] of {arguments.cells} has {len(set(states))} values; there must be two states"
        )
    log.info("running on %s", describe(device))
    types, train = cells.obs[CELL_TYPE].astype(str).to_numpy(), (cells.obs[SPLIT] == "train").to_numpy()
    counts = sparse.csr_matrix(cells.layers[COUNTS])
    judges = Judges.trained(counts[train], types[train], states[train])
    held = {name: ~train & (types == name) for name in trained.model.n_train}
    large = [name for name, rows in held.items() if in_both_states(states[rows], settings.min_cells)]
    if len(large) < 2:
        raise BranchgenError(
            f"{len(large)} classes of {arguments.cells} have {settings.min_cells} held-out cells in both states; "
            "there must be two, so lower min_cells"
        )
    ways = Ways(trained, arguments, settings, counts[train], types[train])
    rows = []
    for source, target in (*((name, name) for name in large), *permutations(large, 2)):
        chosen = held[source]
        found = {"real": counts[chosen]} if source == target else ways.between(cells[chosen], source, target)
        for way, drawn in found.items():
            verdict = judges.verdict(drawn, states[chosen], target)
            row = {"source": source, "target": target, "way": way, "n_cells": int(chosen.sum())}
            rows.append({**row, **asdict(verdict)})
    table = pd.DataFrame(rows)
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    for part in (table, summary(table).reset_index()):
        print(part.to_string(index=False, float_format=lambda value: f"{value:.2f}"))


class Ways:
    """All ways to make cells of one class those of another; each gives counts, at the cells' own library sizes."""

    def __init__(
        self,
        trained: Trained,
        arguments: argparse.Namespace,
        settings: BenchmarkTransmuteSettings,
        counts: sparse.csr_matrix,
        types: Labels,
    ) -> None:
        self._trained, self._seed = trained, arguments.seed

        def sampler_of(model: Trained) -> TreeSampler:
            return model.sampler(n_steps=settings.n_steps, handover="transport", seed=arguments.seed)

        self._sampler = sampler_of(trained)
        self._flat: TreeSampler | None = None
        if arguments.flat_model is not None:
            self._flat = sampler_of(Trained.read(Path(arguments.flat_model), arguments.codec, trained.device))
        mean, _ = trained.codec.encode(counts)
        self._centres = {name: torch.from_numpy(mean[types == name].mean(axis=0)) for name in set(types.tolist())}

    def between(self, cells: AnnData, source: str, target: str) -> dict[str, sparse.csr_matrix]:
        """Counts (n_cells, n_genes) by way: flow, fresh, nothing, shift and, where there is a flat model, guided."""
        counts = sparse.csr_matrix(cells.layers[COUNTS])
        found = {}
        for noising in ("flow", "fresh"):
            made = self._trained.transmuted(self._sampler, cells, source, target, noising)
            found[noising] = sparse.csr_matrix(made.layers[COUNTS])
        found["nothing"] = counts
        latents = torch.from_numpy(self._trained.codec.encode(counts)[0]).to(self._sampler.like)
        moved = {"shift": shifted(latents, self._centres[source], self._centres[target])}
        if self._flat is not None:
            moved["guided"] = guided(self._flat, self._sampler, latents, source, target)
        for name, x in moved.items():
            found[name] = self._decoded(x, latents, name, source, target)
        return found

    def _decoded(self, x: Tensor, latents: Tensor, *name: str) -> sparse.csr_matrix:
        x[:, -1] = latents[:, -1]  # the library size
        target = name[-1]
        return self._trained.codec_of(target).draw_counts(x, numpy_rng(self._seed, "benchmark-transmute", *name))


def in_both_states(states: Labels, n_cells: int) -> bool:
    """Whether there are two states with that many cells each."""
    numbers = np.unique(states, return_counts=True)[1]
    return bool(len(numbers) == 2 and numbers.min() >= n_cells)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pairs of classes, and the share of pairs that reach both targets, for every way."""
    both = (table["type_accuracy"] >= TYPE_TARGET) & (table["state_accuracy"] >= STATE_TARGET)
    grouped = table.assign(both_targets=both).groupby("way", sort=False)
    return grouped[["type_accuracy", "state_accuracy", "response", "both_targets"]].mean()
