"""What the commands write, on the small data set: every artefact as it is promised, and nothing left to chance."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from run_commands import SETTINGS, SOURCE, input_name, output_name, prepare_new_cells, run_command
from scipy import sparse
from simulate import simulate_cells, simulate_new_class

from branchgen import __version__, files
from branchgen.cells.codec import Codec
from branchgen.cells.keys import SPLITS
from branchgen.cli import main
from branchgen.config import SECTIONS, DeriveSettings
from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.checkpoint import Model
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import SOLVERS
from branchgen.diffusion.validation import N_BINS
from branchgen.hierarchy.newick import parse_newick
from branchgen.hierarchy.tree import Hierarchy
from branchgen.interface.commands import COMMANDS
from branchgen.provenance import FORMAT_VERSION, state_hash

CLASSES = ["A0", "A1", "B2", "B3"]


def hierarchy_of(folder: Path) -> Hierarchy:
    return Hierarchy.from_list(json.loads((folder / "hierarchy.json").read_text())["branches"])


def assert_string_categorical(column: pd.Series, categories: list[str]) -> None:
    assert isinstance(column.dtype, pd.CategoricalDtype)
    assert sorted(column.cat.categories) == sorted(categories)
    assert all(type(name) is str for name in column.cat.categories)


def assert_counts(cells: AnnData) -> None:
    """X and layers['counts'] are the same sparse integers; the library size is their sum."""
    for matrix in (cells.X, cells.layers["counts"]):
        assert isinstance(matrix, sparse.csr_matrix)
        assert matrix.dtype == np.int32
        assert matrix.data.min() > 0
    assert (cells.layers["counts"] != cells.X).nnz == 0
    assert cells.obs["library_size"].dtype == np.int64
    np.testing.assert_array_equal(cells.obs["library_size"], np.asarray(cells.X.sum(axis=1)).ravel())
    assert cells.obs_names.is_unique
    assert cells.var_names.is_unique


def test_cells_of_a_zarr_store_are_prepared_as_those_of_a_file(tiny_run: Path, tmp_path: Path) -> None:
    anndata.read_h5ad(tiny_run / SOURCE).write_zarr(tmp_path / "cells.zarr")
    assert run_command("prepare", tiny_run, tmp_path, source=tmp_path / "cells.zarr") == 0
    found, expected = (anndata.read_h5ad(folder / "cells.h5ad") for folder in (tmp_path, tiny_run))
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    assert (found.X != expected.X).nnz == 0


def test_prepared_cells(tiny_run: Path) -> None:
    source = anndata.read_h5ad(tiny_run / SOURCE)
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    assert_counts(cells)
    assert_string_categorical(cells.obs["cell_type"], CLASSES)
    assert_string_categorical(cells.obs["split"], list(SPLITS))
    assert set(source.obs) < set(cells.obs)
    np.testing.assert_array_equal(
        cells.obs["total_counts"], np.asarray(source[cells.obs_names].X.sum(axis=1)).ravel().astype(int)
    )
    kept = [name for name in source.var_names if name in set(cells.var_names)]
    assert list(cells.var_names) == kept
    assert cells.var["highly_variable"].all()
    assert (source[cells.obs_names, cells.var_names].X != cells.X).nnz == 0
    record = json.loads(cells.uns["branchgen"])
    assert record["n_cells_per_class"] == cells.obs["cell_type"].value_counts().to_dict()
    assert record["removed"] == {
        "cells_with_few_genes": 0,
        "classes": {},
        "genes_in_few_cells": 0,
        "genes_less_variable": 0,
        "cells_without_modelled_counts": 0,
    }


def test_latents_are_standardised_over_the_training_cells_and_end_with_the_library_size(tiny_run: Path) -> None:
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    latents = anndata.read_h5ad(tiny_run / "latents.h5ad")
    assert latents.X is None
    pd.testing.assert_frame_equal(latents.obs, cells.obs)
    mean, scale = latents.obsm["X_latent"], latents.obsm["X_latent_scale"]
    assert mean.dtype == scale.dtype == np.float32
    assert mean.shape == scale.shape == (cells.n_obs, 7)
    train = (cells.obs["split"] == "train").to_numpy()
    np.testing.assert_allclose(mean[train].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose((mean[train] ** 2 + scale[train] ** 2).mean(axis=0), 1, atol=1e-3)
    assert not scale.any()  # principal components have no posterior
    log_size = np.log(cells.obs["library_size"].to_numpy())
    expected = (log_size - log_size[train].mean()) / log_size[train].std()
    np.testing.assert_allclose(mean[:, -1], expected, atol=1e-3)


def test_the_codec_gives_the_latents_again(tiny_run: Path) -> None:
    state = torch.load(tiny_run / "codec.pt", weights_only=True)
    cells, latents = (anndata.read_h5ad(tiny_run / name) for name in ("cells.h5ad", "latents.h5ad"))
    assert (state["kind"], state["format_version"]) == ("codec", FORMAT_VERSION)
    assert state["genes"] == list(cells.var_names)
    assert json.loads(latents.uns["branchgen"])["codec"] == state["hash"]
    mean, scale = Codec.from_state(state).encode(cells.layers["counts"])
    np.testing.assert_array_equal(mean, latents.obsm["X_latent"])
    np.testing.assert_array_equal(scale, latents.obsm["X_latent_scale"])


def test_the_hierarchy_in_its_three_files(tiny_run: Path) -> None:
    record = json.loads((tiny_run / "hierarchy.json").read_text())
    hierarchy = Hierarchy.from_list(record["branches"])
    assert hierarchy.to_list() == record["branches"]
    assert sorted(record["classes"]) == CLASSES
    assert record["codec"] == torch.load(tiny_run / "codec.pt", weights_only=True)["hash"]
    assert len(NoiseSchedule.from_dict(record["schedule"]).sigma_min) == 7
    inner = {hierarchy.branches[position] for position in hierarchy.branch_points}
    assert set(record["support"]) == {branch.name for branch in inner}
    for branch in inner:
        support = record["support"][branch.name]
        assert 0 <= support["support"] <= 1
        assert 0 <= support["time_low"] <= support["time_high"] <= 1

    text = (tiny_run / "hierarchy.nwk").read_text()
    clades = {frozenset(clade.classes) for clade in parse_newick(text, CLASSES).walk()}
    assert clades == {frozenset(branch.classes) for branch in hierarchy.branches}
    lengths = {name: float(length) for name, length in re.findall(r"'([^']+)':([0-9.e-]+)", text)}
    assert lengths == pytest.approx({branch.name: branch.span for branch in hierarchy.branches}, abs=1e-5)

    settings = DeriveSettings()
    levels = (settings.sigma_min, settings.sigma_max)
    table = pd.read_parquet(tiny_run / "divergence.parquet")
    assert list(table) == ["class_a", "class_b", "time", "sigma", "divergence"]
    pairs = table.groupby(["class_a", "class_b"])
    assert len(pairs) == 6
    for (a, b), part in pairs:
        assert a != b
        assert (part["time"].iloc[0], part["time"].iloc[-1], len(part)) == (0, 1, 51)
        assert (part["sigma"].iloc[0], part["sigma"].iloc[-1]) == pytest.approx(levels)
        assert (part["divergence"].diff().dropna() <= 1e-9).all()
        assert (part["divergence"] >= 0).all()
        assert part["divergence"].iloc[0] > part["divergence"].iloc[-1]


def test_without_a_tree_every_class_is_made_by_itself(tiny_run: Path, tmp_path: Path) -> None:
    assert run_command("derive", tiny_run, tmp_path, flat=True) == 0
    hierarchy = hierarchy_of(tmp_path)
    assert [branch.name for branch in hierarchy.branches] == ["root", *CLASSES]
    assert hierarchy.sharing() > 0.999 > hierarchy_of(tiny_run).sharing()
    for name in ("latents.h5ad", "codec.pt"):
        shutil.copy(tiny_run / name, tmp_path / name)
    for command in ("train", "generate"):
        assert run_command(command, tmp_path) == 0
    generated = anndata.read_h5ad(tmp_path / "generated.h5ad")
    assert generated.obs["cell_type"].value_counts().to_dict() == dict.fromkeys(CLASSES, 20)


def test_the_simulated_lineages_part_first(tiny_run: Path) -> None:
    hierarchy = hierarchy_of(tiny_run)
    clades = {frozenset(branch.classes) for branch in hierarchy.branches}
    assert {frozenset({"A0", "A1"}), frozenset({"B2", "B3"})} < clades


def test_the_model_holds_all_that_sampling_needs(tiny_run: Path) -> None:
    state = torch.load(tiny_run / "model.pt", weights_only=True)
    assert (state["kind"], state["format_version"]) == ("model", FORMAT_VERSION)
    model = Model.from_state(state)
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    assert model.hierarchy == hierarchy_of(tiny_run)
    assert model.genes == tuple(cells.var_names)
    assert model.codec == torch.load(tiny_run / "codec.pt", weights_only=True)["hash"]
    train = cells.obs["cell_type"][cells.obs["split"] == "train"]
    assert model.class_counts == train.value_counts().to_dict()
    assert all(torch.isfinite(value).all() for value in model.weights.values())
    assert set(model.network(torch.device("cpu")).state_dict()) == set(model.weights)


def test_held_out_losses(tiny_run: Path) -> None:
    table = pd.read_parquet(tiny_run / "training.parquet")
    latents = anndata.read_h5ad(tiny_run / "latents.h5ad")
    assert list(table) == ["step", "split", "branch", "sigma", "loss", "n_cells"]
    assert table["step"].dtype == table["n_cells"].dtype == np.int64
    assert (table["loss"] > 0).all()
    names = {"all", *(branch.name for branch in hierarchy_of(tiny_run).branches)}
    groups = table.groupby(["step", "split"])
    assert set(groups.groups) == {(step, split) for step in (0, 20, 40) for split in ("train", "ref")}
    for (_, split), part in groups:
        assert {"all", "root"} < set(part["branch"]) <= names
        pooled = part[part["branch"] == "all"].set_index("sigma")
        assert len(pooled) == N_BINS
        assert (pooled["n_cells"] == (latents.obs["split"] == split).sum()).all()
        branches = part[part["branch"] != "all"].assign(total=lambda rows: rows["loss"] * rows["n_cells"])
        sums = branches.groupby("sigma")[["n_cells", "total"]].sum()
        assert (sums["n_cells"] == pooled["n_cells"]).all()
        np.testing.assert_allclose(sums["total"] / sums["n_cells"], pooled["loss"], rtol=1e-6)


def test_generated_cells(tiny_run: Path) -> None:
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    generated = anndata.read_h5ad(tiny_run / "generated.h5ad")
    assert_counts(generated)
    assert_string_categorical(generated.obs["cell_type"], CLASSES)
    assert list(generated.obs) == ["cell_type", "library_size", "ancestor"]
    assert generated.obs["cell_type"].value_counts().to_dict() == dict.fromkeys(CLASSES, 20)
    assert list(generated.var_names) == list(cells.var_names)
    assert list(generated.obs_names) == [
        f"{name}_{number}" for name, number in zip(generated.obs["cell_type"], generated.obs["ancestor"], strict=True)
    ]
    assert generated.obs["ancestor"].dtype == np.int64
    for _, rows in generated.obs.groupby("cell_type", observed=True):
        assert list(rows["ancestor"]) == list(range(20))
    assert generated.obsm["X_latent"].dtype == np.float32
    assert generated.obsm["X_latent"].shape == (80, 7)
    with h5py.File(tiny_run / "generated.h5ad") as store:
        assert store["X"] == store["layers/counts"]
    assert json.loads(generated.uns["branchgen"])["n_cells"] == dict.fromkeys(CLASSES, 20)


def test_generated_cells_lie_with_the_cells_of_their_class(tiny_run: Path) -> None:
    """The latents of a class have its mean, within what forty steps of training give."""
    latents = anndata.read_h5ad(tiny_run / "latents.h5ad")
    generated = anndata.read_h5ad(tiny_run / "generated.h5ad")

    def means(cells: AnnData) -> np.ndarray:
        return np.stack([cells.obsm["X_latent"][cells.obs["cell_type"] == name].mean(axis=0) for name in CLASSES])

    apart = np.linalg.norm(means(generated)[:, None] - means(latents)[None], axis=-1)
    assert (apart.argmin(axis=1) == np.arange(4)).all()
    assert apart.diagonal().max() < 1


@pytest.mark.parametrize("name", ["cells.h5ad", "generated.h5ad"])
def test_scanpy_works_on_the_counts(name: str, tiny_run: Path) -> None:
    cells = sc.read_h5ad(tiny_run / name)
    before = cells.layers["counts"].copy()
    cells.X = cells.X.astype(np.float32)
    sc.pp.normalize_total(cells, target_sum=1e4)
    np.testing.assert_allclose(np.asarray(cells.X.sum(axis=1)), 1e4, rtol=1e-4)
    sc.pp.log1p(cells)
    sc.pp.pca(cells, n_comps=5)
    assert np.isfinite(cells.obsm["X_pca"]).all()
    assert (cells.layers["counts"] != before).nnz == 0


def test_populations_at_the_branch_points(tiny_run: Path) -> None:
    cells = anndata.read_h5ad(tiny_run / "branch_points.h5ad")
    hierarchy = hierarchy_of(tiny_run)
    expected = {
        (hierarchy.branches[p].name, name): hierarchy.branches[p].t_start
        for p in hierarchy.branch_points
        for name in (hierarchy.branches[p].name, *(hierarchy.branches[c].name for c in hierarchy.children[p]))
    }
    sizes = cells.obs.groupby(["branch", "population"], observed=True).size()
    assert sizes.to_dict() == dict.fromkeys(expected, 16)
    times = cells.obs.groupby(["branch", "population"], observed=True)["time"].agg(["min", "max"])
    assert times["min"].to_dict() == times["max"].to_dict() == expected
    assert_string_categorical(cells.obs["branch"], sorted({branch for branch, _ in expected}))
    assert_string_categorical(cells.obs["population"], sorted({name for _, name in expected}))
    assert cells.obs_names.is_unique
    assert list(cells.var_names) == list(anndata.read_h5ad(tiny_run / "cells.h5ad").var_names)
    assert cells.X.dtype == cells.obsm["X_latent"].dtype == cells.obsm["X_denoised"].dtype == np.float32
    np.testing.assert_allclose(np.expm1(cells.X.astype(float)).sum(axis=1), 1e4, rtol=1e-4)
    table = pd.read_parquet(tiny_run / "branch_points.parquet")
    assert list(zip(table["branch"], table["child"], strict=True)) == [pair for pair in expected if pair[0] != pair[1]]
    genes = pd.read_parquet(tiny_run / "branch_genes.parquet")
    assert (
        genes.groupby(["branch", "child"])["gene"].apply(list).map(lambda names: names == list(cells.var_names))
    ).all()
    assert len(genes) == len(table) * cells.n_vars


def test_real_cells_have_fates_that_scanpy_and_cellrank_can_read(tiny_run: Path) -> None:
    cells, found = (anndata.read_h5ad(tiny_run / name) for name in ("cells.h5ad", "fates.h5ad"))
    assert list(found.obs_names) == list(cells.obs_names)
    assert list(found.var_names) == list(cells.var_names)
    assert list(found.obs["cell_type"].astype(str)) == list(cells.obs["cell_type"].astype(str))
    classes = list(found.obs["term_states_fwd"].cat.categories)
    assert found.obsm["lineages_fwd"].shape == (cells.n_obs, len(classes))
    np.testing.assert_allclose(found.obsm["lineages_fwd"].sum(axis=1), 1)
    own = found.obsm["lineages_fwd"].argmax(axis=1) == [classes.index(name) for name in cells.obs["cell_type"]]
    assert own.mean() > 0.8
    terminal = found.obs["term_states_fwd"].notna()
    assert (found.obs["term_states_fwd"][terminal] == found.obs["cell_type"][terminal]).all()
    assert found.obs["term_states_fwd"].value_counts().to_dict() == dict.fromkeys(classes, 30)
    assert found.obs["term_states_fwd_probs"].notna().equals(terminal)
    assert len(found.uns["term_states_fwd_colors"]) == len(classes)
    hierarchy = Hierarchy.from_list(json.loads((tiny_run / "hierarchy.json").read_text())["branches"])
    table = pd.read_parquet(tiny_run / "branch_points.parquet")
    assert list(found.uns["child_probabilities"]) == [f"{row.branch} > {row.child}" for row in table.itertuples()]
    assert found.obsm["child_probabilities"].shape == (cells.n_obs, len(table))
    assert sorted(found.uns["dendrogram_cell_type"]["categories_ordered"]) == sorted(classes)
    assert found.obs["commitment"].between(0, 1).all()
    separability = pd.read_parquet(tiny_run / "separability.parquet")
    assert set(separability["branch"]) == {hierarchy.branches[p].name for p in hierarchy.branch_points}
    assert separability["accuracy"].between(0, 1).all()


def test_transmuted_cells_are_paired_with_real_ones(tiny_run: Path) -> None:
    cells, found = (anndata.read_h5ad(tiny_run / name) for name in ("cells.h5ad", "transmuted.h5ad"))
    source = cells[cells.obs["cell_type"] == "A0"]
    assert_counts(found)
    assert list(found.var_names) == list(cells.var_names)
    assert list(found.obs["source_cell"]) == list(source.obs_names)
    assert_string_categorical(found.obs["cell_type"], ["B2"])
    assert set(found.obs["source_type"]) == {"A0"}
    assert list(found.obs["donor"]) == list(source.obs["donor"])
    assert found.obsm["X_latent"].dtype == np.float32
    # The library size is the real cell's, but for what is drawn.
    latents = anndata.read_h5ad(tiny_run / "latents.h5ad")[source.obs_names].obsm["X_latent"]
    np.testing.assert_allclose(found.obsm["X_latent"][:, -1], latents[:, -1], atol=1e-5)
    assert np.corrcoef(found.obs["library_size"], source.obs["library_size"])[0, 1] > 0.9


def test_changes_of_transmuted_cells_by_gene(tiny_run: Path) -> None:
    cells, found = (anndata.read_h5ad(tiny_run / name) for name in ("cells.h5ad", "transmuted.h5ad"))
    table = pd.read_parquet(tiny_run / "changes.parquet")
    assert list(table["gene"]) == list(cells.var_names)
    for column, part in {
        "source_mean": cells[cells.obs["cell_type"] == "A0"],
        "transmuted_mean": found,
        "target_mean": cells[cells.obs["cell_type"] == "B2"],
    }.items():
        logs = np.log1p(1e4 * part.X.toarray() / part.X.toarray().sum(axis=1, keepdims=True))
        np.testing.assert_allclose(table[column], logs.mean(axis=0))
    np.testing.assert_allclose(table["change"], table["transmuted_mean"] - table["source_mean"])
    np.testing.assert_allclose(table["expected_change"], table["target_mean"] - table["source_mean"])
    assert table["kept"].dropna().between(-1, 1).all()
    # Even a model of a few steps brings them nearer to the other class.
    assert np.corrcoef(table["change"], table["expected_change"])[0, 1] > 0.5


RECORDS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "cells.h5ad": ("prepare", lambda path: anndata.read_h5ad(path).uns["branchgen"]),
    "latents.h5ad": ("encode", lambda path: anndata.read_h5ad(path).uns["branchgen"]),
    "codec.pt": ("encode", lambda path: torch.load(path, weights_only=True)["provenance"]),
    "hierarchy.json": ("derive", lambda path: json.loads(path.read_text())["provenance"]),
    "model.pt": ("train", lambda path: torch.load(path, weights_only=True)["provenance"]),
    "generated.h5ad": ("generate", lambda path: anndata.read_h5ad(path).uns["branchgen"]),
    "branch_points.h5ad": ("analyse", lambda path: anndata.read_h5ad(path).uns["branchgen"]),
    "transmuted.h5ad": ("transmute", lambda path: anndata.read_h5ad(path).uns["branchgen"]),
    "extended.pt": ("extend", lambda path: torch.load(path, weights_only=True)["provenance"]),
    "extended.json": ("extend", lambda path: json.loads(path.read_text())["provenance"]),
}
"""Command that wrote an artefact, and its provenance."""


@pytest.mark.parametrize("name", RECORDS)
def test_every_artefact_says_where_it_comes_from(name: str, tiny_run: Path) -> None:
    command, read = RECORDS[name]
    record = json.loads(read(tiny_run / name))
    assert record["command"] == command
    assert record["version"] == __version__
    assert record["format_version"] == FORMAT_VERSION
    assert record["seed"] == 0
    used = {
        knob: value
        for knob, value in SETTINGS[command].items()
        if knob not in {"device", "label_key", "source", "target"}
    }
    expected: dict[str, Any] = {**SECTIONS[command]().to_dict(), **used}
    if command == "generate":
        # The cells do not depend on the number of shards.
        expected["n_cells"] = "20"
        del expected["n_shards"]
    assert record["settings"] == expected
    hashes = {flag: files.file_hash(tiny_run / input_name(command, flag)) for flag in COMMANDS[command].inputs}
    hashes["source"] = hashes[str(tiny_run / SOURCE)] = files.file_hash(tiny_run / SOURCE)
    codec = torch.load(tiny_run / "codec.pt", weights_only=True)["hash"]
    assert record["inputs"]
    for what, digest in record["inputs"].items():
        if what == "codec":
            assert digest == codec
        elif what == "hierarchy":
            assert re.fullmatch("[0-9a-f]{16}", digest)  # of its content, without its own provenance
        else:
            assert digest == hashes[what]


def content(path: Path) -> str:
    """Hash of a file; of the values where torch's bytes depend on which texts are one object in memory."""
    return state_hash(torch.load(path, weights_only=True)) if path.suffix == ".pt" else files.file_hash(path)


@pytest.mark.parametrize("command", SETTINGS)
def test_a_command_repeats_itself_bit_by_bit(command: str, tiny_run: Path, tmp_path: Path) -> None:
    assert run_command(command, tiny_run, tmp_path) == 0
    for flag in COMMANDS[command].outputs:
        name = output_name(command, flag)
        assert content(tmp_path / name) == content(tiny_run / name)
    assert len(list(tmp_path.iterdir())) == len(COMMANDS[command].outputs)


def test_the_autoencoder_repeats_itself_and_has_a_posterior(tiny_run: Path, tmp_path: Path) -> None:
    quick = {"codec": "nb", "n_hidden": 16, "max_epochs": 2}
    for folder in (tmp_path / "once", tmp_path / "again"):
        assert run_command("encode", tiny_run, folder, **quick) == 0
    for name in ("codec.pt", "latents.h5ad"):
        assert content(tmp_path / "once" / name) == content(tmp_path / "again" / name)
    latents = anndata.read_h5ad(tmp_path / "once" / "latents.h5ad")
    scale = latents.obsm["X_latent_scale"]
    assert (scale[:, :-1] > 0).all()
    assert not scale[:, -1].any()  # the library size is known
    train = (latents.obs["split"] == "train").to_numpy()
    np.testing.assert_allclose((latents.obsm["X_latent"][train] ** 2 + scale[train] ** 2).mean(axis=0), 1, atol=1e-3)


def generate(tiny_run: Path, folder: Path, **changes: Any) -> AnnData:
    """Generated cells with other settings; a table of numbers is written as JSON."""
    if isinstance(changes.get("n_cells"), dict):
        changes["n_cells"] = json.dumps(changes["n_cells"])
    assert run_command("generate", tiny_run, folder, **changes) == 0
    return anndata.read_h5ad(folder / "generated.h5ad")


def assert_first_cells(cells: AnnData, of: AnnData, names: list[str]) -> None:
    """The cells of some classes are, bit for bit, the first that the others have of each class."""
    for name in names:
        found, expected = cells[cells.obs["cell_type"] == name], of[of.obs["cell_type"] == name]
        assert 0 < found.n_obs <= expected.n_obs
        expected = expected[: found.n_obs]
        assert list(found.obs_names) == list(expected.obs_names)
        np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
        np.testing.assert_array_equal(found.obsm["X_latent"], expected.obsm["X_latent"])


@pytest.mark.parametrize("batch_size", [1, 33])
def test_cells_do_not_depend_on_the_batch_size(batch_size: int, tiny_run: Path, tmp_path: Path) -> None:
    cells = generate(tiny_run, tmp_path, batch_size=batch_size)
    expected = anndata.read_h5ad(tiny_run / "generated.h5ad")
    pd.testing.assert_frame_equal(cells.obs, expected.obs)
    assert_first_cells(cells, expected, CLASSES)


MANY = {"A0": 3 * BLOCK + 7, "B2": BLOCK, "B3": 20}
"""Four blocks, and what is in them grows less."""


def shards(tiny_run: Path, folder: Path, n_shards: int, **changes: Any) -> list[Path]:
    """All shards, each in a folder of its own."""
    for number in range(1, n_shards + 1):
        wanted = {"n_cells": MANY, "n_steps": 2, "n_shards": n_shards, "shard": number}
        generate(tiny_run, folder / str(number), **{**wanted, **changes})
    return [folder / str(number) / "generated.h5ad" for number in range(1, n_shards + 1)]


def gather(paths: list[Path], output: Path) -> int:
    return main(["gather", "--shards", *map(str, paths), "--output-generated", str(output)])


@pytest.mark.parametrize("ancestors", ["shared", "independent"])
@pytest.mark.parametrize("n_shards", [1, 3, 8])
def test_shards_are_parts_of_the_same_cells(n_shards: int, ancestors: str, tiny_run: Path, tmp_path: Path) -> None:
    whole = generate(tiny_run, tmp_path / "whole", n_cells=MANY, n_steps=2, ancestors=ancestors)
    paths = shards(tiny_run, tmp_path, n_shards, ancestors=ancestors)
    if n_shards == 3:
        assert all(0 < anndata.read_h5ad(path).n_obs < 0.6 * whole.n_obs for path in paths)
    # In whatever order they are given.
    assert gather(paths[::-1], tmp_path / "gathered.h5ad") == 0
    gathered = anndata.read_h5ad(tmp_path / "gathered.h5ad")
    pd.testing.assert_frame_equal(gathered.obs, whole.obs)
    pd.testing.assert_frame_equal(gathered.var, whole.var)
    assert (gathered.X != whole.X).nnz == 0
    assert gathered.X.dtype == whole.X.dtype
    np.testing.assert_array_equal(gathered.obsm["X_latent"], whole.obsm["X_latent"])
    assert gathered.uns == whole.uns


def test_shards_that_are_not_all_parts_of_the_same_cells(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = shards(tiny_run, tmp_path, 2)
    other = shards(tiny_run, tmp_path / "other", 2, n_steps=3)[1]
    copy = tmp_path / "copy.h5ad"
    copy.write_bytes(first.read_bytes())
    for paths, message in (
        ([first], "--shards has the numbers 1 of 2; it must have each once"),
        ([first, copy, second], "--shards has the numbers 1, 1, 2 of 2"),
        ([first, other], "are shards of different cells"),
        ([first, tiny_run / "generated.h5ad"], "generated.h5ad is no shard; it must be written by"),
        ([tiny_run / "model.pt"], "model.pt is not an h5ad file"),
    ):
        assert gather(paths, tmp_path / "gathered.h5ad") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "gathered.h5ad").exists()
    for shard in ("0", "3", "first"):
        assert run_command("generate", tiny_run, tmp_path / "none", n_shards=2, shard=shard) == 2
        assert f"shard is {shard if shard.isdecimal() else repr(shard)}; it must be" in capsys.readouterr().err


@pytest.mark.parametrize("solver", SOLVERS)
def test_cells_do_not_depend_on_what_else_is_asked_for(solver: str, tiny_run: Path, tmp_path: Path) -> None:
    """Alone, in another order, with other numbers, and through an inner branch."""
    inner = next(branch.name for branch in hierarchy_of(tiny_run).branches if set(branch.classes) == {"A0", "A1"})
    together = generate(tiny_run, tmp_path / "together", solver=solver)
    for request, names in (
        ({"B3": 20}, ["B3"]),
        ({"B2": 7, "A1": 20, "B3": 1}, ["A1", "B2", "B3"]),
        ({inner: 30}, ["A0", "A1"]),
    ):
        cells = generate(tiny_run, tmp_path / "apart", solver=solver, n_cells=request)
        assert set(cells.obs["cell_type"]) == set(names)
        assert_first_cells(cells, together, names)


def test_more_cells_begin_with_the_same_ones(tiny_run: Path, tmp_path: Path) -> None:
    """Beyond one block, too."""
    many = generate(tiny_run, tmp_path, n_cells={"A0": BLOCK + 20, "B2": 25})
    assert (many.obs["cell_type"] == "A0").sum() == BLOCK + 20
    assert_first_cells(anndata.read_h5ad(tiny_run / "generated.h5ad"), many, ["A0", "B2"])
    first = many[many.obs["cell_type"] == "A0"].obsm["X_latent"]
    assert len(np.unique(first, axis=0)) == BLOCK + 20


def test_independent_cells_have_ancestors_of_their_own(tiny_run: Path, tmp_path: Path) -> None:
    cells = generate(tiny_run, tmp_path, ancestors="independent")
    shared = anndata.read_h5ad(tiny_run / "generated.h5ad")
    assert cells.obs["ancestor"].is_unique
    assert shared.obs["ancestor"].nunique() < shared.n_obs
    assert list(cells.obs_names) == list(shared.obs_names)
    assert (cells.obsm["X_latent"] != shared.obsm["X_latent"]).all()


def test_another_seed_gives_other_cells(tiny_run: Path, tmp_path: Path) -> None:
    cells, other = anndata.read_h5ad(tiny_run / "generated.h5ad"), generate(tiny_run, tmp_path, seed=1)
    assert (cells.obsm["X_latent"] != other.obsm["X_latent"]).all()
    assert (np.asarray((cells.X != other.X).sum(axis=1)).ravel() > 0).all()


def test_numbers_of_cells(tiny_run: Path, tmp_path: Path) -> None:
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    train = cells.obs["cell_type"][cells.obs["split"] == "train"].value_counts()

    def numbers(n_cells: object) -> dict[str, int]:
        found = generate(tiny_run, tmp_path, n_cells=n_cells, n_steps=2).obs["cell_type"]
        return {str(name): int(size) for name, size in found.value_counts().items() if size}

    assert numbers("train") == train.to_dict()
    assert numbers(3) == dict.fromkeys(CLASSES, 3)
    assert numbers({"A0": 0, "B2": 4}) == {"B2": 4}
    inner = next(branch.name for branch in hierarchy_of(tiny_run).branches if set(branch.classes) == {"B2", "B3"})
    both = numbers({inner: 10, "B2": 4})
    assert sum(both.values()) == 14
    assert both["B2"] - 4 == pytest.approx(10 * train["B2"] / (train["B2"] + train["B3"]), abs=0.5)

    whole = numbers({"root": 97})
    exact = {name: 97 * train[name] / train.sum() for name in CLASSES}
    assert sum(whole.values()) == 97
    up = [exact[name] % 1 for name in CLASSES if whole[name] == int(exact[name]) + 1]
    down = [exact[name] % 1 for name in CLASSES if whole[name] == int(exact[name])]
    assert len(up) + len(down) == 4
    assert min(up) >= max(down)


def test_a_class_of_four_cells_goes_all_the_way(tmp_path: Path) -> None:
    """One for every split: with a single training cell there is a class, a branch, and genes without a verdict."""
    cells = simulate_cells()
    rare = np.flatnonzero(cells.obs["cell_type"] == "B3")
    cells[np.setdiff1d(np.arange(cells.n_obs), rare[4:])].write_h5ad(tmp_path / SOURCE)
    changes = {"prepare": {"min_cells_per_class": 4}, "generate": {"n_cells": 3}}
    for command in SETTINGS:
        if command == "extend":
            prepare_new_cells(tmp_path, simulate_new_class())
        assert run_command(command, tmp_path, **changes.get(command, {})) == 0
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert model["class_counts"]["B3"] == 1
    generated = anndata.read_h5ad(tmp_path / "generated.h5ad")
    assert (generated.obs["cell_type"] == "B3").sum() == 3
    assert np.isfinite(generated.obsm["X_latent"]).all()
    assert (generated.obs["library_size"] > 0).all()
    genes = pd.read_parquet(tmp_path / "branch_genes.parquet")
    assert not genes.isna().any(axis=None)
    assert (genes["p_value"][genes["child"] == "B3"] == 1).all()
