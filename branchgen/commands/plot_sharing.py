"""`branchgen plot-sharing`: the tables of benchmark-sharing for models of several costs, as a figure."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from branchgen import files
from branchgen.analysis.figures import render
from branchgen.analysis.figures_sharing import SHOWN, sharing_figure
from branchgen.config import PlotSettings

COLUMNS = ("way", "handover", "n_corrections", "solver", "repeat", "share", *SHOWN)


def run(arguments: argparse.Namespace, settings: PlotSettings) -> None:
    """Put the tables together, and draw them; nothing is computed here."""
    tables = [
        files.read_table(Path(name), *COLUMNS).assign(model=number) for number, name in enumerate(arguments.tables)
    ]
    table = pd.concat(tables, ignore_index=True)
    figure = sharing_figure(table)
    outputs = arguments.output_figure, arguments.output_table
    with files.written_together(*outputs) as (figure_path, table_path):
        figure_path.write_bytes(render(figure, settings.format))
        files.write_table(table, table_path)
