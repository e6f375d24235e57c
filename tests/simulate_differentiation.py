"""Cells of a simulated differentiation whose pseudotime and fates are known.

`python tests/simulate_differentiation.py OUTPUT.h5ad` writes them for `branchgen prepare`.
"""

from __future__ import annotations

import sys

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

FIRST, SECOND = 0.3, 0.65
"""Pseudotimes at which a progenitor's fates part, and those of its daughters."""
ENDS = ("A1", "A2", "B1", "B2")


def simulate_differentiation(n_cells: int = 4000, n_genes: int = 1000, seed: int = 0) -> AnnData:
    """Raw counts of cells on their way from one progenitor over A and B to four ends.

    Log-means move at unit speed along a direction of genes that is the path's own. obs has cell_type (progenitor, A, B
    and the ends), pseudotime in [0, 1], and fate_A1 ... fate_B2: a cell before a branching has all ends beyond it, and
    all alike.
    """
    rng = np.random.default_rng(seed)
    names = ["progenitor", "A", "B", *ENDS]
    direction = {name: rng.normal(size=n_genes) * (rng.random(n_genes) < 0.15) * 2.5 for name in names}
    time = rng.uniform(size=n_cells)
    end = rng.integers(len(ENDS), size=n_cells)
    middle = np.where(end < 2, "A", "B")
    log_mean = rng.normal(0, 1.2, n_genes) + np.zeros((n_cells, 1))
    log_mean += np.minimum(time, FIRST)[:, None] * direction["progenitor"]
    later = np.clip(time - FIRST, 0, SECOND - FIRST)[:, None]
    last = np.clip(time - SECOND, 0, None)[:, None]
    for name in ("A", "B"):
        log_mean += (middle == name)[:, None] * later * direction[name]
    for code, name in enumerate(ENDS):
        log_mean += (end == code)[:, None] * last * direction[name]
    share = np.exp(log_mean) / np.exp(log_mean).sum(axis=1, keepdims=True)
    counts = rng.poisson(rng.gamma(4.0, rng.lognormal(np.log(3000), 0.3, n_cells)[:, None] * share / 4.0))
    types = np.where(time < FIRST, "progenitor", np.where(time < SECOND, middle, np.array(ENDS)[end]))
    obs = pd.DataFrame({"cell_type": pd.Categorical(types), "pseudotime": time})
    for code, name in enumerate(ENDS):
        same = middle == ("A" if code < 2 else "B")
        obs[f"fate_{name}"] = np.where(time < FIRST, 0.25, np.where(time < SECOND, same / 2, end == code))
    obs.index = pd.Index([f"cell_{i}" for i in range(n_cells)])
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=genes(n_genes))


def genes(n_genes: int) -> pd.DataFrame:
    """Names of the genes."""
    return pd.DataFrame(index=[f"gene_{j}" for j in range(n_genes)])


if __name__ == "__main__":
    simulate_differentiation().write_h5ad(sys.argv[1])
