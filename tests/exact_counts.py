"""Closed forms of the distributions of counts, by scipy and in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import nbinom

from branchgen.cells.distribution import CountDistribution, TwoStates


def example(n_cells: int = 1, *, two: bool = True, device: str = "cpu") -> CountDistribution:
    """Genes from rare to common and from steady to noisy, whose second states are louder, quieter, or much the same."""

    def per_gene(*values: float) -> torch.Tensor:
        return torch.tensor(values, device=device)

    expected, dispersion = per_gene(0.01, 0.3, 2.0, 2.0, 40.0, 500.0), per_gene(0.02, 5.0, 0.3, 1e4, 3.0, 50.0)
    states = TwoStates(
        share=per_gene(0.1, 0.05, 0.9, 0.3, 0.2, 0.01),
        ratio=per_gene(3.0, 8.0, 0.1, 1.0, 1.6, 0.2),
        steadiness=per_gene(1.0, 20.0, 0.5, 4.0, 7.0, 2.0),
    )
    return CountDistribution(
        expected=expected.expand(n_cells, -1),
        dispersion=dispersion.expand(n_cells, -1),
        states=states if two else None,
    )


def parts(decoded: CountDistribution) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights (n_genes,), means and dispersions (n_cells, n_genes) of the negative binomials, from the definition."""
    mean, theta = (part.cpu().numpy().astype(float) for part in (decoded.expected, decoded.dispersion))
    if decoded.states is None:
        yield np.ones(mean.shape[1]), mean, theta
        return
    states = decoded.states
    share, ratio, steadiness = (
        part.cpu().numpy().astype(float) for part in (states.share, states.ratio, states.steadiness)
    )
    first = mean / (1 - share + share * ratio)
    yield 1 - share, first, np.clip(steadiness * theta, 1e-2, 1e4)
    yield share, ratio * first, theta


def mass(decoded: CountDistribution, counts: np.ndarray) -> np.ndarray:
    """Probability of counts, (n_cells, n_genes)."""
    return np.sum([w * nbinom.pmf(counts, theta, theta / (theta + mean)) for w, mean, theta in parts(decoded)], axis=0)


def variance(decoded: CountDistribution) -> np.ndarray:
    """Variance of the counts, (n_cells, n_genes)."""
    squares = sum(w * (mean + mean**2 / theta + mean**2) for w, mean, theta in parts(decoded))
    return np.asarray(squares - decoded.expected.cpu().numpy().astype(float) ** 2)
