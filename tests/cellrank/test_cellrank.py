"""CellRank 2 reads the fates of real cells. It needs a virtual environment of its own: `make test-cellrank`, or

python3 -m venv cellrank && cellrank/bin/pip install "cellrank>=2.0.7,<3"
BRANCHGEN_CELLRANK=cellrank/bin/python pytest tests/cellrank
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import anndata
import pandas as pd
import pytest

PYTHON = os.environ.get("BRANCHGEN_CELLRANK")


@pytest.mark.skipif(PYTHON is None, reason="needs CellRank 2, in an environment of its own: see the file")
def test_cellrank_draws_fates_and_finds_drivers(tiny_run: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("read_fates.py")
    run = subprocess.run(
        [str(PYTHON), script, tiny_run / "fates.h5ad", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for figure in ("circle.png", "heatmap.png"):
        assert (tmp_path / figure).stat().st_size > 5000
    drivers = pd.read_csv(tmp_path / "drivers.csv", index_col=0)
    fates = anndata.read_h5ad(tiny_run / "fates.h5ad")
    assert set(drivers.index) == set(fates.var_names)
    for name in fates.obs["term_states_fwd"].cat.categories:
        best = drivers[f"{name}_corr"].idxmax()
        expression = fates[:, best].X.toarray().ravel()
        own = (fates.obs["cell_type"] == name).to_numpy()
        assert expression[own].mean() > expression[~own].mean() + 0.5  # of logarithms
