"""The transforms of the evaluation, all fitted on cells that are on neither side of any comparison."""

from __future__ import annotations

from dataclasses import dataclass

import anndata
import numpy as np
import scanpy as sc
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from branchgen.analysis.expression import Doubles, normalised
from branchgen.analysis.two_sample import median_squared_distance

MAX_BANDWIDTH_CELLS = 2000
"""Cells whose distances give the bandwidth of the kernels."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Variable genes, centred principal components and kernel bandwidth of the ref cells.

    `variable` holds positions of genes, shape (n_variable,); `components` has shape (n_genes, n_components) and
    `offset`, the projection of the mean, (n_components,).
    """

    variable: NDArray[np.int64]
    components: Doubles
    offset: Doubles
    bandwidth: float

    def expression(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """log1p of the normalised counts of the variable genes, shape (n_cells, n_variable)."""
        return normalised(counts)[:, self.variable].log1p()

    def transform(self, counts: sparse.csr_matrix) -> tuple[Doubles, sparse.csr_matrix]:
        """Principal components and expression of the same cells, as `project` and `expression` give them."""
        logs = normalised(counts).log1p()
        return self._scores(logs), logs[:, self.variable]

    def project(self, counts: sparse.csr_matrix) -> Doubles:
        """Principal components of cells, shape (n_cells, n_components); no gene is made dense."""
        return self._scores(normalised(counts).log1p())

    def _scores(self, logs: sparse.csr_matrix) -> Doubles:
        scores: Doubles = logs @ self.components - self.offset
        return scores


def fit_reference(counts: sparse.csr_matrix, *, n_variable: int, n_components: int) -> Reference:
    """Transforms fitted on the counts of ref cells, shape (n_cells, n_genes); at least three cells.

    The components are those of all genes: they see more of what a generator gets wrong than those of the variable
    ones. There are fewer components and variable genes than asked for where the cells do not allow more.
    """
    n_kept = min(n_components, counts.shape[0] - 1, counts.shape[1])
    expression = normalised(counts).log1p()
    pca = PCA(n_kept, svd_solver="covariance_eigh").fit(expression)
    components = np.ascontiguousarray(pca.components_.T)
    offset = pca.mean_ @ components
    return Reference(
        variable=variable_genes(counts, n_variable),
        components=components,
        offset=offset,
        bandwidth=median_squared_distance(expression[:MAX_BANDWIDTH_CELLS] @ components),
    )


def variable_genes(counts: sparse.csr_matrix, n_genes: int) -> NDArray[np.int64]:
    """Ascending positions of the detected genes with the largest variance of Pearson residuals (Lause et al. 2021)."""
    detected = np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel())
    if len(detected) <= n_genes:
        return detected
    cells = anndata.AnnData(sparse.csr_matrix(counts[:, detected], dtype=np.float32))
    table = sc.experimental.pp.highly_variable_genes(
        cells, n_top_genes=n_genes, flavor="pearson_residuals", check_values=False, inplace=False
    )
    variable: NDArray[np.int64] = detected[table["highly_variable"].to_numpy()]
    return variable
