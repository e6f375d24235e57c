"""Rare types: real cells at the floor, copies and caricatures caught, and too few cells left out."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from simulate import simulate_cells
from split_cells import with_splits

from branchgen.analysis.classifiers import N_FOLDS
from branchgen.analysis.memorisation import NEARER
from branchgen.analysis.rare_types import AUC, FEWEST, REAL, Judge, over_seeds, rare_type_table
from branchgen.analysis.samples import ALL, LIMIT, OWN, TRAIN, read_study
from branchgen.benchmark_config import BenchmarkRareTypesSettings
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError

SETTINGS = BenchmarkRareTypesSettings(max_train_cells=180, n_draws=1)
EVERYTHING = with_splits(simulate_cells(n_cells=2000, n_genes=150))
CELLS = EVERYTHING[EVERYTHING.obs["split"] != "spare"].copy()
RARE = ["B2", "B3"]


def of_split(name: str) -> AnnData:
    return EVERYTHING[EVERYTHING.obs["split"] == name].copy()


def smoothed() -> AnnData:
    """Every cell of a type the same: its mean, as whole numbers."""
    cells = of_split("spare")
    counts = cells.layers["counts"].toarray()
    for name in cells.obs["cell_type"].cat.categories:
        rows = np.flatnonzero(cells.obs["cell_type"] == name)
        counts[rows] = np.rint(counts[rows].mean(axis=0))
    cells.layers["counts"] = sparse.csr_matrix(counts)
    return cells


SOURCES = {"copies": lambda: of_split("train"), "smoothed": smoothed}


def study_of(generated: AnnData, baselines: dict[str, AnnData] | None = None, cells: AnnData = CELLS):
    return read_study(generated, cells, baselines or {}, EvaluateSettings(n_genes=40, n_components=20), 0)


@functools.cache
def table() -> pd.DataFrame:
    """Real cells as the generated ones, beside copies and caricatures."""
    study = study_of(of_split("spare"), {name: make() for name, make in SOURCES.items()})
    return rare_type_table(study, SETTINGS, 0)


def values(metric: str, source: str) -> dict[str, float]:
    rows = table()[(table()["metric"] == metric) & (table()["source"] == source)]
    assert not rows["group"].duplicated().any()
    return dict(zip(rows["group"], rows["value"], strict=True))


def test_rare_types_are_those_of_few_training_cells() -> None:
    assert sorted(values(NEARER, OWN)) == RARE
    assert sorted(values(AUC, OWN)) == [*RARE, ALL]
    n_train = CELLS.obs.loc[CELLS.obs["split"] == "train", "cell_type"].value_counts()
    rows = table()[table()["group"] != ALL]
    assert (rows["n_train"] == rows["group"].map(n_train).astype(int)).all()
    held_out = CELLS.obs["split"].isin(["test", "holdout"])
    assert set(table().loc[table()["group"] == ALL, "n_cells"]) == {int(held_out.sum())}
    assert set(table().loc[table()["metric"] == NEARER, "n_draws"]) == {SETTINGS.n_yardsticks}


@pytest.mark.parametrize("source", [TRAIN, OWN])
def test_real_cells_cannot_be_told_apart(source: str) -> None:
    assert values(AUC, source)[ALL] == pytest.approx(0.5, abs=0.05)
    assert [values(AUC, source)[name] for name in RARE] == pytest.approx([0.5] * 2, abs=0.12)


def test_real_cells_remember_nothing_and_those_moved_to_the_mean_of_the_training_cells_a_little() -> None:
    found = []
    for seed in range(8):
        cells = with_splits(EVERYTHING, seed)
        study = study_of(cells[cells.obs["split"] == "spare"].copy(), cells=cells[cells.obs["split"] != "spare"].copy())
        judge = Judge.of(study, SETTINGS, 0)
        found += [shares for name in judge.rare for shares in judge.nearer(name)]
    mean = pd.DataFrame(found).mean()
    assert mean[[REAL, OWN]].tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert mean[REAL] < mean[LIMIT] < mean[REAL] + 0.1


def test_copies_are_memories_that_no_classifier_sees() -> None:
    assert min(values(NEARER, "copies").values()) > max(values(NEARER, LIMIT).values()) + 0.05
    assert values(AUC, "copies")[ALL] == pytest.approx(0.5, abs=0.05)


def test_caricatures_are_seen() -> None:
    assert min(values(AUC, "smoothed").values()) > 0.95


def test_one_source_does_not_change_another() -> None:
    alone = rare_type_table(study_of(of_split("spare")), SETTINGS, 0)
    both = table().merge(alone, on=["source", "group", "metric"], suffixes=("", "_alone"))
    assert len(both) == len(alone)
    assert (both["value"] == both["value_alone"]).all()


def test_types_of_few_held_out_cells_have_no_classifier_and_of_hardly_any_no_row() -> None:
    held_out = CELLS.obs["split"].isin(["test", "holdout"]).to_numpy()
    few = {"B2": 20, "B3": FEWEST - 1}
    kept = ~(held_out & CELLS.obs["cell_type"].isin(RARE).to_numpy())
    for name, number in few.items():
        kept[np.flatnonzero(held_out & (CELLS.obs["cell_type"] == name).to_numpy())[:number]] = True
    found = rare_type_table(study_of(of_split("spare"), cells=CELLS[kept].copy()), SETTINGS, 0)
    assert set(found.loc[found["metric"] == AUC, "group"]) == {ALL}
    assert set(found.loc[found["metric"] == NEARER, "group"]) == {"B2"}


def test_no_classifier_is_asked_of_fewer_cells_than_it_has_folds() -> None:
    BenchmarkRareTypesSettings(min_cells=N_FOLDS)
    with pytest.raises(BranchgenError, match="min_cells"):
        BenchmarkRareTypesSettings(min_cells=N_FOLDS - 1)


def test_a_type_that_was_not_generated_has_no_row() -> None:
    generated = of_split("spare")
    found = rare_type_table(study_of(generated[generated.obs["cell_type"] != "B2"].copy()), SETTINGS, 0)
    assert set(found.loc[found["source"] == OWN, "group"]) == {"B3", ALL}
    assert {"B2", "B3"} <= set(found.loc[found["source"] == TRAIN, "group"])


def test_without_rare_types_there_is_no_row() -> None:
    settings = BenchmarkRareTypesSettings(max_train_cells=1)
    assert rare_type_table(study_of(of_split("spare")), settings, 0).empty


def test_over_seeds() -> None:
    rows = [(seed, value) for seed, value in enumerate((0.5, 0.6, 0.7))]
    runs = pd.DataFrame(rows, columns=["seed", "value"])
    runs = runs.assign(dataset="lung", metric=AUC, group="B2", source=OWN, n_train=100)
    found = over_seeds(runs).iloc[0]
    assert found["value"] == pytest.approx(0.6)
    assert found["error"] == pytest.approx(0.1 / np.sqrt(3))
    assert found["n_seeds"] == 3
