"""`branchgen benchmark-scale`: what every step of the pipeline costs, by the number of cells and of classes."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from branchgen import files, stores
from branchgen.benchmark_config import BenchmarkScaleSettings
from branchgen.cells.atlas import random_atlas
from branchgen.cells.autoencoder import cells_of_epoch
from branchgen.cells.counts import RawCounts
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT
from branchgen.config import TrainSettings
from branchgen.device import choose_device, describe
from branchgen.errors import BranchgenError
from branchgen.generation_cost import generation_seconds
from branchgen.growing import GrowingH5ad
from branchgen.hierarchy.tree import ROOT
from branchgen.measured import Cost, measured
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)

Row = dict[str, Any]

STEPS = ("prepare", "encode", "derive", "train", "generate")
"""What is run, in order."""
FOREVER = "1000000000"
"""As patience: nothing is stopped before its last step."""
TWICE = "train, twice as long"
"""Name of the second training."""
MOST_IN_PARTS = 100_000
"""Generated cells at most whose generation is timed part by part."""
COLUMNS = {"n_cells": int, "n_classes": int, "step": str, "cells": int} | dict.fromkeys(
    [
        "seconds",
        "start_seconds",
        "cpu_seconds",
        "peak_mb",
        "mb_read",
        "mb_written",
        "cells_per_second",
        "share",
    ],
    float,
)
"""Columns of the table with their types; what has no meaning in a row is NaN."""


def run(arguments: argparse.Namespace, settings: BenchmarkScaleSettings) -> None:
    """Run all steps on an atlas of every size, and write and print a table."""
    device = choose_device(arguments.device)
    sizes = list(
        itertools.product(numbers_of("n_cells", settings.n_cells), numbers_of("n_classes", settings.n_classes))
    )
    for n_cells, n_classes in sizes:
        # What cannot be is refused before hours of what can.
        random_atlas(n_cells, n_classes, settings.n_genes, numpy_rng(arguments.seed))
    log.info("running on %s", describe(device))
    rows: list[Row] = []
    with files.written_together(arguments.output_table) as (path,):
        starts = start_seconds()
        for n_cells, n_classes in sizes:
            with TemporaryDirectory(prefix=".benchmark-scale.", dir=path.parent) as folder:
                trial = Trial(Path(folder), n_cells, n_classes, settings, arguments.device, arguments.seed, starts)
                rows += [
                    {"n_cells": n_cells, "n_classes": n_classes, **row}
                    for row in (*trial.steps(), trial.reading(), *trial.parts(device))
                ]
        table = pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(COLUMNS)
        files.write_table(table, path)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}" if value < 10 else f"{value:.0f}"))


def numbers_of(name: str, text: str) -> list[int]:
    """Numbers of a setting, which are separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BranchgenError(f"{name} is {text!r}; it must be numbers such as 10,50,200") from error


def start_seconds() -> dict[str, float]:
    """Seconds in which the process of every step starts and imports its libraries, which the system has read before."""

    def imported(*names: str) -> float:
        code = "; ".join(f"import branchgen.commands.{name}" for name in names)
        return measured([sys.executable, "-c", code], "the import of branchgen").seconds

    imported(*STEPS)
    return {step: imported(step) for step in STEPS}


@dataclass(frozen=True)
class Trial:
    """One atlas and the steps on it, whose files are in a folder."""

    folder: Path
    n_cells: int
    n_classes: int
    settings: BenchmarkScaleSettings
    device: str
    seed: int
    starts: dict[str, float]

    def path(self, name: str) -> str:
        """A file of the folder."""
        return str(self.folder / name)

    def steps(self) -> Iterator[Row]:
        """A row for every step as a process of its own, and one for a single step of the optimiser."""
        begun = time.perf_counter()
        self.write_atlas()
        log.info("%d cells of %d classes simulated in %.0f s", *self.size, time.perf_counter() - begun)
        costs: dict[str, Cost] = {}
        for name, line in self.lines().items():
            command = [sys.executable, "-m", "branchgen", *line, "--seed", str(self.seed)]
            costs[name] = measured(command, f"branchgen {line[0]}")
            log.info("%s: %.1f s, %.0f MB", name, costs[name].seconds, costs[name].peak_mb)
        batch = TrainSettings().batch_size
        for name in STEPS:
            cells = self.settings.n_steps * batch if name == "train" else self.n_cells
            start = self.starts[name]
            yield row(name, cells, costs[name].seconds - start, start_seconds=start, **asdict(costs[name]))
        # What reading the latents takes is in both trainings, and not in their difference; where that is less than the
        # machine's whims, it says nothing.
        once, twice = costs["train"], costs[TWICE]
        step = (twice.seconds - once.seconds) / self.settings.n_steps
        step_cpu = (twice.cpu_seconds - once.cpu_seconds) / self.settings.n_steps
        seconds = step if step > 0 else math.nan
        yield row("train: step", batch, seconds, seconds=seconds, cpu_seconds=step_cpu)

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of cells and of classes."""
        return self.n_cells, self.n_classes

    def write_atlas(self) -> None:
        """Write the simulated cells, of which a block is in memory."""
        kind = pd.CategoricalDtype([f"type {code:03d}" for code in range(self.n_classes)])
        genes = [f"gene_{number}" for number in range(self.settings.n_genes)]

        def table(codes: NDArray[np.int64], first: int) -> pd.DataFrame:
            names = pd.Categorical.from_codes(codes, dtype=kind)
            return pd.DataFrame({CELL_TYPE: names}, index=[f"cell_{first + i}" for i in range(len(codes))])

        atlas = random_atlas(*self.size, len(genes), numpy_rng(self.seed, "benchmark-scale", "classes"))
        done = 0
        with GrowingH5ad(self.folder / "atlas.h5ad", genes, table(np.zeros(0, dtype=np.int64), 0), {}) as output:
            for counts, codes in atlas.blocks(numpy_rng(self.seed, "benchmark-scale", "cells")):
                output.append(counts, table(codes, done), {})
                done += len(codes)
            output.finish({})

    def lines(self) -> dict[str, list[str]]:
        """Command line of every step, in order."""
        path, settings = self.path, self.settings
        cells, codec, latents = path("cells.h5ad"), path("codec.pt"), path("latents.h5ad")
        hierarchy, model = path("hierarchy.json"), path("model.pt")
        made = ["--output-newick", path("tree.nwk"), "--output-divergence", path("divergence.parquet")]
        generated = path("generated.h5ad")
        # As many cells as the atlas has.
        wanted = json.dumps({ROOT: self.n_cells})
        device = ["--device", self.device]
        prepare = ["prepare", "--source", path("atlas.h5ad"), "--label-key", CELL_TYPE, "--output-cells", cells]
        # A simulated cell of few genes may have very few.
        prepare += ["--n-genes", str(settings.n_genes), "--min-genes-per-cell", "1"]
        encode = ["encode", "--cells", cells, "--output-codec", codec, "--output-latents", latents]
        encode += ["--max-epochs", str(settings.max_epochs), "--patience", FOREVER, *device]
        derive = ["derive", "--cells", cells, "--latents", latents, "--output-hierarchy", hierarchy, *made]
        train = ["train", "--latents", latents, "--hierarchy", hierarchy, "--patience", FOREVER, *device]
        once = ["--n-steps", str(settings.n_steps), *outputs(model, path("training.parquet"))]
        twice = ["--n-steps", str(2 * settings.n_steps), *outputs(path("other.pt"), path("other.parquet"))]
        generate = ["generate", "--model", model, "--codec", codec, "--output-generated", generated]
        return {
            "prepare": prepare,
            "encode": encode,
            "derive": derive,
            "train": [*train, *once],
            TWICE: [*train, *twice],
            "generate": [*generate, "--n-cells", wanted, *device],
        }

    def reading(self) -> Row:
        """A row for reading the training cells of an epoch, from a file that the system has read before."""
        path = self.folder / "cells.h5ad"
        with stores.opened_artefact(path, "prepare") as cells:
            train = np.flatnonzero(cells.obs[SPLIT] == "train")
            counts = RawCounts(cells, COUNTS, str(path))
            chosen = train[np.sort(cells_of_epoch(len(train), self.seed, 1))]
            begun = time.perf_counter()
            counts[chosen]
            seconds = time.perf_counter() - begun
        return row("encode: read an epoch", len(chosen), seconds, seconds=seconds)

    def parts(self, device: torch.device) -> Iterator[Row]:
        """A row for every part of `generate`, in this process, and one for a copy of the file that it wrote.

        The share is that of all parts. The copy is on the disk when its time is taken.
        """
        trained = Trained.read(self.folder / "model.pt", self.folder / "codec.pt", device)
        n_cells = min(self.n_cells, MOST_IN_PARTS)
        written, copy = self.folder / "parts.h5ad", self.folder / "copy.h5ad"
        parts = generation_seconds(trained, n_cells, self.seed, written)
        size = written.stat().st_size / 1e6
        for name, seconds in parts.items():
            share = seconds / sum(parts.values())
            about = {"mb_written": size} if name == "append" else {}
            yield row(f"generate: {name}", n_cells, seconds, seconds=seconds, share=share, **about)
        begun = time.perf_counter()
        shutil.copyfile(written, copy)
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
        seconds = time.perf_counter() - begun
        yield row("copy of the file", n_cells, seconds, seconds=seconds, mb_read=size, mb_written=size)
        log.info("%.1f MB/s are appended, %.1f MB/s copied", size / parts["append"], size / seconds)


def row(step: str, cells: int, working: float, **values: float) -> Row:
    """A row of the table: cells that took so many seconds, without the start of the process."""
    rate = cells / working if working > 0 else math.nan
    return {"step": step, "cells": cells, "cells_per_second": rate, **values}


def outputs(model: str, training: str) -> list[str]:
    """Options of `train` for its files."""
    return ["--output-model", model, "--output-training", training]
