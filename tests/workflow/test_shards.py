"""Generation in shards: jobs of their own, whose cells are those of one job."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import pandas as pd
from run_workflow import jobs, snakemake, write_config

TARGET = "results/tiny/generated.h5ad"


def test_shards_are_generated_by_jobs_of_their_own(dataset: Path) -> None:
    config = write_config(dataset, "shards.yaml", generate={"n_shards": 3})
    found = jobs(snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--forceall", "--", TARGET))
    steps = dict.fromkeys(["prepare", "encode", "derive", "train", "gather"], 1)
    assert found == {**steps, "generate_shard": 3}


def test_runs_of_the_benchmark_are_not_sharded(dataset: Path) -> None:
    config = write_config(dataset, "shards.yaml", generate={"n_shards": 3}, benchmark={"n_seeds": 1})
    found = jobs(snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--", "benchmark"))
    assert found["generate"] == 1
    assert "gather" not in found


def test_gathered_shards_are_the_cells_of_one_job(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    expected = anndata.read_h5ad(folder / TARGET)
    (folder / TARGET).unlink()
    config = write_config(folder, generate={"n_shards": 3})
    run = snakemake("--directory", folder, "--configfile", config, "--rerun-triggers", "mtime", "--", TARGET)
    assert run.returncode == 0, run.stdout
    found = anndata.read_h5ad(folder / TARGET)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    assert (found.X != expected.X).nnz == 0
    assert found.uns["branchgen"] == expected.uns["branchgen"]
    assert not list((folder / "results/tiny/shards").glob("*"))

    shards = [f"results/tiny/shards/{number}.h5ad" for number in (1, 2, 3)]
    run = snakemake(
        "--directory", folder, "--configfile", config, "--rerun-triggers", "mtime", "--notemp", "--", *shards
    )
    assert run.returncode == 0, run.stdout
    parts = anndata.concat([anndata.read_h5ad(folder / shard) for shard in shards])
    pd.testing.assert_frame_equal(parts.obs, expected.obs, check_categorical=False)
    assert (parts.X != expected.X).nnz == 0
