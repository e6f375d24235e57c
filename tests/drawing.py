"""Invented tables of any number of types, for the figures."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from anndata import AnnData

from branchgen.analysis.branch_points import POINTS
from branchgen.analysis.correlation import correlation_table, correlations
from branchgen.analysis.evaluate import COLUMNS
from branchgen.analysis.gene_tables import contrasts
from branchgen.analysis.metrics import METRICS
from branchgen.analysis.samples import ALL, SOURCES
from branchgen.analysis.verdicts import COLUMNS as VERDICT_COLUMNS
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


def invented_metrics(n_types: int, seed: int = 0, baselines: tuple[str, ...] = ()) -> pd.DataFrame:
    """Metrics of the usual sizes: between zero and one, or much smaller."""
    rng = np.random.default_rng(seed)
    sources = [*SOURCES[:-1], *baselines, SOURCES[-1]]
    size = {name: 10.0 ** -(number % 4) for number, name in enumerate(METRICS)}
    rows = [
        (source, ALL, ALL, metric, size[metric] * rng.uniform(-0.01, 1), size[metric] * rng.uniform(0, 0.05), 500, 3)
        for source in sources
        for metric in METRICS
    ]
    for source in sources:
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


def invented_verdicts(n_types: int, seed: int = 0) -> pd.DataFrame:
    """Every third type has too few cells, and the others are found to be apart every other time."""
    rng = np.random.default_rng(seed)
    rows = []
    for source in ("nb", "gauss", "flat", "branchgen"):
        for number, name in enumerate([*names_of(n_types), ALL]):
            auc = rng.uniform(0.45, 0.8)
            apart = number % 2 == 0
            if number % 3 == 2 and name != ALL:
                rows.append((source, name, 12, np.nan, np.nan, np.nan, np.nan, "too few cells", ""))
                continue
            genes = "ENSG00000090382+, ENSG00000167286-, CD3D-, LYZ+, HLA-DRA-" if apart else ""
            verdict = "distinguishable" if apart else "indistinguishable"
            rows.append((source, name, 140, auc, auc - 0.1, auc + 0.1, rng.uniform(0.45, 0.55), verdict, genes))
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def invented_genes(n_genes: int = 50, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for source in ("test", *SOURCES):
        mean = rng.lognormal(-1, 2, n_genes)
        columns = {"mean": mean, "variance": mean + mean**2, "zeros": 1 / (1 + mean), "n_cells": 500}
        columns["gene"] = [f"gene_{i}" for i in range(n_genes)]
        parts.append(pd.DataFrame({"source": source, "group": ALL, **columns}))
    return pd.concat(parts, ignore_index=True)


def invented_fold_changes(hierarchy: Hierarchy, n_genes: int = 30, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for branch, child, *_ in contrasts(hierarchy):
        for source in ("floor", "nb", "branchgen"):
            real = rng.normal(size=n_genes)
            columns = {"real": real, "generated": 0.9 * real + rng.normal(0, 0.1, n_genes), "slope": 0.9, "n_cells": 40}
            columns["gene"] = [f"gene_{i}" for i in range(n_genes)]
            parts.append(pd.DataFrame({"branch": branch, "child": child, "source": source, **columns}))
    return pd.concat(parts, ignore_index=True)


def invented_separability(hierarchy: Hierarchy) -> pd.DataFrame:
    """Table of `analyse`: curves that fall from one to chance, for all branch points but the last."""
    times = np.linspace(0, 1, 11)
    tables = []
    for position in hierarchy.branch_points[: max(1, len(hierarchy.branch_points) - 1)]:
        chance = 1 / len(hierarchy.children[position])
        accuracy = chance + (1 - chance) * (1 - times) ** 2
        name = hierarchy.branches[position].name
        tables.append(pd.DataFrame({"branch": name, "time": times, "accuracy": accuracy, "chance": chance}))
    return pd.concat(tables, ignore_index=True)


def invented_branch_genes(hierarchy: Hierarchy, n_genes: int = 30, seed: int = 0) -> pd.DataFrame:
    """Table of `analyse`: a row per branch point, child and gene."""
    rng = np.random.default_rng(seed)
    tables = []
    for position in hierarchy.branch_points:
        for child in hierarchy.children[position]:
            change = rng.normal(size=n_genes)
            tables.append(
                pd.DataFrame(
                    {
                        "branch": hierarchy.branches[position].name,
                        "child": hierarchy.branches[child].name,
                        "gene": [f"GENE{i}" for i in range(n_genes)],
                        "log2_fold_change": change,
                        "statistic": 10 * change,
                        "q_value": np.exp(-5 * np.abs(change)),
                        "expression": np.exp(change),
                        "hybrid": np.exp(0.5 * change),
                        "difference_at_branch_point": 0.5 * change,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def invented_populations(hierarchy: Hierarchy, n_genes: int = 30, n_cells: int = 3, seed: int = 0) -> AnnData:
    """Cells of `analyse`: at every branch point the population that reaches it, and one for every child."""
    rng = np.random.default_rng(seed)
    rows = [
        (hierarchy.branches[position].name, hierarchy.branches[member].name)
        for position in hierarchy.branch_points
        for member in (position, *hierarchy.children[position])
        for _ in range(n_cells)
    ]
    obs = pd.DataFrame(rows, columns=["branch", "population"], index=[f"cell {i}" for i in range(len(rows))])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    return AnnData(rng.exponential(size=(len(rows), n_genes)).astype(np.float32), obs=obs.astype("category"), var=var)


def invented_branch_points(hierarchy: Hierarchy, support: dict[str, Support]) -> pd.DataFrame:
    """Table of `analyse`: a row per branch point and child; nothing was resampled at the last one."""
    rows = []
    for position in hierarchy.branch_points:
        branch = hierarchy.branches[position]
        own = {} if position == hierarchy.branch_points[-1] else asdict(support[branch.name])
        for child in hierarchy.children[position]:
            below = hierarchy.branches[child]
            about = {"branch": branch.name, "child": below.name, "time": branch.t_start, "sigma": 1.25}
            rows.append(about | {"divergence": 0.5, "n_train": 40 * len(below.classes)} | own)
    return pd.DataFrame(rows, columns=POINTS).astype(dict.fromkeys(("time_low", "time_high", "support"), float))


def invented_correlations(n_types: int, n_genes: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    genes = np.array([f"gene_{i}" for i in range(n_genes)])
    tables = []
    for number, name in enumerate(names_of(n_types)):
        cells = rng.normal(size=(3, 40, n_genes)) + rng.normal(size=(1, 40, 1))
        of_sources = dict(zip(("test", "floor", "branchgen"), map(correlations, cells), strict=True))
        tables.append(correlation_table(name, 100 - number, genes, of_sources))
    return pd.concat(tables, ignore_index=True)


def invented_sharing(n_models: int, n_repeats: int = 3, seed: int = 0) -> pd.DataFrame:
    """Tables of `benchmark-sharing` for several models: the more is shared, the worse, and identity by far."""
    rng = np.random.default_rng(seed)
    rows = []
    for model in range(n_models):
        for repeat in range(n_repeats):
            about = {"model": model, "repeat": repeat, "solver": "dpmpp_2m"}
            share = 0.3 + 0.5 * model / n_models
            ways = [("floor", None, None, np.nan, 0.2), ("without a tree", None, None, 1.0, 1.2)]
            for handover, loss in (("identity", 30.0), ("linear", 1.5), ("transport", 1.3)):
                ways.append((f"{handover}, 20 steps", handover, 0, share, loss / share))
            ways += [(f"{name}, 4 Langevin steps", name, 4, share + 0.4, 3.0) for name in ("identity", "transport")]
            for way, handover, corrections, cost, loss in ways:
                metrics = {
                    "mmd_squared_by_type": 1e-3 * loss + rng.normal(0, 2e-4),
                    "lfc_slope": 1 - loss / 100 + rng.normal(0, 0.01),
                    "c2st_auc": 0.5 + loss / 100 + rng.normal(0, 0.01),
                }
                rows.append(
                    {"way": way, "handover": handover, "n_corrections": corrections, "share": cost, **about, **metrics}
                )
    return pd.DataFrame(rows)
