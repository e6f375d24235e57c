from __future__ import annotations

from pathlib import Path

import pytest
from run_commands import SETTINGS, SOURCE, command_line
from simulate import simulate_cells

from branchgen.cli import main


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all files of the commands from prepare to analyse, on simulated cells; read, never write there."""
    folder = tmp_path_factory.mktemp("tiny_run")
    simulate_cells().write_h5ad(folder / SOURCE)
    for command in SETTINGS:
        assert main(command_line(command, folder)) == 0
    return folder
