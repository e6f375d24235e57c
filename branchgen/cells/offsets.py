"""Gene-wise offsets, by which a codec decodes a class of which it has seen few cells, or none.

Two numbers per gene and class: what is added to the logarithm of its expected counts, and to that of its dispersion.
Cells of other classes are decoded without them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from branchgen.cells.autoencoder import LARGEST_DISPERSION, SMALLEST_DISPERSION, negative_log_likelihood

SCALE = 0.3
"""Of the Cauchy prior of an offset. Most genes need none, a few marker genes a large one, hence the heavy tail."""
_MAX_STEPS = 60


def shifted(expected: Tensor, dispersion: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Expected counts and dispersions, (n_cells, n_genes), with offsets (2, n_genes); a cell's sum stays what it is."""
    total = expected.sum(dim=1, keepdim=True)
    moved = expected * torch.exp(offsets[0])
    changed = torch.clamp(dispersion * torch.exp(offsets[1]), SMALLEST_DISPERSION, LARGEST_DISPERSION)
    return moved * (total / moved.sum(dim=1, keepdim=True)), changed


def fit_offsets(counts: Tensor, expected: Tensor, dispersion: Tensor) -> Tensor:
    """Offsets (2, n_genes) of greatest posterior density, from counts of cells and what a codec makes of them.

    All arguments have the shape (n_cells, n_genes). The likelihood is the codec's negative binomial, the prior of every
    offset a Cauchy distribution around zero (after Zhu et al. 2019, apeglm).
    """
    offsets = torch.zeros((2, counts.shape[1]), device=counts.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([offsets], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        misfit = negative_log_likelihood(counts, *shifted(expected, dispersion, offsets)).mean()
        objective = misfit + torch.log1p((offsets / SCALE) ** 2).sum() / len(counts)
        objective.backward()  # type: ignore[no-untyped-call]
        return objective

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return offsets.detach()
