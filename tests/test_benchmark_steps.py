"""The benchmark of steps: a row per size and kind, and a sentence for what makes no sense."""

from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main
from branchgen.commands.benchmark_steps import caterpillar


def run(path: Path, *more: str) -> int:
    small = ["--n-repeats", "2", "--n-hidden", "16", "--batch-size", "64", "--device", "cpu"]
    return main(["benchmark-steps", "--output-table", str(path), *small, *more])


def test_a_row_per_size_and_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "steps.parquet", "--n-branches", "3,11") == 0
    table = pd.read_parquet(tmp_path / "steps.parquet")
    assert table[["n_branches", "step"]].to_numpy().tolist() == [
        [3, "train"], [3, "sample"], [11, "train"], [11, "sample"],
    ]  # fmt: skip
    assert (table["min_ms"] > 0).all()
    assert (table["min_ms"] <= table["median_ms"]).all()
    assert (table["median_ms"] <= table["max_ms"]).all()
    assert (table.loc[table["n_branches"] == 3, "ratio"] == 1).all()
    assert "median_ms" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["ten", "2", "10,,20"])
def test_sizes_that_make_no_sense_are_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "steps.parquet", "--n-branches", text) == 2
    assert f"n_branches is '{text}'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_branches", [10, 51, 200])
def test_trees_have_the_wanted_number_of_branches(n_branches: int) -> None:
    assert 0 <= len(caterpillar(n_branches).branches) - n_branches <= 1
