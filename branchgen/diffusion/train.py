"""Training of the branched denoiser, exactly resumable.

Every step draws from a generator of its own, named by the seed and the step, so that a checkpoint needs no generator
states and a resumed run repeats the uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.config import FitSettings
from branchgen.diffusion.batches import N_SEGMENTS, BatchSampler, TrainingData
from branchgen.diffusion.computing import Computing, Forward, Processes
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.diffusion.optimizer import BranchOptimizer
from branchgen.diffusion.validation import denoising_loss, history_rows, validation_losses
from branchgen.hierarchy.tree import Hierarchy
from branchgen.pinned import to_device
from branchgen.seeds import numpy_rng, torch_generator

_WARMUP = 100


@dataclass
class TrainingState:
    """All that changes during training; `to_state` and `from_state` make it a checkpoint."""

    network: BranchedDenoiser
    average: BranchedDenoiser
    best: dict[str, Tensor]
    optimizer: BranchOptimizer
    step: int
    best_loss: float
    best_step: int
    history: list[dict[str, Any]]

    @classmethod
    def begin(cls, network: BranchedDenoiser, settings: FitSettings) -> TrainingState:
        """State before the first step."""
        average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        optimizer = BranchOptimizer(network, average, settings)
        return cls(network, average, _snapshot(average), optimizer, 0, math.inf, 0, [])

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.to_state(),
            "step": self.step,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.restore(state["optimizer"])
        self.best = {name: value.to(self.network.mean.device) for name, value in state["best"].items()}
        self.step, self.best_loss, self.best_step = state["step"], state["best_loss"], state["best_step"]
        self.history = list(state["history"])


def fit(
    state: TrainingState,
    hierarchy: Hierarchy,
    train: TrainingData,
    ref: TrainingData,
    weights: NDArray[np.float64],
    settings: FitSettings,
    seed: int,
    *,
    computing: Computing | None = None,
    checkpoint_seconds: float = math.inf,
    save: Callable[[dict[str, Any]], None] = lambda _: None,
    save_now: Callable[[], bool] = lambda: False,
    report: Callable[[int, Tensor, float], None] = lambda *_: None,
) -> None:
    """Train until `settings.n_steps`, or until the held-out loss has not improved for `settings.patience` validations.

    The state keeps the averaged weights of the lowest held-out loss: small data sets are memorised long before the
    last step, and some are best described by the Gaussians that training begins with. `save` gets a checkpoint every
    `checkpoint_seconds`, and when `save_now` says so; `report` gets step, training loss and held-out loss after every
    step. The training loss stays on its device: looking at it waits for all that a GPU has still to do.
    """
    computing = computing or Computing()
    forward, processes = computing.forward_of(state.network), computing.processes
    sampler = BatchSampler(hierarchy, train, weights, max(settings.batch_size // N_SEGMENTS, 1))
    saved = time.monotonic()
    splits = {"ref": ref, "train": train}
    if not state.step:
        _validate(state, hierarchy, splits, seed, processes)
    while state.step < settings.n_steps and not _exhausted(state, settings):
        loss = train_step(state, sampler, train, settings, seed, forward, processes)
        if state.step % settings.validate_every == 0 or state.step == settings.n_steps:
            _validate(state, hierarchy, splits, seed, processes)
        report(state.step, loss, state.best_loss)
        if save_now() or time.monotonic() - saved >= checkpoint_seconds:
            save(state.to_state())
            saved = time.monotonic()


def _exhausted(state: TrainingState, settings: FitSettings) -> bool:
    return state.step - state.best_step >= settings.patience * settings.validate_every


def train_step(
    state: TrainingState,
    sampler: BatchSampler,
    data: TrainingData,
    settings: FitSettings,
    seed: int,
    forward: Forward | None = None,
    processes: Processes | None = None,
) -> Tensor:
    """One step of the optimiser and of the average; returns the batch's loss, a tensor without shape.

    All processes draw the whole batch, so that it is the same for any number of them. `forward` is what
    `Computing.forward_of` gives for them; the network itself where there is one process.
    """
    processes = processes or Processes()
    share = processes.share
    network, device = state.network, state.network.mean.device
    branch, cells, times = sampler.draw(numpy_rng(seed, "train", "batch", state.step))
    generator = torch_generator(seed, "train", "noise", state.step)
    noise = to_device(torch.randn((2, *cells.shape, data.n_latent), generator=generator)[:, share], device)
    z = data.draw(cells[share], noise[0])
    t = to_device(torch.from_numpy(times[share]).to(z.dtype), device)
    segments = to_device(torch.from_numpy(branch[share]), device)
    drawn = state.optimizer.draw(np.unique(branch))
    loss = denoising_loss(network, z, t, segments, noise[1], forward).mean()
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    rate = settings.learning_rate * _annealing(state.step, settings.n_steps)
    state.step += 1
    state.optimizer.step(drawn, rate, 0.5 ** (1 / max(settings.ema_halflife * state.step, 1e-9)))
    return processes.mean(loss.detach())


def _annealing(step: int, n_steps: int) -> float:
    """Fraction of the peak learning rate: linear warm-up, then a cosine to zero."""
    return min(1.0, (step + 1) / _WARMUP) * (1 + math.cos(math.pi * step / n_steps)) / 2


def _validate(
    state: TrainingState, hierarchy: Hierarchy, splits: Mapping[str, TrainingData], seed: int, processes: Processes
) -> None:
    state.optimizer.catch_up()
    for split, data in splits.items():
        losses = validation_losses(state.average, hierarchy, data, seed, split)
        # GPUs may round differently, and all processes must stop at the same step.
        loss = processes.of_first(float(losses.values.mean()))
        if split == "ref" and loss < state.best_loss:
            state.best_loss, state.best_step = loss, state.step
            state.best = _snapshot(state.average)
        state.history.extend(history_rows(state.network, hierarchy, losses, state.step, split))


def _snapshot(network: BranchedDenoiser) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
