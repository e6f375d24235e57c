"""Metrics of the generated cells and of the baselines against the floor."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from branchgen.analysis.figures import DARK, LIGHT, WIDTH, grid, styled
from branchgen.analysis.metrics import METRICS
from branchgen.analysis.samples import ALL, FLOOR, SOURCES

N_COLUMNS = 4
"""Panels per row."""
OF_TYPES = ("mmd_squared", "lfc_slope")
"""Metrics shown type by type."""
COLOURS = {"branchgen": "#d95f02", "nb": "#1b6ca8", "train": "#7a9a01"}
MORE_COLOURS = ("#8e44ad", "#00897b", "#b8860b", "#c2185b")
LABELS = {"nb": "negative binomial", "train": "training cells", FLOOR: "floor: real against real"}


@styled
def metrics_figure(metrics: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Small multiples, one for each metric with its own axis, and below them two metrics for every type.

    `metrics` is the long table of `evaluate`; the line is the floor. Types stand in the order of `classes`.
    """
    pooled, of_types = metrics[metrics["kind"] == ALL], metrics[metrics["kind"] == "class"]
    names = [name for name in METRICS if (pooled["metric"] == name).any()]
    present = set(metrics["source"])
    sources = [name for name in dict.fromkeys([*SOURCES[::-1], *sorted(present)]) if name in present - {FLOOR}]
    more = [name for name in sources if name not in COLOURS]
    colours = COLOURS | {name: MORE_COLOURS[number % len(MORE_COLOURS)] for number, name in enumerate(more)}
    panel_rows = -(-len(names) // N_COLUMNS)
    types = [name for name in classes if (of_types["group"] == name).any()]
    heights = [panel_rows * (0.12 * len(sources) + 0.64)] + ([0.16 * len(types) + 0.75] if types else [])
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.35), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    panels = grid(parts[0], len(names), N_COLUMNS, sharey=True)
    for axes, name in zip(panels, names, strict=True):
        rows = pooled[pooled["metric"] == name]
        values = dict(zip(rows["source"], rows["value"], strict=True))
        _draw_metric(axes, METRICS[name], values, sources, colours)
    if types:
        below = grid(parts[1], len(OF_TYPES), len(OF_TYPES), sharey=True)
        for axes, name in zip(below, OF_TYPES, strict=True):
            _draw_types(axes, of_types[of_types["metric"] == name], types, sources, colours)
            axes.set_title(f"{METRICS[name]} by type")
    keys = [Line2D([], [], marker="o", ls="", ms=4, color=colours[s], label=LABELS.get(s, s)) for s in sources]
    keys.append(Line2D([], [], color=DARK, lw=1.2, label=LABELS[FLOOR]))
    figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), columnspacing=1.2, handletextpad=0.4)
    return figure


def _draw_metric(
    axes: Axes, title: str, values: dict[str, float], sources: Sequence[str], colours: dict[str, str]
) -> None:
    """One dot for every source, its value at the right, and the floor as a line."""
    axes.set_title(title)
    rows = [*sources, FLOOR]
    if FLOOR in values:
        axes.axvline(values[FLOOR], color=DARK, lw=1.2, zorder=1)
    for row, source in enumerate(rows):
        if source != FLOOR:
            axes.axhline(row, color=LIGHT, lw=0.5, zorder=0)
        if source in values:
            if source != FLOOR:
                axes.plot(values[source], row, marker="o", ms=4.5, color=colours[source], clip_on=False, zorder=3)
            text = f"{values[source]:.3g}".replace("-", "\N{MINUS SIGN}")
            axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), fontsize=6, va="center")
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _draw_types(
    axes: Axes, values: pd.DataFrame, types: Sequence[str], sources: Sequence[str], colours: dict[str, str]
) -> None:
    """One row for every type, one dot for every source, and the floor as an upright stroke."""
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
