"""`branchgen plot-extension`: what became of new types, as a page."""

from __future__ import annotations

import argparse

from branchgen import files
from branchgen.analysis.extension_page import COLUMNS, extension_page
from branchgen.errors import BranchgenError


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Set the page; nothing is computed here."""
    del settings
    summary = files.read_table(arguments.summary)
    missing = [column for column in COLUMNS if column not in summary]
    if missing:
        raise BranchgenError(f"{arguments.summary} has no column {missing[0]!r}; it must have {', '.join(COLUMNS)}")
    page = extension_page(summary, files.read_table(arguments.metrics), files.read_table(arguments.verdicts))
    with files.written_together(arguments.output_page) as (path,):
        path.write_text(page, encoding="utf-8")
