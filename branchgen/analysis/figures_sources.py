"""How the sources of cells look in all figures: their order, colours and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.lines import Line2D

from branchgen.analysis.figures import DARK
from branchgen.analysis.samples import CODEC, FLOOR, LIMIT, NB, OWN, TRAIN

COLOURS = {
    OWN: "#d95f02",
    "flat": "#00897b",
    "gauss": "#8e44ad",
    "scvi": "#b8860b",
    CODEC: "#c2185b",
    NB: "#1b6ca8",
    TRAIN: "#7a9a01",
    LIMIT: "#5f5f5f",
}
"""Colour of a source, in the order of figures."""
MORE_COLOURS = ("#5d4037", "#607d8b", "#9e9d24")
LABELS = {
    FLOOR: "floor: real cells",
    NB: "negative binomial",
    TRAIN: "training cells",
    LIMIT: "limit of estimation",
    "gauss": "Gaussian per type",
    "flat": "branchgen without a tree",
    "scvi": "scVI",
    CODEC: "codec alone",
}


def in_order(present: Iterable[str]) -> list[str]:
    """Sources but for the floor: the generated cells first, then the baselines, and what is no generator last."""
    names = set(present) - {FLOOR}
    last = (NB, CODEC, TRAIN, LIMIT)
    own = [name for name in COLOURS if name in names and name not in last]
    return [*own, *sorted(names - set(COLOURS)), *(name for name in last if name in names)]


def colours_of(sources: Sequence[str]) -> dict[str, str]:
    """A colour for every source; the same for the same names."""
    more = sorted(set(sources) - set(COLOURS))
    return COLOURS | {name: MORE_COLOURS[number % len(MORE_COLOURS)] for number, name in enumerate(more)}


def handles_of(sources: Sequence[str]) -> list[Line2D]:
    """Entries of a legend: a dot for every source, and the line of the floor."""
    colours = colours_of(sources)
    dots = [Line2D([], [], marker="o", ls="", ms=4, color=colours[s], label=LABELS.get(s, s)) for s in sources]
    return [*dots, Line2D([], [], color=DARK, lw=1.2, label=LABELS[FLOOR])]
