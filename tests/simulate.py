"""Cells of a known tree: negative-binomial counts whose log-means part first by lineage, then by type."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

N_DONORS = 6


def simulate_cells(n_cells: int = 400, n_genes: int = 120, n_types: int = 4, seed: int = 0) -> AnnData:
    """Raw counts of `n_types` types in two lineages and six donors; all are a function of the arguments.

    X is CSR float32 of whole numbers; obs has cell_type, lineage (A or B, the coarse level of cell_type) and donor;
    uns['newick'] is the true tree of the types. Types have unequal abundances, and every donor has every type.
    """
    if n_types < 2:
        raise ValueError("a tree of types needs at least two")
    rng = np.random.default_rng(seed)
    lineage_of = np.array(["A" if code < (n_types + 1) // 2 else "B" for code in range(n_types)])
    types = np.array([f"{lineage}{code}" for code, lineage in enumerate(lineage_of)])

    log_mean = rng.normal(0.0, 1.0, n_genes) + np.zeros((n_types, 1))
    for lineage in ("A", "B"):
        log_mean[lineage_of == lineage] += _program(rng, n_genes, share=0.3, effect=1.5)
    for code in range(n_types):
        log_mean[code] += _program(rng, n_genes, share=0.15, effect=1.0)
    fractions = np.exp(log_mean) / np.exp(log_mean).sum(axis=1, keepdims=True)

    abundance = np.linspace(2.0, 1.0, n_types)
    codes = np.sort(rng.choice(n_types, size=n_cells, p=abundance / abundance.sum()))
    library_size = rng.lognormal(np.log(8.0 * n_genes), 0.3, n_cells)
    rate = library_size[:, None] * fractions[codes]
    counts = rng.poisson(rng.gamma(4.0, rate / 4.0))  # dispersion 4: variance μ + μ²/4

    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(types[codes], categories=list(types)),
            "lineage": pd.Categorical(lineage_of[codes]),
            "donor": pd.Categorical([f"donor_{i % N_DONORS}" for i in range(n_cells)]),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    cells = anndata.AnnData(
        X=sparse.csr_matrix(counts.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=[f"gene_{j}" for j in range(n_genes)]),
    )
    groups = [",".join(types[lineage_of == lineage]) for lineage in ("A", "B")]
    cells.uns["newick"] = "(" + ",".join(f"({group})" if "," in group else group for group in groups) + ");"
    return cells


def simulate_new_class(name: str = "C4", halves: tuple[str, str] = ("A0", "B2"), n_cells: int = 80) -> AnnData:
    """Raw counts of a class that `simulate_cells` does not have, and lies between two that it has.

    Every cell is half of one cell of each: every count is kept with probability one half.
    """
    cells = simulate_cells()
    rng = np.random.default_rng(1)
    chosen = [rng.choice(np.flatnonzero(cells.obs["cell_type"] == half), n_cells) for half in halves]
    counts = sum(rng.binomial(cells.X[rows].toarray().astype(int), 0.5) for rows in chosen)
    obs = pd.DataFrame({"cell_type": pd.Categorical([name] * n_cells)}, index=[f"{name}_{i}" for i in range(n_cells)])
    return anndata.AnnData(X=sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=cells.var)


def _program(rng: np.random.Generator, n_genes: int, *, share: float, effect: float) -> np.ndarray:
    """Log-fold-changes of a gene program: normal in a share of the genes, zero elsewhere."""
    return rng.normal(0.0, effect, n_genes) * (rng.random(n_genes) < share)
