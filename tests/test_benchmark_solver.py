"""The benchmark of the solver: more steps, nearer to the exact cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main


def call(run: Path, table: Path, *more: str) -> int:
    inputs = [f"--model={run / 'model.pt'}", f"--codec={run / 'codec.pt'}", "--device=cpu"]
    return main(["benchmark-solver", *inputs, f"--output-table={table}", *more])


def test_cells_of_more_steps_are_nearer(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tiny_run, tmp_path / "solver.parquet", "--n-steps=3,8,30", "--n-exact-steps=90") == 0
    table = pd.read_parquet(tmp_path / "solver.parquet")
    assert (table.groupby("n_steps")["class"].nunique() == 4).all()
    means = table.drop(columns="class").groupby("n_steps").mean()
    assert list(means.index) == [3, 8, 30]
    assert means["median"].is_monotonic_decreasing
    assert means["evaluations"].is_monotonic_increasing
    assert means["median"].iloc[-1] < 0.02
    assert means["variance_ratio"].iloc[-1] == pytest.approx(1, abs=0.02)
    assert "quantile_99" in capsys.readouterr().out


@pytest.mark.parametrize("steps", ["many", "1,10", "10,90"])
def test_wrong_numbers_of_steps(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: str) -> None:
    assert call(tiny_run, tmp_path / "solver.parquet", f"--n-steps={steps}", "--n-exact-steps=90") == 2
    assert f"n_steps is '{steps}'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
