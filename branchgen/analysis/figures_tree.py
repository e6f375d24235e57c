"""The tree of the classes on the noise axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from branchgen.analysis.figures import DARK, GREY, PALE, WIDTH, styled
from branchgen.hierarchy.derive import Support
from branchgen.hierarchy.tree import Hierarchy

if TYPE_CHECKING:
    from branchgen.diffusion.schedule import NoiseSchedule

ROW = 0.2
"""Inches per class."""


def leaf_order(hierarchy: Hierarchy) -> list[str]:
    """Classes from the top of the figure to its foot: every branch's classes stand together."""

    def below(position: int) -> list[str]:
        children = hierarchy.children[position]
        if not children:
            return list(hierarchy.branches[position].classes)
        return [name for child in children for name in below(child)]

    return below(0)


@styled
def tree_figure(
    hierarchy: Hierarchy,
    schedule: NoiseSchedule,
    support: Mapping[str, Support],
    colours: Mapping[str, tuple[float, float, float]],
) -> Figure:
    """Tree from pure noise (left) to the classes (right), with support and interval of every branch point.

    A bar is the interval of the branch point's time over resamples of the cells, a number the share of resamples with
    the same clade. The upper axis has the noise levels, geometric means over coordinates.
    """
    leaves = leaf_order(hierarchy)
    figure = Figure(figsize=(WIDTH, ROW * len(leaves) + 1.15), layout="constrained")
    axes = figure.add_subplot()
    rows = {name: float(row) for row, name in enumerate(leaves)}
    heights = _heights(hierarchy, rows)
    for position, branch in enumerate(hierarchy.branches):
        children = hierarchy.children[position]
        colour = colours[branch.classes[0]] if len(branch.classes) == 1 else DARK
        height = heights[position]
        axes.plot([branch.t_end, branch.t_start], [height, height], color=colour, lw=1.6, solid_capstyle="butt")
        if len(children) > 1:
            ends = [heights[child] for child in children]
            axes.plot([branch.t_start] * 2, [min(ends), max(ends)], color=DARK, lw=1.6, solid_capstyle="projecting")
            _draw_branch_point(axes, branch.t_start, height, support.get(branch.name))
        elif children:
            axes.plot(branch.t_start, height, marker="|", color=colour, ms=6, mew=1.2)
    axes.set(xlim=(1.0, 0.0), ylim=(len(leaves) - 0.4, -0.75), xlabel="diffusion time (1: noise, 0: data)")
    axes.spines["left"].set_visible(False)
    axes.yaxis.tick_right()
    axes.set_yticks(range(len(leaves)), leaves, fontsize=7)
    axes.tick_params(axis="y", length=0, pad=3)
    _draw_noise_axis(axes, schedule)
    keys = [
        Line2D([], [], marker="o", ls="", ms=4, mfc="white", mec=DARK, label="branch point, with its support (%)"),
        Line2D([], [], color=PALE, lw=4, solid_capstyle="butt", label="5th to 95th percentile over resampled cells"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=2)
    return figure


def _heights(hierarchy: Hierarchy, rows: Mapping[str, float]) -> dict[int, float]:
    """Row of every branch: that of its class, or midway between its first and last child."""
    heights: dict[int, float] = {}
    for position in reversed(range(len(hierarchy.branches))):
        children = [heights[child] for child in hierarchy.children[position]]
        heights[position] = (
            (min(children) + max(children)) / 2 if children else rows[hierarchy.branches[position].classes[0]]
        )
    return heights


def _draw_branch_point(axes: Axes, time: float, height: float, support: Support | None) -> None:
    axes.plot(time, height, marker="o", ms=4, mfc="white", mec=DARK, mew=1.0, zorder=4)
    if support is None:
        return
    reach = [min(support.time_low, time), max(support.time_high, time)]
    axes.plot(reach, [height] * 2, color=GREY, lw=0.6, zorder=1)
    axes.plot(
        [support.time_low, support.time_high],
        [height] * 2,
        color=PALE,
        lw=4,
        solid_capstyle="butt",
        zorder=1,
    )
    if support.support is not None:
        axes.annotate(
            f"{100 * support.support:.0f}",
            (time, height),
            xytext=(-4, 2.5),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=6,
            zorder=5,
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
        )


def _draw_noise_axis(axes: Axes, schedule: NoiseSchedule) -> None:
    times = np.linspace(0, 1, 201)
    log_sigma: NDArray[np.float64] = np.log(schedule.levels(times)).mean(axis=1)
    levels = np.array([digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)])
    inside = levels[(np.log(levels) >= log_sigma[0] - 1e-9) & (np.log(levels) <= log_sigma[-1] + 1e-9)]
    upper = axes.secondary_xaxis("top")
    upper.set_xticks(np.interp(np.log(inside), log_sigma, times), [f"{level:g}" for level in inside])
    upper.set_xlabel("noise level σ")
