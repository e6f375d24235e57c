"""Files: all outputs or none, failing writes as one sentence, and nothing read that is not what it should be."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from limits import full_disk
from matplotlib.figure import Figure
from scipy import sparse

from branchgen import files, stores
from branchgen.errors import BranchgenError
from branchgen.provenance import FORMAT_VERSION, provenance


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its text."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_appear_together_and_folders_are_made(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "one.txt", tmp_path / "b" / "two.txt"
    with files.written_together(first, second) as (one, two):
        assert (one.suffix, two.suffix) == (".txt", ".txt")
        assert one.parent == first.parent
        one.write_text("1")
        two.write_text("2")
        assert not first.exists()
        assert not second.exists()
    assert content(tmp_path) == {"a/one.txt": "1", "b/two.txt": "2"}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, BranchgenError])
def test_an_error_halfway_leaves_the_old_files_and_no_others(error: type[BaseException], tmp_path: Path) -> None:
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    first.write_text("old")
    with pytest.raises(error), files.written_together(first, second) as (one, two):
        one.write_text("new")
        two.write_text("half")
        raise error
    assert content(tmp_path) == {"one.txt": "old"}


def test_an_output_that_was_not_written_is_a_mistake_of_ours_and_moves_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    with pytest.raises(AssertionError), files.written_together(first, second) as (one, _):
        one.write_text("new")
    assert content(tmp_path) == {}


def test_a_folder_in_the_place_of_one_output_stops_all(tmp_path: Path) -> None:
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    second.mkdir()
    with pytest.raises(BranchgenError, match=r"cannot write .*one\.txt, .*two\.txt: Is a directory \(.*two\.txt\)"):
        write_both(first, second)
    assert content(tmp_path) == {}


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(BranchgenError, match=r"cannot write .*one\.txt: File exists \(.*results\); check free"):
        write_both(tmp_path / "results" / "one.txt")
    assert content(tmp_path) == {"results": "a file"}


def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path) -> None:
    """A process is killed while it writes; the next one writes the same files, and is not held up by the dead one."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from branchgen import files\n"
        "with files.written_together(Path(sys.argv[1]), Path(sys.argv[2])) as (one, two):\n"
        "    one.write_text('much more than the next one has to say')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    killed = subprocess.run([sys.executable, "-c", script, first, second], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(content(tmp_path)) == 2
    assert not first.exists()
    write_both(first, second)
    assert content(tmp_path) == {"one.txt": "new", "two.txt": "new"}


def test_files_that_are_being_written_are_left_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    with files.written_together(first) as (one,):
        one.write_text("mine")
        with pytest.raises(BranchgenError, match=r"one\.txt is being written by another process; wait"):
            write_both(second, first)
    assert content(tmp_path) == {"one.txt": "mine"}


def write_both(*paths: Path) -> None:
    with files.written_together(*paths) as temporary:
        for path in temporary:
            path.write_text("new")


def random_cells() -> AnnData:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(3, size=(200, 50)).astype(np.int32))
    obs = pd.DataFrame({"cell_type": pd.Categorical(["a", "b"] * 100)}, index=[f"cell {i}" for i in range(200)])
    return AnnData(counts, obs=obs, layers={"counts": counts}, obsm={"X_latent": rng.normal(size=(200, 9))})


def draw(path: Path) -> None:
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(0).normal(size=5000))
    figure.savefig(path)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "cells.h5ad": lambda path: stores.write_h5ad(random_cells(), path),
    "model.pt": lambda path: files.write_state({"weight": torch.ones(100, 100)}, path),
    "table.parquet": lambda path: files.write_table(pd.DataFrame({"a": np.random.default_rng(0).random(9999)}), path),
    "hierarchy.json": lambda path: path.write_text("x" * 99999),
    "figure.svg": draw,
    "figure.png": draw,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    target.write_text("old")
    with full_disk(5000), pytest.raises(BranchgenError) as caught, files.written_together(target) as (path,):
        WRITERS[name](path)
    sentence = str(caught.value)
    assert sentence.startswith(f"cannot write {target}: ")
    assert "file too large" in sentence.lower()
    assert sentence.endswith("; check free space and permissions")
    assert "\n" not in sentence
    assert content(tmp_path) == {name: "old"}


@pytest.mark.parametrize("with_matrix", [True, False])
def test_cells_survive_a_round_trip(with_matrix: bool, tmp_path: Path) -> None:
    cells = random_cells()
    if not with_matrix:
        cells.X = None
    cells.uns["branchgen"] = provenance("prepare", {}, 0, {})
    stores.write_h5ad(cells, tmp_path / "cells.h5ad")
    found = stores.read_artefact(tmp_path / "cells.h5ad", "prepare")
    pd.testing.assert_frame_equal(found.obs, cells.obs)
    assert found.layers["counts"].dtype == np.int32
    assert (found.layers["counts"] != cells.layers["counts"]).nnz == 0
    np.testing.assert_array_equal(found.obsm["X_latent"], cells.obsm["X_latent"])
    assert (found.X is not None) == with_matrix


def test_a_layer_that_is_the_matrix_itself_is_written_and_read_once(tmp_path: Path) -> None:
    cells = random_cells()
    cells.layers["counts"] = cells.X
    cells.layers["other"] = cells.X.copy()
    cells.uns["branchgen"] = provenance("prepare", {}, 0, {})
    stores.write_h5ad(cells, tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad") as store:
        assert store["layers/counts"] == store["X"]
        assert store["layers/other"] != store["X"]
    for found in (stores.read_h5ad(tmp_path / "cells.h5ad"), anndata.read_h5ad(tmp_path / "cells.h5ad")):
        for matrix in (found.X, found.layers["counts"], found.layers["other"]):
            assert (matrix != cells.X).nnz == 0
        pd.testing.assert_frame_equal(found.obs, cells.obs)
        assert found.uns["branchgen"] == cells.uns["branchgen"]
        np.testing.assert_array_equal(found.obsm["X_latent"], cells.obsm["X_latent"])
    shared = stores.read_h5ad(tmp_path / "cells.h5ad")
    assert shared.layers["counts"] is shared.X
    assert shared.layers["other"] is not shared.X


def test_artefacts_of_another_command_version_or_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    record = provenance("encode", {}, 0, {})
    for text, message in (
        (record, "was written by 'branchgen encode', not by 'branchgen prepare'"),
        (
            record.replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 999'),
            f"has format version 999 but branchgen .* reads version {FORMAT_VERSION}; make it again",
        ),
        ("not json", r"uns\['branchgen'\] of .* is not a record that branchgen wrote"),
        (None, "was not written by branchgen"),
    ):
        cells = random_cells()
        if text is not None:
            cells.uns["branchgen"] = text
        stores.write_h5ad(cells, path)
        with pytest.raises(BranchgenError, match=message):
            stores.read_artefact(path, "prepare")


def test_states_of_another_kind_or_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codec.pt"
    state = {"kind": "codec", "format_version": FORMAT_VERSION, "weight": torch.ones(3)}
    files.write_state(state, path)
    assert torch.equal(files.read_state(path, "codec")["weight"], torch.ones(3))
    with pytest.raises(BranchgenError, match="is not a model file of branchgen"):
        files.read_state(path, "model")
    files.write_state({**state, "format_version": 999}, path)
    with pytest.raises(BranchgenError, match="has format version 999"):
        files.read_state(path, "codec")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(BranchgenError, match="is not a codec file of branchgen, or it is damaged"):
            files.read_state(path, "codec")


def test_states_that_would_run_code_are_not_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"kind": "codec", "trap": Trap()}, tmp_path / "codec.pt")
    with pytest.raises(BranchgenError, match="is not a codec file"):
        files.read_state(tmp_path / "codec.pt", "codec")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[1]", "holds no named values"),
        ("{}", "has format version None"),
        ('{"format_version": 999}', "has format version 999"),
    ],
)
def test_json_of_another_kind_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hierarchy.json"
    path.write_text(text)
    with pytest.raises(BranchgenError, match=message):
        files.read_json(path)
    path.write_text(json.dumps({"format_version": FORMAT_VERSION, "classes": ["a"]}))
    assert files.read_json(path)["classes"] == ["a"]


def test_tables_survive_a_round_trip_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    table = pd.DataFrame({"metric": ["c2st"], "value": [0.5], "n_cells": [7]})
    files.write_table(table, path)
    pd.testing.assert_frame_equal(files.read_table(path), table)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BranchgenError, match="is not a Parquet table, or it is damaged"):
        files.read_table(path)


def test_a_folder_has_the_hash_of_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "cells.zarr"
    (folder / "X").mkdir(parents=True)
    (folder / "X" / "0").write_text("a")
    found = files.store_hash(folder)
    moved = folder.rename(tmp_path / "moved.zarr")
    assert files.store_hash(moved) == found
    (moved / "X" / "0").rename(moved / "X" / "1")
    assert files.store_hash(moved) != found
    assert files.store_hash(moved / "X" / "1") == files.file_hash(moved / "X" / "1")


def test_coordinates_of_an_opened_file_are_mapped_into_memory(tmp_path: Path) -> None:
    cells = random_cells()
    cells.obsm["X_latent"] = np.random.default_rng(0).normal(size=(cells.n_obs, 3)).astype(np.float32)
    stores.write_h5ad(cells, tmp_path / "cells.h5ad")
    with stores.opened_cells(tmp_path / "cells.h5ad") as opened:
        assert isinstance(opened.obsm["X_latent"], np.memmap)
        np.testing.assert_array_equal(opened.obsm["X_latent"], cells.obsm["X_latent"])
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "cells.h5ad").obsm["X_latent"], cells.obsm["X_latent"])


@pytest.mark.parametrize("read", [stores.read_h5ad, files.read_json, files.read_table, files.file_hash])
def test_absent_files_and_folders_are_named(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(BranchgenError, match=r"absent\.x does not exist; check the path"):
        read(tmp_path / "absent.x")
    with pytest.raises(BranchgenError, match="is not a file"):
        read(tmp_path)


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert files.file_hash(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_a_terminated_command_leaves_no_temporary_file(tmp_path: Path) -> None:
    """SIGTERM, as at the end of a job's time, while an output is open."""
    code = (
        "import sys, time, branchgen.cli, branchgen.__main__ as program\n"
        "from branchgen import files\n"
        "from pathlib import Path\n"
        "def slow():\n"
        "    with files.written_together(Path(sys.argv[1])) as (path,):\n"
        "        path.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "program.main = slow\n"
        "program.run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x.json")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.terminate()
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    assert not list(tmp_path.iterdir())
