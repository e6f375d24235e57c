"""Gene-wise offsets, by which a codec decodes a class of which it has seen few cells, or none.

Two numbers per gene and class: what is added to the logarithm of its expected counts, and to that of its dispersion.
Cells of other classes are decoded without them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from branchgen.cells.distribution import CountDistribution

SCALE = 0.3
"""Of the Cauchy prior of an offset. Most genes need none, a few marker genes a large one, hence the heavy tail."""
_MAX_STEPS = 60


def fit_offsets(counts: Tensor, decoded: CountDistribution) -> Tensor:
    """Offsets (2, n_genes) of greatest posterior density, from counts (n_cells, n_genes) and what cells decode to.

    The likelihood is the codec's, the prior of every offset a Cauchy distribution around zero (after Zhu et al. 2019,
    apeglm).
    """
    offsets = torch.zeros((2, counts.shape[1]), device=counts.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([offsets], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        misfit = decoded.shifted(offsets).negative_log_likelihood(counts).mean()
        objective = misfit + torch.log1p((offsets / SCALE) ** 2).sum() / len(counts)
        objective.backward()  # type: ignore[no-untyped-call]
        return objective

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return offsets.detach()
