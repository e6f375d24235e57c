"""Gene–gene correlation within a type: what is left when the types' means are taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from branchgen.analysis.expression import Doubles
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells

N_CORRELATED = 100
"""Genes of a type whose correlations are compared: of the variable ones, those with the highest mean."""


def correlated_genes(ref: Cells, reference: Reference, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """For every named type that ref has, positions among the variable genes of those it expresses most."""
    genes = {}
    for name in names:
        rows = np.flatnonzero(ref.types == name)
        if len(rows):
            mean = np.asarray(reference.expression(ref.counts[rows]).mean(axis=0)).ravel()
            genes[name] = np.sort(np.argsort(-mean, kind="stable")[:N_CORRELATED])
    return genes


def correlations(expression: Doubles) -> Doubles:
    """Pearson correlations of log-normalised expression, shape (n_genes, n_genes); zero where a gene is constant."""
    centred = expression - expression.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    constant = norm <= 1e-9 * np.abs(expression).max(initial=1.0)
    scaled = np.divide(centred, norm, out=np.zeros_like(centred), where=~constant)
    matrix: Doubles = scaled.T @ scaled
    return matrix


def pairs(matrix: Doubles) -> Doubles:
    """Elements above the diagonal."""
    above: Doubles = matrix[np.triu_indices(len(matrix), k=1)]
    return above


def compare_correlations(real: Doubles, generated: Doubles) -> dict[str, float]:
    """Mean absolute error of the correlations of all pairs of genes, and the correlation between both.

    Both depend on the number of cells as much as on the generator, and so need the floor of as many. The second is not
    a number where the correlations of a side are all equal.
    """
    a, b = pairs(real), pairs(generated)
    varied = a.std() > 0 and b.std() > 0
    agreement = float(np.corrcoef(a, b)[0, 1]) if varied else float("nan")
    return {"correlation_error": float(np.abs(a - b).mean()), "correlation_agreement": agreement}


def clustered(real: Doubles) -> NDArray[np.int64]:
    """Order of the genes in an average-linkage clustering of their correlations, so that blocks can be seen."""
    if len(real) < 3:
        return np.arange(len(real))
    order: NDArray[np.int64] = leaves_list(linkage(squareform(1 - real, checks=False), method="average"))
    return order.astype(np.int64)


def correlation_table(
    group: str, n_cells: int, genes: NDArray[np.str_], of_sources: dict[str, Doubles]
) -> pd.DataFrame:
    """A row per source and pair of genes: group, source, gene_a, gene_b, correlation, n_cells.

    The first of the sources is the real one; the genes stand in the order of its clustering.
    """
    order = clustered(next(iter(of_sources.values())))
    first, second = np.triu_indices(len(genes), k=1)
    tables = [
        pd.DataFrame(
            {
                "group": group,
                "source": source,
                "gene_a": genes[order][first],
                "gene_b": genes[order][second],
                "correlation": pairs(matrix[np.ix_(order, order)]).astype(np.float32),
                "n_cells": n_cells,
            }
        )
        for source, matrix in of_sources.items()
    ]
    return pd.concat(tables, ignore_index=True)
