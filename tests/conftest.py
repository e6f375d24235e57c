from __future__ import annotations

from pathlib import Path

import pytest
from run_commands import SETTINGS, SOURCE, prepare_new_cells, run_command
from simulate import simulate_cells, simulate_new_class


@pytest.hookimpl(tryfirst=True)  # xdist then reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs side by side, in one process each: the tests of a file, and all of the finished workflow.

    Whole workflows begin first, for the longest should not be the last.
    """
    items.sort(key=lambda item: "workflow" not in item.path.parts)
    for item in items:
        shared = "finished" if "finished" in getattr(item, "fixturenames", ()) else item.location[0]
        item.add_marker(pytest.mark.xdist_group(shared))


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
