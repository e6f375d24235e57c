"""What a generator must beat: a negative binomial per type and gene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.expression import Doubles

BLOCK = 2**20
"""Counts drawn at once."""


@dataclass(frozen=True, kw_only=True)
class NegativeBinomial:
    """Independent genes with x ~ NB(mean s·rate, variance μ + overdispersion·μ²), log s ~ N(log_size, log_size_sd²).

    `rate` sums to one over genes, so that s is the library size; both arrays have shape (n_genes,).
    """

    rate: Doubles
    overdispersion: Doubles
    log_size: float
    log_size_sd: float

    def draw(self, n_cells: int, rng: np.random.Generator) -> sparse.csr_matrix:
        """Counts of new cells, CSR int32 of shape (n_cells, n_genes)."""
        step = max(1, BLOCK // len(self.rate))
        blocks = [self._draw_block(min(step, n_cells - start), rng) for start in range(0, n_cells, step)]
        return sparse.csr_matrix(sparse.vstack(blocks, format="csr", dtype=np.int32))

    def _draw_block(self, n_cells: int, rng: np.random.Generator) -> sparse.csr_matrix:
        size = rng.lognormal(self.log_size, self.log_size_sd, n_cells)
        mean = size[:, None] * self.rate
        noisy = self.overdispersion > 0
        shape = 1 / self.overdispersion[noisy]
        mean[:, noisy] *= rng.gamma(shape, 1 / shape, (n_cells, len(shape)))
        return sparse.csr_matrix(rng.poisson(mean).astype(np.int32))


@dataclass(frozen=True, kw_only=True)
class GeneRates:
    """Library sizes s (n_cells,); for every gene its total, its rate Σ_i x_i / Σ_i s_i, and Σ_i (x_i − s_i·rate)²."""

    size: Doubles
    total: Doubles
    rate: Doubles
    residual: Doubles


def gene_rates(counts: sparse.csr_matrix) -> GeneRates:
    """Rates of the cells of one type, by maximum likelihood of Poisson counts (n_cells, n_genes), not all zero."""
    values = counts.astype(np.float64)
    size = np.asarray(values.sum(axis=1)).ravel()
    total = np.asarray(values.sum(axis=0)).ravel()
    rate = total / size.sum()
    square = np.asarray(values.multiply(values).sum(axis=0)).ravel()
    residual = square - 2 * rate * (values.T @ size) + rate**2 * (size @ size)
    return GeneRates(size=size, total=total, rate=rate, residual=residual.clip(0))


def fit_negative_binomial(counts: sparse.csr_matrix) -> NegativeBinomial:
    """Fit to the cells of one type; counts of shape (n_cells, n_genes), not all of them zero.

    The overdispersion follows from the second moment, (Σ_i (x_i − μ_i)² − Σ_i μ_i) / Σ_i μ_i², and is zero where a gene
    varies less than Poisson.
    """
    found = gene_rates(counts)
    mean_square = found.rate**2 * (found.size @ found.size)
    excess = np.divide(found.residual - found.total, mean_square, out=np.zeros_like(mean_square), where=mean_square > 0)
    log_size = np.log(found.size[found.size > 0])
    return NegativeBinomial(
        rate=found.rate,
        overdispersion=excess.clip(0),
        log_size=float(log_size.mean()),
        log_size_sd=float(log_size.std()),
    )


def draw_types(
    counts: sparse.csr_matrix, types: NDArray[np.str_], n_cells: dict[str, int], rngs: dict[str, np.random.Generator]
) -> tuple[sparse.csr_matrix, NDArray[np.str_]]:
    """Counts and types of new cells, from a fit to every type that `counts` hold and `n_cells` asks for."""
    names = [name for name, n in n_cells.items() if n and (types == name).any()]
    blocks = [fit_negative_binomial(counts[types == name]).draw(n_cells[name], rngs[name]) for name in names]
    drawn = sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
    return drawn, np.repeat(np.array(names), [n_cells[name] for name in names])
