"""Counts drawn from a negative binomial on the device where its parameters are."""

from __future__ import annotations

import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import pad


@torch.no_grad()
def drawn_on_device(expected: Tensor, dispersion: Tensor, generator: torch.Generator) -> sparse.csr_matrix:
    """Integer counts of expected counts and dispersions (n_cells, n_genes): a Poisson with a Gamma rate.

    The generator is of the parameters' device; only what is not zero leaves it.
    """
    rate = torch._standard_gamma(dispersion, generator=generator) * (expected / dispersion)
    counts = torch.poisson(rate, generator=generator)
    found = counts != 0
    ends = pad(found.sum(dim=1).cumsum(dim=0), (1, 0))
    values, columns, starts = (part.int().cpu().numpy() for part in (counts[found], found.nonzero()[:, 1], ends))
    return sparse.csr_matrix((values, columns, starts), shape=tuple(counts.shape))
