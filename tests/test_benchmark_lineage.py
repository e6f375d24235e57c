"""The benchmark of lineages on a simulated differentiation, whose times and fates are known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from run_commands import run_command
from simulate_differentiation import simulate_differentiation

from branchgen.cli import main


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands on a differentiation; fates need no network, so that one step of training will do."""
    folder = tmp_path_factory.mktemp("differentiation")
    simulate_differentiation(600, 200).write_h5ad(folder / "source.h5ad")
    quick = {"train": {"n_steps": 1, "validate_every": 1}}
    for command in ("prepare", "encode", "derive", "train", "analyse"):
        assert run_command(command, folder, **quick.get(command, {})) == 0
    return folder


def compare(folder: Path, table: Path, *more: str) -> int:
    inputs = [f"--fates={folder / 'fates.h5ad'}", f"--hierarchy={folder / 'hierarchy.json'}"]
    return main(["benchmark-lineage", *inputs, f"--output-table={table}", *more])


def test_a_row_for_every_question_and_method(analysed: Path, tmp_path: Path) -> None:
    table = tmp_path / "lineage.parquet"
    assert compare(analysed, table, "--root=progenitor", "--time-key=pseudotime") == 0
    found = pd.read_parquet(table).set_index(["question", "method"])["value"]
    assert found.between(-1, 1).all()
    assert set(found.index.get_level_values("question")) == {
        "pseudotime",
        "fates of undecided cells",
        "order of partings",
    }
    assert found["pseudotime", "diffusion pseudotime"] > 0.6
    assert found["fates of undecided cells", "fates"] > 0.3


def test_without_known_time_that_of_scanpy_takes_its_place(analysed: Path, tmp_path: Path) -> None:
    table = tmp_path / "lineage.parquet"
    assert compare(analysed, table, "--root=progenitor") == 0
    assert "diffusion pseudotime" not in set(pd.read_parquet(table)["method"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--root=stem"], "no class is called 'stem'; there are "),
        (["--root=A", "--time-key=age"], "fates.h5ad has no obs['age']; it has "),
    ],
)
def test_mistakes(
    more: list[str], message: str, analysed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(analysed, tmp_path / "lineage.parquet", *more) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
