"""Real cells that come with an installed package, so that a first run needs no network."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.errors import BranchgenError

EMBEDDED = ("scanpy:pbmc68k_reduced",)
"""Names that `load_embedded` knows."""
TARGET_SUM = 1e4
"""Library size to which the embedded cells were normalised before log1p."""
ROUNDING = 5e-4
"""The embedded values are stored with three decimals, so each is off by at most half of the last one."""


def load_embedded(name: str) -> AnnData:
    """Cells of an embedded data set, raw integer counts in X (CSR int32); raises BranchgenError for another name."""
    if name not in EMBEDDED:
        raise BranchgenError(f"no embedded data set is called {name!r}; there is {', '.join(EMBEDDED)}")
    import scanpy

    cells = scanpy.datasets.pbmc68k_reduced()
    totals = cells.obs["n_counts"].to_numpy(dtype=np.float64)
    counts = recovered_counts(sparse.csr_matrix(cells.raw.X), totals)
    return AnnData(X=counts, obs=cells.obs.copy(), var=cells.raw.var.copy())


def recovered_counts(values: sparse.csr_matrix, totals: NDArray[np.float64]) -> sparse.csr_matrix:
    """Counts c behind values log1p(c · 10⁴ / total) that were stored with three decimals.

    `values` has shape (n_cells, n_genes), `totals` (n_cells,) holds the UMIs of a cell over all genes, those that were
    left out included. The nearest integer counts are those of the cells if normalising them again gives every
    stored value within its rounding, and no other integer would: two neighbouring counts must be more than the
    whole rounding interval apart. Raises BranchgenError otherwise.

    The counts themselves stray from integers by up to ROUNDING · (c + total/10⁴), so by .1 at 200 counts: the test
    is on the scale on which the rounding happened.
    """
    rows = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    scale = totals[rows] / TARGET_SUM
    stored = values.data.astype(np.float64)
    counts = np.rint(np.expm1(stored) * scale)
    # Values are stored as float32, whose own rounding comes on top.
    allowed = ROUNDING + np.spacing(np.abs(values.data)).astype(np.float64)
    fits = np.abs(np.log1p(counts / scale) - stored) <= allowed
    unique = np.log1p((counts + 1) / scale) - np.log1p(counts / scale) > 2 * allowed
    n_wrong = int((~(fits & unique)).sum())
    if n_wrong:
        raise BranchgenError(
            f"integer counts cannot be recovered from {n_wrong} of {len(stored)} embedded values; "
            "the installed scanpy carries other data than expected, so give an h5ad of raw counts instead"
        )
    recovered = sparse.csr_matrix((counts.astype(np.int32), values.indices, values.indptr), shape=values.shape)
    recovered.eliminate_zeros()
    return recovered
