"""`branchgen evaluate` and `branchgen plot` on the files of a small run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from branchgen.analysis.evaluate import COLUMNS
from branchgen.analysis.samples import SOURCES
from branchgen.cli import main
from branchgen.hierarchy.tree import Hierarchy

FIGURES = (
    "tree",
    "training",
    "metrics",
    "verdicts",
    "gene-moments",
    "fold-changes",
    "correlations",
    "umap",
    "umap-types",
)


TABLES = ("metrics", "embedding", "verdicts", "genes", "fold-changes", "correlations")


def evaluate_line(run: Path, folder: Path, *further: str, **changes: Path) -> list[str]:
    files = {
        "generated": run / "generated.h5ad",
        "cells": run / "cells.h5ad",
        "hierarchy": run / "hierarchy.json",
        **changes,
    }
    outputs = {f"output-{name}": folder / f"{name}.parquet" for name in TABLES}
    flags = [f"--{flag}={path}" for flag, path in {**files, **outputs}.items()]
    return ["evaluate", *flags, "--n-components=10", "--n-seeds=2", "--n-permutations=19", *further]


def plot_line(run: Path, tables: Path, folder: Path, format_: str = "svg", **changes: Path) -> list[str]:
    files = {
        "hierarchy": run / "hierarchy.json",
        "training": run / "training.parquet",
        **{name: tables / f"{name}.parquet" for name in TABLES},
        **changes,
    }
    outputs = {f"output-{name}": folder / f"{name}.{format_}" for name in FIGURES}
    outputs["output-page"] = folder / "metrics.html"
    return ["plot", *(f"--{flag}={path}" for flag, path in {**files, **outputs}.items()), f"--format={format_}"]


@pytest.fixture(scope="module")
def tables(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tables of evaluate."""
    folder = tmp_path_factory.mktemp("tables")
    baseline = f"twin={tiny_run / 'generated.h5ad'}"
    assert main(evaluate_line(tiny_run, folder, "--baselines", baseline)) == 0
    return folder


def test_evaluate_writes_every_table(tables: Path) -> None:
    read = {name: pd.read_parquet(tables / f"{name}.parquet") for name in TABLES}
    assert list(read["metrics"].columns) == COLUMNS
    assert set(read["metrics"]["source"]) == {*SOURCES, "twin"}
    assert (read["metrics"]["n_seeds"] == 2).all()
    assert set(read["embedding"]["source"]) == {"real", "generated"}
    assert set(read["verdicts"]["source"]) == {"nb", "twin", "branchgen"}
    for name in ("genes", "fold-changes"):
        assert set(read[name]["source"]) - {"test"} == {"floor", "nb", "twin", "branchgen"}


@pytest.mark.parametrize(
    ("baselines", "sentence"),
    [
        (["gauss"], "a baseline is 'gauss'; it must be NAME=FILE"),
        (["a={generated}", "a={generated}"], "two baselines are called 'a'"),
        (["nb={generated}"], "a baseline is called 'nb', a name that is taken"),
        (["a={cells}"], "not by 'branchgen generate' or 'branchgen baseline'"),
    ],
)
def test_evaluate_refuses_baselines_that_it_cannot_compare(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], baselines: list[str], sentence: str
) -> None:
    files = {"generated": tiny_run / "generated.h5ad", "cells": tiny_run / "cells.h5ad"}
    named = [text.format_map(files) for text in baselines]
    assert main(evaluate_line(tiny_run, tmp_path, "--baselines", *named)) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format_", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_writes_every_figure(tiny_run: Path, tables: Path, tmp_path: Path, format_: str, start: bytes) -> None:
    assert main(plot_line(tiny_run, tables, tmp_path, format_)) == 0
    figures = [f"{name}.{format_}" for name in FIGURES]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*figures, "metrics.html"])
    for name in figures:
        assert (tmp_path / name).read_bytes().startswith(start)
    assert (tmp_path / "metrics.html").read_text().startswith("<!DOCTYPE html>")


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


def plot_branch_points_line(run: Path, folder: Path, **changes: Path) -> list[str]:
    files = {
        "hierarchy": run / "hierarchy.json",
        "branch-points": run / "branch_points.h5ad",
        "table": run / "branch_points.parquet",
        "genes": run / "branch_genes.parquet",
        "separability": run / "separability.parquet",
        "output-figure": folder / "branch_points.svg",
        "output-page": folder / "branch_points.html",
        **{flag.replace("_", "-"): path for flag, path in changes.items()},
    }
    return ["plot-branch-points", *(f"--{flag}={path}" for flag, path in files.items())]


def test_every_branch_point_has_its_page(tiny_run: Path, tmp_path: Path) -> None:
    assert main(plot_branch_points_line(tiny_run, tmp_path)) == 0
    hierarchy = Hierarchy.from_list(json.loads((tiny_run / "hierarchy.json").read_text())["branches"])
    assert (tmp_path / "branch_points.html").read_text().count("<section ") == len(hierarchy.branch_points)
    assert (tmp_path / "branch_points.svg").read_bytes().startswith(b"<?xml")


def test_branch_points_of_another_hierarchy_are_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((tiny_run / "hierarchy.json").read_text())
    for branch in record["branches"]:
        for key in ("name", "parent"):
            branch[key] = branch[key] and branch[key].replace("node", "knot")
    (tmp_path / "other.json").write_text(json.dumps(record))
    assert main(plot_branch_points_line(tiny_run, tmp_path / "out", hierarchy=tmp_path / "other.json")) == 2
    assert "has other branch points than" in capsys.readouterr().err
    assert main(plot_branch_points_line(tiny_run, tmp_path / "out", table=tiny_run / "branch_genes.parquet")) == 2
    assert "has no column 'time'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
