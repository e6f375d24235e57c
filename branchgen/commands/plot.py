"""`branchgen plot`: the figures of the report, and its table."""

from __future__ import annotations

import argparse

from branchgen import files
from branchgen.analysis.figures import class_colours, render
from branchgen.analysis.figures_correlations import correlations_figure
from branchgen.analysis.figures_genes import fold_changes_figure, gene_moments_figure
from branchgen.analysis.figures_metrics import metrics_figure
from branchgen.analysis.figures_training import training_figure
from branchgen.analysis.figures_tree import leaf_order, tree_figure
from branchgen.analysis.figures_umap import umap_figure, umap_types_figure
from branchgen.analysis.figures_verdicts import verdicts_figure
from branchgen.analysis.metrics_page import metrics_page
from branchgen.config import PlotSettings
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.derive import Support
from branchgen.hierarchy.tree import Hierarchy

COLUMNS = {
    "training": ("step", "split", "branch", "sigma", "loss"),
    "metrics": ("source", "kind", "group", "metric", "value", "sd", "n_cells", "n_seeds"),
    "embedding": ("umap_1", "umap_2", "cell_type", "source"),
    "verdicts": ("source", "group", "n_cells", "auc", "low", "high", "floor_auc", "verdict", "genes"),
    "genes": ("source", "group", "gene", "mean", "variance", "zeros"),
    "fold_changes": ("branch", "child", "source", "gene", "real", "generated", "slope"),
    "correlations": ("group", "source", "gene_a", "gene_b", "correlation", "n_cells"),
}


def run(arguments: argparse.Namespace, settings: PlotSettings) -> None:
    """Draw every figure and set the table; nothing is computed here."""
    record = files.read_json(arguments.hierarchy, "branches", "schedule", "support")
    hierarchy = Hierarchy.from_list(record["branches"])
    schedule = NoiseSchedule.from_dict(record["schedule"])
    support = {name: Support(**values) for name, values in record["support"].items()}
    tables = {name: files.read_table(getattr(arguments, name), *columns) for name, columns in COLUMNS.items()}
    leaves = leaf_order(hierarchy)
    colours = class_colours(leaves)
    drawn = {
        arguments.output_tree: tree_figure(hierarchy, schedule, support, colours),
        arguments.output_training: training_figure(tables["training"], hierarchy),
        arguments.output_metrics: metrics_figure(tables["metrics"], leaves),
        arguments.output_verdicts: verdicts_figure(tables["verdicts"], leaves),
        arguments.output_gene_moments: gene_moments_figure(tables["genes"]),
        arguments.output_fold_changes: fold_changes_figure(tables["fold_changes"], hierarchy),
        arguments.output_correlations: correlations_figure(tables["correlations"]),
        arguments.output_umap: umap_figure(tables["embedding"], colours),
        arguments.output_umap_types: umap_types_figure(tables["embedding"], colours),
    }
    page = metrics_page(tables["metrics"], tables["verdicts"], hierarchy)
    with files.written_together(arguments.output_page, *drawn) as (page_path, *paths):
        page_path.write_text(page, encoding="utf-8")
        for path, figure in zip(paths, drawn.values(), strict=True):
            path.write_bytes(render(figure, settings.format))
