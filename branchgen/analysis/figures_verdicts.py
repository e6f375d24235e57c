"""Whether the generated cells of every type can be told from real ones."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from branchgen.analysis.figures import DARK, GREY, LIGHT, WIDTH, styled
from branchgen.analysis.figures_sources import COLOURS, colours_of, handles_of, in_order
from branchgen.analysis.samples import ALL, OWN
from branchgen.analysis.verdicts import DISTINGUISHABLE, TOO_FEW

ROW = 0.2
"""Inches per type."""
N_CHARACTERS = 38
"""Of the genes beside a row, at most."""
ALL_TYPES = "all types"


@styled
def verdicts_figure(verdicts: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """A row for every type, in the order of `classes`, and one for all: areas under the curve of a classifier.

    `verdicts` is the table of `evaluate`. The generated cells have their interval and, where they can be told apart, a
    filled dot and the genes that tell; the upright stroke is the floor.
    """
    groups = [name for name in (*classes, ALL) if (verdicts["group"] == name).any()]
    sources = in_order(verdicts["source"])
    figure = Figure(figsize=(WIDTH, ROW * len(groups) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0.5, color=GREY, lw=0.6, ls=(0, (3, 2)), zorder=0)
    for row, group in enumerate(groups):
        axes.axhline(row, color=LIGHT, lw=0.5, zorder=0)
        of_group = verdicts[verdicts["group"] == group]
        for source in sources[::-1]:
            for _, values in of_group[of_group["source"] == source].iterrows():
                _draw_row(axes, row, source, values, colours_of(sources)[source])
    names = [ALL_TYPES if group == ALL else group for group in groups]
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel="area under the curve of a classifier between generated and real")
    axes.set_yticks(range(len(groups)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    keys = [
        *handles_of(sources),
        Line2D([], [], marker="o", ls="", ms=5, mfc="white", mec=COLOURS[OWN], label="cannot be told apart"),
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=4, columnspacing=1.2, handletextpad=0.4)
    return figure


def _draw_row(axes: Axes, row: int, source: str, values: pd.Series, colour: str) -> None:
    own = source == OWN
    auc, low, high, floor = (float(values[name]) for name in ("auc", "low", "high", "floor_auc"))
    apart = values["verdict"] == DISTINGUISHABLE
    if own:
        axes.plot(floor, row, marker="|", ms=9, mew=1.4, color=DARK, zorder=1)
        axes.plot([low, high], [row, row], color=colour, lw=1.2, zorder=2)
        beside = f"{values['n_cells']} cells: {TOO_FEW.split()[0]} few" if values["verdict"] == TOO_FEW else ""
        text = beside or _shortened(str(values["genes"]))
        axes.text(
            1.02,
            row,
            text,
            transform=axes.get_yaxis_transform(),
            fontsize=6,
            va="center",
            color=GREY if beside else DARK,
        )
    size, face = (5.5 if own else 3.5), colour if apart else "white"
    axes.plot(auc, row, marker="o", ls="", ms=size, mfc=face, mec=colour, mew=1.0, zorder=4 if own else 3)


def _shortened(genes: str) -> str:
    """As many genes as fit, with arrows for higher and lower."""
    shown: list[str] = []
    for gene in filter(None, genes.split(", ")):
        arrow = {"+": "↑", "-": "↓"}[gene[-1]]
        if len(", ".join([*shown, gene])) > N_CHARACTERS:
            break
        shown.append(gene[:-1] + arrow)
    return ", ".join(shown)
