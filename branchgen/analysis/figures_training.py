"""The held-out denoising loss during training, for every branch and noise level."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from branchgen.analysis.figures import DARK, WIDTH, grid, styled
from branchgen.hierarchy.tree import Hierarchy

N_COLUMNS = 5
"""Panels per row."""
POOLED = "all"
LINES = {"ref": ("-", "held out (ref)"), "train": (":", "training cells")}


@styled
def training_figure(training: pd.DataFrame, hierarchy: Hierarchy) -> Figure:
    """One panel for all branches and one for each: loss against steps, a colour for every noise level.

    `training` has step, split (ref or train), branch, sigma and loss.
    """
    present = set(training["branch"])
    names = [name for name in (POOLED, *(branch.name for branch in hierarchy.branches)) if name in present]
    titles = [textwrap.fill(_title(name, hierarchy), 18) for name in names]
    n_rows = -(-len(names) // N_COLUMNS)
    title_height = 0.11 * max(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(WIDTH, n_rows * (1.0 + title_height) + 1.0), layout="constrained")
    low, high = training["sigma"].min(), training["sigma"].max()
    scale = ScalarMappable(LogNorm(low, high if high > low else 2 * low), colormaps["viridis"])
    panels = grid(figure, len(names), N_COLUMNS, sharex=True, sharey=True)
    for axes, name, title in zip(panels, names, titles, strict=True):
        rows = training[training["branch"] == name]
        for split, (style, _) in LINES.items():
            for sigma, curve in rows[rows["split"] == split].groupby("sigma"):
                colour = scale.to_rgba(np.array(sigma))
                axes.plot(curve["step"], curve["loss"], color=colour, ls=style, lw=0.9)
        axes.set_title(title, fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    # A branch with a handful of cells must not flatten the curves of all others.
    panels[0].set_ylim(0, 1.1 * float(np.quantile(training["loss"], 0.99)))
    figure.supxlabel("training step", fontsize=7)
    figure.supylabel("denoising loss", fontsize=7)
    bar = figure.colorbar(
        scale, ax=panels, location="right", shrink=min(1.0, 2.0 / n_rows), aspect=18, pad=0.02, anchor=(0, 1)
    )
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.set_label("noise level σ")
    bar.outline.set_visible(False)
    keys = [Line2D([], [], color=DARK, ls=style, lw=0.9, label=label) for style, label in LINES.values()]
    figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure


def _title(name: str, hierarchy: Hierarchy) -> str:
    if name == POOLED:
        return "all branches"
    n_classes = len(hierarchy.branches[hierarchy.index[name]].classes)
    return name if n_classes == 1 else f"{name}: {n_classes} types"
