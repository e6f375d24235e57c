"""`branchgen plot`: the figures of the report."""

from __future__ import annotations

import argparse

from branchgen import files
from branchgen.analysis.figures import class_colours, render
from branchgen.analysis.figures_metrics import metrics_figure
from branchgen.analysis.figures_training import training_figure
from branchgen.analysis.figures_tree import leaf_order, tree_figure
from branchgen.analysis.figures_umap import umap_figure, umap_types_figure
from branchgen.config import PlotSettings
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError
from branchgen.hierarchy.derive import Support
from branchgen.hierarchy.tree import Hierarchy

COLUMNS = {
    "training": ("step", "split", "branch", "sigma", "loss"),
    "metrics": ("source", "kind", "group", "metric", "value", "sd", "n_cells"),
    "embedding": ("umap_1", "umap_2", "cell_type", "source"),
}


def run(arguments: argparse.Namespace, settings: PlotSettings) -> None:
    """Draw every figure; nothing is computed here."""
    record = files.read_json(arguments.hierarchy, "branches", "schedule", "support")
    hierarchy = Hierarchy.from_list(record["branches"])
    schedule = NoiseSchedule.from_dict(record["schedule"])
    support = {name: Support(**values) for name, values in record["support"].items()}
    tables = {name: files.read_table(getattr(arguments, name)) for name in COLUMNS}
    for name, columns in COLUMNS.items():
        missing = [column for column in columns if column not in tables[name]]
        if missing:
            raise BranchgenError(
                f"{getattr(arguments, name)} has no column {missing[0]!r}; it must have {', '.join(columns)}"
            )
    colours = class_colours(leaf_order(hierarchy))
    drawn = {
        arguments.output_tree: tree_figure(hierarchy, schedule, support, colours),
        arguments.output_training: training_figure(tables["training"], hierarchy),
        arguments.output_metrics: metrics_figure(tables["metrics"], leaf_order(hierarchy)),
        arguments.output_umap: umap_figure(tables["embedding"], colours),
        arguments.output_umap_types: umap_types_figure(tables["embedding"], colours),
    }
    with files.written_together(*drawn) as paths:
        for path, figure in zip(paths, drawn.values(), strict=True):
            path.write_bytes(render(figure, settings.format))
