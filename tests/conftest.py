from __future__ import annotations

from pathlib import Path

import pytest
from run_commands import SETTINGS, SOURCE, prepare_new_cells, run_command
from simulate import simulate_cells, simulate_new_class


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole workflows first: where files run side by side, the longest of them should not be the last to begin."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all files of the commands on simulated cells, a new class among them; read, never write there."""
    folder = tmp_path_factory.mktemp("tiny_run")
    simulate_cells().write_h5ad(folder / SOURCE)
    for command in SETTINGS:
        if command == "extend":
            prepare_new_cells(folder, simulate_new_class())
        assert run_command(command, folder) == 0
    return folder
