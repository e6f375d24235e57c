"""The protocol and what it finds: real cells at the floor, and each kind of fake caught by the metric meant for it."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from simulate import simulate_cells
from split_cells import tree_of, with_splits

from branchgen.analysis import classifiers
from branchgen.analysis import evaluate as evaluation
from branchgen.analysis.embedding import embed
from branchgen.analysis.evaluate import COLUMNS, branches_of, evaluate
from branchgen.analysis.memorisation import NEARER, Memory
from branchgen.analysis.metrics import METRICS, MIN_CELLS_OF_GENES, MIN_CELLS_PER_TYPE, View
from branchgen.analysis.reference import fit_reference
from branchgen.analysis.samples import ALL, FLOOR, LIMIT, SOURCES, Cells, Study, read_study
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Branch, Hierarchy

SETTINGS = EvaluateSettings(n_genes=100, n_components=20, n_seeds=1, n_permutations=99)
FEW_TREES = 25  # of the random forest, which takes most of the time


EVERYTHING = with_splits(simulate_cells(n_cells=2000, n_genes=150))
CELLS = EVERYTHING[EVERYTHING.obs["split"] != "spare"].copy()
SMALL = with_splits(simulate_cells(n_cells=260, n_genes=60, n_types=5))


def part(name: str, cells: AnnData = EVERYTHING) -> AnnData:
    return cells[cells.obs["split"] == name].copy()


def fake(template: AnnData, counts: np.ndarray) -> AnnData:
    cells = template.copy()
    cells.layers["counts"] = sparse.csr_matrix(counts.astype(np.int32))
    return cells


def oversmoothed() -> AnnData:
    """Every cell the mean of its type, at its own library size: what a decoder's mean gives."""
    template, train = part("spare"), part("train")
    size = np.asarray(template.layers["counts"].sum(axis=1)).ravel()
    mean = {
        name: np.asarray(train.layers["counts"][(train.obs["cell_type"] == name).to_numpy()].mean(axis=0)).ravel()
        for name in train.obs["cell_type"].cat.categories
    }
    rows = np.stack([mean[name] / mean[name].sum() for name in template.obs["cell_type"]])
    return fake(template, np.rint(size[:, None] * rows))


def relabelled() -> AnnData:
    """Real cells with types drawn at random."""
    cells = part("spare")
    cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy()[np.random.default_rng(0).permutation(cells.n_obs)]
    return cells


def bootstrapped() -> AnnData:
    """Training cells drawn with replacement."""
    train = part("train")
    rows = np.random.default_rng(0).integers(train.n_obs, size=train.n_obs)
    obs = train.obs.iloc[rows].set_axis([f"generated_{i}" for i in rows.argsort().argsort()])
    return AnnData(obs=obs, var=train.var, layers={"counts": train.layers["counts"][rows]})


GENERATED = {
    "real": lambda: part("spare"),
    "oversmoothed": oversmoothed,
    "relabelled": relabelled,
    "bootstrapped": bootstrapped,
}


@pytest.fixture(autouse=True)
def small_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "N_TREES", FEW_TREES)


def run(
    generated: AnnData, cells: AnnData, *, seed: int = 0, sources: tuple[str, ...] = (), **changes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics and verdicts; of some sources only where they are named."""
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.MonkeyPatch.context() as patch:
        if sources:
            patch.setattr(evaluation, "sources_of", lambda study: sources)
        return evaluate(study_of(generated, cells), tree_of(cells), settings, seed)


def study_of(generated: AnnData, cells: AnnData, baselines: dict[str, AnnData] | None = None) -> Study:
    return read_study(generated, cells, baselines or {}, SETTINGS, 0)


@functools.cache
def results(kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    # The baselines do not depend on the generated cells: they are computed once.
    return run(GENERATED[kind](), CELLS, sources=() if kind == "real" else (FLOOR, "branchgen"))


def table(kind: str) -> pd.DataFrame:
    return results(kind)[0]


def value(kind: str, metric: str, source: str = "branchgen", group: str = ALL) -> float:
    rows = table(kind)
    found = rows[(rows["source"] == source) & (rows["metric"] == metric) & (rows["group"] == group)]
    assert len(found) == 1
    return float(found["value"].iloc[0])


def floor(metric: str) -> float:
    return value("real", metric, FLOOR)


def test_the_table_is_complete_and_finite() -> None:
    rows = table("real")
    assert list(rows.columns) == COLUMNS
    assert list(rows["source"].unique()) == list(SOURCES)
    assert np.isfinite(rows["value"]).all()
    assert rows["sd"].isna().all()  # of one repeat
    assert (rows["n_seeds"] == 1).all()
    assert set(rows["metric"]) <= set(METRICS)
    pooled = rows[rows["group"] == ALL]
    # A hundred variable genes have no top hundred.
    missing = {source: set(METRICS) - set(part["metric"]) for source, part in pooled.groupby("source")}
    assert missing.pop(LIMIT) == {"lfc_top_overlap", "distance_ratio_p5", "duplicate_rate"}
    assert all(names == {"lfc_top_overlap"} for names in missing.values())
    types = set(CELLS.obs["cell_type"])
    assert set(rows.loc[rows["kind"] == "class", "group"]) == types
    assert set(rows.loc[rows["kind"] == "branch", "group"]) == {"lineage A", "lineage B"}
    assert set(rows.loc[rows["kind"] == ALL, "group"]) == {ALL}
    assert not rows.duplicated(["source", "kind", "group", "metric"]).any()


def test_branches_have_metrics_of_all_cells_below_them() -> None:
    rows = table("real")
    below = rows[rows["kind"] == "branch"]
    assert set(below["metric"]) == {"c2st_auc", "mmd_squared", "precision", "recall"}
    assert set(below["source"]) == set(SOURCES) - {LIMIT, "train"}
    n_test = part("test").obs["cell_type"].astype(str).str[0].value_counts()
    own = below[below["source"] == "branchgen"].drop_duplicates("group").set_index("group")["n_cells"]
    assert own.to_dict() == {f"lineage {name}": n_test[name] for name in "AB"}


def test_branches_of_a_tree_with_a_stage_boundary_are_counted_once() -> None:
    branches = (
        Branch(name="root", classes=("a", "b", "c"), t_start=0.8, t_end=1.0),
        Branch(name="pair", classes=("a", "b"), t_start=0.6, t_end=0.8),
        Branch(name="stage", classes=("a", "b"), t_start=0.4, t_end=0.6),
        *(Branch(name=name, classes=(name,), t_start=0.0, t_end=0.4) for name in "ab"),
        Branch(name="c", classes=("c",), t_start=0.0, t_end=0.8),
    )
    assert [branch.name for branch in branches_of(Hierarchy(branches))] == ["pair"]


def test_every_type_with_enough_cells_has_a_verdict() -> None:
    verdicts = results("real")[1]
    assert list(verdicts["source"].unique()) == ["nb", "branchgen"]
    n_test = part("test").obs["cell_type"].value_counts()
    own = verdicts[verdicts["source"] == "branchgen"].set_index("group")
    assert set(own.index) == {*n_test.index, ALL}
    for name, n in n_test.items():
        assert (own.loc[name, "verdict"] == "too few cells") == (n < MIN_CELLS_OF_GENES)
    assert own.loc[ALL, "verdict"] == "indistinguishable"
    assert own.loc[ALL, "genes"] == ""
    assert own.loc[ALL, "auc"] == value("real", "c2st_auc")
    assert own.loc[ALL, "floor_auc"] == floor("c2st_auc")
    assert results("oversmoothed")[1].set_index(["source", "group"]).loc[("branchgen", ALL), "verdict"] == (
        "distinguishable"
    )


def test_repeats_are_summed_up_and_only_what_is_random_varies() -> None:
    cells = SMALL[SMALL.obs["split"] != "spare"].copy()
    generated = SMALL[SMALL.obs["split"].isin(["spare", "train"])].copy()
    rows = run(generated, cells, n_seeds=3, sources=(FLOOR, "branchgen"))[0]
    pooled = rows[rows["kind"] == ALL].set_index(["source", "metric"])
    assert (pooled["n_seeds"] == 3).all()
    # Of the generated cells another part is matched every time; holdout has no cell to spare, only folds change.
    for metric in ("mmd_squared", "gene_mean", "c2st_auc", "precision", "nearer_train"):
        assert pooled.loc[("branchgen", metric), "sd"] > 0, metric
    assert pooled.loc[(FLOOR, "c2st_auc"), "sd"] > 0
    one = run(generated, cells, n_seeds=1, sources=(FLOOR, "branchgen"))[0]
    once = one[one["kind"] == ALL].set_index(["source", "metric"])["value"]
    spread = pooled["sd"].clip(lower=1e-12)
    assert ((pooled["value"] - once).abs() <= 2 * spread).all()  # three values: none is further from their mean


def test_a_baseline_is_compared_like_the_generated_cells() -> None:
    cells = SMALL[SMALL.obs["split"] != "spare"].copy()
    generated = part("spare", SMALL)
    study = study_of(generated, cells, {"twin": generated, "again": generated})
    assert evaluation.sources_of(study) == ("floor", "limit", "train", "nb", "again", "twin", "branchgen")
    rows, verdicts = evaluate(study, tree_of(cells), SETTINGS, seed=0)
    assert set(rows["source"]) == {*SOURCES, "twin", "again"}
    assert set(verdicts["source"]) == {"nb", "twin", "again", "branchgen"}
    alone = evaluate(study_of(generated, cells), tree_of(cells), SETTINGS, seed=0)[0]
    others = rows[~rows["source"].isin(["twin", "again"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, alone)  # a baseline changes nothing of the others


@pytest.mark.parametrize("name", ["floor", "test", "branchgen", "all"])
def test_a_baseline_with_a_name_that_is_taken_is_refused(name: str) -> None:
    with pytest.raises(BranchgenError, match=f"a baseline is called '{name}'"):
        study_of(part("spare"), CELLS, {name: part("spare")})


def test_types_that_the_hierarchy_does_not_have_are_refused() -> None:
    cells = CELLS[CELLS.obs["cell_type"] != "B3"].copy()
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.remove_unused_categories()
    with pytest.raises(BranchgenError, match="of type 'B3', unknown to the hierarchy"):
        evaluate(study_of(part("spare"), CELLS), tree_of(cells), SETTINGS, seed=0)


def test_real_cells_stand_at_the_floor() -> None:
    for metric, tolerance in {
        "c2st_auc": 0.08,
        "forest_auc": 0.08,
        "nearest_neighbour_accuracy": 0.06,
        "mmd_squared": 0.004,
        "mmd_squared_by_type": 0.008,
        "precision": 0.08,
        "recall": 0.08,
        "coverage": 0.06,
        "lfc_slope": 0.06,
        "correlation_error": 0.03,
        "mean_variance_curve": 0.05,
        "mean_zeros_curve": 0.02,
        "tstr_macro_f1": 0.1,
        "nearer_train": 0.08,
        "distance_ratio_p5": 0.05,
    }.items():
        assert value("real", metric) == pytest.approx(floor(metric), abs=tolerance), metric
    assert floor("c2st_auc") == pytest.approx(0.5, abs=0.07)
    assert floor("nearest_neighbour_accuracy") == pytest.approx(0.5, abs=0.06)
    assert floor("nearer_train") == pytest.approx(0.5, abs=0.08)
    assert floor("mmd_squared") == pytest.approx(0.0, abs=0.002)
    assert floor("lfc_slope") == pytest.approx(1.0, abs=0.08)
    assert floor("duplicate_rate") == 0.0


def test_the_baseline_that_is_nearly_the_truth_is_near_the_floor_and_training_cells_are_known_as_such() -> None:
    # The simulator draws independent negative binomials for every type and gene; what is left is the fit.
    assert value("real", "c2st_auc", "nb") == pytest.approx(floor("c2st_auc"), abs=0.15)
    assert value("real", "nearest_neighbour_accuracy", "nb") == pytest.approx(0.5, abs=0.07)
    assert value("real", "c2st_auc", "train") == pytest.approx(0.5, abs=0.08)
    assert value("real", "duplicate_rate", "train") == 1.0
    assert value("real", "distance_ratio_p5", "train") == 0.0
    assert value("real", "nearer_train", "train") > 0.58


def test_a_dense_oversmoothed_fake_is_told_apart_and_recalls_little() -> None:
    assert value("oversmoothed", "c2st_auc") > 0.99
    assert value("oversmoothed", "recall") < 0.3
    assert value("oversmoothed", "precision") > 0.9
    assert value("oversmoothed", "gene_variance") > 3 * floor("gene_variance")
    # And what is no target: its gene means are as good as those of real cells.
    assert value("oversmoothed", "gene_mean") < 1.5 * floor("gene_mean")


def test_wrong_labels_are_seen_by_the_metrics_of_the_types_alone() -> None:
    assert value("relabelled", "c2st_auc") == pytest.approx(floor("c2st_auc"), abs=0.08)
    assert value("relabelled", "mmd_squared") < 0.01
    assert value("relabelled", "mmd_squared_by_type") > 0.03
    assert abs(value("relabelled", "lfc_slope")) < 0.2
    for name in CELLS.obs["cell_type"].cat.categories:
        assert value("relabelled", "mmd_squared", group=name) > 0.01
        assert abs(value("relabelled", "lfc_slope", group=name)) < 0.3


def test_a_bootstrap_of_the_training_cells_is_caught_as_memorised() -> None:
    assert value("bootstrapped", "duplicate_rate") == 1.0
    assert value("bootstrapped", "distance_ratio_p5") == 0.0
    assert value("bootstrapped", "nearer_train") > floor("nearer_train") + 0.05
    types = CELLS.obs["cell_type"].cat.categories
    shares = {
        source: np.mean([value("bootstrapped", "nearer_train", source, group=name) for name in types])
        for source in (FLOOR, "branchgen")
    }
    assert shares[FLOOR] == pytest.approx(0.5, abs=0.1)
    assert shares["branchgen"] > shares[FLOOR] + 0.05


def test_knowing_the_mean_of_a_type_is_the_least_that_a_generator_remembers() -> None:
    """Real cells moved to the means of few training cells are nearer to them, though each cell is a fresh one."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (3000, 40))
    types = np.repeat(["a", "b"], 1500)

    def cells(rows: slice) -> Cells:
        both = np.concatenate([np.arange(1500)[rows], 1500 + np.arange(1500)[rows]])
        return Cells(counts=sparse.csr_matrix(counts[both]), types=types[both])

    train, holdout, test = cells(slice(0, 30)), cells(slice(30, 60)), cells(slice(60, 1500))
    reference = fit_reference(test.counts, n_variable=40, n_components=20)
    memory, view = Memory(train, holdout, reference, 0), View.of(test, reference)
    moved = memory.about_their_means(view)
    for name in ("a", "b"):
        rows, of_train = view.cells.types == name, reference.project(train.counts)[train.types == name]
        np.testing.assert_allclose(moved.scores[rows].mean(axis=0), of_train.mean(axis=0), atol=1e-9)
        shift = moved.scores[rows] - view.scores[rows]
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)
    shares = [memory.metrics(one, 3000, 0)[0][NEARER] for one in (view, moved)]
    assert shares[0] == pytest.approx(0.5, abs=0.06)
    assert shares[1] > shares[0] + 0.02


def test_both_sides_have_the_smaller_number_of_every_type() -> None:
    test = part("test").obs["cell_type"].value_counts()
    first, second = test.index[:2]
    spare = part("spare")
    few = np.flatnonzero(spare.obs["cell_type"] == first)[:12]
    generated = spare[np.sort(np.r_[few, np.flatnonzero(spare.obs["cell_type"] == second)])].copy()
    table = run(generated, CELLS, sources=(FLOOR, "branchgen"))[0]
    table = table[(table["source"] == "branchgen") & (table["kind"] != "branch")]
    rows = table.set_index(["group", "metric"])["n_cells"]
    assert rows[first, "mmd_squared"] == 12
    assert rows[second, "mmd_squared"] == test[second]
    assert rows[ALL, "c2st_auc"] == 12 + test[second]
    assert set(rows.index.get_level_values("group")) == {ALL, first, second}


def test_the_order_of_the_cells_does_not_matter_but_the_seed_does() -> None:
    sources = (FLOOR, "nb", "branchgen")
    generated, cells = part("holdout", SMALL), SMALL[SMALL.obs["split"] != "spare"].copy()
    generated.obs_names = [f"g{i}" for i in range(generated.n_obs)]
    once = run(generated, cells, sources=sources)
    rng = np.random.default_rng(3)
    shuffled = generated[rng.permutation(generated.n_obs)], cells[rng.permutation(cells.n_obs)]
    again = run(*shuffled, sources=sources)
    for table, same in zip(once, again, strict=True):
        pd.testing.assert_frame_equal(table, same)
    other = run(generated, cells, seed=1, sources=sources)[0]
    values = (rows.loc[rows["source"] == "nb", "value"].to_numpy() for rows in (once[0], other))
    assert not np.array_equal(*values)


def test_tiny_data_and_a_limit_on_cells_work() -> None:
    generated = part("spare", SMALL)
    cells = SMALL[SMALL.obs["split"] != "spare"].copy()
    settings = EvaluateSettings(max_cells=20, n_seeds=1)
    study = read_study(generated, cells, {}, settings, 0)
    rows = evaluate(study, tree_of(cells), settings, seed=0)[0]
    assert np.isfinite(rows["value"]).all()
    assert set(rows["source"]) == set(SOURCES)
    n_test = SMALL.obs.loc[SMALL.obs["split"] == "test", "cell_type"].value_counts()
    assert (n_test < MIN_CELLS_PER_TYPE).any()
    assert not set(rows["group"]) & set(n_test.index[n_test < MIN_CELLS_PER_TYPE])
    assert {"c2st_auc", "recall", "mmd_squared"} <= set(rows.loc[rows["source"] == FLOOR, "metric"])


def test_the_embedding_has_equal_numbers_of_every_type() -> None:
    generated, cells = part("spare"), CELLS
    positions = embed(study_of(generated, cells), EvaluateSettings(n_umap=60), seed=0)
    assert list(positions.columns) == ["umap_1", "umap_2", "cell_type", "source"]
    assert len(positions) == 120
    assert np.isfinite(positions[["umap_1", "umap_2"]].to_numpy()).all()
    numbers = positions.groupby(["cell_type", "source"]).size().unstack()
    assert (numbers["real"] == numbers["generated"]).all()
    again = embed(study_of(generated, cells), EvaluateSettings(n_umap=60), seed=0)
    pd.testing.assert_frame_equal(positions, again)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cells: cells[:, 1:], "lack 1 of the 150 genes"),
        (lambda cells: cells[:, ::-1], "in another order"),
        (lambda cells: relabel(cells, "novel"), "of type 'novel'"),
        (lambda cells: drop_layer(cells), "no layers"),
    ],
)
def test_generated_cells_that_do_not_fit_are_refused(change: object, sentence: str) -> None:
    with pytest.raises(BranchgenError, match=sentence):
        study_of(change(part("spare")), CELLS)  # type: ignore[operator]
    with pytest.raises(BranchgenError, match=sentence):
        study_of(part("spare"), CELLS, {"other": change(part("spare"))})  # type: ignore[operator]


def test_a_missing_split_and_types_without_test_cells_are_refused() -> None:
    with pytest.raises(BranchgenError, match="split 'holdout'"):
        study_of(part("spare"), CELLS[CELLS.obs["split"] != "holdout"])
    name = CELLS.obs["cell_type"].iloc[0]
    no_test = CELLS[(CELLS.obs["split"] != "test") | (CELLS.obs["cell_type"] != name)]
    spare = part("spare")
    with pytest.raises(BranchgenError, match="no type in common"):
        run(spare[spare.obs["cell_type"] == name], no_test, sources=("branchgen",))


def relabel(cells: AnnData, name: str) -> AnnData:
    cells.obs["cell_type"] = [name] * cells.n_obs
    return cells


def drop_layer(cells: AnnData) -> AnnData:
    del cells.layers["counts"]
    return cells
