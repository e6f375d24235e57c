"""The benchmarks, and their settings."""

from __future__ import annotations

from branchgen.benchmark_config import (
    BenchmarkEvaluateSettings,
    BenchmarkExtendSettings,
    BenchmarkRareTypesSettings,
    BenchmarkScaleSettings,
    BenchmarkSharingSettings,
    BenchmarkSolverSettings,
    BenchmarkStepsSettings,
    BenchmarkTransmuteSettings,
    BenchmarkTreesSettings,
)
from branchgen.interface.command import Command
from branchgen.section import Section

BENCHMARKS = {
    "benchmark-evaluate": Command(
        summary="Time an evaluation of simulated cells with default settings, and measure its memory.",
        inputs={},
        outputs={"table": "seconds and megabytes (parquet)"},
    ),
    "benchmark-lineage": Command(
        summary="Compare fates and branch points with what is known of a differentiation, beside DPT and PAGA.",
        inputs={
            "fates": "real cells with their fates (h5ad); columns fate_CLASS of obs are the known ones",
            "hierarchy": "the hierarchy (json)",
        },
        outputs={"table": "a row for every question and method (parquet)"},
        options={"root": "class where development begins", "time-key": "column of obs with the known pseudotime"},
        required=("root",),
        seed=False,
    ),
    "benchmark-trees": Command(
        summary="Derive simulated trees, and compare derived hierarchies with known trees.",
        inputs={},
        outputs={"table": "a row for every tree (parquet)"},
        options={
            "known": "HIERARCHY=NEWICK, a derived hierarchy (json) and the tree that is known of some of its classes"
        },
        lists=("known",),
    ),
    "benchmark-rare-types": Command(
        summary="Judge the generated cells of rare types over several runs: are they real, and are they memories?",
        inputs={},
        outputs={"table": "a row for every run, type, source and metric (parquet)"},
        options={
            "runs": "DATASET:SEED=FOLDER of every run, where its cells.h5ad, generated.h5ad and those of the baselines "
            "(gauss/generated.h5ad, ...) are"
        },
        lists=("runs",),
        required=("runs",),
    ),
    "benchmark-sharing": Command(
        summary="Measure what sharing branches saves and costs, by the way cells are handed over.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)", "cells": "prepared cells (h5ad)"},
        outputs={"table": "a row for every way and repeat (parquet)"},
        options={"flat-model": "a model without a tree, whose cells are shown beside (pt)"},
        device=True,
    ),
    "benchmark-extend": Command(
        summary="Leave classes out, add them again, and compare with fine-tuning and with training from the start.",
        inputs={"cells": "prepared cells (h5ad)"},
        outputs={"table": "a row for every class, way and group of cells (parquet)"},
        options={"classes": "classes that are left out, each by itself"},
        lists=("classes",),
        required=("classes",),
        device=True,
    ),
    "benchmark-transmute": Command(
        summary="Judge class and state of transmuted cells, beside simpler ways.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)", "cells": "prepared cells (h5ad)"},
        outputs={"table": "a row for every pair of classes and way (parquet)"},
        options={
            "state-key": "column of obs with the state, one of two",
            "flat-model": "a model without a tree, for label-guided diffusion (pt)",
        },
        required=("state-key",),
        device=True,
    ),
    "benchmark-scale": Command(
        summary="Measure time, memory and traffic of every step on simulated atlases, by cells and classes.",
        inputs={},
        outputs={"table": "a row for every step and size (parquet)"},
        device=True,
    ),
    "benchmark-solver": Command(
        summary="Measure how far cells of few solver steps are from those of many, with the same noise.",
        inputs={"model": "the model (pt)", "codec": "the codec (pt)"},
        outputs={"table": "a row for every number of steps and class (parquet)"},
        device=True,
    ),
    "benchmark-steps": Command(
        summary="Time training and sampling steps by the number of branches.",
        inputs={},
        outputs={"table": "seconds per step (parquet)"},
        seed=False,
        device=True,
    ),
}
"""Every benchmark by its name."""

SETTINGS: dict[str, type[Section]] = {
    "benchmark-steps": BenchmarkStepsSettings,
    "benchmark-scale": BenchmarkScaleSettings,
    "benchmark-evaluate": BenchmarkEvaluateSettings,
    "benchmark-transmute": BenchmarkTransmuteSettings,
    "benchmark-solver": BenchmarkSolverSettings,
    "benchmark-rare-types": BenchmarkRareTypesSettings,
    "benchmark-sharing": BenchmarkSharingSettings,
    "benchmark-extend": BenchmarkExtendSettings,
    "benchmark-trees": BenchmarkTreesSettings,
}
"""Settings of every benchmark that has settings."""
