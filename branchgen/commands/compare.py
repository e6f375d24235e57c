"""`branchgen compare`: runs over datasets and seeds, in one table and on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from branchgen import files
from branchgen.analysis.comparison import Run, compare, folders_of_runs, named_by_classes
from branchgen.analysis.comparison_page import page
from branchgen.analysis.samples import OWN
from branchgen.analysis.targets import EVALUATIONS, FLAT, SCVI
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

COLUMNS = {
    "metrics.parquet": ("source", "kind", "group", "metric", "value", "n_cells"),
    "verdicts.parquet": ("source", "group", "n_cells", "auc", "low", "high", "floor_auc", "verdict", "genes"),
}
"""Tables of a run, and what is read from them."""
STEPS = {
    OWN: ("encode", "train", "generate"),
    FLAT: ("flat/train", "flat/generate"),
    "codec": ("codec/baseline",),
    "gauss": ("gauss/baseline",),
    SCVI: ("scvi/baseline",),
}
"""Steps that a source has cost, by their files of time and memory."""


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Read every run, and write table and page."""
    folders, times = (
        folders_of_runs(texts, flag) for texts, flag in ((arguments.runs, "runs"), (arguments.times or [], "times"))
    )
    for key in times:
        if key not in folders:
            raise BranchgenError(f"--times names {key[0]}:{key[1]}, which --runs does not name")
    runs = [read_run(*key, Path(folder), times.get(key)) for key, folder in folders.items()]
    with files.written_together(arguments.output_table, arguments.output_page) as (table_path, page_path):
        files.write_table(compare(runs), table_path)
        page_path.write_text(page(runs), encoding="utf-8")


def read_run(dataset: str, seed: int, folder: Path, times: str | None) -> Run:
    """Tables of one run, and what it has cost."""
    tables = {name: files.read_table(folder / name, *columns)[list(columns)] for name, columns in COLUMNS.items()}
    sources = set(tables["metrics.parquet"]["source"])
    hierarchy = Hierarchy.from_list(files.read_json(folder / "hierarchy.json", "branches")["branches"])
    cost: dict[str, dict[str, float]] = {OWN: {EVALUATIONS: hierarchy.sharing()}}
    if FLAT in sources:
        cost[FLAT] = {EVALUATIONS: 1.0}
    for source, steps in STEPS.items():
        if times is not None and source in sources:
            cost.setdefault(source, {}).update(read_cost(Path(times), steps))
    return Run(
        dataset=dataset,
        seed=seed,
        metrics=named_by_classes(tables["metrics.parquet"], hierarchy),
        verdicts=tables["verdicts.parquet"],
        cost=cost,
    )


def read_cost(folder: Path, steps: tuple[str, ...]) -> dict[str, float]:
    """Seconds of every step, and the largest memory of all in MB, from the files that Snakemake writes."""
    cost: dict[str, float] = {}
    peaks = []
    for step in steps:
        path = folder / f"{step}.tsv"
        files.require_file(path)
        table = pd.read_table(path, na_values="-")
        if not len(table) or not {"s", "max_rss"} <= set(table):
            raise BranchgenError(
                f"{path} has no row with the columns s and max_rss; it must be a benchmark of Snakemake"
            )
        cost[f"{Path(step).name}_seconds"] = float(table["s"].mean())
        peaks.append(float(table["max_rss"].max()))
    return {**cost, "peak_mb": max(peaks)}
