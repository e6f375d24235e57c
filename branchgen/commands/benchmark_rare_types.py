"""`branchgen benchmark-rare-types`: whether generated cells of rare types are real, and whether they are memories."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pandas as pd

from branchgen import files, stores
from branchgen.analysis.comparison import folders_of_runs
from branchgen.analysis.rare_types import over_seeds, rare_type_table
from branchgen.analysis.samples import CODEC, read_study
from branchgen.analysis.targets import FLAT, SCVI
from branchgen.benchmark_config import BenchmarkRareTypesSettings
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError

log = logging.getLogger(__name__)

BASELINES = (CODEC, FLAT, "gauss", SCVI)
"""Folders of a run that may hold cells of other generators."""
GENERATED = "generated.h5ad"


def run(arguments: argparse.Namespace, settings: BenchmarkRareTypesSettings) -> None:
    """Compare the rare types of every run, write the table, and print its means."""
    tables = []
    for (dataset, seed), folder in folders_of_runs(arguments.runs, "runs").items():
        found = table_of_run(Path(folder), settings, arguments.seed)
        tables.append(found.assign(dataset=dataset, seed=seed))
        log.info("%s, seed %d: %d rows", dataset, seed, len(found))
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise BranchgenError(
            f"no type of these runs has {settings.max_train_cells} training cells or fewer; raise max_train_cells"
        )
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    for names, rows in over_seeds(table).groupby(["dataset", "metric"], sort=False):
        print("\n{}, {}: mean over seeds, and its standard error".format(*names))
        print(readable(rows))


def table_of_run(folder: Path, settings: BenchmarkRareTypesSettings, seed: int) -> pd.DataFrame:
    """Rows of one run; its cells are compared by the transforms of `evaluate`."""
    cells = stores.read_artefact(folder / "cells.h5ad", "prepare")
    generated = stores.read_artefact(folder / GENERATED, "generate")
    paths = {name: folder / name / GENERATED for name in BASELINES}
    baselines = {
        name: stores.read_artefact(path, "generate", "baseline") for name, path in paths.items() if path.is_file()
    }
    return rare_type_table(read_study(generated, cells, baselines, EvaluateSettings(), seed), settings, seed)


def readable(rows: pd.DataFrame) -> str:
    """A line for every type, a column for every source."""
    texts = rows.assign(text=[f"{row.value:.3f} ± {row.error:.3f}" for row in rows.itertuples()])
    wide = texts.pivot(index="group", columns="source", values="text")
    wide = wide.loc[rows["group"].unique(), rows["source"].unique()].rename_axis(None).rename_axis(None, axis=1)
    sizes = rows.drop_duplicates("group").set_index("group")["n_train"].round().astype(int)
    wide.insert(0, "training cells", sizes)
    return str(wide.fillna("").to_string())
