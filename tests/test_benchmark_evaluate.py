"""The benchmark of the evaluation: one row, from cells that are split as prepared ones are."""

from pathlib import Path

import pandas as pd
import pytest

from branchgen.benchmark_config import BenchmarkEvaluateSettings
from branchgen.cli import main
from branchgen.commands.benchmark_evaluate import SHARES, lineages, simulated


def test_seconds_and_memory_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--n-cells", "160", "--n-genes", "60", "--n-types", "3"]
    assert main(["benchmark-evaluate", "--output-table", str(tmp_path / "cost.parquet"), *small]) == 0
    (row,) = pd.read_parquet(tmp_path / "cost.parquet").to_dict("records")
    assert row["n_cells"] == 160
    assert 1 < row["seconds"] < 300
    assert 50 < row["peak_mb_before"] <= row["peak_mb"] < 8000
    assert "peak_mb" in capsys.readouterr().out


def test_parts_have_the_shares_of_the_splits_and_the_same_types() -> None:
    settings = BenchmarkEvaluateSettings(n_cells=300, n_genes=40, n_types=5)
    test, train = (simulated(part, round(150 * SHARES[part]), settings, 0) for part in ("test", "train"))
    assert (test.n_obs, train.n_obs) == (150, 600)
    assert (test.obs["cell_type"].value_counts() == 30).all()
    # The same genes make the same type, and other cells.
    for name in lineages(5).classes:
        profiles = [cells[cells.obs["cell_type"] == name].layers["counts"].mean(axis=0) for cells in (test, train)]
        assert pd.Series(profiles[0].A1).corr(pd.Series(profiles[1].A1)) > 0.9
    assert (test.layers["counts"] != train.layers["counts"][:150]).nnz


@pytest.mark.parametrize("n_types", [2, 3, 12])
def test_types_part_after_their_lineages(n_types: int) -> None:
    tree = lineages(n_types)
    assert len(tree.classes) == n_types
    assert tree.branch_point("A0", "B1").name == "root"
