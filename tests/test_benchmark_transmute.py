"""The benchmark of transmutation: judges that know a class and a state, a row for every pair and way."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from run_commands import run_command
from scipy import sparse

from branchgen.analysis.states import Judges, balanced, difference
from branchgen.cli import main
from branchgen.commands.benchmark_transmute import in_both_states, summary

N_GENES = 60


def two_states(n: int = 120) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Two classes with ten genes each; the same ten genes respond in both, in every second cell."""
    rng = np.random.default_rng(0)
    types, states = np.repeat(["A", "B"], n), np.tile(["control", "treated"], n)
    rate = np.full((2 * n, N_GENES), 3.0)
    rate[types == "A", :10] *= 4
    rate[types == "B", 10:20] *= 4
    rate[states == "treated", 20:30] *= 4
    return sparse.csr_matrix(rng.poisson(rate).astype(np.int32)), types, states


def test_judges_know_class_and_state_and_response() -> None:
    counts, types, states = two_states()
    train = np.arange(len(types)) % 4 < 2
    judges = Judges.trained(counts[train], types[train], states[train])
    held = ~train & (types == "B")
    own = judges.verdict(counts[held], states[held], "B")
    assert own.type_accuracy > 0.95
    assert own.state_accuracy > 0.95
    assert own.response > 0.8
    # Cells of the other class respond alike, and are of another class.
    other = judges.verdict(counts[~train & (types == "A")], states[~train & (types == "A")], "B")
    assert other.type_accuracy < 0.05
    assert other.response > 0.8
    # Cells of a state by chance have no response.
    chance = judges.verdict(counts[held], np.random.default_rng(0).permutation(states[held]), "B")
    assert abs(chance.state_accuracy - 0.5) < 0.2
    assert abs(chance.response) < 0.6


def test_states_count_alike_however_many_cells_they_have() -> None:
    states = np.array(["a"] * 8 + ["b"] * 2)
    assert balanced(np.array(["a"] * 10), states) == 0.5
    np.testing.assert_allclose(difference(np.arange(10.0)[:, None], states), [8.5 - 3.5])
    assert in_both_states(states, 2)
    assert not in_both_states(states, 3)
    assert not in_both_states(states[:8], 1)


@pytest.fixture(scope="module")
def stated_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cells of the small run with a state that some genes follow, and a model without a tree."""
    folder = tmp_path_factory.mktemp("stated")
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    rng = np.random.default_rng(0)
    cells.obs["state"] = pd.Categorical(rng.choice(["control", "treated"], cells.n_obs))
    cells.write_h5ad(folder / "cells.h5ad")
    flat = folder / "flat"
    flat.mkdir()
    line = ["derive", "--cells", str(tiny_run / "cells.h5ad"), "--latents", str(tiny_run / "latents.h5ad"), "--flat"]
    outputs = {"hierarchy": "hierarchy.json", "newick": "hierarchy.nwk", "divergence": "divergence.parquet"}
    assert main([*line, *(f"--output-{flag}={flat / name}" for flag, name in outputs.items())]) == 0
    assert run_command("train", tiny_run, flat, hierarchy=flat / "hierarchy.json") == 0
    return folder


def line_of(tiny_run: Path, folder: Path, table: Path, *more: str) -> list[str]:
    files = {"model": tiny_run / "model.pt", "codec": tiny_run / "codec.pt", "cells": folder / "cells.h5ad"}
    inputs = [f"--{flag}={path}" for flag, path in files.items()]
    options = ["--state-key=state", "--n-steps=4", "--min-cells=5", "--device=cpu", f"--output-table={table}"]
    return ["benchmark-transmute", *inputs, *options, *more]


def test_a_row_for_every_pair_and_way(tiny_run: Path, stated_run: Path, tmp_path: Path) -> None:
    table = tmp_path / "transmute.parquet"
    assert main(line_of(tiny_run, stated_run, table, f"--flat-model={stated_run / 'flat' / 'model.pt'}")) == 0
    found = pd.read_parquet(table)
    classes = sorted(set(found["source"]))
    ways = ["flow", "fresh", "nothing", "shift", "guided"]
    assert len(classes) >= 2
    assert len(found) == len(classes) + len(ways) * len(classes) * (len(classes) - 1)
    assert (found.loc[found["way"] == "real", "type_accuracy"] > 0.7).all()
    means = found.groupby("way")["type_accuracy"].mean()
    assert means["nothing"] < 0.15
    assert (means[["flow", "fresh", "shift"]] > 0.6).all()
    assert means["guided"] > 0.3  # nothing is transported, and the small model has hardly been trained
    assert list(summary(found).index) == ["real", *ways]
    assert found[["type_accuracy", "state_accuracy"]].apply(lambda column: column.between(0, 1)).all(axis=None)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("--state-key=cell_type", "has 4 values; there must be two states"),
        ("--state-key=dose", "has no obs['dose']"),
        ("--min-cells=1000", "0 classes of"),
    ],
)
def test_a_mistake_is_one_sentence(
    more: str, sentence: str, tiny_run: Path, stated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line_of(tiny_run, stated_run, tmp_path / "table.parquet", more)) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
