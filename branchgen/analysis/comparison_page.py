"""The benchmark as one page of HTML that needs nothing else: for the screen, and for print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from branchgen import __version__
from branchgen.analysis.comparison import AND, BRANCH, COST, Run, compare, statistics
from branchgen.analysis.html_tables import STYLE, Cell, figures, mark, plural, table, text
from branchgen.analysis.metrics import METRICS, SCALES
from branchgen.analysis.samples import CODEC, FLOOR, LIMIT, OWN
from branchgen.analysis.targets import EVALUATIONS, TARGETS, Outcome, Statistic, outcomes
from branchgen.analysis.verdicts import DISTINGUISHABLE
from branchgen.analysis.verdicts_table import verdicts_table

ORDER = (FLOOR, LIMIT, OWN, "flat", "gauss", "scvi", "nb", CODEC, "train")
"""Sources from left to right; others follow."""
MEANINGS = {
    FLOOR: "held-out real cells against other held-out real cells: as good as it gets",
    LIMIT: "such cells with every gene's mean off by the standard error of the training cells': "
    "what estimation alone costs any fitted model",
    OWN: "the generated cells",
    "flat": "branchgen without a tree",
    "gauss": "a Gaussian per type in the latent space of the same codec",
    "scvi": "a mixture of Gaussians per type in the latent space of scVI",
    "nb": "a negative binomial per type and gene",
    CODEC: "the training cells through the codec and back: what its latent space allows at best",
    "train": "the training cells themselves: a memoriser",
}
N_NAMED = 4
"""Classes of a branch that are named."""
COSTS = {
    "encode_seconds": "codec, s",
    "train_seconds": "training, s",
    "generate_seconds": "generation, s",
    "baseline_seconds": "fit and draw, s",
    "peak_mb": "peak memory, MB",
    EVALUATIONS: "network evaluations, share of those without a tree",
}

Statistics = dict[tuple[str, str], Statistic]


def page(runs: Sequence[Run]) -> str:
    """The whole page, from the runs of all datasets and seeds."""
    rows = compare(runs)
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    sections = [_dataset(name, rows, [run for run in runs if run.dataset == name]) for name in datasets]
    seeds = len({run.seed for run in runs})
    head = (
        f"<h1>Generated cells beside real ones</h1><p>{plural(len(datasets), 'dataset')}, {plural(seeds, 'seed')}; "
        "every value is the mean ± standard deviation over seeds, each with splits, codec, model and cells of its own. "
        "A value means something only beside its floor. ✓ and ✗ say whether the mean meets its target.</p>"
    )
    legend = "".join(f"<dt>{text(name)}</dt><dd>{MEANINGS[name]}</dd>" for name in _sources(rows) if name in MEANINGS)
    body = f"{head}{_summary(datasets, rows)}<dl>{legend}</dl>{''.join(sections)}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>branchgen benchmark</title><style>{STYLE}</style></head>"
        f"<body><main>{body}<footer>branchgen {__version__}</footer></main></body></html>\n"
    )


def _sources(rows: pd.DataFrame) -> list[str]:
    present = dict.fromkeys(rows["source"])
    return [name for name in dict.fromkeys([*ORDER, *present]) if name in present]


def _summary(datasets: Sequence[str], rows: pd.DataFrame) -> str:
    """A line for every dataset."""
    lines = []
    for name in datasets:
        values = statistics(rows, name)
        found = list(outcomes(values))
        auc = [values.get((source, "c2st_auc")) for source in (FLOOR, OWN)]
        judged = rows[
            (rows["dataset"] == name)
            & (rows["source"] == OWN)
            & (rows["metric"] == DISTINGUISHABLE)
            & (rows["kind"] == "class")
        ]
        apart = judged.drop_duplicates("group")["mean"]
        lines.append(
            [
                Cell(f'<a href="#{text(name)}">{text(name)}</a>', "label"),
                *(Cell(figures(value, 3)) for value in auc),
                Cell(f"{int((apart < 0.5).sum())} of {len(apart)}"),
                Cell(f"{sum(outcome.met for outcome in found)} of {len(found)}"),
            ]
        )
    header = ["dataset", "classifier, floor", "classifier, branchgen", "types indistinguishable", "targets met"]
    return table(header, lines)


def _dataset(name: str, rows: pd.DataFrame, runs: Sequence[Run]) -> str:
    own = rows[rows["dataset"] == name]
    values = statistics(rows, name)
    sources = _sources(own[own["kind"] != COST])
    parts = [
        f'<section><h2 id="{text(name)}">{text(name)}</h2>',
        "<h3>All cells</h3>",
        _metrics(values, sources),
        _further_targets(values),
        _branches(own, sources),
        verdicts_table(runs, [source for source in sources if source != FLOOR]),
        "<h3>Cost</h3>",
        _cost(values, own),
        "</section>",
    ]
    return "".join(parts)


def _metrics(values: Statistics, sources: Sequence[str]) -> str:
    """A row for every metric, the floor first, and what the floor makes the target."""
    known = {metric for _, metric in values}
    held = {source: {found.target: found for found in outcomes(values, source)} for source in sources}
    lines = []
    for metric, label in METRICS.items():
        if metric not in known:
            continue
        scale = SCALES.get(metric, 1.0)
        cells = [values.get((source, metric)) for source in sources]
        decimals = _decimals([cell.mean * scale for cell in cells if cell is not None])
        target = next((target for target in TARGETS if target.metric == metric), None)
        line = [Cell(text(label) + (" · 10³" if scale != 1 else ""), "label")]
        for source, cell in zip(sources, cells, strict=True):
            outcome = None if target is None or source == FLOOR else held[source].get(target)
            sign = "" if source == FLOOR else mark(met=None if outcome is None else outcome.met)
            line.append(Cell(figures(cell, decimals, scale) + sign, _kind(source)))
        own = held.get(OWN, {}).get(target) if target is not None else None
        line.append(Cell("" if own is None else _range(own, decimals), "label"))
        lines.append(line)
    return table(["", *sources, "target"], lines)


def _further_targets(values: Statistics) -> str:
    """Those that are measured against another source than the floor."""
    lines = []
    for outcome in outcomes(values):
        if outcome.target in TARGETS:
            continue
        metric = outcome.target.metric
        scale = SCALES.get(metric, 1.0)
        decimals = _decimals([outcome.value.mean * scale, outcome.allowed.high * scale])
        label = METRICS.get(metric, COSTS.get(metric, metric))
        lines.append(
            [
                Cell(text(label) + (" · 10³" if scale != 1 else ""), "label"),
                Cell(figures(outcome.value, decimals, scale) + mark(met=outcome.met)),
                Cell(_range(outcome, decimals, scale)),
                Cell(text(outcome.target.meaning), "label"),
            ]
        )
    return "<h3>Further targets</h3>" + table(["", OWN, "limit", "target"], lines) if lines else ""


def _branches(rows: pd.DataFrame, sources: Sequence[str]) -> str:
    """The classifier on all cells below every internal node of the hierarchy; seeds may differ in their nodes."""
    chosen = rows[(rows["kind"] == BRANCH) & (rows["metric"] == "c2st_auc")].drop_duplicates(["source", "group"])
    if chosen.empty:
        return ""
    means = chosen.set_index(["group", "source"])
    lines = []
    for group in sorted(set(chosen["group"]), key=lambda group: (-group.count(AND), group)):
        n_seeds = int(means.loc[group]["n_seeds"].max())
        line = [Cell(text(_shortened(group)), "wide"), Cell(str(n_seeds))]
        for source in sources:
            found = means.loc[(group, source)] if (group, source) in means.index else None
            value = None if found is None else Statistic(found["mean"], found["sd"], int(found["n_seeds"]))
            line.append(Cell(figures(value, 3), _kind(source)))
        lines.append(line)
    caption = f"<h3>{text(METRICS['c2st_auc'])}, below every branch point</h3>"
    return caption + table(["types", "seeds", *sources], lines)


def _shortened(group: str) -> str:
    """The classes of a branch, not more than fit in a line or two."""
    classes = group.split(AND)
    more = len(classes) - N_NAMED
    return group if more <= 1 else f"{AND.join(classes[:N_NAMED])}{AND}{more} more"


def _cost(values: Statistics, rows: pd.DataFrame) -> str:
    sources = _sources(rows[rows["kind"] == COST])
    known = [metric for metric in COSTS if any((source, metric) in values for source in sources)]
    lines = []
    for source in sources:
        line = [Cell(text(source), "label")]
        for metric in known:
            value = values.get((source, metric))
            line.append(Cell(figures(value, 2 if metric == EVALUATIONS else 0)))
        lines.append(line)
    return table(["", *(COSTS[metric] for metric in known)], lines)


def _kind(source: str) -> str:
    return "floor" if source == FLOOR else "own" if source == OWN else ""


def _range(outcome: Outcome, decimals: int, scale: float = 1.0) -> str:
    """The range in figures: ≤ high, ≥ low, or both."""
    low, high = (
        figures(Statistic(end * scale, np.nan, 1), decimals) for end in (outcome.allowed.low, outcome.allowed.high)
    )
    if np.isinf(outcome.allowed.low):
        return f"{'&lt;' if outcome.target.meaning.startswith('below') else '≤'} {high}"
    return f"≥ {low}" if np.isinf(outcome.allowed.high) else f"{low} – {high}"


def _decimals(values: Sequence[float]) -> int:
    """Decimals that give the largest of the values three figures."""
    largest = max(map(abs, values), default=0.0)
    return 3 if largest == 0 else int(np.clip(2 - np.floor(np.log10(largest)), 0, 4))
