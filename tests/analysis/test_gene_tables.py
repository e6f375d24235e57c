"""The tables behind the figures: moments of the counts, fold changes at the branch points, correlations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from simulate import simulate_cells
from split_cells import tree_of, with_splits

from branchgen.analysis.expression import normalised
from branchgen.analysis.gene_tables import (
    contrasts,
    correlations_table,
    fold_change_table,
    gene_table,
    matched_pairs,
)
from branchgen.analysis.metrics import MIN_CELLS_OF_GENES
from branchgen.analysis.samples import Study, read_study
from branchgen.config import EvaluateSettings
from branchgen.hierarchy.tree import Branch, Hierarchy

EVERYTHING = with_splits(simulate_cells(n_cells=1200, n_genes=100))
CELLS = EVERYTHING[EVERYTHING.obs["split"] != "spare"].copy()


def part(name: str) -> AnnData:
    return EVERYTHING[EVERYTHING.obs["split"] == name].copy()


def study_of(generated: AnnData) -> Study:
    return read_study(generated, CELLS, {}, EvaluateSettings(n_genes=60, n_components=10), 0)


STUDY = study_of(part("spare"))
PAIRS = matched_pairs(STUDY, 0)
TREE = tree_of(CELLS)


def test_every_source_but_the_training_cells_has_a_pair() -> None:
    assert list(PAIRS) == ["floor", "nb", "branchgen"]
    for real, other in PAIRS.values():
        assert (real.types == other.types).all()


def test_moments_are_those_of_the_counts() -> None:
    table = gene_table(STUDY, PAIRS)
    assert set(table["source"]) == {"test", "floor", "nb", "branchgen"}
    assert set(table["group"]) == {"all", *CELLS.obs["cell_type"]}
    assert not table.duplicated(["source", "group", "gene"]).any()
    test = part("test")
    for group in ("all", "A0"):
        rows = table[(table["source"] == "test") & (table["group"] == group)]
        counts = test[(test.obs["cell_type"] == group) | (group == "all")].layers["counts"].toarray()
        assert rows["gene"].tolist() == test.var_names.tolist()
        assert rows["mean"].to_numpy() == pytest.approx(counts.mean(axis=0))
        assert rows["variance"].to_numpy() == pytest.approx(counts.var(axis=0))
        assert rows["zeros"].to_numpy() == pytest.approx((counts == 0).mean(axis=0))
        assert (rows["n_cells"] == len(counts)).all()


def test_fold_changes_are_differences_of_mean_log_expression_between_child_and_siblings() -> None:
    table = fold_change_table(STUDY, TREE, PAIRS)
    # Two children each: one comparison at the root and one in each lineage.
    found = table[["branch", "child"]].drop_duplicates().itertuples(index=False)
    assert [tuple(pair) for pair in found] == [("root", "lineage A"), ("lineage A", "A0"), ("lineage B", "B2")]
    rows = table[(table["branch"] == "lineage A") & (table["source"] == "floor")]
    for side, column in zip(PAIRS["floor"], ("real", "generated"), strict=True):
        values = normalised(side.counts).log1p().toarray()[:, STUDY.reference.variable]
        expected = values[side.types == "A0"].mean(axis=0) - values[side.types == "A1"].mean(axis=0)
        assert rows[column].to_numpy() == pytest.approx(expected)
    real, generated = rows["real"].to_numpy(), rows["generated"].to_numpy()
    assert rows["slope"].iloc[0] == pytest.approx(np.linalg.lstsq(real[:, None], generated, rcond=None)[0][0])
    assert rows["gene"].tolist() == CELLS.var_names[STUDY.reference.variable].tolist()


def test_of_several_children_each_is_compared_with_all_its_siblings() -> None:
    tree = Hierarchy(
        (
            Branch(name="root", classes=("a", "b", "c"), t_start=0.5, t_end=1.0),
            *(Branch(name=name, classes=(name,), t_start=0.0, t_end=0.5) for name in "abc"),
        )
    )
    assert contrasts(tree) == [
        ("root", "a", ("a",), ["b", "c"]),
        ("root", "b", ("b",), ["a", "c"]),
        ("root", "c", ("c",), ["a", "b"]),
    ]


def test_correlations_are_of_types_with_enough_cells() -> None:
    table = correlations_table(STUDY, PAIRS)
    n_test = part("test").obs["cell_type"].value_counts()
    assert set(table["group"]) == set(n_test.index[n_test >= MIN_CELLS_OF_GENES])
    assert set(table["source"]) == {"test", "floor", "nb", "branchgen"}
    assert table["correlation"].abs().max() <= 1 + 1e-6
    assert not table.duplicated(["group", "source", "gene_a", "gene_b"]).any()
    numbers = table.drop_duplicates("group").set_index("group")["n_cells"]
    assert numbers.to_dict() == {name: n_test[name] for name in numbers.index}


def test_tables_of_too_few_cells_are_empty_but_have_their_columns() -> None:
    few = part("spare")
    few = few[few.obs["cell_type"] == "A0"][:8].copy()
    study = study_of(few)
    pairs = {"branchgen": matched_pairs(study, 0)["branchgen"]}
    table = fold_change_table(study, TREE, pairs)
    assert table.empty
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["branch", "child", "source", "gene", "real", "generated", "slope", "n_cells"]
