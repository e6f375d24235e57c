"""One branch point: its place in the tree, how its children become one, and the profiles there."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from branchgen.analysis.figures import DARK, GREY, PALE, WIDTH, styled
from branchgen.analysis.figures_branch_points import draw_separability, higher_genes
from branchgen.hierarchy.tree import Hierarchy

MAX_CHILDREN, MAX_GENES = 12, 36
"""Children and genes that are drawn, at most."""
GENES_PER_CHILD = 8
ROW = 0.135
"""Inches of a gene, or of a line of the tree."""
NAME = 34
"""Characters of a name."""
HERE = "#d95f02"


@styled
def hybrids_figure(
    hierarchy: Hierarchy,
    position: int,
    separability: pd.DataFrame,
    genes: pd.DataFrame,
    profiles: Mapping[str, NDArray[np.float64]],
) -> Figure:
    """Place in the tree, separability over time, and genes (rows) in the populations (columns) of a branch point.

    Parameters
    ----------
    separability, genes
        Rows of the tables of `analyse` for this branch point.
    profiles
        Mean ln(1 + expected counts per 10⁴) of every population there, (n_genes,) in the order of a child's `genes`.
    """
    children = drawn_children(hierarchy, position, genes)
    chosen = _genes_by_child(genes, children)
    n_rows = _n_lines(hierarchy, position, children)
    tree_height, map_height = ROW * n_rows + 0.55, ROW * max(1, sum(map(len, chosen.values()))) + 1.9
    figure = Figure(figsize=(WIDTH, max(tree_height + 1.3, map_height)), layout="constrained")
    halves = figure.add_gridspec(1, 2)
    left, right = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    tree, curve = left.subplots(2, 1, height_ratios=[tree_height, max(1.3, map_height - tree_height)])
    _draw_position(tree, hierarchy, position, children)
    branch = hierarchy.branches[position]
    draw_separability(curve, separability, branch.t_start)
    # As in the tree above it, from noise to data.
    curve.set_xlim(1, 0)
    curve.set_title("held-out cells given to their own child")
    curve.set_xlabel("diffusion time (1: noise, 0: data)", loc="left")
    _draw_profiles(right.subplots(), branch.name, genes, chosen, profiles)
    return figure


def drawn_children(hierarchy: Hierarchy, position: int, genes: pd.DataFrame) -> list[str]:
    """Names of the children that are drawn: all, or those with the clearest genes where there are too many."""
    names = [hierarchy.branches[child].name for child in hierarchy.children[position]]
    if len(names) <= MAX_CHILDREN:
        return names
    clearest = genes.groupby("child")["statistic"].max().reindex(names).nlargest(MAX_CHILDREN).index
    return [name for name in names if name in clearest]


def _genes_by_child(genes: pd.DataFrame, children: Sequence[str]) -> dict[str, list[str]]:
    """Genes that a child has more of than its siblings; a gene stands with the first child that has it."""
    n_genes = min(GENES_PER_CHILD, max(1, MAX_GENES // len(children)))
    taken: set[str] = set()
    chosen: dict[str, list[str]] = {}
    for name in children:
        chosen[name] = [gene for gene in higher_genes(genes, name, n_genes) if gene not in taken]
        taken.update(chosen[name])
    return chosen


def _n_lines(hierarchy: Hierarchy, position: int, children: Sequence[str]) -> int:
    beside = sum(len(hierarchy.children[above]) > 1 for above in _ancestors(hierarchy, position))
    return beside + len(children) + (len(children) < len(hierarchy.children[position]))


def _ancestors(hierarchy: Hierarchy, position: int) -> list[int]:
    """Branches above one, from the root down."""
    found: list[int] = []
    parent = hierarchy.parents[position]
    while parent is not None:
        found.insert(0, parent)
        parent = hierarchy.parents[parent]
    return found


def _draw_position(axes: Axes, hierarchy: Hierarchy, position: int, children: Sequence[str]) -> None:
    """Way from noise (left) to the branch point and its children; what leaves before stands in one line each time."""
    branch = hierarchy.branches[position]
    leaving: list[tuple[float, str, str]] = []
    above = [*_ancestors(hierarchy, position), position]
    for ancestor, following in itertools.pairwise(above):
        if len(hierarchy.children[ancestor]) > 1:
            own = hierarchy.branches[following].classes
            others = [name for name in hierarchy.branches[ancestor].classes if name not in own]
            leaving.append((hierarchy.branches[ancestor].t_start, shortened(others), PALE))
    rows = [(time, label, colour) for time, label, colour in leaving]
    rows += [(branch.t_start, shortened(hierarchy.node(name).classes), HERE) for name in children]
    n_more = len(hierarchy.children[position]) - len(children)
    if n_more:
        rows.append((branch.t_start, f"{n_more} more", HERE))
    first = len(leaving)
    here = (first + len(rows) - 1) / 2
    for row, (time, _, colour) in enumerate(rows):
        axes.plot([time, 0], [row, row], color=colour, lw=1.4, solid_capstyle="butt")
    axes.plot([branch.t_start] * 2, [first, len(rows) - 1], color=HERE, lw=1.4, solid_capstyle="projecting")
    times = [1.0, *(time for time, _, _ in leaving), branch.t_start]
    for row, (time, _, _) in enumerate(leaving):
        axes.plot([time, time], [row, here], color=PALE, lw=1.4)
    axes.plot([times[0], times[-1]], [here, here], color=DARK, lw=1.4, solid_capstyle="butt")
    axes.plot(branch.t_start, here, marker="o", ms=4.5, mfc="white", mec=HERE, mew=1.2, zorder=4)
    axes.set(xlim=(1, 0), ylim=(len(rows) - 0.4, -0.6))
    axes.set_title("place in the tree")
    axes.spines["left"].set_visible(False)
    axes.yaxis.tick_right()
    axes.set_yticks(range(len(rows)), [label for _, label, _ in rows])
    axes.tick_params(axis="y", length=0, pad=3)
    for label in axes.get_yticklabels()[:first]:
        label.set_color(GREY)


def _draw_profiles(
    axes: Axes,
    hybrid: str,
    genes: pd.DataFrame,
    chosen: Mapping[str, Sequence[str]],
    profiles: Mapping[str, NDArray[np.float64]],
) -> None:
    """Genes by populations, each gene relative to its largest value: what is common, what leaves, and real cells."""
    rows = [(child, gene) for child, names in chosen.items() for gene in names]
    axes.set_title("genes of the children, each relative to its largest value")
    if not rows:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no gene tells the children apart", ha="center", va="center", color=GREY)
        return
    order = {gene: number for number, gene in enumerate(genes[genes["child"] == next(iter(chosen))]["gene"])}
    picked = [order[gene] for _, gene in rows]
    columns = [("all, at the branch point", profiles[hybrid][picked])]
    for child in chosen:
        real = genes[genes["child"] == child]["expression"].to_numpy()[picked]
        name = textwrap.shorten(child, NAME, placeholder="…")
        columns += [(f"{name}, leaving it", profiles[child][picked]), (f"{name}, real cells", real)]
    values = np.stack([column for _, column in columns], axis=1)
    values = values / np.maximum(values.max(axis=1, keepdims=True), 1e-12)
    mesh = axes.pcolormesh(values, cmap="Greys", vmin=0, vmax=1, edgecolors="white", linewidth=0.4)
    for edge in range(1, len(columns), 2):
        axes.axvline(edge, color="white", lw=3)
    ends = np.cumsum([len(names) for names in chosen.values()])[:-1]
    for end in ends:
        axes.axhline(end, color="white", lw=3)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(rows)) + 0.5, [gene for _, gene in rows])
    axes.set_xticks(np.arange(len(columns)) + 0.5, [name for name, _ in columns], rotation=90)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.figure.colorbar(mesh, ax=axes, shrink=0.5, aspect=18, ticks=[0, 0.5, 1]).outline.set_visible(False)


def shortened(classes: Sequence[str]) -> str:
    """Names of classes in the room of one: as many as fit, and how many more there are."""
    shown = 1
    while shown < len(classes) and len(", ".join(classes[: shown + 1])) <= NAME:
        shown += 1
    text = textwrap.shorten(", ".join(classes[:shown]), NAME, placeholder="…")
    return text if shown == len(classes) else f"{text} and {len(classes) - shown} more"
