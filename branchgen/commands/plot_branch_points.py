"""`branchgen plot-branch-points`: all branch points in one figure, and a page of each."""

from __future__ import annotations

import argparse

from branchgen import files, stores
from branchgen.analysis.branch_points_page import branch_points_page
from branchgen.analysis.figures import render
from branchgen.analysis.figures_branch_points import branch_points_figure
from branchgen.cells.keys import BRANCH
from branchgen.config import PlotSettings
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

COLUMNS = {
    "table": ("branch", "child", "time", "time_low", "time_high", "support", "sigma", "divergence", "n_train"),
    "genes": (
        "branch",
        "child",
        "gene",
        "log2_fold_change",
        "statistic",
        "q_value",
        "expression",
        "hybrid",
        "difference_at_branch_point",
    ),
    "separability": ("branch", "time", "accuracy", "chance"),
}


def run(arguments: argparse.Namespace, settings: PlotSettings) -> None:
    """Draw the figure and set the pages; nothing is computed here."""
    hierarchy = Hierarchy.from_list(files.read_json(arguments.hierarchy, "branches")["branches"])
    tables = {name: files.read_table(getattr(arguments, name), *columns) for name, columns in COLUMNS.items()}
    cells = stores.read_artefact(arguments.branch_points, "analyse")
    names = {hierarchy.branches[position].name for position in hierarchy.branch_points}
    if set(cells.obs[BRANCH].astype(str)) != names:
        raise BranchgenError(
            f"{arguments.branch_points} has other branch points than {arguments.hierarchy}; analyse the model of this "
            "hierarchy"
        )
    figure = branch_points_figure(tables["separability"], tables["genes"], hierarchy)
    page = branch_points_page(hierarchy, tables["table"], tables["genes"], tables["separability"], cells)
    with files.written_together(arguments.output_figure, arguments.output_page) as (figure_path, page_path):
        figure_path.write_bytes(render(figure, settings.format))
        page_path.write_text(page, encoding="utf-8")
