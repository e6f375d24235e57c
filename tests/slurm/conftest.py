from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import local_slurm
import pytest
from local_slurm import Cluster
from simulate import simulate_cells

REQUIRED = "BRANCHGEN_SLURM"
"""Variable whose presence says that these tests must run, where otherwise they are skipped."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM of our own, started for the session."""
    reason = local_slurm.missing()
    if reason is not None:
        if REQUIRED in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with local_slurm.running(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with tiny.h5ad."""
    simulate_cells().write_h5ad(tmp_path / "tiny.h5ad")
    return tmp_path
