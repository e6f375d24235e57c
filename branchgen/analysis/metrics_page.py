"""The metrics of one run as a page of HTML to read: floor first, what comes nearest to it marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from branchgen.analysis.comparison import BRANCH, Run
from branchgen.analysis.comparison_page import MEANINGS
from branchgen.analysis.figures_sources import in_order
from branchgen.analysis.html_tables import STYLE, Cell, figures, table, text
from branchgen.analysis.metrics import METRICS, SCALES
from branchgen.analysis.samples import ALL, CODEC, FLOOR, OWN, REAL
from branchgen.analysis.targets import Statistic
from branchgen.analysis.verdicts_table import verdicts_table
from branchgen.hierarchy.tree import Hierarchy

GROUPS = {
    "Classifiers and neighbours": ("c2st_auc", "forest_auc", "nearest_neighbour_accuracy"),
    "Distance": (
        "mmd_squared",
        "mmd_p_value",
        "mmd_squared_by_type",
        "energy_distance",
        "frechet_mean",
        "frechet_covariance",
    ),
    "Coverage": ("precision", "recall", "density", "coverage"),
    "Counts": (
        "gene_mean",
        "gene_variance",
        "gene_zeros",
        "mean_variance_curve",
        "mean_zeros_curve",
        "library_size",
        "genes_detected",
        "correlation_error",
        "correlation_agreement",
    ),
    "Biology": ("lfc_slope", "lfc_top_overlap", "tstr_macro_f1"),
    "Memorisation": ("nearer_train", "distance_ratio_p5", "duplicate_rate"),
}
"""Metrics of a table, by its heading; together they are all metrics."""
BRANCH_METRICS = {"c2st_auc": "Classifier, AUC", "mmd_squared": "MMD²", "precision": "Precision", "recall": "Recall"}
FIGURES = 3
"""Significant figures of the largest value of a row."""


def metrics_page(metrics: pd.DataFrame, verdicts: pd.DataFrame, hierarchy: Hierarchy) -> str:
    """All tables, from those of `evaluate`; needs nothing but a browser."""
    pooled = metrics[metrics["kind"] == ALL]
    sources = [FLOOR, *in_order(pooled["source"])]
    n_cells, n_seeds = int(pooled["n_cells"].max()), int(pooled["n_seeds"].max())
    repeats = "" if n_seeds == 1 else f" Mean ± standard deviation of {n_seeds} repeats."
    head = (
        "<h1>Generated cells beside held-out real ones</h1>"
        f"<p>{n_cells} cells a side, as many of every type.{repeats} A value means something only beside its floor, "
        "which compares real cells with real cells; the generator nearest to it is <strong>bold</strong>.</p>"
    )
    legend = "".join(f"<dt>{text(name)}</dt><dd>{text(MEANINGS[name])}</dd>" for name in sources if name in MEANINGS)
    parts = [head, f"<dl>{legend}</dl>"]
    for heading, names in GROUPS.items():
        lines = [line for name in names if (line := _line(_label(name), pooled, name, sources)) is not None]
        if lines:
            parts.append(f"<h3>{text(heading)}</h3>" + table(["", *sources], lines))
    parts.append(_branches(metrics[metrics["kind"] == BRANCH], hierarchy))
    run = Run(dataset="", seed=0, metrics=metrics, verdicts=verdicts, cost={})
    parts.append(verdicts_table([run], [name for name in sources if name != FLOOR]))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Metrics</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _branches(rows: pd.DataFrame, hierarchy: Hierarchy) -> str:
    """A table for every metric of the types below a branch."""
    if rows.empty:
        return ""
    sources = [FLOOR, *in_order(rows["source"])]
    parts = []
    for metric, label in BRANCH_METRICS.items():
        lines = []
        for name in dict.fromkeys(rows["group"]):
            types = ", ".join(hierarchy.node(name).classes)
            line = _line(types, rows[rows["group"] == name], metric, sources)
            if line is not None:
                lines.append([Cell(line[0].content, "wide"), *line[1:]])
        if lines:
            scale = " · 10³" if metric in SCALES else ""
            heading = f"<h3>{text(label)}{scale}, all types below a branch point</h3>"
            parts.append(heading + table(["", *sources], lines))
    return "".join(parts)


def _label(metric: str) -> str:
    return METRICS[metric] + (" · 10³" if metric in SCALES else "")


def _line(label: str, rows: pd.DataFrame, metric: str, sources: Sequence[str]) -> list[Cell] | None:
    """Label and values of one metric; None where no source has it."""
    found = rows[rows["metric"] == metric].set_index("source")
    if found.empty:
        return None
    scale = SCALES.get(metric, 1.0)
    values = {
        name: Statistic(scale * float(row["value"]), scale * float(row["sd"]), int(row["n_seeds"]))
        for name, row in found.iterrows()
    }
    decimals = _decimals([value.mean for value in values.values()])
    nearest = _nearest({str(name): value.mean for name, value in values.items()}, decimals)
    cells = []
    for source in sources:
        shown = figures(values.get(source), decimals)
        kind = {FLOOR: "floor", OWN: "own"}.get(source, "")
        cells.append(Cell(f"<strong>{shown}</strong>" if source in nearest else shown, kind))
    return [Cell(text(label), "label"), *cells]


def _nearest(values: dict[str, float], decimals: int) -> set[str]:
    """Sources that are nearest to the floor as far as the figures show it; none without a floor or a choice."""
    floor = values.get(FLOOR)
    distances = {
        name: abs(round(value, decimals) - round(floor, decimals))
        for name, value in values.items()
        if floor is not None and name not in {*REAL, CODEC}
    }
    best = min(distances.values(), default=np.inf)
    near = {name for name, distance in distances.items() if np.isclose(distance, best, rtol=0, atol=1e-12)}
    return near if len(near) < len(distances) else set()


def _decimals(values: Sequence[float]) -> int:
    """Decimals that show the largest of the values with three figures, five at most."""
    largest = max(map(abs, values), default=0.0)
    return 0 if largest == 0 else int(np.clip(FIGURES - 1 - np.floor(np.log10(largest)), 0, 5))
