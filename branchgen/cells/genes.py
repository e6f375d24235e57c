"""Which genes are modelled: the most variable ones, or given ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from branchgen.cells.counts import RawCounts, evenly
from branchgen.cells.keys import SEEN
from branchgen.config import PrepareSettings
from branchgen.errors import BranchgenError

ENOUGH_CELLS = 50_000
"""Cells in which the variability of genes is judged, at most."""


def modelled_genes(
    counts: RawCounts, rows: NDArray[np.int64], settings: PrepareSettings, source: str
) -> tuple[int, NDArray[np.int64]]:
    """Number of genes detected in enough of these cells, and the columns of the most variable of them, ascending.

    Variable is what exceeds a negative binomial of common dispersion by its Pearson residuals (Lause et al. 2021), in
    these cells or, where they are many, in some of them at equal distances.
    """
    columns = np.flatnonzero(counts.n_cells_with(rows) >= settings.min_cells_per_gene)
    if len(columns) < 2:
        raise BranchgenError(
            f"{len(columns)} genes of {source} are detected in {settings.min_cells_per_gene} cells of the splits "
            f"{' and '.join(SEEN)}; there must be two or more, so lower min_cells_per_gene"
        )
    if len(columns) <= settings.n_genes:
        return len(columns), columns
    from scanpy.experimental.pp import highly_variable_genes

    some = AnnData(counts.select(evenly(rows, ENOUGH_CELLS), columns))
    table = highly_variable_genes(some, flavor="pearson_residuals", n_top_genes=settings.n_genes, inplace=False)
    return len(columns), columns[table["highly_variable"].to_numpy(dtype=bool)]


def given_genes(cells: AnnData, genes: Sequence[str], source: str) -> NDArray[np.int64]:
    """Columns of these genes, in their order; BranchgenError counts those that are missing."""
    columns = cells.var_names.astype(str).get_indexer(pd.Index(genes))
    missing = np.flatnonzero(columns < 0)
    if len(missing):
        raise BranchgenError(
            f"{source} lacks {len(missing)} of the {len(genes)} genes that are modelled, the first is "
            f"{genes[missing[0]]!r}; give counts of the same genes, under the same names"
        )
    return np.asarray(columns, dtype=np.int64)
