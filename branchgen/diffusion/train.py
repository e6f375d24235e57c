"""Training of the branched denoiser, exactly resumable.

Every step draws from a generator of its own, named by the seed and the step, so that a checkpoint needs no generator
states and a resumed run repeats the uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.config import TrainSettings
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.hierarchy.tree import HORIZON, Hierarchy
from branchgen.seeds import numpy_rng, torch_generator

N_SEGMENTS = 64
"""Segments of a training batch: each holds cells of one branch."""
N_BINS = 8
"""Bins of equal length in time in which held-out losses are reported."""
MAX_VALIDATION = 1024
"""Largest number of cells of a split in a validation."""
_WARMUP = 100


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Latents of one split: posterior means and standard deviations (n, d), and codes (n,) into `classes`."""

    mean: Tensor
    scale: Tensor
    codes: NDArray[np.int64]
    classes: tuple[str, ...]

    def draw(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Posterior samples of some cells, with standard normal noise of their shape."""
        return self.mean[rows] + self.scale[rows] * noise


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
        self._classes = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
        self._order = np.argsort(data.codes, kind="stable")
        self._sizes = np.bincount(data.codes, minlength=len(data.classes))
        self._offsets = np.cumsum(self._sizes) - self._sizes

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

    @property
    def _last(self) -> NDArray[np.int64]:
        """Last class of every branch, a guard against rounding in the cumulative shares."""
        steps = np.diff(self._classes, axis=1, prepend=0.0) > 0
        return np.asarray(self._classes.shape[1] - 1 - np.argmax(steps[:, ::-1], axis=1))


def _position(cumulative: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum(np.searchsorted(cumulative, u, side="right"), len(cumulative) - 1)


def denoising_loss(network: BranchedDenoiser, z: Tensor, t: Tensor, branch: Tensor, noise: Tensor) -> Tensor:
    """Squared denoising error of every cell, mean over coordinates, shape (n_segments, n_rows).

    Weighted by 1/c_out², so that every noise level counts alike (Karras et al. 2022, section 5).
    """
    x = z + network.schedule.sigma(t, z) * noise
    _, _, out = network.preconditioning(t, branch)
    error: Tensor = (network(x, t, branch) - z) / out
    return (error**2).mean(dim=-1)


@dataclass
class TrainingState:
    """All that changes during training; `to_state` and `from_state` make it a checkpoint."""

    network: BranchedDenoiser
    average: BranchedDenoiser
    best: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int
    best_loss: float
    best_step: int
    history: list[dict[str, Any]]

    @classmethod
    def begin(cls, network: BranchedDenoiser, settings: TrainSettings) -> TrainingState:
        """State before the first step."""
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        return cls(network, average, _snapshot(average), optimizer, 0, math.inf, 0, [])

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = {name: value.to(self.network.mean.device) for name, value in state["best"].items()}
        self.step, self.best_loss, self.best_step = state["step"], state["best_loss"], state["best_step"]
        self.history = list(state["history"])


def fit(
    state: TrainingState,
    hierarchy: Hierarchy,
    train: TrainingData,
    ref: TrainingData,
    weights: NDArray[np.float64],
    settings: TrainSettings,
    seed: int,
    *,
    save: Callable[[dict[str, Any]], None],
    report: Callable[[int, float, float], None],
) -> None:
    """Train until `settings.n_steps`, or until the held-out loss has not improved for `settings.patience` validations.

    The state keeps the averaged weights of the lowest held-out loss: small data sets are memorised long before the
    last step. `save` gets a checkpoint every `settings.checkpoint_seconds`; `report` gets step, training loss and
    held-out loss after every step.
    """
    sampler = BatchSampler(hierarchy, train, weights, max(settings.batch_size // N_SEGMENTS, 1))
    saved = time.monotonic()
    while state.step < settings.n_steps and not _exhausted(state, settings):
        loss = train_step(state, sampler, train, settings, seed)
        if state.step % settings.validate_every == 0 or state.step == settings.n_steps:
            _validate(state, hierarchy, train, ref, seed)
        report(state.step, loss, state.best_loss)
        if time.monotonic() - saved >= settings.checkpoint_seconds:
            save(state.to_state())
            saved = time.monotonic()


def _exhausted(state: TrainingState, settings: TrainSettings) -> bool:
    return state.step - state.best_step >= settings.patience * settings.validate_every


def train_step(
    state: TrainingState, sampler: BatchSampler, data: TrainingData, settings: TrainSettings, seed: int
) -> float:
    """One step of the optimiser and of the average; returns the batch's loss."""
    network, device = state.network, data.mean.device
    branch, cells, times = sampler.draw(numpy_rng(seed, "train", "batch", state.step))
    generator = torch_generator(seed, "train", "noise", state.step)
    noise = torch.randn((2, *cells.shape, data.mean.shape[1]), generator=generator).to(device)
    rate = settings.learning_rate * _annealing(state.step, settings.n_steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    z = data.draw(torch.from_numpy(cells).to(device), noise[0])
    t = torch.from_numpy(times).to(z)
    loss = denoising_loss(network, z, t, torch.from_numpy(branch).to(device), noise[1]).mean()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
    state.optimizer.step()
    state.step += 1
    kept = 0.5 ** (1 / max(settings.ema_halflife * state.step, 1e-9))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.parameters()), list(network.parameters()), 1 - kept)
    return float(loss.detach())


def _annealing(step: int, n_steps: int) -> float:
    """Fraction of the peak learning rate: linear warm-up, then a cosine to zero."""
    return min(1.0, (step + 1) / _WARMUP) * (1 + math.cos(math.pi * step / n_steps)) / 2


def _validate(state: TrainingState, hierarchy: Hierarchy, train: TrainingData, ref: TrainingData, seed: int) -> None:
    for split, data in (("ref", ref), ("train", train)):
        losses, branches, bins = validation_losses(state.average, hierarchy, data, seed, split)
        if split == "ref" and losses.mean() < state.best_loss:
            state.best_loss, state.best_step = float(losses.mean()), state.step
            state.best = _snapshot(state.average)
        names = ["all", *(branch.name for branch in hierarchy.branches)]
        for position, name in enumerate(names):
            for number in range(N_BINS):
                chosen = (bins == number) & ((branches == position - 1) | (position == 0))
                if chosen.any():
                    time_ = (number + 0.5) / N_BINS * HORIZON
                    state.history.append(
                        {
                            "step": state.step,
                            "split": split,
                            "branch": name,
                            "sigma": float(state.network.schedule.levels(np.array([time_])).mean()),
                            "loss": float(losses[chosen].mean()),
                            "n_cells": int(chosen.sum()),
                        }
                    )


@torch.no_grad()
def validation_losses(
    network: BranchedDenoiser, hierarchy: Hierarchy, data: TrainingData, seed: int, split: str
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Denoising losses of cells of a split, one time per bin and cell, always with the same noise.

    Returns losses, positions of the branches and numbers of the bins, each of shape (n_cells × N_BINS,).
    """
    rng, generator = numpy_rng(seed, "validate", split), torch_generator(seed, "validate", split)
    rows = np.sort(rng.permutation(len(data.codes))[:MAX_VALIDATION])
    rows = np.tile(rows, N_BINS)
    bins = np.repeat(np.arange(N_BINS), len(rows) // N_BINS)
    times = (bins + rng.random(len(rows))) / N_BINS * HORIZON
    noise = torch.randn((2, len(rows), data.mean.shape[1]), generator=generator).to(data.mean)
    branches = hierarchy.branch_of([data.classes[code] for code in data.codes[rows]], times)
    losses = np.empty(len(rows))
    for position in np.unique(branches):
        chosen = np.flatnonzero(branches == position)
        picked = torch.from_numpy(chosen).to(noise.device)
        z = data.draw(torch.from_numpy(rows[chosen]).to(noise.device), noise[0, picked])
        t = torch.from_numpy(times[chosen]).to(z)
        branch = torch.tensor([position], device=z.device)
        losses[chosen] = denoising_loss(network, z[None], t[None], branch, noise[1, picked][None])[0].cpu().numpy()
    return losses, branches, bins


def _snapshot(network: BranchedDenoiser) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def history_columns(history: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows of the history as columns of a table."""
    names = ("step", "split", "branch", "sigma", "loss", "n_cells")
    return {name: [row[name] for row in history] for name in names}
