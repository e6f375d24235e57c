"""Genes of real and of generated cells: how variance and zeros go with the mean, and fold changes."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from branchgen.analysis.figures import DARK, GREY, PALE, WIDTH, grid, styled
from branchgen.analysis.figures_sources import LABELS, colours_of, in_order
from branchgen.analysis.samples import ALL, FLOOR, OWN, TEST
from branchgen.hierarchy.tree import Hierarchy

N_COLUMNS = 4
"""Panels per row."""
MOMENTS = {"variance": "variance", "zeros": "share of zeros"}
FLOOR_COLOUR = "#5f5f5f"


@styled
def gene_moments_figure(genes: pd.DataFrame) -> Figure:
    """Variance and share of zeros of every gene against its mean: for each source over those of the real cells.

    `genes` is the table of `evaluate`, of which the rows over all types are drawn. The lines are Poisson's.
    """
    pooled = genes[genes["group"] == ALL]
    sources = [FLOOR, *in_order(set(pooled["source"].unique()) - {TEST, FLOOR})]
    colours = {**colours_of(sources), FLOOR: FLOOR_COLOUR}
    real = pooled[pooled["source"] == TEST]
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    panels = figure.subplots(2, len(sources), sharex=True, sharey="row", squeeze=False)
    for column, source in enumerate(sources):
        cells = pooled[pooled["source"] == source]
        for axes, moment in zip(panels[:, column], MOMENTS, strict=True):
            _scatter_moment(axes, real, moment, PALE, zorder=1)
            _scatter_moment(axes, cells, moment, colours[source], zorder=2)
            axes.set_xscale("log")
            axes.minorticks_off()
        panels[0, column].set_yscale("log")
        panels[0, column].minorticks_off()
        panels[0, column].set_title(textwrap.fill(LABELS.get(source, source), 18))
    positive = real["mean"][real["mean"] > 0]
    means = np.geomspace(positive.min(), positive.max(), 100)
    for axes in panels[0]:
        axes.plot(means, means, color=DARK, lw=0.7, ls=(0, (3, 2)), zorder=3)
    for axes in panels[1]:
        axes.plot(means, np.exp(-means), color=DARK, lw=0.7, ls=(0, (3, 2)), zorder=3)
    for axes, label in zip(panels[:, 0], MOMENTS.values(), strict=True):
        axes.set_ylabel(label)
    figure.supxlabel("mean counts of a gene per cell", fontsize=7)
    keys = [
        Line2D([], [], marker="o", ls="", ms=3, color=PALE, label="real cells (test)"),
        Line2D([], [], color=DARK, lw=0.7, ls=(0, (3, 2)), label="Poisson"),
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure


def _scatter_moment(axes: Axes, genes: pd.DataFrame, moment: str, colour: str, zorder: int) -> None:
    kept = genes[(genes["mean"] > 0) & ((genes[moment] > 0) | (moment == "zeros"))]
    axes.scatter(kept["mean"], kept[moment], s=2, c=colour, linewidths=0, alpha=0.6, rasterized=True, zorder=zorder)


@styled
def fold_changes_figure(fold_changes: pd.DataFrame, hierarchy: Hierarchy) -> Figure:
    """A panel for every comparison at a branch point: generated on real log-fold-changes of the variable genes.

    `fold_changes` is the table of `evaluate`; a point is a gene, a child of the branch point against its siblings. In
    grey are other real cells, the floor; the numbers are the slopes of both.
    """
    found = fold_changes[fold_changes["source"].isin([OWN, FLOOR])]
    contrasts = found[["branch", "child"]].drop_duplicates().astype(str)
    order = {branch.name: position for position, branch in enumerate(hierarchy.branches)}
    contrasts = contrasts.sort_values("child", key=lambda child: child.map(order))
    if contrasts.empty:
        figure = Figure(figsize=(WIDTH, 1.0), layout="constrained")
        figure.text(0.5, 0.5, "no branch point has ten cells on either side", ha="center")
        return figure
    titles = [_contrast(branch, child, hierarchy) for branch, child in contrasts.itertuples(index=False)]
    n_rows = -(-len(titles) // N_COLUMNS)
    title_height = 0.11 * max(title.count("\n") + 1 for title in titles)
    width = max(WIDTH * min(len(titles), N_COLUMNS) / N_COLUMNS, 3.6)
    figure = Figure(figsize=(width, n_rows * (1.35 + title_height) + 0.6), layout="constrained")
    panels = grid(figure, len(titles), N_COLUMNS)
    colours = {OWN: colours_of([OWN])[OWN], FLOOR: GREY}
    for axes, (branch, child), title in zip(panels, contrasts.itertuples(index=False), titles, strict=True):
        genes = found[(found["branch"] == branch) & (found["child"] == child)]
        _draw_contrast(axes, genes, colours)
        axes.set_title(title, fontsize=6.5)
    figure.supxlabel("log-fold-change in real cells", fontsize=7)
    figure.supylabel("log-fold-change in generated cells", fontsize=7)
    keys = [
        Line2D([], [], marker="o", ls="", ms=3, color=colours[OWN], label="generated cells"),
        Line2D([], [], marker="o", ls="", ms=3, color=colours[FLOOR], label="other real cells (floor)"),
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure


def _draw_contrast(axes: Axes, genes: pd.DataFrame, colours: dict[str, str]) -> None:
    limit = 1.05 * float(np.abs(genes[["real", "generated"]].to_numpy()).max())
    axes.plot([-limit, limit], [-limit, limit], color=DARK, lw=0.6, ls=(0, (3, 2)), zorder=1)
    for row, (source, size) in enumerate(((OWN, 3.5), (FLOOR, 2.5))):
        part = genes[genes["source"] == source]
        if part.empty:
            continue
        axes.scatter(
            part["real"], part["generated"], s=size, c=colours[source], linewidths=0, rasterized=True, zorder=3 - row
        )
        axes.text(
            0.03,
            0.97 - 0.13 * row,
            f"{float(part['slope'].iloc[0]):.2f}".replace("-", "\N{MINUS SIGN}"),
            transform=axes.transAxes,
            fontsize=6,
            va="top",
            color=colours[source],
        )
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_box_aspect(1)
    axes.locator_params(nbins=3)


def _contrast(branch: str, child: str, hierarchy: Hierarchy) -> str:
    """Child against its sibling, or against all of them."""
    position = hierarchy.index[branch]
    names = [hierarchy.branches[other].name for other in hierarchy.children[position]]
    others = [_named(name, hierarchy) for name in names if name != child]
    against = others[0] if len(others) == 1 else f"{len(others)} siblings"
    return textwrap.fill(f"{_named(child, hierarchy)} against {against}", 22)


def _named(name: str, hierarchy: Hierarchy) -> str:
    n_classes = len(hierarchy.branches[hierarchy.index[name]].classes)
    return name if n_classes == 1 else f"{name} ({n_classes} types)"
