"""Gene–gene correlations within types: those of real cells beside those of generated ones."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from branchgen.analysis.figures import DARK, LIGHT, WIDTH, styled
from branchgen.analysis.figures_sources import LABELS, colours_of, in_order
from branchgen.analysis.samples import FLOOR, OWN, TEST

N_COLUMNS = 4
"""Panels beside each other, at least: few are not spread."""
N_MAPS = 3
"""Types shown as a matrix: those with most cells."""
FLOOR_COLOUR = "#5f5f5f"


@styled
def correlations_figure(correlations: pd.DataFrame) -> Figure:
    """Correlations of all pairs of genes and types for every source against the real ones, and three matrices.

    `correlations` is the table of `evaluate`. In a matrix the real cells are below the diagonal, the generated ones
    above; genes stand in the order of a clustering of the real correlations.
    """
    sources = [FLOOR, *in_order(set(correlations["source"].unique()) - {TEST, FLOOR})]
    sources = [name for name in sources if (correlations["source"] == name).any()]
    types = _largest_types(correlations)
    if not types:
        figure = Figure(figsize=(WIDTH, 1.0), layout="constrained")
        figure.text(0.5, 0.5, "no type has cells enough for its correlations", ha="center")
        return figure
    figure = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.75, 2.35]).ravel()
    values = correlations.pivot(index=["group", "gene_a", "gene_b"], columns="source", values="correlation")
    colours = {**colours_of(sources), FLOOR: FLOOR_COLOUR}
    panels = above.subplots(1, max(len(sources), N_COLUMNS), sharex=True, sharey=True, squeeze=False)[0]
    for axes in panels[len(sources) :]:
        axes.remove()
    for axes, source in zip(panels, sources, strict=False):
        _draw_pairs(axes, values[TEST], values[source], colours[source])
        axes.set_title(textwrap.fill(LABELS.get(source, source), 18))
    panels[0].set_ylabel("generated")
    above.supxlabel("correlation of two genes in real cells (test)", fontsize=7)
    maps = below.subplots(1, N_MAPS, squeeze=False)[0]
    for axes in maps[len(types) :]:
        axes.remove()
    for axes, name in zip(maps, types, strict=False):
        image = _draw_map(axes, correlations[correlations["group"] == name])
        axes.set_title(textwrap.fill(name, 36))
    bar = below.colorbar(image, ax=list(maps[: len(types)]), location="right", shrink=0.6, aspect=18, pad=0.02)
    bar.set_label("correlation")
    bar.outline.set_visible(False)
    return figure


def _largest_types(correlations: pd.DataFrame) -> list[str]:
    of_own = correlations[correlations["source"] == OWN]
    n_cells = of_own.groupby("group", observed=True, sort=False)["n_cells"].first()
    return [str(name) for name in n_cells.sort_values(ascending=False, kind="stable").index[:N_MAPS]]


def _draw_pairs(axes: Axes, real: pd.Series, generated: pd.Series, colour: str) -> None:
    axes.plot([-1, 1], [-1, 1], color=DARK, lw=0.6, ls=(0, (3, 2)), zorder=1)
    axes.scatter(real, generated, s=0.8, c=colour, linewidths=0, alpha=0.4, rasterized=True, zorder=2)
    axes.axhline(0, color=LIGHT, lw=0.5, zorder=0)
    axes.axvline(0, color=LIGHT, lw=0.5, zorder=0)
    limit = 1.05 * float(np.nanquantile(np.abs(real), 0.9999))
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_box_aspect(1)
    axes.locator_params(nbins=3)


def _draw_map(axes: Axes, pairs: pd.DataFrame) -> object:
    """Matrix of one type: real below the diagonal, generated above."""
    of_sources = {name: pairs[pairs["source"] == name] for name in (TEST, OWN)}
    genes = pd.unique(of_sources[TEST][["gene_a", "gene_b"]].astype(str).to_numpy().ravel())
    place = {gene: position for position, gene in enumerate(_ordered(of_sources[TEST], genes))}
    matrix: NDArray[np.float64] = np.full((len(genes), len(genes)), np.nan)
    for source, flipped in ((TEST, True), (OWN, False)):
        part = of_sources[source]
        rows, columns = (part[name].astype(str).map(place).to_numpy() for name in ("gene_a", "gene_b"))
        matrix[(columns, rows) if flipped else (rows, columns)] = part["correlation"]
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-0.6, vmax=0.6, interpolation="nearest", rasterized=True)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=LIGHT)
    axes.set_xlabel("generated", loc="right")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("real", loc="bottom")
    return image


def _ordered(pairs: pd.DataFrame, genes: NDArray[np.object_]) -> list[str]:
    """Genes as they come first in the pairs, the one that is never first at the end."""
    first = [str(gene) for gene in pairs["gene_a"].astype(str).unique()]
    return [*first, *(str(gene) for gene in genes if str(gene) not in set(first))]
