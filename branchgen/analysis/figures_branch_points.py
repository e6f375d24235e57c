"""Every branch point: where its children become one, and the genes that tell them apart."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from branchgen.analysis.figures import DARK, GREY, WIDTH, styled
from branchgen.hierarchy.tree import Hierarchy

N_GENES = 6
"""Genes that are named for a child, at most."""
LEVEL = 0.05
"""q-value of a gene that is named, at most."""
ROW, LINE = 1.15, 0.125
"""Inches of a branch point, and of a line of text."""
WRAP = 96
"""Characters in a line."""
CURVE = "#d95f02"


@styled
def branch_points_figure(separability: pd.DataFrame, genes: pd.DataFrame, hierarchy: Hierarchy) -> Figure:
    """A row for every branch point: how well held-out real cells are given to their child over time, and genes.

    `separability` and `genes` are the tables of `analyse`. The upright line is the time at which the model branches.
    """
    positions = hierarchy.branch_points
    if not positions:
        figure = Figure(figsize=(WIDTH, 1.0), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "a single class has no branch points", ha="center", va="center")
        return figure
    named = {position: _lines(genes, hierarchy, position) for position in positions}
    heights = [max(ROW, LINE * (len(named[position]) + 2)) for position in positions]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(
        len(positions), 2, width_ratios=[1, 2.6], height_ratios=heights, squeeze=False, sharex="col"
    )
    for position, (curve, text) in zip(positions, panels, strict=True):
        branch = hierarchy.branches[position]
        draw_separability(curve, separability[separability["branch"] == branch.name], branch.t_start)
        curve.set_title(textwrap.shorten(branch.name, 30, placeholder="…"))
        text.set_axis_off()
        text.text(0, 1, "\n".join(named[position]), va="top", fontsize=6, linespacing=1.3, transform=text.transAxes)
    panels[-1, 0].set_xlabel("diffusion time (0: data)")
    keys = [
        Line2D([], [], color=CURVE, lw=1.1, label="held-out cells given to their own child"),
        Line2D([], [], color=GREY, lw=0.7, ls=(0, (3, 2)), label="by chance"),
        Line2D([], [], color=DARK, lw=0.7, label="the model branches"),
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=3)
    return figure


def draw_separability(axes: Axes, rows: pd.DataFrame, time: float) -> None:
    """Curve of one branch point; the upright line is the time at which the model branches."""
    axes.axvline(time, color=DARK, lw=0.7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])
    if len(rows):
        axes.plot(rows["time"], rows["accuracy"], color=CURVE, lw=1.1)
        axes.axhline(float(rows["chance"].iloc[0]), color=GREY, lw=0.7, ls=(0, (3, 2)))
    else:
        axes.text(0.5, 0.5, "too few cells", ha="center", va="center", fontsize=6, color=GREY)


def _lines(genes: pd.DataFrame, hierarchy: Hierarchy, position: int) -> list[str]:
    """Lines of text: every child with the genes that it has more of than its siblings."""
    branch = hierarchy.branches[position]
    lines: list[str] = []
    for child in hierarchy.children[position]:
        name = hierarchy.branches[child].name
        top = higher_genes(genes[genes["branch"] == branch.name], name, N_GENES)
        classes = hierarchy.branches[child].classes
        who = name if len(classes) == 1 else f"{name} ({', '.join(classes)})"
        lines += textwrap.wrap(f"{textwrap.shorten(who, 120, placeholder='…)')}:  {', '.join(top) or 'no gene'}", WRAP)
    return lines


def higher_genes(genes: pd.DataFrame, child: str, n_genes: int) -> list[str]:
    """Genes that a child has more of than its siblings, the largest statistic first; rows of one branch point."""
    rows = genes[genes["child"] == child]
    higher = rows[(rows["log2_fold_change"] > 0) & (rows["q_value"] <= LEVEL)]
    return list(higher.sort_values("statistic", ascending=False, kind="stable")["gene"].astype(str).head(n_genes))
