"""Training cells, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.hierarchy.tree import Hierarchy
from branchgen.pinned import to_device

N_SEGMENTS = 32
"""Segments of a training batch: each holds cells of one branch."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Latents of one split: posterior means and standard deviations (n, d), and codes (n,) into `classes`.

    Where `rows` (n,) are given, mean and scale are those of more cells, maybe in a file, and these are the split's.
    """

    mean: Tensor
    scale: Tensor
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    rows: NDArray[np.int64] | None = None

    @property
    def n_latent(self) -> int:
        """Number of latent coordinates."""
        return self.mean.shape[1]

    def draw(self, cells: NDArray[np.int64], noise: Tensor) -> Tensor:
        """Posterior samples of some cells, with standard normal noise of their shape, on its device."""
        at = to_device(torch.from_numpy(cells if self.rows is None else self.rows[cells]), self.mean.device)
        mean, scale = (to_device(values[at], noise.device) for values in (self.mean, self.scale))
        return mean + scale * noise


def class_weights(codes: NDArray[np.int64], n_classes: int, weighting: str) -> NDArray[np.float64]:
    """Probability of every class in training, from its number of cells."""
    counts = np.bincount(codes, minlength=n_classes).astype(float)
    power = {"equal": 0.0, "sqrt": 0.5, "proportional": 1.0}[weighting]
    return np.asarray(counts**power / (counts**power).sum())


class BatchSampler:
    """Draws (class, time) pairs by class weight and uniform time, sorted into segments of one branch each."""

    def __init__(self, hierarchy: Hierarchy, data: TrainingData, weights: NDArray[np.float64], n_rows: int) -> None:
        code = {name: position for position, name in enumerate(data.classes)}
        self.n_rows = n_rows
        self._spans = np.array([(branch.t_start, branch.t_end) for branch in hierarchy.branches])
        shares = np.zeros((len(hierarchy.branches), len(data.classes)))
        for position, branch in enumerate(hierarchy.branches):
            members = [code[name] for name in branch.classes]
            shares[position, members] = weights[members]
        mass = shares.sum(axis=1) * (self._spans[:, 1] - self._spans[:, 0])
        self._branches = np.cumsum(mass / mass.sum())
        # A branch without weight is never drawn.
        total = shares.sum(axis=1, keepdims=True)
        self._classes = np.cumsum(shares / np.where(total > 0, total, 1), axis=1)
        self._order = np.argsort(data.codes, kind="stable")
        self._sizes = np.bincount(data.codes, minlength=len(data.classes))
        self._offsets = np.cumsum(self._sizes) - self._sizes
        # The last class of every branch, a guard against rounding in the cumulative shares.
        self._last = shares.shape[1] - 1 - np.argmax(shares[:, ::-1] > 0, axis=1)

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Branches (n_segments,), cells (n_segments, n_rows) and times (n_segments, n_rows) of one batch.

        Segments are spread evenly over the branches' probabilities, and times over a segment's span, which keeps
        expectations and lowers the variance.
        """
        branch = _position(self._branches, (np.arange(N_SEGMENTS) + rng.random()) / N_SEGMENTS)
        u = (np.arange(self.n_rows) + rng.random((N_SEGMENTS, self.n_rows))) / self.n_rows
        low, high = self._spans[branch, :1], self._spans[branch, 1:]
        draws = rng.random((N_SEGMENTS, self.n_rows))
        codes = (draws[..., None] >= self._classes[branch][:, None, :]).sum(axis=-1)
        codes = np.minimum(codes, self._last[branch][:, None])
        cells = self._offsets[codes] + np.floor(rng.random(codes.shape) * self._sizes[codes]).astype(np.int64)
        return branch, self._order[cells], low + u * (high - low)


def _position(cumulative: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)
