"""`branchgen evaluate`: how close generated cells come to held-out real ones."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from branchgen import files, stores
from branchgen.analysis.evaluation_tables import evaluation_tables
from branchgen.analysis.samples import ALL, read_study
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: EvaluateSettings) -> None:
    """Write the metrics of the generated cells, of the floor and of the baselines, what is behind them, and a UMAP."""
    generated = stores.read_artefact(arguments.generated, "generate")
    cells = stores.read_artefact(arguments.cells, "prepare")
    hierarchy = Hierarchy.from_list(files.read_json(arguments.hierarchy, "branches")["branches"])
    baselines = {
        name: stores.read_artefact(path, "generate", "baseline")
        for name, path in named_files(arguments.baselines or ()).items()
    }
    study = read_study(generated, cells, baselines, settings, arguments.seed)
    tables = evaluation_tables(study, hierarchy, settings, arguments.seed)
    with files.written_together(*(getattr(arguments, f"output_{name}") for name in tables)) as paths:
        for path, table in zip(paths, tables.values(), strict=True):
            files.write_table(table, path)
    metrics = tables["metrics"]
    headline = metrics[(metrics["kind"] == ALL) & (metrics["metric"] == "c2st_auc")]
    for row in headline.itertuples():
        log.info("c2st_auc %s %.3f ± %.3f, %d cells a side", row.source, row.value, row.sd, row.n_cells)


def named_files(texts: Sequence[str]) -> dict[str, Path]:
    """Paths by name, from texts NAME=FILE."""
    named: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise BranchgenError(f"a baseline is {text!r}; it must be NAME=FILE, such as gauss=gauss.h5ad")
        if name in named:
            raise BranchgenError(f"two baselines are called {name!r}; give each a name of its own")
        named[name] = Path(path)
    return named
