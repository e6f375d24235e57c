"""What changes in cells that become cells of another class, and what is kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.expression import Doubles, normalised

BLOCK = 2**24
"""Values that are dense at once."""


def transmuted_genes(
    source: sparse.csr_matrix, transmuted: sparse.csr_matrix, target: sparse.csr_matrix, genes: NDArray[np.str_]
) -> pd.DataFrame:
    """A row for every gene, from counts (n_cells, n_genes); rows of `source` and `transmuted` are the same cells.

    `source_mean`, `transmuted_mean` and `target_mean` are means of log1p of counts normalised to 10⁴; `change` is that
    of the cells, `expected_change` that between the real cells of the two classes; `kept` is the correlation of a gene
    between the cells and what they have become, missing where it does not vary.
    """
    logs = [normalised(counts).log1p() for counts in (source, transmuted, target)]
    means = [np.asarray(log.mean(axis=0)).ravel() for log in logs]
    return pd.DataFrame(
        {
            "gene": genes,
            "source_mean": means[0],
            "transmuted_mean": means[1],
            "target_mean": means[2],
            "change": means[1] - means[0],
            "expected_change": means[2] - means[0],
            "kept": _correlations(logs[0], logs[1]),
        }
    )


def _correlations(a: sparse.csr_matrix, b: sparse.csr_matrix) -> Doubles:
    """Pearson correlation of every column of two matrices (n_cells, n_genes); not a number for constant ones."""
    step = max(1, BLOCK // a.shape[0])
    parts = []
    for start in range(0, a.shape[1], step):
        x, y = (side[:, start : start + step].toarray() for side in (a, b))
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
        parts.append(np.divide((x * y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 1e-12))
    found: Doubles = np.concatenate(parts)
    return found
