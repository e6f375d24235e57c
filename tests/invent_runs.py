"""Runs of a benchmark with invented numbers, in the form in which `branchgen evaluate` writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from branchgen.provenance import FORMAT_VERSION

CLASSES = ("B", "T <CD4+>", "rare")
BASELINES = ("gauss", "flat")
# AUC with the floor at .50 in every seed; a tenth of a thousandth per seed makes the standard deviation known.
AUC = {"floor": 0.50, "branchgen": 0.54, "flat": 0.53, "gauss": 0.58, "scvi": 0.56, "nb": 0.70, "train": 0.51}
RECALL = {"floor": 0.90, "branchgen": 0.84, "flat": 0.89, "gauss": 0.80, "scvi": 0.80, "nb": 0.60, "train": 0.90}
MMD = {"floor": 0.0, "branchgen": 2e-3, "flat": 1e-3, "gauss": 3e-3, "scvi": 4e-3, "nb": 8e-3, "train": 0.0}
HIERARCHY = [
    {"name": "root", "classes": list(CLASSES), "t_start": 0.4, "t_end": 1.0, "parent": None},
    *({"name": name, "classes": [name], "t_start": 0.0, "t_end": 0.4, "parent": "root"} for name in CLASSES),
]
"""Three classes that share the upper 60 % of the time: (.6 + 3 × .4) / 3 = .6 of the evaluations without a tree."""


def invented_metrics(seed: int, baselines: tuple[str, ...] = BASELINES) -> pd.DataFrame:
    """Table of one run."""
    rows = []
    for source in ("floor", "branchgen", "nb", "train", *baselines):
        values = {
            "c2st_auc": AUC[source] + 0.001 * seed,
            "recall": RECALL[source],
            "mmd_squared_by_type": MMD[source] + 1e-4 * seed,
        }
        rows += [(source, "all", "all", metric, value, 300) for metric, value in values.items()]
        rows += [(source, "class", name, "mmd_squared", MMD[source], 100) for name in CLASSES[:2]]
        rows.append((source, "branch", "root", "c2st_auc", AUC[source], 200))
    table = pd.DataFrame(rows, columns=["source", "kind", "group", "metric", "value", "n_cells"])
    return table.assign(sd=float("nan"), n_seeds=1)


def invented_verdicts(seed: int, baselines: tuple[str, ...] = BASELINES) -> pd.DataFrame:
    """Table of one run: class B is distinguishable with even seeds, the second class never, the third has few cells."""
    none = float("nan")
    rows = []
    for source in ("branchgen", *baselines):
        apart = seed % 2 == 0 or source != "branchgen"
        named = ("distinguishable", f"LYZ+, HLA-DRA-, G{seed}+") if apart else ("indistinguishable", "")
        rows += [
            (source, "B", 100, AUC[source], AUC[source] - 0.05, AUC[source] + 0.05, 0.5, *named),
            (source, CLASSES[1], 120, 0.5, 0.45, 0.55, 0.5, "indistinguishable", ""),
            (source, "rare", 4, none, none, none, none, "too few cells", ""),
            (source, "all", 224, AUC[source], AUC[source] - 0.02, AUC[source] + 0.02, 0.5, *named),
        ]
    columns = ["source", "group", "n_cells", "auc", "low", "high", "floor_auc", "verdict", "genes"]
    return pd.DataFrame(rows, columns=columns)


def write_run(folder: Path, seed: int) -> None:
    """The files of one run that are compared, and below `times` those of its cost."""
    folder.mkdir(parents=True)
    invented_metrics(seed).to_parquet(folder / "metrics.parquet")
    invented_verdicts(seed).to_parquet(folder / "verdicts.parquet")
    record = {"format_version": FORMAT_VERSION, "branches": HIERARCHY}
    (folder / "hierarchy.json").write_text(json.dumps(record))
    seconds = {"encode": 40, "train": 50, "generate": 5, "flat/train": 60, "flat/generate": 8, "gauss/baseline": 3}
    for step, value in seconds.items():
        path = folder / "times" / f"{step}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tmax_vms\n{value + seed}\t0:00:40\t{900 + value}\t2000\n")
