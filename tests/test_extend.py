"""A model that gets new classes: theirs are like the cells they came from, and the old ones do not change."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from run_commands import NEW_CELLS, WRITTEN_BY_EXTEND, prepare_new_cells, run_command
from simulate import simulate_new_class

from branchgen.hierarchy.tree import Hierarchy

EXTENDED = WRITTEN_BY_EXTEND["model"]


def generated(tiny_run: Path, folder: Path, **changes: object) -> AnnData:
    folder.mkdir(exist_ok=True)
    assert run_command("generate", tiny_run, folder, **changes) == 0
    return anndata.read_h5ad(folder / "generated.h5ad")


@pytest.fixture
def twice(tiny_run: Path, tmp_path: Path) -> Path:
    """Folder of the commands whose model is extended twice."""
    folder = tmp_path / "twice"
    shutil.copytree(tiny_run, folder)
    prepare_new_cells(folder, simulate_new_class("D5", ("A1", "B3")))
    (tmp_path / "out").mkdir()
    assert run_command("extend", folder, tmp_path / "out", model=folder / EXTENDED) == 0
    (tmp_path / "out" / EXTENDED).rename(folder / "twice.pt")
    return folder


def same(a: AnnData, b: AnnData) -> bool:
    return bool((a.X != b.X).nnz == 0 and np.array_equal(a.obsm["X_latent"], b.obsm["X_latent"]))


def test_old_classes_are_generated_bit_by_bit_as_before(twice: Path, tmp_path: Path) -> None:
    for ancestors in ("shared", "independent"):
        before = generated(twice, tmp_path / "before", ancestors=ancestors)
        for model, classes in ((EXTENDED, "C4"), ("twice.pt", "C4 D5")):
            after = generated(twice, tmp_path / "after", model=twice / model, ancestors=ancestors)
            new = after.obs["cell_type"].isin(classes.split())
            assert set(after.obs["cell_type"][new]) == set(classes.split())
            assert same(after[~new], before[after.obs_names[~new]])
    first = generated(twice, tmp_path / "first", model=twice / EXTENDED, n_cells='{"C4": 20}')
    second = generated(twice, tmp_path / "second", model=twice / "twice.pt", n_cells='{"C4": 20, "D5": 3}')
    assert same(first, second[second.obs["cell_type"] == "C4"])


def profiles(cells: AnnData) -> dict[str, np.ndarray]:
    logs = np.log1p(1e4 * cells.X.toarray() / cells.X.toarray().sum(axis=1, keepdims=True))
    types = cells.obs["cell_type"].astype(str)
    return {name: logs[types == name].mean(axis=0) for name in set(types)}


def test_new_cells_are_of_their_class(twice: Path, tmp_path: Path) -> None:
    found = generated(twice, tmp_path / "new", model=twice / "twice.pt", n_cells="new")
    source = anndata.read_h5ad(twice / NEW_CELLS)
    assert set(found.obs["cell_type"]) == {"D5"}
    assert found.n_obs == (source.obs["split"] == "train").sum()
    real = {**profiles(anndata.read_h5ad(twice / "cells.h5ad")), **profiles(source)}
    ours = profiles(found)["D5"]
    apart = {name: float(((ours - profile) ** 2).sum()) for name, profile in real.items()}
    assert min(apart, key=lambda name: apart[name]) == "D5"


def test_the_summary_says_where_a_class_went(tiny_run: Path) -> None:
    (row,) = pd.read_parquet(tiny_run / WRITTEN_BY_EXTEND["summary"]).to_dict("records")
    tree, old = (
        Hierarchy.from_list(json.loads((tiny_run / name).read_text())["branches"])
        for name in (WRITTEN_BY_EXTEND["hierarchy"], "hierarchy.json")
    )
    assert set(tree.classes) - set(old.classes) == {"C4"}
    assert row["class"] == "C4"
    assert row["nearest"] in ("A0", "B2")
    assert row["host"] in tree.index
    assert 0 < row["time"] < 1
    assert row["represented"]
    assert row["held_out_loss"] <= 1.05


def test_offsets_decode_a_class_far_from_all_others(tiny_run: Path, tmp_path: Path) -> None:
    """The mean profile of what is generated is that of the cells, though the codec alone has nothing like it."""
    folder = tmp_path / "far"
    shutil.copytree(tiny_run, folder)
    far = simulate_new_class("far")
    far.X = far.X[:, ::-1]
    prepare_new_cells(folder, far)
    assert run_command("extend", folder, tmp_path) == 0
    model = torch.load(tmp_path / EXTENDED, weights_only=True)
    assert set(model["offsets"]) == {"far"}
    made, without = tmp_path / "made", tmp_path / "without"
    torch.save({**model, "offsets": {}}, tmp_path / "frozen.pt")
    real = profiles(anndata.read_h5ad(folder / NEW_CELLS))["far"]
    with_offsets, frozen = (
        profiles(generated(folder, path, model=tmp_path / name, n_cells="new"))["far"]
        for path, name in ((made, EXTENDED), (without, "frozen.pt"))
    )
    assert np.corrcoef(with_offsets, real)[0, 1] > 0.95
    assert np.corrcoef(frozen, real)[0, 1] < 0.5


def test_a_class_that_the_codec_does_not_know_is_called_one(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(tiny_run, folder)
    strange = simulate_new_class("strange")
    strange.X = strange.X[:, ::-1]
    prepare_new_cells(folder, strange)
    # Simulated classes have a profile and nothing more, which offsets mend; real ones have more that a codec gains by.
    codec = torch.load(folder / "codec.pt", weights_only=True)
    torch.save({**codec, "gains": {"A0": 20.0, "A1": 30.0}}, folder / "codec.pt")
    with caplog.at_level(logging.WARNING):
        assert run_command("extend", folder, tmp_path) == 0
    assert "it does not know these cells, and generated ones will not look like them; encode and train " in caplog.text
    (row,) = pd.read_parquet(tmp_path / WRITTEN_BY_EXTEND["summary"]).to_dict("records")
    assert not row["represented"]


def test_the_other_commands_know_new_classes(tiny_run: Path, twice: Path, tmp_path: Path) -> None:
    """Transmutation into one, and the branch points of all, its own among them."""
    parts = [tiny_run / "cells.h5ad", tiny_run / NEW_CELLS, twice / NEW_CELLS]
    cells = anndata.concat([anndata.read_h5ad(path) for path in parts], merge="same")
    cells.obs["cell_type"] = pd.Categorical(cells.obs["cell_type"])
    cells.uns["branchgen"] = anndata.read_h5ad(parts[0]).uns["branchgen"]
    everything = tmp_path / "everything.h5ad"
    cells.write_h5ad(everything)
    transmuted = tmp_path / "transmuted"
    transmuted.mkdir()
    assert run_command("transmute", twice, transmuted, cells=everything, model=twice / "twice.pt", target="D5") == 0
    assert set(anndata.read_h5ad(transmuted / "transmuted.h5ad").obs["cell_type"]) == {"D5"}
    analysed = tmp_path / "analysed"
    analysed.mkdir()
    assert run_command("analyse", twice, analysed, model=twice / "twice.pt", cells=everything) == 0
    table = pd.read_parquet(analysed / "branch_points.parquet")
    assert {"C4", "D5"} <= set(table["child"])
    # Nothing was resampled where a new class leaves; where old ones part, the interval is what it was.
    old = pd.read_parquet(twice / "branch_points.parquet")
    known = table.dropna(subset="time_low").drop_duplicates("time")
    np.testing.assert_allclose(sorted(known["time"]), sorted(old["time"].unique()))
    fates = anndata.read_h5ad(analysed / "fates.h5ad")
    assert fates.obsm["lineages_fwd"].shape == (cells.n_obs, 6)
    own = (
        fates.obs["cell_type"].to_numpy()
        == np.array([*["A0", "A1", "B2", "B3", "C4", "D5"]])[np.asarray(fates.obsm["lineages_fwd"]).argmax(axis=1)]
    )
    assert own[fates.obs["cell_type"].isin(["C4", "D5"])].mean() > 0.6
