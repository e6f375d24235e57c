"""What estimation alone costs: real cells whose genes are off by the standard errors of the training cells' means.

Whoever fits a distribution to n cells gets the mean of every gene wrong by about its standard error, and repeats that
error in every generated cell; a classifier that sees hundreds of genes adds it up. Real cells with such errors, and no
others, say how much of a generator's distance from the floor more training cells would remove, and no better model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.baselines import gene_rates
from branchgen.analysis.expression import Doubles


def relative_errors(counts: sparse.csr_matrix, types: NDArray[np.str_]) -> Doubles:
    """Standard error of every gene's mean, as a share of it, from training counts (n_cells, n_genes); (n_genes,).

    Only the variation inside types counts: √(Σ_i (x_i − s_i r_t(i))²) / Σ_i x_i, with library size s and the rate r of
    the cell's type. One error for all types is the least there is: that of a type by itself is larger. Zero for genes
    without a count.
    """
    total, residual = np.zeros((2, counts.shape[1]))
    for name in np.unique(types):
        rates = gene_rates(counts[types == name])
        total += rates.total
        residual += rates.residual
    errors: Doubles = np.divide(np.sqrt(residual), total, out=np.zeros_like(total), where=total > 0)
    return errors


def with_errors(counts: sparse.csr_matrix, errors: Doubles, rng: np.random.Generator) -> sparse.csr_matrix:
    """Counts whose genes are multiplied by one random factor each, of mean one and the given standard deviation.

    Factors are Gamma distributed, as the rate of a gene is, given its Poisson counts; products are rounded up or down
    at random, so that their means are kept.
    """
    variance = np.maximum(errors, 1e-6) ** 2
    factors = rng.gamma(1 / variance, variance)
    changed = counts.copy()
    changed.data = np.floor(counts.data * factors[counts.indices] + rng.random(len(counts.data))).astype(counts.dtype)
    changed.eliminate_zeros()
    return changed
