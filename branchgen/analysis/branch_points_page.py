"""A page of every branch point: its place, its populations, their genes, and what the children have in common."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
from anndata import AnnData

from branchgen.analysis.expression import mean_profiles
from branchgen.analysis.figures import render
from branchgen.analysis.figures_branch_points import LEVEL, higher_genes
from branchgen.analysis.figures_hybrids import drawn_children, hybrids_figure
from branchgen.analysis.html_tables import STYLE, Cell, number, plural, table, text
from branchgen.cells.keys import BRANCH
from branchgen.hierarchy.tree import Hierarchy

N_GENES = 10
"""Genes in the table of a child, at most."""
N_SHARED = 20
"""Genes that the children have in common, at most."""
HEADER = (
    "log₂ fold change",
    "q-value",
    "real cells",
    "all, at the branch point",
    "difference there",
)
EXPLAINED = (
    "Types are made together, from noise, until what tells them apart would show: there their branch parts into its "
    "children. <em>At the branch point</em> stands for generated cells that have come so far, and what the model "
    "expects of them: an average over what it cannot yet tell, no progenitor. Expression is ln(1 + counts per "
    "10&#8239;000), of generated cells as expected, of real training cells their mean; "
    f"genes are those with a q-value of at most {LEVEL:g} (t-test on training cells, a child against its siblings)."
)


def branch_points_page(
    hierarchy: Hierarchy, points: pd.DataFrame, genes: pd.DataFrame, separability: pd.DataFrame, cells: AnnData
) -> str:
    """All branch points, root first, a section (in print: a page) each; needs nothing but a browser.

    `points`, `genes`, `separability` and `cells` are what `analyse` writes.
    """
    sections = [
        _section(hierarchy, position, points, genes, separability, cells) for position in hierarchy.branch_points
    ]
    links = "".join(
        f'<li><a href="#{_anchor(position)}">{text(_title(hierarchy, position))}</a></li>'
        for position in hierarchy.branch_points
    )
    contents = f"<ol>{links}</ol>" if links else "<p>A single class has no branch points.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Branch points</title><style>{STYLE}</style></head>"
        f"<body><main><h1>Branch points</h1><p>{EXPLAINED}</p>{contents}{''.join(sections)}</main></body></html>\n"
    )


def _section(
    hierarchy: Hierarchy,
    position: int,
    points: pd.DataFrame,
    genes: pd.DataFrame,
    separability: pd.DataFrame,
    cells: AnnData,
) -> str:
    name = hierarchy.branches[position].name
    own = genes[genes["branch"] == name]
    here = points[points["branch"] == name]
    figure = hybrids_figure(
        hierarchy,
        position,
        separability[separability["branch"] == name],
        own,
        mean_profiles(cells[(cells.obs[BRANCH] == name).to_numpy()]),
    )
    image = base64.b64encode(render(figure, "svg")).decode()
    shown = drawn_children(hierarchy, position, own)
    left_out = len(hierarchy.children[position]) - len(shown)
    note = "" if not left_out else f"<p>The figure has the {len(shown)} children with the clearest genes.</p>"
    return (
        f'<section id="{_anchor(position)}"><h2>{text(_title(hierarchy, position))}</h2>{_facts(here)}'
        f"{_shared(hierarchy, position, genes)}"
        f'<img alt="Place in the tree, separability and profiles" src="data:image/svg+xml;base64,{image}">{note}'
        + "".join(_child(hierarchy, row, own) for _, row in here.iterrows())
        + "</section>"
    )


def _facts(here: pd.DataFrame) -> str:
    """Time with its interval, noise and support."""
    first = here.iloc[0]
    facts = f"Time {number(first['time'], 3)}"
    if np.isfinite(first["time_low"]):
        facts += f" ({number(first['time_low'], 3)} to {number(first['time_high'], 3)} over resampled cells)"
    facts += f", noise level σ {number(first['sigma'], 2)}"
    if np.isfinite(first["support"]):
        facts += f"; {number(100 * first['support'], 0)} % of the resamples have these types together"
    return f"<p>{facts}.</p>"


def _shared(hierarchy: Hierarchy, position: int, genes: pd.DataFrame) -> str:
    """What the children have in common against what left at the branch point above."""
    child, above = position, hierarchy.parents[position]
    while above is not None and len(hierarchy.children[above]) < 2:
        child, above = above, hierarchy.parents[above]
    if above is None:
        return ""
    rows = genes[genes["branch"] == hierarchy.branches[above].name]
    common = higher_genes(rows, hierarchy.branches[child].name, N_SHARED)
    return (
        f"<p>In common, against those that left before: <strong>{text(', '.join(common))}</strong>.</p>"
        if common
        else "<p>No gene sets these types together apart from those that left before.</p>"
    )


def _child(hierarchy: Hierarchy, row: pd.Series, own: pd.DataFrame) -> str:
    """Heading and genes of one child."""
    name = str(row["child"])
    chosen = higher_genes(own, name, N_GENES)
    rows = own[own["child"] == name].set_index("gene").loc[chosen]
    classes = ", ".join(hierarchy.node(name).classes)
    who = name if classes == name else f"{name}: {classes}"
    heading = (
        f"<h3>{text(who)}</h3><p>{plural(int(row['n_train']), 'training cell')}; "
        f"{number(float(row['divergence']), 2)} nats from what all have in common</p>"
    )
    if not chosen:
        return f"{heading}<p>No gene is higher than in its siblings.</p>"
    lines = [
        [
            Cell(text(str(gene)), "label"),
            Cell(number(float(values["log2_fold_change"]), 2)),
            Cell(_small(float(values["q_value"]))),
            Cell(number(float(values["expression"]), 2)),
            Cell(number(float(values["hybrid"]), 2)),
            Cell(number(float(values["difference_at_branch_point"]), 2)),
        ]
        for gene, values in rows.iterrows()
    ]
    return heading + table(["gene", *HEADER], lines)


def _title(hierarchy: Hierarchy, position: int) -> str:
    """What parts there: the children by their names, or by their classes where they have more than a few."""
    parts = []
    for child in hierarchy.children[position]:
        branch = hierarchy.branches[child]
        parts.append(branch.name if len(branch.classes) == 1 else " + ".join(branch.classes))
    title = " | ".join(parts)
    name = hierarchy.branches[position].name
    return f"{name}: {title if len(title) <= 120 else plural(len(parts), 'child').replace('childs', 'children')}"


def _small(value: float) -> str:
    """A q-value in powers of ten; what is smaller than a double can hold has a bound."""
    if value < 1e-300:
        return "&lt; 10<sup>\N{MINUS SIGN}300</sup>"
    digit, power = f"{value:.0e}".split("e")
    return number(value, 3) if int(power) >= -2 else f"{digit} · 10<sup>\N{MINUS SIGN}{-int(power)}</sup>"


def _anchor(position: int) -> str:
    return f"branch-point-{position}"
