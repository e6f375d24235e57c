"""`branchgen plot-extension`: what became of new types, as a page."""

from __future__ import annotations

import argparse

from branchgen import files
from branchgen.analysis.extension_page import COLUMNS, extension_page


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Set the page; nothing is computed here."""
    del settings
    summary = files.read_table(arguments.summary, *COLUMNS)
    page = extension_page(summary, files.read_table(arguments.metrics), files.read_table(arguments.verdicts))
    with files.written_together(arguments.output_page) as (path,):
        path.write_text(page, encoding="utf-8")
