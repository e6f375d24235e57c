"""The benchmark of rare types: runs in, a table out, and a sentence for every mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main


def call(table: Path, runs: list[str], *more: str) -> int:
    return main(["benchmark-rare-types", "--runs", *runs, f"--output-table={table}", "--n-draws=1", *more])


def test_table_and_what_is_printed(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "gauss").mkdir()
    shutil.copy(tiny_run / "generated.h5ad", tmp_path / "run" / "gauss" / "generated.h5ad")
    runs = [f"blood:{seed}={tmp_path / 'run'}" for seed in (0, 1)]
    assert call(tmp_path / "rare.parquet", runs, "--min-cells=10", "--max-train-cells=60") == 0
    table = pd.read_parquet(tmp_path / "rare.parquet")
    assert set(table["dataset"]) == {"blood"}
    assert set(table["seed"]) == {0, 1}
    assert set(table["metric"]) == {"c2st_auc", "nearer_train"}
    assert set(table["source"]) == {"train", "branchgen", "gauss", "real", "limit"}
    said = capsys.readouterr().out
    assert "blood, nearer_train: mean over seeds" in said
    shares = table[(table["metric"] == "nearer_train") & (table["source"] == "branchgen") & (table["group"] == "B2")]
    assert f"{shares['value'].mean():.3f} ± 0.000" in said  # two times the same run


@pytest.mark.parametrize(
    ("runs", "more", "sentence"),
    [
        (["lung"], (), "--runs has 'lung'; it must be DATASET:SEED=FOLDER"),
        (["lung:0={run}", "lung:0={run}"], (), "--runs names lung:0 twice"),
        (["lung:0={run}/nowhere"], (), "nowhere/cells.h5ad"),
        (["lung:0={run}"], ("--max-train-cells=1",), "no type of these runs has 1 training cells or fewer"),
    ],
)
def test_mistakes(
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runs: list[str],
    more: tuple[str, ...],
    sentence: str,
) -> None:
    assert call(tmp_path / "rare.parquet", [text.format(run=tiny_run) for text in runs], *more) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
