"""The benchmark of sharing: a row for every way and repeat, with what it costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from branchgen.cli import main
from branchgen.commands.benchmark_sharing import METRICS


def test_a_row_for_every_way_and_repeat(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [f"--{name}={tiny_run / file}" for name, file in
              {"model": "model.pt", "codec": "codec.pt", "cells": "cells.h5ad"}.items()]  # fmt: skip
    quick = ["--n-steps=6", "--n-corrections=2", "--n-paper-steps=12", "--n-seeds=2", "--device=cpu"]
    quick.append(f"--flat-model={tiny_run / 'model.pt'}")
    assert main(["benchmark-sharing", *inputs, f"--output-table={tmp_path / 'sharing.parquet'}", *quick]) == 0
    table = pd.read_parquet(tmp_path / "sharing.parquet")
    assert list(table["way"].unique()) == [
        "floor",
        "without a tree",
        "identity, 6 steps of dpmpp_2m",
        "linear, 6 steps of dpmpp_2m",
        "transport, 6 steps of dpmpp_2m",
        "identity, 2 Langevin steps, 6 steps of dpmpp_2m",
        "transport, 2 Langevin steps, 6 steps of dpmpp_2m",
        "identity, 12 steps of pc",
    ]
    assert (table.groupby("way").size() == 2).all()
    shares = table.groupby("way")["share"].mean()
    assert shares["transport, 6 steps of dpmpp_2m"] == shares["identity, 6 steps of dpmpp_2m"] < 1
    assert shares["transport, 2 Langevin steps, 6 steps of dpmpp_2m"] > shares["transport, 6 steps of dpmpp_2m"]
    # Twice the steps, two evaluations each.
    assert shares["identity, 12 steps of pc"] == pytest.approx(4 * shares["identity, 6 steps of dpmpp_2m"], rel=0.2)
    assert table[list(METRICS)].notna().all(axis=None)
    assert "mmd_squared_by_type" in capsys.readouterr().out
