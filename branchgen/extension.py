"""New classes for a trained model: whether its codec knows them, where they belong, and heads of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.cells.codec import Codec
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT
from branchgen.cells.representation import ByClass, Representation, offsets_of, representation
from branchgen.config import ExtendSettings
from branchgen.diffusion.batches import TrainingData
from branchgen.diffusion.checkpoint import Model
from branchgen.diffusion.grafts import Graft, lone_class, new_head, own_weights
from branchgen.diffusion.train import TrainingState, fit
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.grafts import Place, place
from branchgen.hierarchy.moments import Array, Moments
from branchgen.hierarchy.topology import PER
from branchgen.seeds import named_seed, numpy_rng, torch_generator

FINE = 1000
"""Steps of a solver whose grid is no bound."""
N_PROFILE = 512
"""Cells of an old class whose decoded expectation is its profile."""


@dataclass(frozen=True, kw_only=True)
class NewCells(ByClass):
    """Cells of one new class, some to train on and others to stop by."""

    name: str

    @classmethod
    def of(cls, cells: AnnData, name: str, source: str) -> NewCells:
        """The cells of one class that the model may see; BranchgenError where a split of it is empty."""
        rows = {}
        for split in ("train", "ref"):
            inside = (cells.obs[CELL_TYPE] == name) & (cells.obs[SPLIT] == split)
            rows[f"{split}_rows"] = np.flatnonzero(inside)
            if not inside.any():
                raise BranchgenError(f"class {name!r} of {source} has no cells in the {split} split; split by class")
        return cls(name=name, counts=sparse.csr_matrix(cells.layers[COUNTS]), **rows)


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What became of a new class: its graft, the old class that it is most like, and how the codec fits its cells."""

    graft: Graft
    nearest: str
    correlation: float
    fit: Representation
    offset_gain: float
    """Nats per held-out cell that the offsets gain; they are left out, and this is zero, where they gain nothing."""
    least_gain: float
    """Least gain of the codec over the mean profile of a class that it was fitted to."""
    n_steps: int
    held_out_loss: float

    @property
    def is_strange(self) -> bool:
        """Whether the codec gains less on the class than on any that it was fitted to."""
        return self.fit.is_below(self.least_gain)

    def to_row(self) -> dict[str, Any]:
        """Row of the summary."""
        return {
            "class": self.graft.place.name,
            "nearest": self.nearest,
            "correlation": self.correlation,
            **{name: value for name, value in self.graft.place.to_dict().items() if name != "name"},
            "n_train": self.graft.n_cells,
            "n_steps": self.n_steps,
            "held_out_loss": self.held_out_loss,
            "gain": self.fit.gain,
            "offset_gain": self.offset_gain,
            **asdict(self.fit),
            "represented": not self.is_strange,
        }


def extend(
    model: Model,
    codec: Codec,
    cells: NewCells,
    settings: ExtendSettings,
    seed: int,
    device: torch.device,
    provenance: str,
    report: Callable[[int, torch.Tensor, float], None],
) -> tuple[Model, Extension]:
    """The model with one more class, and how it came there.

    The codec and all that the model has of its own are frozen; the new head, and the offsets by which the codec decodes
    the class, learn from the new cells alone.
    """
    offsets, offset_gain = offsets_of(codec, cells, torch_generator(seed, "extend", cells.name, "offsets"))
    splits = {name: _encoded(codec, getattr(cells, name), cells.name, device) for name in ("train", "ref")}
    train = splits["train"]
    mean, scale = (part.cpu().numpy().astype(float) for part in (train.mean, train.scale))
    old_mean, old_covariance, sizes = known_moments(model)
    moments = Moments.with_new_class(old_mean, old_covariance, sizes, mean, scale, float(mean.shape[1]))
    own = codec.shifted_by(offsets)
    known = [codec.of_class(name, model.offsets) for name in model.n_train]
    correlations = correlations_with([*known, own], moments, seed)
    nearest = list(model.n_train)[int(np.argmax(correlations))]
    position = place_of(model, cells.name, nearest, moments, settings.epsilon)

    head = new_head(
        model.network(device), moments.mean[-1], moments.covariance[-1], torch_generator(seed, "extend", cells.name)
    )
    state = TrainingState.begin(head, settings)
    tree, alone = lone_class(cells.name), named_seed(seed, "extend", cells.name)
    fit(state, tree, train, splits["ref"], np.ones(1), settings, alone, report=report)
    graft = Graft(
        place=position,
        mean=moments.mean[-1],
        covariance=moments.covariance[-1],
        weights=own_weights(state.best),
        n_cells=len(mean),
        provenance=provenance,
    )
    found = Extension(
        graft=graft,
        nearest=nearest,
        correlation=float(correlations.max()),
        fit=representation(own, cells),
        offset_gain=offset_gain,
        least_gain=min(codec.gains.values(), default=0.0),
        n_steps=state.step,
        held_out_loss=state.best_loss,
    )
    known_offsets = model.offsets if offsets is None else {**model.offsets, cells.name: offsets.cpu()}
    return replace(model, grafts=(*model.grafts, graft), offsets=known_offsets, provenance=provenance), found


def known_moments(model: Model) -> tuple[Array, Array, NDArray[np.int64]]:
    """Means, covariances and numbers of cells of all classes that a model has, new ones last."""
    rows = [model.hierarchy.index[model.hierarchy.path(name)[-1].name] for name in model.class_counts]
    pairs = [(model.moments.mean[row], model.moments.covariance[row]) for row in rows]
    pairs += [(graft.mean, graft.covariance) for graft in model.grafts]
    means, covariances = zip(*pairs, strict=True)
    return np.stack(means), np.stack(covariances), np.array(list(model.n_train.values()))


def correlations_with(codecs: Sequence[Codec], moments: Moments, seed: int) -> Array:
    """Correlation over genes of the last class's log profile with that of every other, shape (n_classes − 1,).

    Profiles are what the codec, as it decodes a class, expects of cells drawn from the class's Gaussian, so that no
    cell of an old class is needed, and a profile of few cells is no noisier than others.
    """
    profiles = []
    for number, (codec, mean, covariance) in enumerate(zip(codecs, moments.mean, moments.covariance, strict=True)):
        noise = numpy_rng(seed, "extend", "profile", number).standard_normal((N_PROFILE, len(mean)))
        latents = mean + noise @ np.linalg.cholesky(covariance).T
        expected = codec.decode(torch.from_numpy(latents.astype(np.float32))).expected
        profiles.append((expected / expected.sum(dim=1, keepdim=True)).mean(dim=0).cpu().numpy().astype(float))
    return np.asarray(np.corrcoef(np.log1p(PER * np.stack(profiles)))[-1, :-1])


def place_of(model: Model, name: str, nearest: str, moments: Moments, epsilon: float) -> Place:
    """Where the last class of the moments leaves the tree; former ones are where they are for a fine solver."""
    codes = {known: code for code, known in enumerate([*model.n_train, name])}
    criterion = Fidelity(moments, model.schedule.levels, epsilon)
    return place(model.grown(FINE), name, nearest, criterion, codes, model.factor)


def _encoded(codec: Codec, counts: sparse.csr_matrix, name: str, device: torch.device) -> TrainingData:
    mean, scale = (torch.from_numpy(part).to(device) for part in codec.encode(counts))
    return TrainingData(mean=mean, scale=scale, codes=np.zeros(len(mean), dtype=np.int64), classes=(name,))
