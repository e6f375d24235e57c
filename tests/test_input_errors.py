"""Every input that cannot be used: one sentence, exit code 2, and no file left."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from anndata import AnnData
from limits import limit_files
from scipy import sparse
from simulate import simulate_cells

from branchgen.cli import main

Change = Callable[[AnnData], None]


def written(path: Path, change: Change) -> Path:
    """An h5ad of simulated cells after a change."""
    cells = simulate_cells()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* names are not unique")
        change(cells)
        cells.write_h5ad(path)
    return path


def nothing(cells: AnnData) -> None:
    """Leave the cells as they are."""


def counts(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Change of the counts alone."""

    def apply(cells: AnnData) -> None:
        cells.X = sparse.csr_matrix(change(cells.X.toarray().astype(np.float64)))

    return apply


def labels(change: Callable[[np.ndarray], Any]) -> Change:
    """Change of the labels alone."""

    def apply(cells: AnnData) -> None:
        cells.obs["cell_type"] = change(cells.obs["cell_type"].astype(str).to_numpy(dtype=object))

    return apply


def put(values: np.ndarray, value: Any) -> np.ndarray:
    """Copy of the values with this one in three places."""
    changed = values.copy()
    changed.flat[[5, 50, 300]] = value
    return changed


def name_twice(attribute: str) -> Change:
    """Give the second cell or gene the name of the first."""

    def apply(cells: AnnData) -> None:
        names = getattr(cells, attribute).to_list()
        setattr(cells, attribute, [names[0], names[0], *names[2:]])

    return apply


def three_donors(cells: AnnData) -> None:
    cells.obs["donor"] = np.resize(["a", "b", "c"], cells.n_obs)


def donor_unknown(cells: AnnData) -> None:
    cells.obs["donor"] = put(cells.obs["donor"].astype(str).to_numpy(dtype=object), None)


def log_normalise(x: np.ndarray) -> np.ndarray:
    return np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)


def scale(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def four_cells_one_of_them_dull(cells: AnnData) -> None:
    """Four cells become a type of their own; one of them has none of the genes that vary, and will be removed."""
    types = cells.obs["cell_type"].astype(str).to_numpy(dtype=object)
    rng = np.random.default_rng(0)
    matrix = np.zeros(cells.shape)
    matrix[:, :60] = rng.poisson(30.0, size=(cells.n_obs, 60))
    for column in range(20):
        matrix[:, 60 + column] = rng.poisson(np.where(types == sorted(set(types))[column % 4], 40.0, 1.0))
    types[[10, 20, 30, 40]] = "rare"
    matrix[10, 60:] = 0
    cells.X, cells.obs["cell_type"] = sparse.csr_matrix(matrix), types


WRONG: dict[str, tuple[Change, list[str], list[str]]] = {
    # What is wrong: the change, further arguments, and what the sentence must say.
    "label column absent": (
        nothing,
        ["--label-key", "celltype"],
        ["{source} has no column 'celltype' in obs; it has cell_type, lineage, donor"],
    ),
    "labels missing": (
        labels(lambda names: put(names, None)),
        [],
        ["obs['cell_type'] of {source} has 3 missing values in 400 cells; fill them, or remove these cells"],
    ),
    "reserved class": (labels(lambda names: put(names, "root")), [], ["has a class 'root', which is reserved; rename"]),
    "layer absent": (
        nothing,
        ["--counts", "raw"],
        ["{source} has no layer 'raw' to take the counts from; it has X"],
    ),
    "negative": (
        counts(lambda x: put(x, -3)),
        [],
        ["the counts in X of {source} are negative down to -3; give the raw integer counts, in X or in a layer"],
    ),
    "log-normalised": (
        counts(log_normalise),
        [],
        ["the counts in X of {source} look log-normalised: ", " fractional values, up to ", "; give the raw integer"],
    ),
    "scaled": (
        counts(scale),
        [],
        ["the counts in X of {source} look scaled: ", " fractional values, from -", "; give the raw integer counts"],
    ),
    "NaN": (
        counts(lambda x: put(x, np.nan)),
        [],
        ["the counts in X of {source} hold 3 NaN or infinite values; give the raw integer counts"],
    ),
    "all zero": (
        counts(lambda x: 0 * x),
        [],
        ["the counts in X of {source} are all zero; name the slot with the raw counts (X)"],
    ),
    "gene named twice": (
        name_twice("var_names"),
        [],
        ["{source} has 1 duplicate gene names, such as 'gene_0'; every gene must have a name of its own"],
    ),
    "cell named twice": (
        name_twice("obs_names"),
        [],
        ["{source} has 1 duplicate cell names, such as 'cell_0'; every cell must have a name of its own"],
    ),
    "classes too small": (
        nothing,
        ["--min-cells-per-class", "1000"],
        ["{source} has no class of at least 1000 cells (removed: ", "); lower min_cells_per_class"],
    ),
    "too few donors": (
        three_donors,
        ["--split-key", "donor"],
        ["obs['donor'] has 3 different values (a, b, c) but there are 4 splits; give a column with more donors"],
    ),
    "donors missing": (donor_unknown, ["--split-key", "donor"], ["obs['donor'] of {source} has 3 missing values"]),
    "a class of fewer cells than splits": (
        four_cells_one_of_them_dull,
        ["--min-cells-per-class", "4", "--n-genes", "20"],
        ["class 'rare' of {source} has fewer cells than the splits need: 3 in all, none for ", "merge the class"],
    ),
}


def prepare(source: Path | str, output: Path, *more: str) -> list[str]:
    label = [] if "--label-key" in more else ["--label-key", "cell_type"]
    return ["prepare", "--source", str(source), "--output-cells", str(output), *label, *more]


def check(error: str, parts: list[str], folder: Path) -> None:
    """One sentence that holds all parts, and no file in the folder of the output."""
    assert error.startswith("branchgen prepare: "), error
    assert error.endswith("\n")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error
    assert not list(folder.iterdir())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "cells.h5ad"


@pytest.mark.parametrize("what", WRONG)
def test_cells_that_cannot_be_modelled(
    what: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, more, parts = WRONG[what]
    source = written(tmp_path / "cells.h5ad", change)
    assert main(prepare(source, output, *more)) == 2
    check(capsys.readouterr().err, [part.replace("{source}", str(source)) for part in parts], output.parent)


def truncated(path: Path) -> None:
    written(path, nothing)
    path.write_bytes(path.read_bytes()[:-2000])


def another_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as store:
        store["matrix"] = np.arange(5)


FILES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "absent": (lambda path: None, ["{source} does not exist; check the path"]),
    "a folder": (lambda path: path.mkdir(), ["{source} is a folder, but not a zarr store of cells", "write_zarr"]),
    "a text": (lambda path: path.write_text("gene,cell\n"), ["{source} is not an h5ad file", "write it with AnnData"]),
    "empty": (lambda path: path.write_text(""), ["{source} is not an h5ad file"]),
    "truncated": (truncated, ["{source} cannot be read as h5ad, it may be truncated: "]),
    "another HDF5": (another_hdf5, ["{source} cannot be read as h5ad"]),
}


@pytest.mark.parametrize("what", FILES)
def test_files_that_are_no_h5ad(what: str, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, parts = FILES[what]
    source = tmp_path / "cells.h5ad"
    make(source)
    assert main(prepare(source, output)) == 2
    check(capsys.readouterr().err, [part.replace("{source}", str(source)) for part in parts], output.parent)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("scanpy:pbmc3k", "no embedded data set is called 'scanpy:pbmc3k'; there is scanpy:pbmc68k_reduced"),
        ("https://example.org/a.h5ad", "branchgen fetch --url https://example.org/a.h5ad --sha256 HASH --output-cells"),
    ],
)
def test_sources_that_are_no_files(source: str, part: str, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(prepare(source, output)) == 2
    check(capsys.readouterr().err, [part], output.parent)


def test_a_setting_out_of_range(tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "cells.h5ad", nothing)
    assert main(prepare(source, output, "--n-genes", "1")) == 2
    check(capsys.readouterr().err, ["PrepareSettings.n_genes is 1; it must be at least 2"], output.parent)


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a process of its own."""
    command = [sys.executable, "-B", "-m", "branchgen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@pytest.mark.parametrize("what", ["gene named twice", "log-normalised"])
def test_a_process_of_its_own_says_one_sentence(what: str, tmp_path: Path, output: Path) -> None:
    change, more, _ = WRONG[what]
    source = written(tmp_path / "cells.h5ad", change)
    done = run(*prepare(source, output, *more))
    assert done.returncode == 2
    assert done.stdout == ""
    spoken = [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(spoken) == 1, done.stderr
    check(spoken[0] + "\n", [], output.parent)


@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk(old: bool, tmp_path: Path, output: Path) -> None:
    source = written(tmp_path / "cells.h5ad", nothing)
    if old:
        output.write_text("old")
    done = run(*prepare(source, output), preexec_fn=lambda: limit_files(20_000))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence == f"branchgen prepare: cannot write {output}: File too large; check free space and permissions"
    assert [path.read_text() for path in output.parent.iterdir()] == (["old"] if old else [])


def test_the_same_cells_unspoiled_are_prepared(tmp_path: Path, output: Path) -> None:
    """Were this to fail, the errors above could be those of the simulation."""
    source = written(tmp_path / "cells.h5ad", nothing)
    assert main(prepare(source, output, "--split-key", "donor")) == 0
    assert list(output.parent.iterdir()) == [output]
