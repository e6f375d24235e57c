"""Cells written block by block: the same file as all at once, and a full disk at any moment is one error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from branchgen import files
from branchgen.growing import GrowingH5ad, write_in_blocks

N_CELLS = 300
GENES = [f"gene {i}" for i in range(40)]

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd
from scipy import sparse
from branchgen import files
from branchgen.growing import GrowingH5ad
from branchgen.errors import BranchgenError

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
blocks = [sparse.csr_matrix(rng.poisson(2, (100, 40)).astype(np.int32)) for _ in range(6)]
obs = pd.DataFrame({"cell_type": pd.Categorical(["a", "b"] * 300)}, index=[f"cell {i}" for i in range(600)])

genes = [f"gene {i}" for i in range(40)]
latents = rng.normal(size=(600, 5)).astype(np.float32)

def write():
    with (
        files.written_together(folder / "cells.h5ad") as (path,),
        GrowingH5ad(path, genes, obs.iloc[:0], {"X_latent": 5}) as output,
    ):
        for number, block in enumerate(blocks):
            rows = slice(100 * number, 100 * number + 100)
            output.append(block, obs.iloc[rows], {"X_latent": latents[rows]})
        output.finish({"note": "x"})

write()
whole = (folder / "cells.h5ad").stat().st_size
(folder / "cells.h5ad").unlink()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for size in [0, 1, 95, 96, 97, 800, *range(1000, whole, whole // 60), whole - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        write()
    except BranchgenError as error:
        assert "File too large; check free space and permissions" in str(error), error
    else:
        raise AssertionError(f"{size} bytes were enough for {whole}")
    assert not list(folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (whole, hard))
write()
assert [path.name for path in folder.iterdir()] == ["cells.h5ad"]
"""


def counts(n_cells: int = N_CELLS) -> sparse.csr_matrix:
    """Counts whose first cell and first gene are empty."""
    values = np.random.default_rng(0).poisson(1.0, (n_cells, len(GENES))).astype(np.int32)
    values[:1], values[:, :1] = 0, 0
    return sparse.csr_matrix(values)


def grown(path: Path, matrix: sparse.csr_matrix, sizes: list[int]) -> pd.DataFrame:
    """Write a matrix in blocks of these sizes; returns the table of the cells."""
    n_cells = matrix.shape[0]
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(np.resize(["T cell", "B cell"], n_cells)), "ancestor": np.arange(n_cells)},
        index=[f"cell {i}" for i in range(n_cells)],
    )
    latents = np.arange(n_cells * 3, dtype=np.float32).reshape(n_cells, 3)
    ends = np.cumsum(sizes)
    assert ends[-1] == n_cells
    with (
        files.written_together(path) as (temporary,),
        GrowingH5ad(temporary, GENES, obs.iloc[:0], {"X_latent": 3}) as output,
    ):
        for size, end in zip(sizes, ends, strict=True):
            rows = slice(end - size, end)
            output.append(matrix[rows], obs.iloc[rows], {"X_latent": latents[rows]})
        output.finish({"branchgen": "{}"})
    return obs


@pytest.mark.parametrize("sizes", [[300], [1, 299], [100, 100, 100], [0, 120, 0, 180, 0], [1] * 300])
def test_blocks_make_the_matrix_that_they_are_part_of(sizes: list[int], tmp_path: Path) -> None:
    matrix = counts()
    obs = grown(tmp_path / "cells.h5ad", matrix, sizes)
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for found in (cells.X, cells.layers["counts"]):
        assert isinstance(found, sparse.csr_matrix)
        assert found.dtype == np.int32
        assert found.shape == (N_CELLS, len(GENES))
        assert found.has_canonical_format
        assert (found != matrix).nnz == 0
    pd.testing.assert_frame_equal(cells.obs, obs)
    assert list(cells.var_names) == GENES
    np.testing.assert_array_equal(cells.obsm["X_latent"].ravel(), np.arange(N_CELLS * 3))
    assert cells.obsm["X_latent"].dtype == np.float32
    assert cells.uns == {"branchgen": "{}"}
    assert list(tmp_path.iterdir()) == [tmp_path / "cells.h5ad"]


def test_both_names_are_one_matrix_on_disk(tmp_path: Path) -> None:
    grown(tmp_path / "cells.h5ad", counts(), [150, 150])
    with h5py.File(tmp_path / "cells.h5ad") as store:
        assert store["X"] == store["layers/counts"]
        assert store["X/data"].id == store["layers/counts/data"].id
        for name in ("data", "indices", "indptr"):
            assert store[f"X/{name}"].compression == "gzip"
            assert store[f"X/{name}"].chunks == (2**16,)


@pytest.mark.parametrize(("largest", "kind"), [(None, np.int32), (100, np.int64)])
def test_more_counts_than_short_numbers_can_tell(
    largest: int | None, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if largest is not None:
        monkeypatch.setattr("branchgen.growing.LARGEST_SHORT", largest)
    matrix = counts()
    grown(tmp_path / "grown.h5ad", matrix, [150, 150])
    cells = AnnData(
        obs=pd.DataFrame(index=[f"cell {i}" for i in range(N_CELLS)]), var=pd.DataFrame(index=pd.Index(GENES))
    )
    with files.written_together(tmp_path / "blocks.h5ad") as (path,):
        write_in_blocks(cells, [matrix[:1], matrix[1:200], matrix[200:]], path)
    for name in ("grown", "blocks"):
        with h5py.File(tmp_path / f"{name}.h5ad") as store:
            assert store["X/indptr"].dtype == store["layers/counts/indptr"].dtype == kind
            assert store["X/indices"].dtype == np.int32
        found = anndata.read_h5ad(tmp_path / f"{name}.h5ad")
        assert (matrix != found.X).nnz == 0
        assert (found.layers["counts"] != matrix).nnz == 0
        assert found.X.dtype == np.int32


def test_cells_can_be_read_from_disk_without_loading_them(tmp_path: Path) -> None:
    matrix = counts()
    grown(tmp_path / "cells.h5ad", matrix, [150, 150])
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    try:
        assert (matrix[140:160] != cells[140:160].to_memory().X).nnz == 0
    finally:
        cells.file.close()


def test_a_mistake_of_ours_keeps_its_name_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        files.written_together(tmp_path / "cells.h5ad") as (path,),
        GrowingH5ad(path, GENES, pd.DataFrame(index=pd.Index([], dtype=object)), {}) as output,
    ):
        output.append(counts(), pd.DataFrame(index=[f"cell {i}" for i in range(N_CELLS)]), {})
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_any_moment_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    """In a process of its own, whose end is a part of the test: HDF5 crashes there where a write has failed."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]
