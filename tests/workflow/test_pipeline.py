"""The whole workflow on a small dataset: its files, what a change repeats, its report, and its failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from run_workflow import QUICK, ROOT, STEPS, command, environment, jobs, snakemake, write_config
from simulate import simulate_cells

import branchgen
from branchgen.cells import keys

FIGURES = [
    "tree",
    "branch_points",
    "training",
    "metrics",
    "verdicts",
    "gene_moments",
    "fold_changes",
    "correlations",
    "umap",
    "umap_types",
]
FILES = [
    "cells.h5ad",
    "codec.pt",
    "latents.h5ad",
    "hierarchy.json",
    "hierarchy.nwk",
    "divergence.parquet",
    "model.pt",
    "training.parquet",
    "generated.h5ad",
    "gauss/generated.h5ad",
    "branch_points.h5ad",
    "branch_points.parquet",
    "branch_points.html",
    "branch_genes.parquet",
    "fates.h5ad",
    "separability.parquet",
    "transmuted/A0_to_B3.h5ad",
    "transmuted/A0_to_B3.parquet",
    "figures/transmuted/A0_to_B3.svg",
    "metrics.parquet",
    "verdicts.parquet",
    "genes.parquet",
    "fold_changes.parquet",
    "correlations.parquet",
    "embedding.parquet",
    "metrics.html",
    *(f"figures/{figure}.svg" for figure in FIGURES),
]
FOLDERS = {
    "baseline_latent": "gauss/baseline",
    "transmute": "transmuted/A0_to_B3/transmute",
    "plot_transmutation": "transmuted/A0_to_B3/plot",
    "plot_branch_points": "plot-branch-points",
}
FILES_OF_STEPS = [FOLDERS.get(step, step) for step in STEPS]
"""Names of logs and benchmarks."""
TYPES = ["A0", "A1", "B2", "B3"]


def repeated(folder: Path, **changes: object) -> set[str]:
    """Rules that a changed configuration repeats."""
    config = write_config(folder, "changed.yaml", **changes)
    return set(jobs(snakemake("--directory", folder, "--configfile", config, "--dry-run")))


def test_every_file_is_there_and_no_other(finished: Path) -> None:
    results = finished / "results" / "tiny"
    found = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("checkpoints/")} == set(FILES)
    for step in FILES_OF_STEPS:
        assert (finished / "logs" / "tiny" / f"{step}.log").is_file()
        benchmark = pd.read_table(finished / "benchmarks" / "tiny" / f"{step}.tsv")
        assert len(benchmark) == 1


def test_generated_cells_are_counts_of_every_type(finished: Path) -> None:
    cells = anndata.read_h5ad(finished / "results" / "tiny" / "cells.h5ad")
    generated = anndata.read_h5ad(finished / "results" / "tiny" / "generated.h5ad")
    assert list(generated.var_names) == list(cells.var_names)
    assert generated.obs[keys.CELL_TYPE].value_counts().to_dict() == dict.fromkeys(TYPES, 30)
    assert np.issubdtype(generated.X.dtype, np.integer)
    assert generated.X.min() >= 0
    assert generated.obsm[keys.LATENT].shape == (120, QUICK["encode"]["n_latent"] + 1)


def test_every_file_says_where_it_comes_from(finished: Path) -> None:
    for name, step in {
        "cells": "prepare",
        "latents": "encode",
        "generated": "generate",
        "branch_points": "analyse",
        "transmuted/A0_to_B3": "transmute",
    }.items():
        uns = anndata.read_h5ad(finished / "results" / "tiny" / f"{name}.h5ad").uns
        record = json.loads(uns[keys.PROVENANCE])
        assert (record["command"], record["version"], record["seed"]) == (step, branchgen.__version__, 0)
        assert QUICK[step].items() <= record["settings"].items() or step == "generate"


def test_a_second_run_does_nothing(finished: Path) -> None:
    run = snakemake("--directory", finished, "--configfile", finished / "config.yaml")
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout


def test_one_class_is_enough(tmp_path: Path) -> None:
    """Cells without labels are cells of one class: nothing branches, and everything else is as ever."""
    cells = simulate_cells()
    cells.obs["cell_type"] = "cell"
    cells.write_h5ad(tmp_path / "tiny.h5ad")
    alone = {"datasets": {"tiny": {"source": "tiny.h5ad", "label_key": "cell_type"}}}
    run = snakemake("--directory", tmp_path, "--configfile", write_config(tmp_path, **alone), "--show-failed-logs")
    assert run.returncode == 0, run.stdout
    results = tmp_path / "results" / "tiny"
    assert anndata.read_h5ad(results / "generated.h5ad").obs[keys.CELL_TYPE].value_counts().to_dict() == {"cell": 30}
    assert [branch["name"] for branch in json.loads((results / "hierarchy.json").read_text())["branches"]] == ["cell"]
    metrics = pd.read_parquet(results / "metrics.parquet")
    assert {"c2st_auc", "forest_auc", "mmd_squared", "recall", "nearer_train"} <= set(metrics["metric"])
    assert "lfc_slope" not in set(metrics["metric"])
    for figure in FIGURES:
        assert (results / "figures" / f"{figure}.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        pytest.param({"generate": {"n_cells": 31}}, {"generate", "evaluate", "plot"}, id="generate"),
        pytest.param({"train": {"n_steps": 61}}, {*STEPS[3:]} - {"baseline_latent"}, id="train"),
        pytest.param({"analyse": {"n_cells": 33}}, {"analyse", "plot_branch_points"}, id="analyse"),
        pytest.param({"transmute": {"noising": "fresh"}}, {"transmute", "plot_transmutation"}, id="transmute"),
        pytest.param({"evaluate": {"n_genes": 51}}, {"evaluate", "plot"}, id="evaluate"),
        pytest.param({"baseline": {"n_cells": 31}}, {"baseline_latent", "evaluate", "plot"}, id="baseline"),
        pytest.param({"benchmark": {"n_seeds": 9, "baselines": ["scvi"]}}, set(), id="benchmark"),
        pytest.param({"prepare": {"n_genes": 100}}, set(STEPS), id="prepare"),
        pytest.param({"plot": {"format": "png"}}, {"plot", "plot_branch_points", "plot_transmutation"}, id="plot"),
        pytest.param({"device": "auto"}, set(), id="device"),
    ],
)
def test_a_changed_setting_repeats_the_steps_it_concerns(finished: Path, changes: dict, steps: set[str]) -> None:
    assert repeated(finished, **changes) == steps


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Folder with a copy of the package, to be changed."""
    shutil.copytree(ROOT / "branchgen", tmp_path / "branchgen", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def repeated_with(package: Path, folder: Path) -> set[str]:
    """Rules that a changed package repeats; by the inner Snakefile, as the outer one is beside the package itself."""
    arguments = ("--directory", folder, "--configfile", folder / "config.yaml", "--dry-run")
    return set(jobs(snakemake(*arguments, snakefile=ROOT / "workflow" / "Snakefile", package=package)))


def test_a_new_version_repeats_the_steps_whose_code_has_changed(finished: Path, package: Path) -> None:
    version = package / "branchgen" / "__init__.py"
    version.write_text(version.read_text().replace(branchgen.__version__, "99.0.0"))
    assert repeated_with(package, finished) == set()
    module = package / "branchgen" / "commands" / "analyse.py"
    module.write_text(module.read_text() + "\nCHANGED = True\n")
    assert repeated_with(package, finished) == {"analyse", "plot_branch_points"}


def test_report_shows_every_figure_with_its_caption(finished: Path) -> None:
    report = finished / "report.html"
    run = snakemake("--directory", finished, "--configfile", finished / "config.yaml", "--report", report)
    assert run.returncode == 0, run.stdout
    text = report.read_text()
    for figure in FIGURES:
        assert f"figures/{figure}.svg" in text
    for phrase in ("on the noise axis", "Denoising loss on held-out cells", "tree in diffusion time"):
        assert phrase in text
    assert "{{ snakemake" not in text


def test_the_benchmark_ends_in_a_table_and_a_page(dataset: Path) -> None:
    datasets = {"compared": {"source": "tiny.h5ad", "label_key": "cell_type"}}
    benchmark = {"n_seeds": 1, "baselines": ["gauss", "flat"]}
    config = write_config(dataset, "benchmark.yaml", datasets=datasets, benchmark=benchmark, seed=3)
    run = snakemake("benchmark", "--directory", dataset, "--configfile", config, "--show-failed-logs")
    assert run.returncode == 0, run.stdout
    table = pd.read_parquet(dataset / "results" / "benchmark.parquet")
    assert set(table["dataset"]) == {"compared"}
    assert set(table["seed"]) == {3}
    of_metrics = table[table["kind"] != "cost"]
    assert set(of_metrics["source"]) == {"floor", "limit", "train", "nb", "gauss", "flat", "branchgen"}
    folder = dataset / "results" / "compared" / "benchmark" / "seed_3"
    hierarchies = {
        name: json.loads((folder / name / "hierarchy.json").read_text())["branches"] for name in (".", "flat")
    }
    assert len(hierarchies["."]) > len(hierarchies["flat"])
    cost = table[table["kind"] == "cost"].set_index(["source", "metric"])["value"]
    assert cost["branchgen", "evaluations"] < cost["flat", "evaluations"] == 1
    assert (cost.drop("evaluations", level="metric") > 0).all()
    page = (dataset / "results" / "benchmark.html").read_text()
    assert all(name in page for name in ("compared", *TYPES))


def test_a_failing_step_leaves_one_sentence_and_no_file(dataset: Path) -> None:
    datasets = {"wrong": {"source": "tiny.h5ad", "label_key": "celltype"}}
    config = write_config(dataset, "wrong.yaml", datasets=datasets)
    run = snakemake("--directory", dataset, "--configfile", config)
    assert run.returncode != 0
    log = (dataset / "logs" / "wrong" / "prepare.log").read_text()
    assert "celltype" in log.splitlines()[-1]
    assert log.splitlines()[-1].startswith("branchgen prepare: ")
    assert "Traceback" not in log
    assert not list((dataset / "results" / "wrong").glob("*"))


def test_training_that_was_killed_goes_on_to_the_same_model(dataset: Path) -> None:
    train = {"n_steps": 200, "checkpoint_seconds": 0.0}
    datasets = {"killed": {"source": "tiny.h5ad", "label_key": "cell_type"}}
    config = write_config(dataset, "killed.yaml", datasets=datasets, train=train)
    results, log = dataset / "results" / "killed", dataset / "logs" / "killed" / "train.log"
    arguments = ("results/killed/model.pt", "--directory", dataset, "--configfile", config)
    with (dataset / "killed.txt").open("w") as messages:
        process = subprocess.Popen(
            command(*arguments), env=environment(), start_new_session=True, stdout=messages, stderr=messages
        )
    while not (results / "checkpoints" / "checkpoint.pt").exists():
        assert process.poll() is None, (dataset / "killed.txt").read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (results / "model.pt").exists()

    assert snakemake("--directory", dataset, "--configfile", config, "--unlock").returncode == 0
    run = snakemake(*arguments, "--rerun-incomplete")
    assert run.returncode == 0, run.stdout
    assert "resuming from step" in log.read_text()
    resumed = torch.load(results / "model.pt", weights_only=True)["weights"]
    losses = pd.read_parquet(results / "training.parquet")

    run = snakemake(*arguments, "--forcerun", "train")
    assert run.returncode == 0, run.stdout
    assert "resuming" not in log.read_text()
    straight = torch.load(results / "model.pt", weights_only=True)["weights"]
    pd.testing.assert_frame_equal(pd.read_parquet(results / "training.parquet"), losses, check_exact=True)
    assert losses["step"].max() == 200
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
