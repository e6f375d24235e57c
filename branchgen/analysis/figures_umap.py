"""Real and generated cells in one UMAP: all types together, and type by type."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from branchgen.analysis.figures import LIGHT, SOURCE_COLOURS, WIDTH, grid, styled

N_COLUMNS = 5
"""Panels per row."""
CHARACTER = 0.062
"""Inches per character of a legend."""

Colours = Mapping[str, tuple[float, float, float]]


@styled
def umap_figure(embedding: pd.DataFrame, colours: Colours) -> Figure:
    """Three panels: both sources on top of each other, the real cells by type, and the generated ones by type.

    `embedding` has umap_1, umap_2, cell_type and source; a type's number stands on its cell nearest to the median.
    """
    present = [name for name in colours if (embedding["cell_type"] == name).any()]
    numbers = {name: number for number, name in enumerate(present, start=1)}
    width = CHARACTER * (max(map(len, present)) + 3) + 0.3
    n_columns = max(1, min(len(present), int(WIDTH / width)))
    n_rows = -(-len(present) // n_columns)
    figure = Figure(figsize=(WIDTH, 2.75 + 0.155 * n_rows), layout="constrained")
    size = _size(len(embedding))
    sources, real, generated = grid(figure, 3, 3, sharex=True, sharey=True)
    _scatter(sources, embedding, [SOURCE_COLOURS[source] for source in embedding["source"]], size)
    handles = [
        Line2D([], [], marker="o", ls="", ms=3, color=colour, label=name) for name, colour in SOURCE_COLOURS.items()
    ]
    sources.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, columnspacing=1)
    for axes, source in ((real, "real"), (generated, "generated")):
        cells = embedding[embedding["source"] == source]
        _scatter(axes, cells, [colours[name] for name in cells["cell_type"]], size)
        for name, number in numbers.items():
            own = cells.loc[cells["cell_type"] == name, ["umap_1", "umap_2"]].to_numpy()
            # The median itself can be among other types, or nowhere.
            x, y = own[np.square(own - np.median(own, axis=0)).sum(axis=1).argmin()]
            label = axes.text(x, y, str(number), fontsize=6, ha="center", va="center")
            label.set_path_effects([patheffects.withStroke(linewidth=1.5, foreground="white")])
    for axes, title in ((sources, "real and generated"), (real, "real"), (generated, "generated")):
        axes.set_title(f"{title} ({(embedding['source'] == title).sum() or len(embedding)})")
    keys = [
        Line2D([], [], marker="o", ls="", ms=4, color=colours[name], label=f"{number} {name}")
        for name, number in numbers.items()
    ]
    figure.legend(
        handles=keys, loc="outside lower center", ncols=n_columns, handletextpad=0.1, columnspacing=1, labelspacing=0.3
    )
    return figure


@styled
def umap_types_figure(embedding: pd.DataFrame, colours: Colours) -> Figure:
    """One panel per type: its real and its generated cells, and in grey all others."""
    present = [name for name in colours if (embedding["cell_type"] == name).any()]
    titles = [textwrap.fill(name, 22) for name in present]
    n_columns = min(N_COLUMNS, len(present))
    n_rows = -(-len(present) // n_columns)
    panel = WIDTH / N_COLUMNS
    title_height = 0.11 * max(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(max(panel * n_columns, 3.2), n_rows * (panel + title_height) + 0.3), layout="constrained")
    for axes, name, title in zip(
        grid(figure, len(present), N_COLUMNS, sharex=True, sharey=True), present, titles, strict=True
    ):
        own = embedding["cell_type"] == name
        others, cells = embedding[~own], embedding[own]
        _scatter(axes, others, [LIGHT] * len(others), 0.6 * _size(len(embedding)))
        _scatter(axes, cells, [SOURCE_COLOURS[source] for source in cells["source"]], 2 * _size(len(embedding)))
        axes.set_title(title, fontsize=6.5)
    handles = [
        Line2D([], [], marker="o", ls="", ms=3, color=colour, label=name) for name, colour in SOURCE_COLOURS.items()
    ]
    handles.append(Line2D([], [], marker="o", ls="", ms=3, color=LIGHT, label="other types"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _scatter(axes: Axes, cells: pd.DataFrame, colours: list[object], size: float) -> None:
    """Points in mixed order, so that no group lies on top; as pixels, because thousands of them make a heavy file."""
    order = np.random.default_rng(0).permutation(len(cells))
    axes.scatter(
        cells["umap_1"].to_numpy()[order],
        cells["umap_2"].to_numpy()[order],
        s=size,
        c=[colours[row] for row in order] or None,
        linewidths=0,
        rasterized=True,
    )
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    axes.spines[:].set(visible=True, color=LIGHT)


def _size(n_cells: int) -> float:
    """Area of a point, in points²."""
    return float(np.clip(4000 / max(n_cells, 1), 1.2, 8.0))
