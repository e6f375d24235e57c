"""`branchgen plot-transmutation`: what changed in transmuted cells, as a figure."""

from __future__ import annotations

import argparse

from branchgen import files
from branchgen.analysis.figures import render
from branchgen.analysis.figures_transmutation import transmutation_figure
from branchgen.config import PlotSettings

COLUMNS = ("gene", "change", "expected_change", "kept")


def run(arguments: argparse.Namespace, settings: PlotSettings) -> None:
    """Draw the figure; nothing is computed here."""
    changes = files.read_table(arguments.changes, *COLUMNS)
    figure = transmutation_figure(changes, arguments.source, arguments.target)
    with files.written_together(arguments.output_figure) as (path,):
        path.write_bytes(render(figure, settings.format))
