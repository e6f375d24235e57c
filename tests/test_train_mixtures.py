"""Classes that are no Gaussian: training begins with what a mixture of a few knows of them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from run_commands import SETTINGS, SOURCE, prepare_new_cells, run_command
from simulate import simulate_cells, simulate_new_class


@pytest.fixture(scope="module")
def coarse_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole run on lineages, each of which is two types."""
    folder = tmp_path_factory.mktemp("coarse")
    cells = simulate_cells(800)
    cells.obs["type"] = cells.obs["cell_type"]
    cells.write_h5ad(folder / SOURCE)
    changes = {
        "prepare": {"label_key": "lineage"},
        "train": {"n_gaussians": 4},
        "transmute": {"source": "A", "target": "B"},
    }
    for command in SETTINGS:
        if command == "extend":
            new = simulate_new_class()
            new.obs["lineage"] = new.obs["cell_type"]
            prepare_new_cells(folder, new)
        assert run_command(command, folder, **changes.get(command, {})) == 0
    return folder


def test_the_model_remembers_the_gaussians_of_its_classes(coarse_run: Path) -> None:
    mixtures = torch.load(coarse_run / "model.pt", weights_only=True)["moments"]["mixtures"]
    assert len(mixtures) == 2
    for mixture in mixtures.values():
        assert len(mixture["weights"]) in (2, 3, 4)
        assert float(mixture["weights"].sum()) == pytest.approx(1)


@pytest.fixture(scope="module")
def single_run(coarse_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model of the same cells, for which a lineage is one Gaussian."""
    folder = tmp_path_factory.mktemp("single")
    for name in ("codec.pt", "hierarchy.json", "latents.h5ad"):
        (folder / name).symlink_to(coarse_run / name)
    assert run_command("train", folder, n_gaussians=1) == 0
    return folder


def test_before_the_first_step_more_is_known_than_of_one_gaussian(coarse_run: Path, single_run: Path) -> None:
    tables = [pd.read_parquet(folder / "training.parquet") for folder in (coarse_run, single_run)]
    before = [table.loc[(table["step"] == 0) & (table["branch"] == "all"), "loss"].mean() for table in tables]
    assert before[0] < before[1] - 0.01


def test_generated_lineages_have_both_types(coarse_run: Path, single_run: Path, tmp_path: Path) -> None:
    """Along the axis between the two types of a lineage, cells are where real ones are, and fewer between them."""
    real = anndata.read_h5ad(coarse_run / "latents.h5ad")
    between = {}
    for folder in (coarse_run, single_run):
        output = tmp_path / folder.name
        output.mkdir()
        assert run_command("generate", folder, output, n_cells=400) == 0
        made = anndata.read_h5ad(output / "generated.h5ad")
        for lineage in ("A", "B"):
            cells = real[real.obs["cell_type"] == lineage]
            first, second = (
                cells.obsm["X_latent"][(cells.obs["type"] == name).to_numpy()].mean(axis=0)
                for name in cells.obs["type"].unique()
            )
            here, there = (
                (found.obsm["X_latent"] - (first + second) / 2) @ (first - second)
                for found in (made[made.obs["cell_type"] == lineage], cells)
            )
            assert np.mean(here > 0) == pytest.approx(np.mean(there > 0), abs=0.1)
            near = 0.2 * np.sum((first - second) ** 2)
            between[folder.name, lineage] = np.mean(np.abs(here) < near)
    for lineage in ("A", "B"):
        assert between[coarse_run.name, lineage] < 0.8 * between[single_run.name, lineage]
