"""`branchgen benchmark-extend`: classes left out and added again, beside what else could have been done."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from branchgen import files, stores
from branchgen.analysis.classifiers import boosted_trees, tell_apart
from branchgen.analysis.finetuning import finetuned
from branchgen.analysis.metrics import View
from branchgen.analysis.reference import Reference, fit_reference
from branchgen.analysis.samples import Cells, matched
from branchgen.analysis.two_sample import frechet_parts
from branchgen.benchmark_config import BenchmarkExtendSettings
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT, require
from branchgen.config import EvaluateSettings, ExtendSettings
from branchgen.device import choose_device
from branchgen.diffusion.batches import TrainingData
from branchgen.errors import BranchgenError
from branchgen.extension import NewCells, extend
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)

FILES = {
    "cells": "cells.h5ad",
    "codec": "codec.pt",
    "latents": "latents.h5ad",
    "hierarchy": "hierarchy.json",
    "newick": "hierarchy.nwk",
    "divergence": "divergence.parquet",
    "model": "model.pt",
    "training": "training.parquet",
}
SEEN = ("train", "ref")
"""Splits that a model sees."""
NEW, OLD = "new", "old"
ALONE, ALL = "the new class alone", "all classes"


def run(arguments: argparse.Namespace, settings: BenchmarkExtendSettings) -> None:
    """For every class: a model without it, extended and fine-tuned, and the model that had it from the start."""
    device = choose_device(arguments.device)
    cells = stores.read_artefact(arguments.cells, "prepare")
    require(cells, str(arguments.cells), obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
    types = cells.obs[CELL_TYPE].astype(str).to_numpy()
    for name in arguments.classes:
        if name not in types:
            raise BranchgenError(f"no class is called {name!r}; there are {', '.join(sorted(set(types)))}")
    judge = Judge.of(cells, arguments.seed)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        everything = Runs(Path(folder) / "all", cells, arguments.seed, settings, device)
        full, seconds = everything.trained(flat=False)
        for name in arguments.classes:
            without = Runs(Path(folder) / "without", cells[types != name].copy(), arguments.seed, settings, device)
            for way, model, spent in (("from the start", full, seconds), *added(without, cells, name, settings)):
                found = judge.scores(model, name, settings.n_solver_steps)
                for group, scores in found.items():
                    rows.append({"class": name, "way": way, "group": group, "seconds": spent, **scores})
                told = "; ".join(
                    f"{group} AUC {one['c2st_auc']:.3f}, Fréchet {one['frechet']:.2f}" for group, one in found.items()
                )
                log.info("%s, %s (%.0f s): %s", name, way, spent, told)
    table = pd.DataFrame(rows)
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


@dataclass
class Runs:
    """Commands on some cells, in a folder of their own."""

    folder: Path
    cells: AnnData
    seed: int
    settings: BenchmarkExtendSettings
    device: torch.device

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        stores.write_h5ad(self.cells, self.folder / "cells.h5ad")
        self._run("encode", "cells", outputs=("codec", "latents"), codec=self.settings.codec, device=self.device)

    def trained(self, *, flat: bool) -> tuple[Trained, float]:
        """Model of the cells, with a tree or without, and the seconds of its training."""
        self._run(
            "derive", "cells", "latents", *(["flat"] if flat else []), outputs=("hierarchy", "newick", "divergence")
        )
        started = time.perf_counter()
        n_steps = self.settings.n_train_steps
        self._run("train", "latents", "hierarchy", outputs=("model", "training"), n_steps=n_steps, device=self.device)
        seconds = time.perf_counter() - started
        return Trained.read(self.folder / FILES["model"], self.folder / FILES["codec"], self.device), seconds

    def latents(self, trained: Trained, cells: AnnData, split: str, classes: list[str]) -> TrainingData:
        """Latents of the cells of a split, which may have classes that the codec has never seen."""
        part = cells[(cells.obs[SPLIT] == split) & cells.obs[CELL_TYPE].isin(classes)]
        mean, scale = (
            torch.from_numpy(values).to(self.device)
            for values in trained.codec.encode(sparse.csr_matrix(part.layers[COUNTS]))
        )
        codes = pd.Categorical(part.obs[CELL_TYPE].astype(str), categories=classes).codes.astype(np.int64)
        return TrainingData(mean=mean, scale=scale, codes=codes, classes=tuple(classes))

    def _run(self, command: str, *inputs: str, outputs: tuple[str, ...], **options: object) -> None:
        """Run a command in a process of its own, as a user would; BranchgenError with its last line where it fails."""
        line = [sys.executable, "-m", "branchgen", command, "--seed", str(self.seed)]
        for name in inputs:
            line += [f"--{name}"] if name not in FILES else [f"--{name}", str(self.folder / FILES[name])]
        for name in outputs:
            line += [f"--output-{name}", str(self.folder / FILES[name])]
        for name, value in options.items():
            line += [f"--{name.replace('_', '-')}", str(value)]
        done = subprocess.run(line, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise BranchgenError(done.stderr.strip().splitlines()[-1])


def added(runs: Runs, cells: AnnData, name: str, settings: BenchmarkExtendSettings) -> list[tuple[str, Trained, float]]:
    """Ways to add a class to a model without it, with the seconds each takes; and what was before."""
    base, _ = runs.trained(flat=False)

    def timed(make: Callable[[], Trained]) -> tuple[Trained, float]:
        started = time.perf_counter()
        return make(), time.perf_counter() - started

    chosen = ExtendSettings(n_steps=settings.n_steps)
    of_class = NewCells.of(cells, name, "the cells")

    def extended() -> Trained:
        model, _ = extend(base.model, base.codec, of_class, chosen, runs.seed, runs.device, "{}", lambda *_: None)
        return replace(base, model=model)

    more, seconds = timed(extended)
    frozen = replace(more, model=replace(more.model, offsets={}))
    found = [("before", base, 0.0), ("extended", more, seconds), ("extended, codec frozen", frozen, seconds)]
    graft = more.model.grafts[-1]
    flat, _ = runs.trained(flat=True)
    found.append(("without a tree, before", flat, 0.0))
    for what, classes in ((ALONE, [name]), (ALL, [*flat.model.class_counts, name])):
        order = [*flat.model.class_counts, name]

        def tuned(classes: list[str] = classes, order: list[str] = order) -> Trained:
            seen = [runs.latents(flat, cells[cells.obs[CELL_TYPE].isin(classes)], split, order) for split in SEEN]
            model = finetuned(flat.model, name, graft.mean, graft.covariance, seen, chosen, runs.seed)
            # Decoded as the extension is: it is the diffusion that is compared.
            return replace(flat, model=replace(model, offsets=more.model.offsets))

        found.append((f"fine-tuned on {what}", *timed(tuned)))
    return found


@dataclass(frozen=True)
class Judge:
    """Compares generated with held-out real cells, all classes in the same transforms."""

    held_out: Cells
    reference: Reference
    seed: int

    @classmethod
    def of(cls, cells: AnnData, seed: int) -> Judge:
        """From prepared cells."""
        split, types = (cells.obs[key].astype(str).to_numpy() for key in (SPLIT, CELL_TYPE))
        counts = sparse.csr_matrix(cells.layers[COUNTS])
        chosen = EvaluateSettings()
        rows = np.isin(split, ("test", "holdout"))
        return cls(
            Cells(counts=counts[rows], types=types[rows]),
            fit_reference(counts[split == "ref"], n_variable=chosen.n_genes, n_components=chosen.n_components),
            seed,
        )

    def scores(self, trained: Trained, name: str, n_steps: int) -> dict[str, dict[str, float]]:
        """AUC of boosted trees and Fréchet distance, for the new class (where the model has it) and all others."""
        sampler = trained.sampler(n_steps=n_steps, handover="transport", seed=self.seed)
        held = self.held_out.n_per_type()
        numbers = {known: held.get(known, 0) for known in sampler.hierarchy.classes}
        made = trained.generate(sampler, numbers)
        made_cells = Cells(
            counts=sparse.csr_matrix(made.layers[COUNTS]), types=made.obs[CELL_TYPE].astype(str).to_numpy()
        )
        groups = {NEW: [name], OLD: [known for known in held if known != name]}
        return {
            group: self._apart(made_cells.of_types(names), self.held_out.of_types(names), group)
            for group, names in groups.items()
            if set(names) & set(sampler.hierarchy.classes)
        }

    def _apart(self, made: Cells, real: Cells, group: str) -> dict[str, float]:
        a, b = (View.of(part, self.reference) for part in matched(real, made, self.seed, "benchmark-extend", group))
        auc = tell_apart(boosted_trees, a.genes(), b.genes(), numpy_rng(self.seed, "benchmark-extend", group)).auc
        names = sorted(set(a.cells.types))
        rows = [(np.flatnonzero(side.cells.types == name) for side in (a, b)) for name in names]
        frechet = [sum(frechet_parts(a.scores[i], b.scores[j])) for i, j in rows]
        return {"c2st_auc": auc, "frechet": float(np.mean(frechet)), "n_cells": len(a)}
