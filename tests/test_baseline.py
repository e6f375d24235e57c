"""`branchgen baseline`: files in the form of generated ones, and a sentence for every mistake."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from branchgen import files
from branchgen.cli import main

CLASSES = ["A0", "A1", "B2", "B3"]


def line(run: Path, output: Path, method: str = "gauss", *more: str) -> list[str]:
    of_codec = {"latents": "latents.h5ad", "codec": "codec.pt"}
    inputs = {"gauss": of_codec, "codec": of_codec, "scvi": {"cells": "cells.h5ad"}}
    given = [f"--{flag}={run / name}" for flag, name in inputs.get(method, {}).items()]
    return ["baseline", f"--method={method}", *given, f"--output-generated={output}", "--device=cpu", *more]


def gauss(run: Path, output: Path, *more: str) -> AnnData:
    assert main(line(run, output, "gauss", *more)) == 0
    return anndata.read_h5ad(output)


def test_the_codec_alone_gives_back_the_training_cells_with_the_noise_of_their_posterior(
    tiny_run: Path, tmp_path: Path
) -> None:
    assert main(line(tiny_run, tmp_path / "codec.h5ad", "codec", "--n-cells=400")) == 0
    found, latents = anndata.read_h5ad(tmp_path / "codec.h5ad"), anndata.read_h5ad(tiny_run / "latents.h5ad")
    for name in CLASSES:
        rows = (latents.obs["split"] == "train") & (latents.obs["cell_type"] == name)
        mean, scale = (latents[rows].obsm[key].astype(float) for key in ("X_latent", "X_latent_scale"))
        drawn = found[found.obs["cell_type"] == name].obsm["X_latent"]
        variance = mean.var(axis=0) + (scale**2).mean(axis=0)
        np.testing.assert_allclose(drawn.mean(axis=0), mean.mean(axis=0), atol=4 * np.sqrt(variance.max() / 400))
        np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.4, atol=1e-3)
        # The library size has no posterior noise: those of the training cells, and no others.
        assert np.isin(drawn[:, -1], mean[:, -1].astype(np.float32)).all()


def test_the_file_has_the_form_of_generated_cells(tiny_run: Path, tmp_path: Path) -> None:
    found, generated = gauss(tiny_run, tmp_path / "gauss.h5ad"), anndata.read_h5ad(tiny_run / "generated.h5ad")
    cells = anndata.read_h5ad(tiny_run / "cells.h5ad")
    assert list(found.obs) == list(generated.obs)
    assert found.obs.dtypes.astype(str).to_dict() == generated.obs.dtypes.astype(str).to_dict()
    pd.testing.assert_frame_equal(found.var, generated.var)
    assert found.X.dtype == found.layers["counts"].dtype == np.int32
    assert (found.layers["counts"] != found.X).nnz == 0
    np.testing.assert_array_equal(found.obs["library_size"], np.asarray(found.X.sum(axis=1)).ravel())
    assert found.obs_names.is_unique
    assert found.obs["ancestor"].is_unique  # no two cells share noise
    assert found.obsm["X_latent"].dtype == np.float32
    train = cells.obs["cell_type"][cells.obs["split"] == "train"].value_counts().to_dict()
    assert found.obs["cell_type"].value_counts().to_dict() == train
    record = json.loads(found.uns["branchgen"])
    assert (record["command"], record["method"], record["n_cells"]) == ("baseline", "gauss", train)
    assert record["inputs"] == {
        "latents": files.file_hash(tiny_run / "latents.h5ad"),
        "codec": json.loads(anndata.read_h5ad(tiny_run / "latents.h5ad").uns["branchgen"])["codec"],
    }


def test_cells_lie_where_the_cells_of_their_class_lie(tiny_run: Path, tmp_path: Path) -> None:
    found = gauss(tiny_run, tmp_path / "gauss.h5ad", "--n-cells=2000")
    latents = anndata.read_h5ad(tiny_run / "latents.h5ad")
    latents = latents[latents.obs["split"] == "train"]
    for name in CLASSES:
        x, y = (part.obsm["X_latent"][part.obs["cell_type"] == name].astype(float) for part in (latents, found))
        np.testing.assert_allclose(y.mean(axis=0), x.mean(axis=0), atol=0.1)
    counts = anndata.read_h5ad(tiny_run / "cells.h5ad")
    counts = counts[counts.obs["split"] == "train"]
    for name in CLASSES:
        real, made = (part.X[(part.obs["cell_type"] == name).to_numpy()].mean(axis=0).A1 for part in (counts, found))
        assert np.corrcoef(np.log1p(real), np.log1p(made))[0, 1] > 0.97


def test_same_seed_same_cells_whatever_else_is_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    once = gauss(tiny_run, tmp_path / "once.h5ad", "--n-cells=30")
    gauss(tiny_run, tmp_path / "again.h5ad", "--n-cells=30")
    assert files.file_hash(tmp_path / "once.h5ad") == files.file_hash(tmp_path / "again.h5ad")
    alone = gauss(tiny_run, tmp_path / "alone.h5ad", '--n-cells={"B2": 30, "A0": 0}')
    assert alone.obs["cell_type"].tolist() == ["B2"] * 30
    assert (alone.X != once[once.obs["cell_type"] == "B2"].X).nnz == 0
    other = gauss(tiny_run, tmp_path / "other.h5ad", "--n-cells=30", "--seed=1")
    assert (other.obsm["X_latent"] != once.obsm["X_latent"]).any(axis=1).all()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--n-cells=-1"], "n_cells asks for -1 cells of 'A0'; a number of cells is at least 0"),
        (["--n-cells=many"], "n_cells is 'many'; it must be a number"),
        (["--n-cells=true"], "n_cells is 'true'; it must be a number"),
        (['--n-cells={"C": 1}'], "n_cells asks for class 'C', but there are A0, A1, B2, B3"),
        (["--n-cells=0"], "n_cells asks for no cell at all"),
        (["--method=gaus"], "method is 'gaus'; it must be one of codec, gauss, scvi"),
        (["--method=scvi"], "the method scvi needs --cells"),
        (["--device=quantum"], "device 'quantum' is unknown"),
        (["--codec={folder}/other_codec.pt"], "make both with the same 'branchgen encode' run"),
        (["--latents={folder}/cells.h5ad"], "cells.h5ad was written by 'branchgen prepare', not by 'branchgen encode'"),
        (["--codec={folder}/absent.pt"], "absent.pt does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    more: list[str], part: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(tiny_run, folder)
    encode = ["encode", f"--cells={folder / 'cells.h5ad'}", f"--output-codec={folder / 'other_codec.pt'}"]
    quick = [f"--output-latents={tmp_path / 'other.h5ad'}", "--codec=pca", "--n-latent=5", "--device=cpu"]
    if "other_codec" in more[0]:
        assert main([*encode, *quick]) == 0
        capsys.readouterr()
    more = [text.replace("{folder}", str(folder)) for text in more]
    assert main(line(folder, tmp_path / "results" / "gauss.h5ad", "gauss", *more)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("branchgen baseline: ")
    assert part in error
    assert not list((tmp_path / "results").glob("*"))


def test_scvi_that_is_not_installed_is_named_with_what_to_do(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scvi", None)
    assert main(line(tiny_run, tmp_path / "scvi.h5ad", "scvi")) == 2
    assert "needs scvi-tools, which is not installed; install it with pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("scvi") is None, reason="needs the extra scvi")
def test_scvi_writes_a_file_of_the_same_form(tiny_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "scvi.h5ad"
    assert main(line(tiny_run, output, "scvi", "--max-epochs=2", "--n-cells=15")) == 0
    found, generated = anndata.read_h5ad(output), anndata.read_h5ad(tiny_run / "generated.h5ad")
    assert list(found.obs) == list(generated.obs)
    assert list(found.var_names) == list(generated.var_names)
    assert found.obs["cell_type"].value_counts().to_dict() == dict.fromkeys(CLASSES, 15)
    assert found.X.dtype == np.int32
    assert json.loads(found.uns["branchgen"])["method"] == "scvi"
