"""The benchmark of extension: a row for every way to add a class, and the old cells untouched by extension alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main

QUICK = ["--codec=pca", "--n-train-steps=40", "--n-steps=100", "--n-solver-steps=6", "--device=cpu"]


def test_a_row_for_every_way_and_group(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "extension.parquet"
    line = [f"--cells={tiny_run / 'cells.h5ad'}", f"--output-table={table}", "--classes", "B3", *QUICK]
    assert main(["benchmark-extend", *line]) == 0
    found = pd.read_parquet(table)
    new = found[found["group"] == "new"].set_index("way")
    old = found[found["group"] == "old"].set_index("way")
    ways = ["from the start", "extended", "extended, codec frozen"]
    ways += ["fine-tuned on the new class alone", "fine-tuned on all classes"]
    assert list(new.index) == ways
    assert list(old.index) == [ways[0], "before", *ways[1:3], "without a tree, before", *ways[3:]]
    scores = ["c2st_auc", "frechet", "n_cells"]
    assert (old.loc["before", scores] == old.loc["extended", scores]).all()
    assert (old.loc["without a tree, before", scores] != old.loc[ways[3], scores]).any()
    assert found[scores].notna().all(axis=None)
    assert "fine-tuned" in capsys.readouterr().out


def test_an_unknown_class_is_named(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [f"--cells={tiny_run / 'cells.h5ad'}", f"--output-table={tmp_path / 't.parquet'}", "--classes", "T"]
    assert main(["benchmark-extend", *line]) == 2
    assert "no class is called 'T'; there are A0, A1, B2, B3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
