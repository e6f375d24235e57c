"""Metrics of the generated cells and of the baselines against the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from branchgen.analysis.figures import DARK, LIGHT, PALE, WIDTH, grid, styled
from branchgen.analysis.figures_sources import colours_of, handles_of, in_order
from branchgen.analysis.metrics import METRICS, SCALES
from branchgen.analysis.samples import ALL, FLOOR

N_COLUMNS = 4
"""Panels per row."""
N_KEYS = 4
"""Entries of the legend per row."""
OF_TYPES = ("mmd_squared", "lfc_slope")
"""Metrics shown type by type."""


@styled
def metrics_figure(metrics: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Small multiples, one for each metric with its own axis, and below them two metrics for every type.

    `metrics` is the long table of `evaluate`; the line is the floor, whiskers and band are standard deviations between
    repeats. Types stand in the order of `classes`.
    """
    scale = metrics["metric"].map(SCALES).fillna(1.0)
    metrics = metrics.assign(value=metrics["value"] * scale, sd=metrics["sd"] * scale)
    pooled, of_types = metrics[metrics["kind"] == ALL], metrics[metrics["kind"] == "class"]
    names = [name for name in METRICS if (pooled["metric"] == name).any()]
    sources = in_order(pooled["source"])
    panel_rows = -(-len(names) // N_COLUMNS)
    types = [name for name in classes if (of_types["group"] == name).any()]
    heights = [panel_rows * (0.12 * len(sources) + 0.64)] + ([0.16 * len(types) + 0.75] if types else [])
    n_lines = -(-(len(sources) + 1) // N_KEYS)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.2 + 0.15 * n_lines), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    panels = grid(parts[0], len(names), N_COLUMNS, sharey=True)
    for axes, name in zip(panels, names, strict=True):
        _draw_metric(axes, _label(name), pooled[pooled["metric"] == name].set_index("source"), sources)
    if types:
        below = grid(parts[1], len(OF_TYPES), len(OF_TYPES), sharey=True)
        for axes, name in zip(below, OF_TYPES, strict=True):
            _draw_types(axes, of_types[of_types["metric"] == name], types, sources)
            axes.set_title(f"{_label(name)}, by type")
    keys = handles_of(sources)
    figure.legend(handles=keys, loc="outside upper left", ncols=N_KEYS, columnspacing=1.2, handletextpad=0.4)
    return figure


def _label(metric: str) -> str:
    return METRICS[metric] + (" · 10³" if metric in SCALES else "")


def _draw_metric(axes: Axes, title: str, values: pd.DataFrame, sources: Sequence[str]) -> None:
    """One dot with whiskers for every source, its value at the right, and the floor as a line in its band."""
    axes.set_title(title)
    rows = [*sources, FLOOR]
    colours = colours_of(sources)
    for row, source in enumerate(rows):
        if source not in values.index:
            continue
        value, spread = np.nan_to_num(values.loc[source, ["value", "sd"]].to_numpy(float)).tolist()
        if source == FLOOR:
            axes.axvspan(value - spread, value + spread, color=PALE, lw=0, alpha=0.5, zorder=0)
            axes.axvline(value, color=DARK, lw=1.2, zorder=1)
        else:
            axes.plot([value - spread, value + spread], [row, row], color=colours[source], lw=1.0, zorder=2)
            axes.plot(value, row, marker="o", ms=4.5, color=colours[source], clip_on=False, zorder=3)
        text = f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), fontsize=6, va="center")
    for row in range(len(sources)):
        axes.axhline(row, color=LIGHT, lw=0.5, zorder=0)
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    # Small numbers have long labels.
    few = MaxNLocator(2, steps=[1, 2, 5, 10], min_n_ticks=1)
    axes.xaxis.set_major_locator(few if high - low < 0.02 else MaxNLocator(3))


def _draw_types(axes: Axes, values: pd.DataFrame, types: Sequence[str], sources: Sequence[str]) -> None:
    """One row for every type, one dot for every source, and the floor as an upright stroke."""
    colours = colours_of(sources)
    for row, type_ in enumerate(types):
        axes.axhline(row, color=LIGHT, lw=0.5, zorder=0)
        of_type = values[values["group"] == type_].set_index("source")["value"]
        if FLOOR in of_type:
            axes.plot(of_type[FLOOR], row, marker="|", ms=8, mew=1.4, color=DARK)
        for source in sources[::-1]:
            if source in of_type:
                axes.plot(of_type[source], row, marker="o", ms=4, mew=0, color=colours[source], zorder=3)
    axes.set(ylim=(len(types) - 0.4, -0.6))
    axes.set_yticks(range(len(types)), list(types))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
