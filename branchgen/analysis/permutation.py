"""Whether the distance between two samples is larger than that of the same cells under shuffled labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from branchgen.analysis.two_sample import Floats, kernel_blocks


def mmd_p_value(
    a: Floats, b: Floats, types: NDArray[np.str_], bandwidth: float, n_permutations: int, rng: np.random.Generator
) -> float:
    """Permutation p-value of the unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3).

    Row i of either sample is of type `types[i]`. Cells change sides within their type alone: the samples were matched
    type by type, and so are their permutations. Uniform on {1, …, P + 1} / (P + 1) where the samples are exchangeable
    (Phipson & Smyth 2010); all P statistics come from one kernel matrix.
    """
    cells = np.concatenate([a, b])
    kernel = np.concatenate(list(kernel_blocks(cells, cells, bandwidth)))
    n_a, n_b = len(a), len(b)
    sides = np.repeat([1.0, 0.0], [n_a, n_b])
    # One column per labelling, the observed one first.
    labels = np.tile(sides[:, None], (1, n_permutations + 1))
    of_cell = np.concatenate([types, types])
    for name in np.unique(types):
        rows = np.flatnonzero(of_cell == name)
        labels[rows, 1:] = rng.permuted(labels[rows, 1:], axis=0)
    within_a = np.einsum("ij,ij->j", labels, kernel @ labels)
    all_of_a = kernel.sum(axis=1) @ labels
    between = all_of_a - within_a
    within_b = kernel.sum() - 2 * between - within_a
    diagonal = np.diag(kernel)
    trace_a = diagonal @ labels
    statistics = (
        (within_a - trace_a) / (n_a * (n_a - 1))
        + (within_b - (diagonal.sum() - trace_a)) / (n_b * (n_b - 1))
        - 2 * between / (n_a * n_b)
    )
    # A labelling that is the observed one but for rounding counts as equal.
    as_large = statistics[1:] >= statistics[0] - 1e-12
    return float((1 + as_large.sum()) / (1 + n_permutations))
