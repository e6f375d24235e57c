"""`branchgen benchmark-evaluate`: what an evaluation with default settings costs, in time and memory."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from branchgen import files
from branchgen.analysis.baselines import NegativeBinomial
from branchgen.analysis.evaluation_tables import evaluation_tables
from branchgen.analysis.samples import read_study
from branchgen.benchmark_config import BenchmarkEvaluateSettings
from branchgen.cells import keys
from branchgen.config import EvaluateSettings
from branchgen.hierarchy.tree import Branch, Hierarchy
from branchgen.seeds import numpy_rng

SHARES = {"train": 4.0, "ref": 2 / 3, "test": 1.0, "holdout": 1.0, "generated": 1.0}
"""Cells of every part, as multiples of the test cells: those of the splits of `prepare`."""
MEAN_TOTAL = 1500.0
"""Counts of a cell."""


def run(arguments: argparse.Namespace, settings: BenchmarkEvaluateSettings) -> None:
    """Evaluate simulated cells, and write and print what it took."""
    parts = {
        name: simulated(name, round(share * settings.n_cells / 2), settings, arguments.seed)
        for name, share in SHARES.items()
    }
    before = peak_mb()
    begun = time.perf_counter()
    evaluation = EvaluateSettings()
    study = read_study(parts.pop("generated"), joined(parts), {}, evaluation, arguments.seed)
    evaluation_tables(study, lineages(settings.n_types), evaluation, arguments.seed)
    table = pd.DataFrame(
        {
            "n_cells": [settings.n_cells],
            "n_genes": [settings.n_genes],
            "seconds": [time.perf_counter() - begun],
            "peak_mb": [peak_mb()],
            "peak_mb_before": [before],
        }
    )
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.0f}"))


def peak_mb() -> float:
    """Largest resident memory of this process so far; Linux counts it in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def type_names(n_types: int) -> list[str]:
    """Types of two lineages, in turn."""
    return [f"{'AB'[number % 2]}{number}" for number in range(n_types)]


def lineages(n_types: int) -> Hierarchy:
    """A tree whose lineages part first."""
    names = type_names(n_types)
    branches = [Branch(name="root", classes=tuple(names), t_start=0.7, t_end=1.0)]
    for lineage in "AB":
        members = tuple(name for name in names if name.startswith(lineage))
        if len(members) > 1:
            branches.append(Branch(name=f"lineage {lineage}", classes=members, t_start=0.4, t_end=0.7))
        end = 0.4 if len(members) > 1 else 0.7
        branches += [Branch(name=name, classes=(name,), t_start=0.0, t_end=end) for name in members]
    return Hierarchy(tuple(branches))


def simulated(part: str, n_cells: int, settings: BenchmarkEvaluateSettings, seed: int) -> AnnData:
    """Negative-binomial counts of all types, the same types in every part."""
    names = type_names(settings.n_types)
    of_types = np.full(len(names), n_cells // len(names))
    of_types[: n_cells % len(names)] += 1
    base = numpy_rng(seed, "benchmark", "base").lognormal(-1.0, 1.5, settings.n_genes)
    blocks = []
    for name, n in zip(names, of_types.tolist(), strict=True):
        rate = base * np.exp(numpy_rng(seed, "benchmark", name).normal(0, 0.5, settings.n_genes))
        model = NegativeBinomial(
            rate=rate / rate.sum(),
            overdispersion=np.full(settings.n_genes, 0.5),
            log_size=float(np.log(MEAN_TOTAL)),
            log_size_sd=0.3,
        )
        blocks.append(model.draw(n, numpy_rng(seed, "benchmark", part, name)))
    counts = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    obs = pd.DataFrame(
        {keys.CELL_TYPE: pd.Categorical(np.repeat(names, of_types)), keys.SPLIT: part},
        index=[f"{part}_{i}" for i in range(n_cells)],
    )
    genes = pd.DataFrame(index=[f"gene_{i}" for i in range(settings.n_genes)])
    return AnnData(obs=obs, var=genes, layers={keys.COUNTS: counts})


def joined(parts: dict[str, AnnData]) -> AnnData:
    """Prepared cells of all splits."""
    counts = sparse.csr_matrix(sparse.vstack([part.layers[keys.COUNTS] for part in parts.values()], format="csr"))
    obs = pd.concat([part.obs for part in parts.values()])
    return AnnData(obs=obs, var=next(iter(parts.values())).var, layers={keys.COUNTS: counts})
