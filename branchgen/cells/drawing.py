"""Counts drawn from what a codec decodes to: Poisson counts at rates from Gamma distributions, of one state or two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import pad

from branchgen.cells.distribution import CountDistribution


def drawn(distribution: CountDistribution, rngs: Sequence[np.random.Generator]) -> sparse.csr_matrix:
    """Integer counts (n_cells, n_genes).

    Each of the three generators, of rates, counts and states, draws cell after cell, so that further cells change
    nothing.
    """
    of_rates, of_counts, of_states = rngs
    states = [[part.numpy() for part in state] for state in distribution.of_states()]
    mean, theta = states[0]
    if distribution.states is not None:
        second = of_states.random(mean.shape, dtype=np.float32) < distribution.states.share.numpy()
        mean, theta = (np.where(second, b, a) for a, b in zip(*states, strict=True))
    rate = of_rates.standard_gamma(theta, dtype=np.float32) * (mean / theta)
    return sparse.csr_matrix(of_counts.poisson(rate).astype(np.int32))


@torch.no_grad()
def drawn_on_device(distribution: CountDistribution, generator: torch.Generator) -> sparse.csr_matrix:
    """Integer counts (n_cells, n_genes), drawn on the device of the distribution, of which the generator is, too.

    Only what is not zero leaves it.
    """
    states = distribution.of_states()
    mean, theta = states[0]
    if distribution.states is not None:
        u = torch.rand(mean.shape, generator=generator, device=mean.device)
        second = u < distribution.states.share
        mean, theta = (torch.where(second, b, a) for a, b in zip(*states, strict=True))
    rate = torch._standard_gamma(theta.contiguous(), generator=generator) * (mean / theta)
    counts = torch.poisson(rate, generator=generator)
    return _sparse(counts)


def _sparse(counts: Tensor) -> sparse.csr_matrix:
    found = counts != 0
    ends = pad(found.sum(dim=1).cumsum(dim=0), (1, 0))
    values, columns, starts = (part.int().cpu().numpy() for part in (counts[found], found.nonzero()[:, 1], ends))
    return sparse.csr_matrix((values, columns, starts), shape=tuple(counts.shape))
