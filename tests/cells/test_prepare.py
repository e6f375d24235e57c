"""From raw counts to modelled cells: the contract of the result, and what the generator never gets to see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from simulate import simulate_cells

from branchgen.cells.prepare import Removed, check_splits, class_labels, prepare
from branchgen.config import PrepareSettings
from branchgen.errors import BranchgenError
from branchgen.seeds import numpy_rng

CELLS = simulate_cells()


def prepared(
    cells: AnnData, *, seed: int = 0, split_key: str | None = None, **settings: Any
) -> tuple[AnnData, Removed]:
    """The cells with their counts, and what was removed."""
    found = prepare(
        cells,
        label_key="cell_type",
        counts="X",
        split_key=split_key,
        settings=PrepareSettings(**{"n_genes": 50, **settings}),
        source="cells",
        rng=numpy_rng(seed, "prepare", "split"),
    )
    found.cells.X = sparse.vstack(list(found.blocks()), format="csr")
    return found.cells, found.removed


def labels(codes: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"cell_type": codes.astype(str)}, index=[f"cell {number}" for number in range(len(codes))])


def dense(cells: AnnData) -> np.ndarray:
    return cells.X.toarray()


def test_the_result_keeps_the_contract() -> None:
    before = CELLS.copy()
    found, removed = prepared(CELLS)
    assert removed.to_dict() == {
        "cells_with_few_genes": 0,
        "classes": {},
        "genes_in_few_cells": 0,
        "genes_less_variable": 70,
        "cells_without_modelled_counts": 0,
    }
    assert found.shape == (CELLS.n_obs, 50)
    assert found.X.dtype == np.int32
    np.testing.assert_array_equal(dense(found), dense(CELLS[found.obs_names, found.var_names]))
    positions = CELLS.var_names.get_indexer(found.var_names)
    assert (np.diff(positions) > 0).all()
    assert found.var["highly_variable"].all()
    np.testing.assert_array_equal(found.obs["library_size"], dense(found).sum(axis=1))
    np.testing.assert_array_equal(found.obs["total_counts"], dense(CELLS).sum(axis=1))
    assert found.obs["library_size"].dtype == found.obs["total_counts"].dtype == np.int64
    assert list(found.obs["cell_type"].cat.categories) == sorted(CELLS.obs["cell_type"].cat.categories)
    assert list(found.obs["split"].cat.categories) == ["train", "ref", "test", "holdout"]
    pd.testing.assert_frame_equal(found.obs[["donor", "lineage"]], CELLS.obs[["donor", "lineage"]])
    # The argument stays as it was.
    pd.testing.assert_frame_equal(CELLS.obs, before.obs)
    np.testing.assert_array_equal(dense(CELLS), dense(before))


def test_genes_depend_on_the_train_and_ref_splits_alone() -> None:
    first, _ = prepared(CELLS, min_cells_per_gene=20)
    unseen = first.obs["split"].isin(["test", "holdout"]).to_numpy()
    counts = dense(CELLS)

    changed = CELLS.copy()
    other = counts.copy()
    other[unseen] = other[unseen][:, ::-1] * 7
    changed.X = sparse.csr_matrix(other)
    second, removed = prepared(changed, min_cells_per_gene=20)
    assert (second.obs["split"] == first.obs["split"]).all()
    assert list(second.var_names) == list(first.var_names)
    assert removed.genes_in_few_cells == 0

    # The same change where the generator looks does matter, so the test above can fail.
    other = counts.copy()
    other[~unseen] = other[~unseen][:, ::-1] * 7
    changed.X = sparse.csr_matrix(other)
    third, _ = prepared(changed, min_cells_per_gene=20)
    assert list(third.var_names) != list(first.var_names)


def test_a_gene_that_only_unseen_cells_have_is_not_modelled() -> None:
    first, _ = prepared(CELLS, n_genes=500)
    unseen = first.obs["split"].isin(["test", "holdout"]).to_numpy()
    counts = dense(CELLS)
    counts[:, 5] = np.where(unseen, 100, 0)
    cells = CELLS.copy()
    cells.X = sparse.csr_matrix(counts)
    found, removed = prepared(cells, n_genes=500)
    assert removed.genes_in_few_cells == 1
    assert CELLS.var_names[5] not in found.var_names
    assert found.n_vars == CELLS.n_vars - 1


def test_variable_genes_are_those_that_differ_between_types() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 150)
    rate = np.full((300, 80), 5.0)
    rate[:, :20] = np.where(codes[:, None] == 0, 1.0, 9.0)
    order = rng.permutation(80)
    cells = AnnData(sparse.csr_matrix(rng.poisson(rate)[:, order]), obs=labels(codes))
    found, _ = prepared(cells, n_genes=20)
    assert set(found.var_names.astype(int)) == set(np.flatnonzero(order < 20))


def test_every_removal_is_counted() -> None:
    counts = dense(CELLS)
    labels = CELLS.obs["cell_type"].astype(str).to_numpy()
    labels[[4, 50, 91]] = "rare"
    counts[[0, 10, 20]] = 0
    counts[[0, 10, 20], 3] = 500  # one detected gene
    counts[:, 7] = 0
    counts[0, 7] = 9
    cells = CELLS.copy()
    cells.X, cells.obs["cell_type"] = sparse.csr_matrix(counts), pd.Categorical(labels)
    found, removed = prepared(cells, min_cells_per_class=4, n_genes=100)
    assert removed.to_dict() == {
        "cells_with_few_genes": 3,
        "classes": {"rare": 3},
        "genes_in_few_cells": 1,
        "genes_less_variable": CELLS.n_vars - 1 - 100,
        "cells_without_modelled_counts": 0,
    }
    assert found.n_obs == CELLS.n_obs - 6
    assert "rare" not in found.obs["cell_type"].cat.categories


def test_cells_without_counts_of_the_modelled_genes_are_removed_and_counted() -> None:
    # Twenty genes of the same rate everywhere, ten that differ between types; two cells only have the former.
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 100)
    markers = np.where((codes[:, None] == 0) == (np.arange(10) < 5), 30.0, 0.5)
    counts = rng.poisson(np.hstack([np.full((200, 20), 20.0), markers]))
    counts[[17, 140], 20:] = 0
    cells = AnnData(sparse.csr_matrix(counts), obs=labels(codes))
    found, removed = prepared(cells, n_genes=10, min_genes_per_cell=5)
    assert list(found.var_names) == [str(number) for number in range(20, 30)]
    assert removed.cells_without_modelled_counts == 2
    assert not {"cell 17", "cell 140"} & set(found.obs_names)
    assert (found.obs["library_size"] > 0).all()


def test_split_by_donor_keeps_donors_together() -> None:
    found, _ = prepared(CELLS, split_key="donor")
    table = pd.crosstab(found.obs["donor"], found.obs["split"])
    assert ((table > 0).sum(axis=1) == 1).all()
    assert (table.sum(axis=0) > 0).all()


def test_the_result_is_a_function_of_the_seed_and_of_the_named_cells() -> None:
    first, _ = prepared(CELLS, seed=3)
    order = np.random.default_rng(0).permutation(CELLS.n_obs)
    again, _ = prepared(CELLS[order].copy(), seed=3)
    assert (again.obs.loc[first.obs_names, "split"] == first.obs["split"]).all()
    assert list(again.var_names) == list(first.var_names)
    other, _ = prepared(CELLS, seed=4)
    assert (other.obs["split"] != first.obs["split"]).any()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([3, 10] * 20), ["10", "3"]),
        (np.array([True, False] * 20), ["False", "True"]),
        (pd.Categorical(["CD8+/CD45RA+ T", "B (naïve)"] * 20), ["B (naïve)", "CD8+/CD45RA+ T"]),
    ],
)
def test_labels_become_text(labels: Any, classes: list[str]) -> None:
    found = class_labels(
        AnnData(np.ones((40, 2)), obs=pd.DataFrame({"k": labels}, index=map(str, range(40)))), "k", "a"
    )
    assert sorted(set(found)) == classes
    assert all(type(name) is str for name in found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("root", "a class 'root', which is reserved"),
        ("all", "a class 'all', which is reserved"),
        ("two\nlines", "must be text without line breaks or tabs"),
        ("", "must be text without line breaks or tabs"),
    ],
)
def test_names_that_mean_something_else_are_refused(name: str, message: str) -> None:
    cells = AnnData(np.ones((4, 2)), obs=pd.DataFrame({"k": ["a", name] * 2}, index=list("abcd")))
    with pytest.raises(BranchgenError, match=message):
        class_labels(cells, "k", "cells.h5ad")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_genes_per_cell": 121}, "no cell of cells has 121 detected genes; lower min_genes_per_cell"),
        (
            {"min_cells_per_class": 500},
            r"no class of at least 500 cells \(removed: A0 \(.*; lower min_cells_per_class",
        ),
        ({"min_cells_per_gene": 9000}, r"0 genes of cells are detected in 9000 cells .* lower min_cells_per_gene"),
    ],
)
def test_settings_that_leave_nothing_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(BranchgenError, match=message):
        prepared(CELLS, **settings)


def test_an_input_without_cells_is_refused() -> None:
    with pytest.raises(BranchgenError, match="holds 0 cells and 120 genes"):
        prepared(CELLS[:0].copy())


def test_splits_that_lack_cells_are_refused() -> None:
    classes, full = ["a", "b"], np.repeat([0, 1], 4)
    check_splits(full, np.tile([0, 1, 2, 3], 2), classes, None, "cells")
    with pytest.raises(
        BranchgenError, match="class 'b' of cells has fewer cells than the splits need: 4 in all, none for"
    ):
        check_splits(full, np.array([0, 1, 2, 3, 0, 0, 1, 2]), classes, None, "cells")
    # By donor, a class may be missing from the splits of the evaluation but not from train.
    check_splits(full, np.array([0, 1, 2, 3, 0, 0, 1, 2]), classes, "donor", "cells")
    with pytest.raises(BranchgenError, match="none of class 'b' in train; give a column"):
        check_splits(full, np.array([0, 1, 2, 3, 1, 1, 2, 2]), classes, "donor", "cells")


def test_donors_without_a_class_in_common_cannot_be_split() -> None:
    cells = CELLS.copy()
    cells.obs["cell_type"] = "of " + cells.obs["donor"].astype(str)
    with pytest.raises(
        BranchgenError, match=r"fewer cells than splits by obs\['donor'\] need: none of any class in ref"
    ):
        prepared(cells, split_key="donor")
