"""`branchgen compare`: runs in, a table and a page out, and a sentence for every mistake."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from invent_runs import write_run

from branchgen.cli import main

Spoil = Callable[[Path], object]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folder with runs of two datasets and two seeds, and an empty one for the results."""
    for dataset in ("lung", "a:b"):
        for seed in (0, 1):
            write_run(tmp_path / "runs" / f"{dataset}_{seed}", seed)
    (tmp_path / "out").mkdir()
    return tmp_path


def line(folder: Path, runs: list[str] | None = None, times: list[str] | None = None) -> list[str]:
    names = [(dataset, seed) for dataset in ("lung", "a:b") for seed in (0, 1)]
    where = folder / "runs"
    runs = [f"{dataset}:{seed}={where}/{dataset}_{seed}" for dataset, seed in names] if runs is None else runs
    times = [f"{dataset}:{seed}={where}/{dataset}_{seed}/times" for dataset, seed in names] if times is None else times
    outputs = [f"--output-table={folder / 'out' / 'table.parquet'}", f"--output-page={folder / 'out' / 'page.html'}"]
    return ["compare", *outputs, "--runs", *runs, *(["--times", *times] if times else [])]


def test_table_and_page(runs: Path) -> None:
    assert main(line(runs)) == 0
    table = pd.read_parquet(runs / "out" / "table.parquet")
    assert table.groupby("dataset")["seed"].unique().map(list).to_dict() == {"lung": [0, 1], "a:b": [0, 1]}
    cost = table[(table["kind"] == "cost") & (table["dataset"] == "lung") & (table["seed"] == 1)]
    found = {(row.source, row.metric): row.value for row in cost.itertuples()}
    assert found == {
        ("branchgen", "evaluations"): pytest.approx(0.6),
        ("branchgen", "encode_seconds"): 41,
        ("branchgen", "train_seconds"): 51,
        ("branchgen", "generate_seconds"): 6,
        ("branchgen", "peak_mb"): 950,
        ("flat", "evaluations"): 1,
        ("flat", "train_seconds"): 61,
        ("flat", "generate_seconds"): 9,
        ("flat", "peak_mb"): 960,
        ("gauss", "baseline_seconds"): 4,
        ("gauss", "peak_mb"): 903,
    }
    page = (runs / "out" / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "a:b" in page


def test_times_may_be_left_out(runs: Path) -> None:
    assert main(line(runs, times=[])) == 0
    table = pd.read_parquet(runs / "out" / "table.parquet")
    assert set(table.loc[table["kind"] == "cost", "metric"]) == {"evaluations"}


def drop_column(path: Path, column: str) -> None:
    pd.read_parquet(path).drop(columns=column).to_parquet(path)


MISTAKES: dict[str, tuple[dict[str, list[str]], Spoil, str]] = {
    "no seed": ({"runs": ["lung={folder}/runs/lung_0"]}, bool, "it must be DATASET:SEED=FOLDER such as lung:0="),
    "twice": (
        {"runs": ["lung:0={folder}/runs/lung_0", "lung:0={folder}/runs/lung_1"]},
        bool,
        "--runs names lung:0 twice",
    ),
    "times of no run": ({"times": ["lung:7={folder}/runs/lung_0/times"]}, bool, "--times names lung:7, which --runs"),
    "no folder": ({"runs": ["lung:0={folder}/nowhere"], "times": []}, bool, "nowhere/metrics.parquet does not exist"),
    "old metrics": (
        {},
        lambda folder: drop_column(folder / "runs" / "lung_0" / "metrics.parquet", "kind"),
        "lung_0/metrics.parquet has no column 'kind'; it must have source, kind, group",
    ),
    "no verdicts": (
        {},
        lambda folder: (folder / "runs" / "lung_1" / "verdicts.parquet").unlink(),
        "lung_1/verdicts.parquet does not exist",
    ),
    "no times of a baseline": (
        {},
        lambda folder: shutil.rmtree(folder / "runs" / "lung_1" / "times" / "gauss"),
        "times/gauss/baseline.tsv does not exist",
    ),
    "times of another program": (
        {},
        lambda folder: (folder / "runs" / "lung_1" / "times" / "train.tsv").write_text("seconds\n1\n"),
        "times/train.tsv has no row with the columns s and max_rss",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    what: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, spoil, part = MISTAKES[what]
    spoil(runs)
    changed = {name: [text.replace("{folder}", str(runs)) for text in texts] for name, texts in changes.items()}
    assert main(line(runs, **changed)) == 2
    error = capsys.readouterr().err
    assert error.startswith("branchgen compare: ")
    assert error.count("\n") == 1
    assert part in error
    assert not list((runs / "out").iterdir())
