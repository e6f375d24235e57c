"""What became of new types, as a page."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from branchgen.analysis.comparison import Run
from branchgen.analysis.html_tables import STYLE, Cell, number, table, text
from branchgen.analysis.samples import OWN
from branchgen.analysis.verdicts_table import verdicts_table

COLUMNS = ("class", "n_train", "nearest", "correlation", "host", "time", "held_out_loss", "gain", "represented")
"""Columns of the summary of `extend` that are shown."""
HEADER = (
    "new type",
    "training cells",
    "most like",
    "correlation",
    "leaves the branch",
    "at time",
    "held-out loss",
    "codec's gain (nats per cell)",
    "the codec",
)


def extension_page(summary: pd.DataFrame, metrics: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """A row for every new type, its place, its training and whether the codec knows it; and the verdicts on its cells.

    `summary` is the table of `extend`, the others are those of `evaluate`.
    """
    lines = [_line(record) for record in summary.to_dict("records")]
    run = Run(dataset="", seed=0, metrics=metrics, verdicts=verdicts, cost={})
    explained = (
        "Types that were added to a trained model; its own types, and the cells that it makes of them, are what they "
        "were. A held-out loss of one says that a Gaussian of the type is all there is to know. The codec's gain is "
        "that over the mean profile of the type, on held-out cells: of a type that the codec does not know, generated "
        "cells are not to be trusted."
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>New types</title><style>{STYLE}</style></head>"
        f"<body><main><h1>New types</h1><p>{explained}</p>{table(HEADER, lines)}{verdicts_table([run], [OWN])}</main>"
        "</body></html>\n"
    )


def _line(record: dict[Any, Any]) -> list[Cell]:
    loss = float(record["held_out_loss"])
    return [
        Cell(text(record["class"]), "label"),
        Cell(number(float(record["n_train"]), 0)),
        Cell(text(record["nearest"]), "label"),
        Cell(number(float(record["correlation"]), 2)),
        Cell(text(record["host"]), "label"),
        Cell(number(float(record["time"]), 3)),
        Cell(number(loss, 3) if math.isfinite(loss) else "–"),
        Cell(number(float(record["gain"]), 1)),
        Cell("knows it" if record["represented"] else "<strong>does not know it</strong>", "label"),
    ]
