"""What changed in transmuted cells, and what was kept, by gene."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from branchgen.analysis.expression import Doubles
from branchgen.analysis.figures import DARK, GREY, LIGHT, SOURCE_COLOURS, WIDTH, styled

N_NAMED = 6
"""Genes that are named on either side of the changes."""
N_KEPT = 15
"""Genes of the list of what was kept."""


@styled
def transmutation_figure(changes: pd.DataFrame, source: str, target: str) -> Figure:
    """The change of every gene against the difference between the real classes; and the genes that were kept best.

    `changes` is the table of `transmute`. A gene is kept where it correlates between the cells and what became of them.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_changes(left, changes, source, target)
    _draw_kept(right, changes)
    return figure


def _draw_changes(axes: Axes, changes: pd.DataFrame, source: str, target: str) -> None:
    expected, found = changes["expected_change"].to_numpy(), changes["change"].to_numpy()
    reach = np.abs(np.concatenate([expected, found])).max() * 1.1 or 1.0
    axes.plot([-reach, reach], [-reach, reach], color=LIGHT, lw=0.8, zorder=1)
    axes.axhline(0, color=LIGHT, lw=0.6, zorder=1)
    axes.scatter(expected, found, s=4, color=SOURCE_COLOURS["generated"], alpha=0.6, linewidths=0, zorder=2)
    order = np.argsort(expected, kind="stable")
    for rows, side in ((order[:N_NAMED], -1), (order[-N_NAMED:], 1)):
        rows = rows[np.argsort(found[rows], kind="stable")]
        for row, height in zip(rows, _spread(found[rows], 0.09 * reach), strict=True):
            place = expected[row] + side * 0.12 * reach, height
            axes.plot([expected[row], place[0]], [found[row], height], color=LIGHT, lw=0.4, zorder=1)
            name = str(changes["gene"].iloc[row])
            axes.text(*place, name, ha="left" if side > 0 else "right", va="center", fontsize=5, color=DARK)
    axes.set(xlim=(-reach * 1.25, reach * 1.25), xlabel=f"real {target} less real {source}, ln(1 + counts per 10⁴)")
    axes.set_ylabel(f"change of {source} as {target}")
    agreement = np.corrcoef(expected, found)[0, 1] if expected.std() and found.std() else np.nan
    axes.set_title(f"What changed: correlation {agreement:.2f} over {len(changes)} genes")


def _spread(heights: Doubles, gap: float) -> Doubles:
    """Rising heights moved apart to the gap, about their mean."""
    steps = np.maximum(np.diff(heights), gap)
    moved = heights[0] + np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(moved - moved.mean() + heights.mean())


def _draw_kept(axes: Axes, changes: pd.DataFrame) -> None:
    kept = changes.dropna(subset="kept").sort_values("kept", ascending=False, kind="stable").head(N_KEPT)
    height = np.arange(len(kept))[::-1]
    axes.hlines(height, 0, kept["kept"], color=LIGHT, lw=0.8)
    axes.plot(kept["kept"], height, "o", ms=3, color=SOURCE_COLOURS["generated"])
    axes.set_yticks(height, kept["gene"].astype(str))
    axes.axvline(0, color=GREY, lw=0.6)
    axes.set(xlabel="correlation, before and after", ylim=(-0.7, max(len(kept), 1) - 0.3))
    axes.set_title("What was kept best")
