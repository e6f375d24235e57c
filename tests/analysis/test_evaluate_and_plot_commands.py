"""`branchgen evaluate` and `branchgen plot` on the files of a small run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from branchgen.analysis.evaluate import SOURCES
from branchgen.cli import main

FIGURES = ("tree", "training", "metrics", "umap", "umap-types")


def evaluate_line(run: Path, folder: Path, **changes: Path) -> list[str]:
    files = {"generated": run / "generated.h5ad", "cells": run / "cells.h5ad", **changes}
    outputs = {"output-metrics": folder / "metrics.parquet", "output-embedding": folder / "embedding.parquet"}
    return ["evaluate", *(f"--{flag}={path}" for flag, path in {**files, **outputs}.items()), "--n-components=10"]


def plot_line(run: Path, tables: Path, folder: Path, format_: str = "svg", **changes: Path) -> list[str]:
    files = {
        "hierarchy": run / "hierarchy.json",
        "training": run / "training.parquet",
        "metrics": tables / "metrics.parquet",
        "embedding": tables / "embedding.parquet",
        **changes,
    }
    outputs = {f"output-{name}": folder / f"{name}.{format_}" for name in FIGURES}
    return ["plot", *(f"--{flag}={path}" for flag, path in {**files, **outputs}.items()), f"--format={format_}"]


@pytest.fixture(scope="module")
def tables(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tables of evaluate."""
    folder = tmp_path_factory.mktemp("tables")
    assert main(evaluate_line(tiny_run, folder)) == 0
    return folder


def test_evaluate_writes_both_tables(tiny_run: Path, tables: Path) -> None:
    metrics = pd.read_parquet(tables / "metrics.parquet")
    assert set(metrics["source"]) == set(SOURCES)
    embedding = pd.read_parquet(tables / "embedding.parquet")
    assert set(embedding["source"]) == {"real", "generated"}


@pytest.mark.parametrize(("format_", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_writes_every_figure(tiny_run: Path, tables: Path, tmp_path: Path, format_: str, start: bytes) -> None:
    assert main(plot_line(tiny_run, tables, tmp_path, format_)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.{format_}" for name in FIGURES)
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(start)


def test_evaluate_refuses_a_file_of_another_command(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate_line(tiny_run, tmp_path, generated=tiny_run / "cells.h5ad")) == 2
    assert "was written by 'branchgen prepare'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_plot_refuses_a_table_without_its_columns(
    tiny_run: Path, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(plot_line(tiny_run, tables, tmp_path, embedding=tables / "metrics.parquet")) == 2
    assert "has no column 'umap_1'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
