"""Invented tables of any number of types, for the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from branchgen.analysis.evaluate import COLUMNS
from branchgen.analysis.metrics import METRICS
from branchgen.analysis.samples import ALL, SOURCES
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.derive import Support
from branchgen.hierarchy.tree import Clade, Hierarchy

LONG_NAMES = (
    "CD4+/CD45RA+/CD25- Naive T",
    "CD8+/CD45RA+ Naive Cytotoxic",
    "FCGR3A+ Monocytes & others",
    "B",
    "Plasmacytoid dendritic cells",
    "<unassigned>",
    "Megakaryocytes",
)
SCHEDULE = NoiseSchedule.uniform(0.02, 10.0, 8)


def names_of(n_types: int) -> list[str]:
    return [f"{LONG_NAMES[i % len(LONG_NAMES)]} {i // len(LONG_NAMES)}".removesuffix(" 0") for i in range(n_types)]


def invented_hierarchy(n_types: int, seed: int = 0) -> tuple[Hierarchy, dict[str, Support]]:
    """A random binary tree, and a support for each of its branch points."""
    rng = np.random.default_rng(seed)
    clades = [Clade(classes=(name,), name=name) for name in names_of(n_types)]
    for time in np.sort(rng.uniform(0.15, 0.9, n_types - 1)):
        i, j = np.sort(rng.choice(len(clades), 2, replace=False))
        right, left = clades.pop(j), clades.pop(i)
        clades.append(Clade(classes=left.classes + right.classes, children=(left, right), time=float(time)))
    hierarchy = Hierarchy.from_clades(clades[0], 0.02)
    support = {}
    for position in hierarchy.branch_points:
        branch = hierarchy.branches[position]
        low, high = rng.uniform(0.0, 0.06, 2)
        support[branch.name] = Support(
            support=float(rng.uniform(0.4, 1.0)), time_low=branch.t_start - low, time_high=branch.t_start + high
        )
    return hierarchy, support


def invented_embedding(n_types: int, n_cells: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 6, (n_types, 2))
    codes = np.tile(np.repeat(np.arange(n_types), n_cells), 2)
    positions = centres[codes] + rng.normal(0, 1, (len(codes), 2))
    return pd.DataFrame(
        {
            "umap_1": positions[:, 0],
            "umap_2": positions[:, 1],
            "cell_type": np.array(names_of(n_types))[codes],
            "source": np.repeat(["real", "generated"], len(codes) // 2),
        }
    )


def invented_metrics(n_types: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (source, ALL, ALL, metric, rng.uniform(-0.01, 1), rng.uniform(0, 0.05), 500, 3)
        for source in SOURCES
        for metric in METRICS
    ]
    for source in SOURCES:
        for name in names_of(n_types):
            rows.append((source, "class", name, "mmd_squared", rng.exponential(0.01), 0.002, 30, 3))
            rows.append((source, "class", name, "lfc_slope", rng.uniform(0.7, 1.1), 0.02, 30, 3))
    return pd.DataFrame(rows, columns=COLUMNS)


def invented_training(hierarchy: Hierarchy, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for name in ["all", *(branch.name for branch in hierarchy.branches)]:
        for split in ("ref", "train"):
            for sigma in (0.03, 0.14, 0.66, 3.1):
                losses = 0.5 + 0.5 * np.exp(-np.arange(10) / 3) * rng.uniform(0.6, 1.2)
                rows += [(100 * step, split, name, sigma, loss, 40) for step, loss in enumerate(losses, start=1)]
    return pd.DataFrame(rows, columns=["step", "split", "branch", "sigma", "loss", "n_cells"])
