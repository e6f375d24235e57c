"""What all figures share: their style, the colours of the classes, and how they become bytes.

A figure is a function from tables to a matplotlib Figure; it lays out and computes nothing. The functions are in the
modules figures_*.
"""

from __future__ import annotations

import colorsys
import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.1
"""Inches: two columns of a journal."""
DARK, GREY, PALE, LIGHT = "#333333", "#8c8c8c", "#c4c4c4", "#d9d9d9"
SOURCE_COLOURS = {"real": DARK, "generated": "#d95f02"}
STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": DARK,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 7,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # text stays text: it can be searched, and edited in a drawing program
    "svg.hashsalt": "branchgen",
    "text.color": DARK,
    "xtick.color": GREY,
    "xtick.labelcolor": DARK,
    "xtick.labelsize": 6,
    "xtick.major.size": 2,
    "xtick.major.width": 0.6,
    "ytick.color": GREY,
    "ytick.labelcolor": DARK,
    "ytick.labelsize": 6,
    "ytick.major.size": 2,
    "ytick.major.width": 0.6,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the common style, whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return wrapper


def render(figure: Figure, format_: str) -> bytes:
    """Bytes of a figure as svg or png; the same figure gives the same bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        stream = io.BytesIO()
        # The date, and the version in the name of the software, would make equal figures differ.
        metadata = {"Date": None, "Creator": None} if format_ == "svg" else {"Software": None}
        figure.savefig(stream, format=format_, metadata=metadata)
    return _numbered_ids(stream.getvalue()) if format_ == "svg" else stream.getvalue()


def _numbered_ids(svg: bytes) -> bytes:
    """The ids of clip paths and markers by order of appearance.

    Matplotlib hashes the coordinates into them, and the solver behind its layout gives the last bits of a coordinate
    by where its variables happen to lie in memory.
    """
    names: dict[bytes, bytes] = {}

    def renamed(found: re.Match[bytes]) -> bytes:
        return found[1] + names.setdefault(found[2], b"%s%d" % (found[2][:1], len(names)))

    return re.sub(rb'((?:\bid="|url\(#|href="#))([a-z][0-9a-f]{10})\b', renamed, svg)


def class_colours(classes: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for every class, in the order of the leaves: relatives in near hues, neighbours in other lightness."""
    n_classes = len(classes)
    lightness = (0.42, 0.62) if n_classes <= 12 else (0.36, 0.66, 0.52)
    return {
        name: colorsys.hls_to_rgb(number / n_classes, lightness[number % len(lightness)], 0.62)
        for number, name in enumerate(classes)
    }


def grid(figure: Figure, n_panels: int, n_columns: int, **options: Any) -> list[Axes]:
    """The first `n_panels` axes of a grid that is as wide as needed; the others are removed."""
    n_columns = min(n_columns, n_panels)
    axes = figure.subplots(-(-n_panels // n_columns), n_columns, squeeze=False, **options).ravel().tolist()
    for unused in axes[n_panels:]:
        unused.remove()
    kept: list[Axes] = axes[:n_panels]
    for lowest in kept[-n_columns:]:
        lowest.tick_params(labelbottom=True)
    return kept
