"""How well a codec represents the cells of a class, and the offsets by which it represents them better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis
from torch import Tensor

from branchgen.cells.codec import Codec, dense
from branchgen.cells.counts import evenly
from branchgen.cells.distribution import LARGEST_DISPERSION, SMALLEST_DISPERSION, CountDistribution
from branchgen.cells.offsets import fit_offsets

Doubles = NDArray[np.float64]

FEW_CELLS = 500
"""Training cells above which a class gets no offsets: the codec has seen enough of it."""
MOST_CELLS = 1000
"""Training cells, and held-out ones, by which a class is judged, at most: they are in memory at once."""
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


@dataclass(frozen=True, kw_only=True)
class ByClass:
    """Counts (n_cells, n_genes) of training and of held-out cells of a class, rows of those of many cells."""

    counts: sparse.csr_matrix
    train_rows: NDArray[np.int64]
    ref_rows: NDArray[np.int64]

    @property
    def n_train(self) -> int:
        """Number of training cells."""
        return len(self.train_rows)

    @property
    def train(self) -> sparse.csr_matrix:
        """Counts of the training cells."""
        return self.counts[self.train_rows]

    @property
    def ref(self) -> sparse.csr_matrix:
        """Counts of the held-out cells."""
        return self.counts[self.ref_rows]


def cells_of_classes(types: NDArray[np.str_], splits: NDArray[np.str_]) -> NDArray[np.int64]:
    """Rows by which the classes are judged, ascending: not too many of any class; both arguments are (n_cells,)."""
    chosen = np.zeros(len(types), dtype=bool)
    for name in np.unique(types):
        for split in ("train", "ref"):
            chosen[evenly(np.flatnonzero((types == name) & (splits == split)), MOST_CELLS)] = True
    return np.flatnonzero(chosen)


def by_class(counts: sparse.csr_matrix, types: NDArray[np.str_], splits: NDArray[np.str_]) -> dict[str, ByClass]:
    """Cells of every class that has training and ref cells; the arguments have a row for every cell."""
    found = {}
    for name in np.unique(types).tolist():
        train, ref = (np.flatnonzero((types == name) & (splits == split)) for split in ("train", "ref"))
        if len(train) and len(ref):
            found[name] = ByClass(counts=counts, train_rows=train, ref_rows=ref)
    return found


def offsets_of_rare_classes(
    codec: Codec, classes: dict[str, ByClass], generator_of: Callable[[str], torch.Generator]
) -> dict[str, Tensor]:
    """Offsets for those classes of few training cells whose held-out cells gain by them.

    `generator_of` gives the generator of a class by its name.
    """
    found = {
        name: offsets_of(codec, cells, generator_of(name))[0]
        for name, cells in classes.items()
        if cells.n_train <= FEW_CELLS
    }
    return {name: offsets for name, offsets in found.items() if offsets is not None}


def offsets_of(codec: Codec, cells: ByClass, generator: torch.Generator) -> tuple[Tensor | None, float]:
    """Offsets (2, n_genes) of a class, and the nats per held-out cell that they gain.

    None, and zero, where the gain is less than its standard error: of few cells, or of a class that the codec knows,
    offsets may be noise.
    """
    # Far more than offsets need; all of them are in memory at once.
    chosen = torch.randperm(cells.n_train, generator=generator)[: 2 * MOST_CELLS].numpy()
    train = cells.counts[cells.train_rows[chosen]]
    mean, scale = (torch.from_numpy(part) for part in codec.encode(train))
    noise = torch.randn(mean.shape, generator=generator)
    decoded = codec.decode(mean + scale * noise)
    offsets = fit_offsets(dense(train, decoded.expected), decoded)
    gain = losses(codec, cells.ref) - losses(codec.shifted_by(offsets), cells.ref)
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
    return (offsets, float(gain.mean())) if gain.mean() > error else (None, 0.0)


def losses(codec: Codec, counts: sparse.csr_matrix) -> Doubles:
    """Negative log-likelihood of cells at posterior samples, always the same ones, as a model's own would be; (n,)."""
    generator = torch.Generator().manual_seed(0)
    parts: list[Doubles] = []
    for first in range(0, counts.shape[0], _BLOCK):
        block = counts[first : first + _BLOCK]
        mean, scale = (torch.from_numpy(values) for values in codec.encode(block))
        latents = mean + scale * torch.randn(mean.shape, generator=generator)
        decoded = codec.decode(latents)
        loss = decoded.negative_log_likelihood(dense(block, decoded.expected))
        parts.append(loss.double().cpu().numpy())
    return np.concatenate(parts)


def representation(codec: Codec, cells: ByClass) -> Representation:
    """How a codec fits held-out cells of a class, beside the mean profile of the training cells."""
    own, plain = losses(codec, cells.ref), _profile_losses(cells)
    difference = plain - own
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else np.nan
    return Representation(codec_loss=float(own.mean()), profile_loss=float(plain.mean()), gain_error=float(error))


def _profile_losses(cells: ByClass) -> Doubles:
    share, dispersion = (torch.from_numpy(part).float() for part in _profile(cells.train))
    parts: list[Doubles] = []
    ref = cells.ref
    for first in range(0, ref.shape[0], _BLOCK):
        counts = dense(ref[first : first + _BLOCK], torch.zeros(1))
        expected = counts.sum(dim=1, keepdim=True) * share
        decoded = CountDistribution(expected=expected, dispersion=dispersion.expand_as(counts))
        parts.append(decoded.negative_log_likelihood(counts).double().numpy())
    return np.concatenate(parts)


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
