"""Whether a codec can represent cells that it has never seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from branchgen.cells.autoencoder import LARGEST_DISPERSION, SMALLEST_DISPERSION, negative_log_likelihood
from branchgen.cells.codec import Codec, dense

Doubles = NDArray[np.float64]

_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Representation:
    """Mean negative log-likelihood of held-out cells, in nats per cell, less the same constant.

    `codec_loss` is that of a codec at the cells' own latents, `profile_loss` that of the mean profile of other cells of
    their class, which knows the class and nothing else of a cell.
    """

    codec_loss: float
    profile_loss: float
    gain_error: float
    """Standard error of the gain; not a number for a single cell."""

    @property
    def gain(self) -> float:
        """Nats per cell by which the codec is better than the profile."""
        return self.profile_loss - self.codec_loss

    def is_below(self, gain: float) -> bool:
        """Whether the gain is lower than another, by two standard errors; of a single cell nothing can be said."""
        return self.gain + 2 * self.gain_error < gain


def gains_of_classes(
    codec: Codec, counts: sparse.csr_matrix, types: NDArray[np.str_], splits: NDArray[np.str_]
) -> dict[str, float]:
    """Gain on the ref cells of every class that has some, and train cells; arguments have a row for every cell."""
    found = {}
    for name in np.unique(types).tolist():
        train, ref = ((types == name) & (splits == split) for split in ("train", "ref"))
        if train.any() and ref.any():
            found[name] = representation(codec, counts[train], counts[ref]).gain
    return found


def representation(codec: Codec, train: sparse.csr_matrix, held_out: sparse.csr_matrix) -> Representation:
    """How a codec fits cells of a class, from counts (n_cells, n_genes) of training and of held-out cells.

    The codec's loss is at posterior samples, one per cell, as the model's own would be.
    """
    share, dispersion = (torch.from_numpy(part).float() for part in _profile(train))
    generator = torch.Generator().manual_seed(0)
    parts: list[Doubles] = []
    for first in range(0, held_out.shape[0], _BLOCK):
        part = held_out[first : first + _BLOCK]
        counts = dense(part, torch.zeros(1))
        mean, scale = (torch.from_numpy(values) for values in codec.encode(part))
        latents = mean + scale * torch.randn(mean.shape, generator=generator)
        expected, own = (values.cpu() for values in codec.decode(latents))
        plain = counts.sum(dim=1, keepdim=True) * share
        pairs = (expected, own), (plain, dispersion.expand_as(counts))
        parts.append(np.stack([negative_log_likelihood(counts, *pair).double().numpy() for pair in pairs]))
    losses = np.concatenate(parts, axis=1)
    difference = losses[1] - losses[0]
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else np.nan
    codec_loss, profile_loss = losses.mean(axis=1).tolist()
    return Representation(codec_loss=codec_loss, profile_loss=profile_loss, gain_error=float(error))


def _profile(counts: sparse.csr_matrix) -> tuple[Doubles, Doubles]:
    """Share and dispersion θ of every gene, (n_genes,), by moments of the counts at the mean library size.

    A gene's share leans on a count of one half in all, so that none is impossible.
    """
    library = np.asarray(counts.sum(axis=1)).ravel().astype(float)
    scaled = sparse.csr_matrix(sparse.diags_array(library.mean() / library) @ counts)
    mean, variance = (np.asarray(part, dtype=float) for part in mean_variance_axis(scaled, axis=0))
    total = mean * counts.shape[0] + 0.5
    # Var = m + m²/θ, and a Poisson's own variance at unequal library sizes is m times the mean of 1/size.
    excess = np.maximum(variance - mean * library.mean() * (1 / library).mean(), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.where(excess > 0, mean**2 / excess, LARGEST_DISPERSION)
    return total / total.sum(), np.clip(dispersion, SMALLEST_DISPERSION, LARGEST_DISPERSION)
