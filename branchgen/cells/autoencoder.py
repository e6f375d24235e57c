"""A regularised variational autoencoder with a negative-binomial likelihood (after Lopez et al. 2018, scVI).

The decoder sees the library size, and gives every gene of every cell a dispersion of its own; every gene has two
states, of which a cell is in one (see `TwoStates`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from branchgen.cells.distribution import (
    LARGEST_DISPERSION,
    SMALLEST_DISPERSION,
    CountDistribution,
    TwoStates,
)
from branchgen.config import EncodeSettings
from branchgen.pinned import to_device
from branchgen.seeds import numpy_rng, torch_generator

PASS = 100_000
"""Training cells of an epoch, at most: of an atlas, a part of the cells. They are in memory at once."""
RUN = 256
"""Neighbouring training cells that come into the same epoch where there are more: a file is read in runs."""
_VALIDATION_BLOCK = 512
_AVERAGE_DECAY = 0.99
_RATE_OF_STATES = 20
"""Learning rate of the states over that of all else: a single number per gene moves by no more than that in a step."""
_STATES_AT_FIRST = (-2.0, 0.3, 1.0)
"""Logit of the share of the second state, logarithms of ratio and steadiness; the same in all genes."""
_FARTHEST = 6.0
"""Largest of these in either direction."""


def log_normalised(counts: Tensor) -> Tensor:
    """ln(1 + 10⁴ counts / library size) of counts (n_cells, n_genes)."""
    return torch.log1p(counts * (1e4 / counts.sum(dim=1, keepdim=True)))


def cells_of_epoch(n_cells: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Training cells of an epoch, counted from one, in the order in which they are used.

    All of them; or, of many, the next runs of a pass, in which runs have a random order, with their cells shuffled.
    """
    n_parts = -(-n_cells // PASS)
    whole, part = divmod(epoch - 1, n_parts)
    rng = numpy_rng(seed, "encode", "order", whole + 1)
    if n_parts == 1:
        return rng.permutation(n_cells)
    runs = np.array_split(rng.permutation(-(-n_cells // RUN)), n_parts)[part]
    cells = (runs[:, None] * RUN + np.arange(RUN)).ravel()
    return numpy_rng(seed, "encode", "order", "epoch", epoch).permutation(cells[cells < n_cells])


def _layers(n_in: int, n_hidden: int) -> nn.Sequential:
    # Layer normalisation, not batch normalisation: a cell must not depend on the others of its batch.
    return nn.Sequential(
        nn.Linear(n_in, n_hidden),
        nn.LayerNorm(n_hidden),
        nn.SiLU(),
        nn.Linear(n_hidden, n_hidden),
        nn.LayerNorm(n_hidden),
        nn.SiLU(),
    )


class CountRows(Protocol):
    """Counts of cells, (n_cells, n_genes), of which some are asked for at a time; a sparse matrix will do."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> sparse.csr_matrix: ...


class NegativeBinomialAutoencoder(nn.Module):
    """Counts (n_cells, n_genes) to a Gaussian posterior of n_latent coordinates, and back to their distribution."""

    library: Tensor

    def __init__(self, n_genes: int, n_latent: int, n_hidden: int) -> None:
        super().__init__()
        self.sizes = (n_genes, n_latent, n_hidden)
        self.encoder = _layers(n_genes, n_hidden)
        self.posterior = nn.Linear(n_hidden, 2 * n_latent)
        self.decoder = _layers(n_latent + 1, n_hidden)
        self.profile = nn.Linear(n_hidden, n_genes)
        self.log_dispersion = nn.Linear(n_hidden, n_genes)
        self.states = nn.Parameter(torch.tensor(_STATES_AT_FIRST)[:, None].repeat(1, n_genes))
        self.register_buffer("library", torch.tensor([0.0, 1.0]))

    @classmethod
    def fit(
        cls,
        train: CountRows,
        ref: sparse.csr_matrix,
        settings: EncodeSettings,
        seed: int,
        device: torch.device,
        report: Callable[[int, float, float], None],
    ) -> Self:
        """Fit on `train`; the weights kept are averaged ones, of the best evidence bound on `ref`.

        The average over the last hundred steps generalises better than the weights themselves at any one step.
        `report` gets epoch, training loss and held-out loss (nats per cell) after every epoch; see `cells_of_epoch`.
        """
        model = cls(train.shape[1], settings.n_latent, settings.n_hidden)
        model._initialise(
            train[np.sort(cells_of_epoch(train.shape[0], seed, 1))], torch_generator(seed, "encode", "weights")
        )
        model.to(device)
        average = copy.deepcopy(model).requires_grad_(requires_grad=False)
        # Decaying biases would pull genes towards an arbitrary abundance and dispersion.
        others = [weight for weight in model.parameters() if weight is not model.states]
        matrices, vectors = ([w for w in others if (w.dim() > 1) is is_matrix] for is_matrix in (True, False))
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
                {"params": [model.states], "weight_decay": 0.0, "lr": _RATE_OF_STATES * settings.learning_rate},
            ],
            lr=settings.learning_rate,
            fused=True,
        )
        best, best_loss, best_epoch = average._snapshot(), math.inf, 0
        for epoch in range(1, settings.max_epochs + 1):
            train_loss = model._epoch(average, train, optimizer, settings, seed, epoch)
            ref_loss = average._held_out(ref, settings, seed)
            report(epoch, train_loss, ref_loss)
            if ref_loss < best_loss:
                best, best_loss, best_epoch = average._snapshot(), ref_loss, epoch
            elif epoch - best_epoch >= settings.patience:
                break
        model.load_state_dict(best)
        return model.eval().requires_grad_(requires_grad=False)

    def encode(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        return self._posterior(log_normalised(counts))

    def decode(self, latent: Tensor, log_library: Tensor) -> CountDistribution:
        size = ((log_library - self.library[0]) / self.library[1])[:, None]
        hidden = self.decoder(torch.cat([latent, size], dim=1))
        expected = torch.softmax(self.profile(hidden), dim=1) * torch.exp(log_library)[:, None] + 1e-8
        dispersion = torch.clamp(torch.exp(self.log_dispersion(hidden)), SMALLEST_DISPERSION, LARGEST_DISPERSION)
        share, ratio, steadiness = torch.clamp(self.states, -_FARTHEST, _FARTHEST)
        states = TwoStates(share=torch.sigmoid(share), ratio=torch.exp(ratio), steadiness=torch.exp(steadiness))
        return CountDistribution(expected=expected, dispersion=dispersion, states=states)

    def to_state(self) -> dict[str, Any]:
        return {"sizes": list(self.sizes), "weights": {name: w.cpu() for name, w in self.state_dict().items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        model = cls(*state["sizes"])
        model.load_state_dict(state["weights"])
        return model.eval().requires_grad_(requires_grad=False)

    def _posterior(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = self.posterior(self.encoder(expression)).chunk(2, dim=1)
        return mean, torch.exp(torch.clamp(log_scale, -6, 3))

    def _initialise(self, counts: sparse.csr_matrix, generator: torch.Generator) -> None:
        """Weights from the generator; the decoder starts at the mean profile of the cells."""
        total = np.asarray(counts.sum(axis=0)).ravel() + 1.0
        library = np.log(np.asarray(counts.sum(axis=1)).ravel())
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    draw = torch.randn(module.weight.shape, generator=generator)
                    module.weight.copy_(draw / math.sqrt(module.in_features))
                    module.bias.zero_()
            self.profile.weight.mul_(0.1)
            self.log_dispersion.weight.zero_()
            self.profile.bias.copy_(torch.from_numpy(np.log(total / total.sum())).float())
            self.library.copy_(torch.tensor([library.mean(), max(library.std(), 1e-3)]))

    def _loss(self, counts: Tensor, noise: Tensor, kl_weight: float, seen: Tensor | None = None) -> Tensor:
        """Negative evidence bound of every cell with a weighted divergence (β-VAE), in nats.

        `seen` scales the genes that the encoder sees, of the shape of `counts`; the likelihood is that of all.
        """
        mean, scale = self._posterior(log_normalised(counts) if seen is None else log_normalised(counts) * seen)
        decoded = self.decode(mean + scale * noise, torch.log(counts.sum(dim=1)))
        divergence = (mean**2 + scale**2 - 1 - 2 * torch.log(scale)).sum(dim=1) / 2
        return decoded.negative_log_likelihood(counts) + kl_weight * divergence

    def _epoch(
        self,
        average: Self,
        counts: CountRows,
        optimizer: torch.optim.Optimizer,
        settings: EncodeSettings,
        seed: int,
        epoch: int,
    ) -> float:
        order = cells_of_epoch(counts.shape[0], seed, epoch)
        n_cells = len(order)
        rows, place = np.unique(order, return_inverse=True)
        cells = counts[rows]
        generator = torch_generator(seed, "encode", "noise", epoch)
        total = self._nothing()
        for first in range(0, n_cells, settings.batch_size):
            batch = self._dense(cells[place[first : first + settings.batch_size]])
            noise = self._here(torch.randn((len(batch), self.sizes[1]), generator=generator))
            kept = self._here(torch.rand(batch.shape, generator=generator) >= settings.dropout)
            loss = self._loss(batch, noise, settings.kl_weight, kept / (1 - settings.dropout)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters(), 100.0)
            optimizer.step()
            n_steps = (epoch - 1) * -(-n_cells // settings.batch_size) + first // settings.batch_size
            with torch.no_grad():
                decay = min(_AVERAGE_DECAY, (1 + n_steps) / (10 + n_steps))
                torch._foreach_lerp_(list(average.parameters()), list(self.parameters()), 1 - decay)
            total += loss.detach().double() * len(batch)
        return float(total) / int(n_cells)

    @torch.no_grad()
    def _held_out(self, counts: sparse.csr_matrix, settings: EncodeSettings, seed: int) -> float:
        generator = torch_generator(seed, "encode", "validate")
        total = self._nothing()
        for first in range(0, counts.shape[0], _VALIDATION_BLOCK):
            batch = self._dense(counts[first : first + _VALIDATION_BLOCK])
            noise = self._here(torch.randn((len(batch), self.sizes[1]), generator=generator))
            total += self._loss(batch, noise, settings.kl_weight).sum().double()
        return float(total) / int(counts.shape[0])

    def _dense(self, counts: sparse.csr_matrix) -> Tensor:
        return self._here(torch.from_numpy(counts.toarray().astype(np.float32)))

    def _here(self, values: Tensor) -> Tensor:
        return to_device(values, self.library.device)

    def _nothing(self) -> Tensor:
        """Beginning of a sum on the device: looking at every term would wait for it."""
        return torch.zeros((), dtype=torch.float64, device=self.library.device)

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.state_dict().items()}
