"""What sharing branches costs in quality, by the share of the network evaluations that is left."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from branchgen.analysis.figures import DARK, GREY, PALE, WIDTH, styled
from branchgen.analysis.metrics import METRICS, SCALES
from branchgen.analysis.samples import FLOOR

SHOWN = ("mmd_squared_by_type", "lfc_slope", "c2st_auc")
"""Metrics of the figure, a panel each."""
PAPER = "pc"
"""The sampler of Tseng et al. (arXiv 2212.10777), a predictor and a corrector, of which they take 1,000 steps.

So many have no place in the figure.
"""
COLOURS = {"transport": "#d95f02", "linear": "#7570b3", "identity": "#1b9e77"}
"""By hand-over."""


@styled
def sharing_figure(table: pd.DataFrame) -> Figure:
    """A panel for every metric, a line for every hand-over: mean and standard deviation over repeats, by cost.

    `table` has the rows of `benchmark-sharing` for several models, by a column `model`; a row without a hand-over is
    of the model without a tree, or the floor.
    """
    scaled = table.assign(**{name: factor * table[name] for name, factor in SCALES.items() if name in table})
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        _draw(axes, scaled, metric)
    corrected = sorted(set(scaled["n_corrections"].dropna().astype(int)) - {0})
    keys: list[Line2D | Patch] = [
        Line2D([], [], color=colour, lw=1, marker="o", ms=3, label=name)
        for name, colour in COLOURS.items()
        if (scaled["handover"] == name).any()
    ]
    keys += [Line2D([], [], color=GREY, lw=1, ls=":", marker="o", ms=3, mfc="white", label=f"… then {number} Langevin "
             "steps") for number in corrected]  # fmt: skip
    keys += [
        Line2D([], [], color=DARK, lw=0, marker="s", ms=3.5, label="without a tree"),
        Patch(color=PALE, alpha=0.5, lw=0, label="real against real"),
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), columnspacing=1.2, handletextpad=0.4)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    floor = table[table["way"] == FLOOR][metric]
    spread = 0.0 if len(floor) < 2 else float(floor.std())
    axes.axhspan(floor.mean() - spread, floor.mean() + spread, color=PALE, alpha=0.5, lw=0)
    axes.axhline(floor.mean(), color=PALE, lw=1)
    flat = table[table["handover"].isna() & (table["way"] != FLOOR)]
    if len(flat):
        error = flat[metric].std() if len(flat) > 1 else 0.0
        axes.errorbar(flat["share"].mean(), flat[metric].mean(), error, fmt="s", ms=3.5, lw=0.8, color=DARK, zorder=4)
    ours = table[table["handover"].notna() & (table["solver"] != PAPER)]
    for (handover, corrections), rows in ours.groupby(["handover", "n_corrections"]):
        # The models are told apart by their cost without corrections, which is the same for every hand-over.
        points = rows.groupby("model")[["share", metric]].agg(["mean", "std"]).sort_values(("share", "mean"))
        plain = corrections == 0
        axes.errorbar(
            points["share", "mean"],
            points[metric, "mean"],
            points[metric, "std"].fillna(0.0),
            color=COLOURS[str(handover)],
            ls="-" if plain else ":",
            marker="o",
            ms=3,
            mfc=None if plain else "white",
            lw=1,
            elinewidth=0.6,
            zorder=3 if plain else 2,
        )
    axes.set(xlim=(0, 1.05 * max(1.0, table["share"][table["solver"] != PAPER].max())))
    axes.set_xlabel("share of the network evaluations")
    axes.set_title(METRICS[metric] + (" · 10³" if metric in SCALES else ""))
    if metric == "mmd_squared_by_type":
        # Hand-overs differ by a factor of ten and more.
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=min(-0.3, 1.5 * (floor.mean() - spread)))
