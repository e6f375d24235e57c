"""The denoising loss, and how it is followed on held-out cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.diffusion.batches import TrainingData
from branchgen.diffusion.computing import Forward
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.hierarchy.tree import HORIZON, Hierarchy
from branchgen.seeds import numpy_rng, torch_generator

N_BINS = 8
"""Bins of equal length in time in which held-out losses are reported."""
MAX_VALIDATION = 1024
"""Largest number of cells of a split in a validation."""
_LENGTH, _N_SEGMENTS = 8, 128
"""Held-out cells in a segment of one branch, and segments in a pass through the network."""


def denoising_loss(
    network: BranchedDenoiser, z: Tensor, t: Tensor, branch: Tensor, noise: Tensor, forward: Forward | None = None
) -> Tensor:
    """Squared denoising error of every cell, mean over coordinates, shape (n_segments, n_rows).

    Weighted by 1/c_out², so that every noise level counts alike (Karras et al. 2022, section 5). The
    Gaussian of the branch alone has a loss of one; the network has learned what is below. `forward` is the network's
    forward pass, where it is not the plain one.
    """
    x = z + network.schedule.sigma(t, z) * noise
    error = network.scaled((forward or network)(x, t, branch) - z, t, branch)
    return (error**2).mean(dim=-1)


@dataclass(frozen=True)
class HeldOut:
    """Losses, positions of the branches and numbers of the bins, each of shape (n_cells × N_BINS,)."""

    values: NDArray[np.float64]
    branches: NDArray[np.int64]
    bins: NDArray[np.int64]


@torch.no_grad()
def validation_losses(
    network: BranchedDenoiser, hierarchy: Hierarchy, data: TrainingData, seed: int, split: str
) -> HeldOut:
    """Denoising losses of cells of a split, one time per bin and cell, always with the same noise."""
    rng, generator = numpy_rng(seed, "validate", split), torch_generator(seed, "validate", split)
    rows = np.sort(rng.permutation(len(data.codes))[:MAX_VALIDATION])
    rows = np.tile(rows, N_BINS)
    bins = np.repeat(np.arange(N_BINS), len(rows) // N_BINS)
    times = (bins + rng.random(len(rows))) / N_BINS * HORIZON
    noise = torch.randn((2, len(rows), data.n_latent), generator=generator).to(network.mean)
    branches = hierarchy.branch_of([data.classes[code] for code in data.codes[rows]], times)
    losses = np.empty(len(rows))
    segments = segments_of(branches)
    for first in range(0, len(segments), _N_SEGMENTS):
        chosen = segments[first : first + _N_SEGMENTS]
        picked = torch.from_numpy(chosen).to(noise.device)
        z = data.draw(rows[chosen.ravel()], noise[0, picked].flatten(0, 1)).reshape(*chosen.shape, -1)
        t = torch.from_numpy(times[chosen]).to(z)
        branch = torch.from_numpy(branches[chosen[:, 0]]).to(z.device)
        losses[chosen] = denoising_loss(network, z, t, branch, noise[1, picked]).cpu().numpy()
    return HeldOut(losses, branches, bins)


def segments_of(branches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in segments of one branch each, (n_segments, `_LENGTH`); rows are repeated where there are too few.

    A pass through the network for every branch would cost most of its time in starting.
    """
    found = [np.flatnonzero(branches == position) for position in np.unique(branches)]
    return np.concatenate([np.resize(rows, (-(-len(rows) // _LENGTH), _LENGTH)) for rows in found])


def history_rows(
    network: BranchedDenoiser, hierarchy: Hierarchy, losses: HeldOut, step: int, split: str
) -> Iterator[dict[str, Any]]:
    """Mean losses by branch and noise level, and over all branches: rows of the table of the training."""
    shape = (len(hierarchy.branches), N_BINS)
    place = losses.branches * N_BINS + losses.bins
    n_cells, total = (
        np.bincount(place, weights, minlength=shape[0] * N_BINS).reshape(shape) for weights in (None, losses.values)
    )
    middles = (np.arange(N_BINS) + 0.5) / N_BINS * HORIZON
    sigma = network.schedule.levels(middles).mean(axis=-1)
    names = ["all", *(branch.name for branch in hierarchy.branches)]
    for name, numbers, sums in zip(names, _with_all(n_cells), _with_all(total), strict=True):
        for number in np.flatnonzero(numbers):
            yield {
                "step": step,
                "split": split,
                "branch": name,
                "sigma": float(sigma[number]),
                "loss": float(sums[number] / numbers[number]),
                "n_cells": int(numbers[number]),
            }


def _with_all(values: NDArray[Any]) -> NDArray[Any]:
    """Values (n_branches, n_bins) below their sums over all branches."""
    return np.concatenate([values.sum(axis=0, keepdims=True), values])


def history_columns(history: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows of the history as columns of a table."""
    names = ("step", "split", "branch", "sigma", "loss", "n_cells")
    return {name: [row[name] for row in history] for name in names}
