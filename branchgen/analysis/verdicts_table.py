"""The verdict on every type over the seeds: can its generated cells be told from real ones, and by which genes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from branchgen.analysis.comparison import Run
from branchgen.analysis.html_tables import Cell, figures, mark, number, table, text
from branchgen.analysis.samples import ALL, OWN
from branchgen.analysis.targets import Statistic
from branchgen.analysis.verdicts import DISTINGUISHABLE, INDISTINGUISHABLE, TOO_FEW

N_GENES = 5
"""Genes that are named."""


def verdicts_table(runs: Sequence[Run], sources: Sequence[str]) -> str:
    """A row for every type: AUC with its interval, the floor, the AUC of the others, the verdict and its genes."""
    verdicts = pd.concat([run.verdicts.assign(seed=run.seed) for run in runs], ignore_index=True)
    own = verdicts[verdicts["source"] == OWN]
    others = [name for name in sources if name != OWN and (verdicts["source"] == name).any()]
    if own.empty:
        return ""
    groups = [name for name in dict.fromkeys(own["group"]) if name != ALL]
    lines = []
    for group in [*groups, ALL]:
        rows = own[own["group"] == group]
        if rows.empty:
            continue
        lines.append(
            [
                Cell("<em>all types</em>" if group == ALL else text(group), "label"),
                Cell(number(float(rows["n_cells"].mean()), 0)),
                Cell(_mean(rows["floor_auc"]), "floor"),
                Cell(_interval(rows), "own"),
                *(
                    Cell(_mean(verdicts[(verdicts["source"] == name) & (verdicts["group"] == group)]["auc"]))
                    for name in others
                ),
                Cell(_verdict(rows["verdict"]), "label"),
                Cell(_genes(rows), "wide"),
            ]
        )
    header = ["type", "cells a side", "floor", OWN, *others, "verdict", "told apart by"]
    explained = (
        "AUC of a classifier between generated and held-out real cells of one type, with its 95 % interval (mean of "
        "the seeds); ↑ and ↓: higher and lower in generated cells."
    )
    return f"<h3>Can they be told apart?</h3><p>{explained}</p>" + table(header, lines)


def _mean(values: pd.Series) -> str:
    known = values.dropna().astype(float)
    return figures(Statistic(float(known.mean()), math.nan, 1) if len(known) else None, 3)


def _interval(rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["auc"])
    if known.empty:
        return figures(None, 3)
    auc, low, high = (number(float(known[name].mean()), 3) for name in ("auc", "low", "high"))
    return f'{auc} <span class="sd">{low} – {high}</span>'


def _verdict(verdicts: pd.Series) -> str:
    """The one verdict of all seeds, or how often the cells could be told apart."""
    judged = verdicts[verdicts.isin([DISTINGUISHABLE, INDISTINGUISHABLE])]
    if judged.empty:
        return f'<span class="none">{TOO_FEW}</span>'
    apart = int((judged == DISTINGUISHABLE).sum())
    words = (
        str(judged.iloc[0]) if apart in {0, len(judged)} else f"{DISTINGUISHABLE} with {apart} of {len(judged)} seeds"
    )
    return text(words) + mark(met=2 * apart < len(judged))


def _genes(rows: pd.DataFrame) -> str:
    """The genes that are named most often where cells could be told apart, earlier ones first."""
    counted: Counter[str] = Counter()
    for named in rows[rows["verdict"] == DISTINGUISHABLE]["genes"].dropna():
        counted.update(name.strip() for name in named.split(",") if name.strip())
    arrows = {"+": " ↑", "-": " ↓"}
    shown = [text(name[:-1]) + arrows.get(name[-1], text(name[-1])) for name, _ in counted.most_common(N_GENES)]
    return ", ".join(shown) if shown else ""
