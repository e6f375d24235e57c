from __future__ import annotations

from pathlib import Path

import pytest
from run_commands import SETTINGS, SOURCE, run_command
from simulate import simulate_cells


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all files of the commands from prepare to analyse, on simulated cells; read, never write there."""
    folder = tmp_path_factory.mktemp("tiny_run")
    simulate_cells().write_h5ad(folder / SOURCE)
    for command in SETTINGS:
        assert run_command(command, folder) == 0
    return folder
