from __future__ import annotations

from pathlib import Path

import pytest
from run_workflow import snakemake, write_config
from simulate import simulate_cells


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.h5ad: 400 cells, 120 genes, four types of two lineages, six donors."""
    folder = tmp_path_factory.mktemp("workflow")
    simulate_cells().write_h5ad(folder / "tiny.h5ad")
    return folder


@pytest.fixture(scope="session")
def finished(dataset: Path) -> Path:
    """The folder of the small dataset after the whole workflow."""
    run = snakemake("--directory", dataset, "--configfile", write_config(dataset), "--show-failed-logs")
    assert run.returncode == 0, run.stdout
    return dataset
