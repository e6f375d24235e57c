"""In a notebook: the same cells as the commands write, and one sentence for what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.figure import Figure
from run_commands import SETTINGS

from branchgen.api import Run, open_run
from branchgen.errors import BranchgenError


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return open_run(tiny_run, device="cpu")


def of(command: str, *names: str) -> dict[str, object]:
    return {name: SETTINGS[command][name] for name in names}


def assert_same_cells(found: AnnData, written: AnnData) -> None:
    assert found.obs.equals(written.obs)
    assert list(found.var_names) == list(written.var_names)
    for a, b in ((found.X, written.X), *((found.obsm[key], written.obsm[key]) for key in written.obsm)):
        dense = [part.toarray() if hasattr(part, "toarray") else part for part in (a, b)]
        np.testing.assert_array_equal(*dense)
    assert set(found.layers) == set(written.layers)
    assert set(found.obsm) == set(written.obsm)


def test_generated_cells_are_those_of_the_command(run: Run, tiny_run: Path) -> None:
    written = anndata.read_h5ad(tiny_run / "generated.h5ad")
    found = run.generate(20, **of("generate", "n_steps"))
    assert_same_cells(found, written)
    ours, theirs = (json.loads(cells.uns["branchgen"]) for cells in (found, written))
    assert ours["n_cells"] == theirs["n_cells"]
    assert ours["inputs"] == theirs["inputs"]


def test_numbers_may_be_of_classes_or_of_branches(run: Run) -> None:
    found = run.generate({"A0": 3, "B2": 2}, n_steps=4)
    assert found.obs["cell_type"].value_counts().to_dict() == {"A0": 3, "B2": 2}
    assert run.generate({run.hierarchy.branches[0].name: 7}, n_steps=4).n_obs == 7


def test_transmuted_cells_are_those_of_the_command(run: Run, tiny_run: Path) -> None:
    written = anndata.read_h5ad(tiny_run / "transmuted.h5ad")
    assert_same_cells(run.transmute("A0", to="B2", **of("transmute", "n_steps")), written)
    cells = run.cells[run.cells.obs["cell_type"] == "A0"]
    assert_same_cells(run.transmute(cells, to="B2", **of("transmute", "n_steps")), written)


def test_branch_points_and_fates_are_those_of_the_command(run: Run, tiny_run: Path) -> None:
    settings = of("analyse", "n_steps", "n_cells", "n_draws")
    assert_same_cells(run.branch_points(**settings), anndata.read_h5ad(tiny_run / "branch_points.h5ad"))
    written = anndata.read_h5ad(tiny_run / "fates.h5ad")
    assert_same_cells(run.fates(**settings), written)
    some = run.fates(run.cells[:9], **settings)
    np.testing.assert_allclose(some.obsm["lineages_fwd"], written.obsm["lineages_fwd"][:9], atol=1e-6)


def test_the_tree_is_a_figure(run: Run) -> None:
    figure = run.plot_tree()
    assert isinstance(figure, Figure)
    labels = {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
    assert set(run.classes) <= labels


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda run: run.generate({"T": 3}), "no class or branch is called 'T'"),
        (lambda run: run.generate(3, n_stepz=4), "GenerateSettings has no setting 'n_stepz'"),
        (lambda run: run.generate(-1), "a number of cells is at least 0"),
        (lambda run: run.transmute("A0", to="A0"), "name two classes"),
        (lambda run: run.transmute("A0", to="T"), "no class is called 'T'"),
        (
            lambda run: run.transmute(run.cells, to="A0"),
            "the cells are of 4 classes (A0, A1, B2, B3); give those of one",
        ),
        (lambda run: run.fates(run.cells[:, ::-1]), "the object has other genes than"),
        (lambda run: run.fates(AnnData(np.ones((2, 2)))), "the object has no obs['cell_type']"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(run: Run, call, sentence: str) -> None:
    with pytest.raises(BranchgenError) as error:
        call(run)
    assert sentence in str(error.value)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(BranchgenError, match=r"model\.pt does not exist"):
        open_run(tmp_path)


def test_the_model_after_an_extension(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "extended" / "more").mkdir(parents=True)
    for name in ("codec.pt", "cells.h5ad"):
        (folder / name).symlink_to(tiny_run / name)
    (folder / "extended" / "more" / "model.pt").symlink_to(tiny_run / "extended.pt")
    run = open_run(folder, device="cpu", extension="more")
    assert run.classes == ("A0", "A1", "B2", "B3", "C4")
    assert set(run.generate({"C4": 5}, n_steps=4).obs["cell_type"]) == {"C4"}
    assert isinstance(run.plot_tree(), Figure)
    assert set(run.transmute("A0", to="C4", n_steps=4).obs["cell_type"]) == {"C4"}
