"""Two extensions in a row: each adds to the model before it, and makes and judges cells of its own classes alone."""

from __future__ import annotations

from pathlib import Path

import anndata
import pandas as pd
import pytest
import torch
from run_workflow import jobs, snakemake, write_config
from simulate import simulate_new_class

STEPS = ["prepare_extension", "extend", "generate_extended", "evaluate_extended", "plot_extension"]
FILES = [
    "cells.h5ad",
    "model.pt",
    "hierarchy.json",
    "hierarchy.nwk",
    "summary.parquet",
    "generated.h5ad",
    "metrics.parquet",
    "verdicts.parquet",
    "genes.parquet",
    "fold_changes.parquet",
    "correlations.parquet",
    "embedding.parquet",
    "page.html",
]


@pytest.fixture(scope="module")
def extended(dataset: Path) -> tuple[Path, Path]:
    """The folder after both extensions, and its configuration."""
    simulate_new_class("C4").write_h5ad(dataset / "first.h5ad")
    simulate_new_class("D5", ("A1", "B3")).write_h5ad(dataset / "second.h5ad")
    extend = {name: {"source": f"{name}.h5ad", "label_key": "cell_type"} for name in ("first", "second")}
    about = {"source": "tiny.h5ad", "label_key": "cell_type", "extend": extend}
    config = write_config(dataset, "extended.yaml", datasets={"grown": about})
    target = "results/grown/extended/second/page.html"
    also = "results/grown/extended/first/page.html"
    run = snakemake(target, also, "--directory", dataset, "--configfile", config, "--show-failed-logs")
    assert run.returncode == 0, run.stdout
    return dataset, config


def test_both_are_part_of_the_workflow(dataset: Path, extended: tuple[Path, Path]) -> None:
    _, config = extended
    found = jobs(snakemake("--directory", dataset, "--configfile", config, "--dry-run"))
    assert not set(STEPS) & set(found)
    again = jobs(snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--forceall"))
    assert {step: again[step] for step in STEPS} == dict.fromkeys(STEPS, 2)


@pytest.mark.parametrize(("name", "new"), [("first", "C4"), ("second", "D5")])
def test_each_makes_cells_of_its_own_classes(extended: tuple[Path, Path], name: str, new: str) -> None:
    folder = extended[0] / "results" / "grown" / "extended" / name
    assert {path.name for path in folder.iterdir()} == set(FILES)
    generated = anndata.read_h5ad(folder / "generated.h5ad")
    assert set(generated.obs["cell_type"]) == {new}
    assert set(pd.read_parquet(folder / "summary.parquet")["class"]) == {new}
    metrics = pd.read_parquet(folder / "metrics.parquet")
    assert {"branchgen", "floor"} <= set(metrics["source"])
    page = (folder / "page.html").read_text()
    assert new in page
    assert "knows it" in page


def test_the_second_model_has_the_classes_of_the_first(extended: tuple[Path, Path]) -> None:
    results = extended[0] / "results" / "grown"
    grafts = {
        name: [graft["name"] for graft in torch.load(results / path / "model.pt", weights_only=True)["grafts"]]
        for name, path in (("none", "."), ("first", "extended/first"), ("second", "extended/second"))
    }
    assert grafts == {"none": [], "first": ["C4"], "second": ["C4", "D5"]}
