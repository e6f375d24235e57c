"""The benchmark of scale: a row for every step and part, and nothing left behind but the table."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main
from branchgen.commands import benchmark_scale
from branchgen.generation_cost import PARTS

STEPS = ["prepare", "encode", "derive", "train", "generate"]


def run(path: Path, *more: str) -> int:
    small = ["--n-cells=600", "--n-classes=3", "--n-genes=100", "--max-epochs=2", "--n-steps=100", "--device=cpu"]
    return main(["benchmark-scale", "--output-table", str(path), *small, *more])


def test_a_row_for_every_step_and_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    assert run(tmp_path / "scale.parquet") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scale.parquet"]
    table = pd.read_parquet(tmp_path / "scale.parquet").set_index("step")
    parts = [f"generate: {part}" for part in PARTS]
    assert list(table.index) == [*STEPS, "train: step", "encode: read an epoch", *parts, "copy of the file"]
    assert (table["n_cells"] == 600).all()
    assert (table["n_classes"] == 3).all()
    assert (table.drop(index="train: step")["seconds"] > 0).all()
    assert not (table["cells_per_second"] <= 0).any()

    steps = table.loc[STEPS]
    assert (steps[["start_seconds", "cpu_seconds", "mb_read", "mb_written"]] > 0).all(axis=None)
    assert steps["peak_mb"].between(50, 4000).all()
    # Training has noised so many cells, with the batches of its default.
    assert list(steps["cells"]) == [600, 600, 600, 100 * 512, 600]
    rate = steps["cells"] / (steps["seconds"] - steps["start_seconds"])
    longer = steps["seconds"] > steps["start_seconds"]
    pd.testing.assert_series_equal(steps["cells_per_second"], rate.where(longer), check_names=False)
    # A machine with other work may take longer for the shorter training, but not by its own clock.
    assert table["cpu_seconds"]["train: step"] > 0
    assert table["cells"]["train: step"] == 512

    assert table["share"][parts].sum() == pytest.approx(1)
    assert (table["share"][parts] > 0).all()
    assert table["mb_written"]["generate: append"] == table["mb_written"]["copy of the file"] > 0.05
    assert "cells_per_second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--n-cells=many", "n_cells is 'many'; it must be numbers such as 10,50,200"),
        ("--n-classes=3,,4", "n_classes is '3,,4'; it must be numbers such as 10,50,200"),
        ("--n-cells=600,100", "an atlas of 100 cells cannot have 3 classes"),
        ("--n-classes=1", "an atlas of 600 cells cannot have 1 classes"),
        ("--n-genes=10", "n_genes is 10; it must be at least 50"),
    ],
)
def test_mistakes(option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "scale.parquet", option) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_step_that_fails_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_scale, "start_seconds", lambda: dict.fromkeys(STEPS, 1.0))
    lines = benchmark_scale.Trial.lines

    def without_labels(trial: benchmark_scale.Trial) -> dict[str, list[str]]:
        found = lines(trial)
        found["prepare"][found["prepare"].index("--label-key") + 1] = "no_such_column"
        return found

    monkeypatch.setattr(benchmark_scale.Trial, "lines", without_labels)
    assert run(tmp_path / "scale.parquet") == 2
    said = capsys.readouterr().err
    assert "branchgen benchmark-scale: branchgen prepare failed:" in said
    assert "no_such_column" in said
    assert not list(tmp_path.iterdir())
