"""`branchgen train`: latent coordinates and a hierarchy to a model."""

from __future__ import annotations

import argparse
import logging
import math
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray

from branchgen import __version__, files, stores
from branchgen.cells.keys import CELL_TYPE, LATENT, LATENT_SCALE, SPLIT, require
from branchgen.config import TrainSettings
from branchgen.device import describe
from branchgen.diffusion.batches import TrainingData, class_weights
from branchgen.diffusion.checkpoint import Model, require_same_codec
from branchgen.diffusion.computing import Computing, Processes
from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.train import TrainingState, fit
from branchgen.diffusion.validation import history_columns
from branchgen.distributed import joined
from branchgen.errors import BranchgenError
from branchgen.hierarchy.mixtures import Prior, class_mixtures
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Hierarchy
from branchgen.progress import Progress
from branchgen.provenance import FORMAT_VERSION, provenance, state_hash
from branchgen.seeds import numpy_rng, torch_generator
from branchgen.signals import Requests

log = logging.getLogger(__name__)

SHARE_OF_GPU = 0.5
"""Of a GPU's free memory, what latents may take."""


def run(arguments: argparse.Namespace, settings: TrainSettings) -> None:
    """Train, from the last checkpoint where there is one of the same inputs and settings."""
    with (
        joined(arguments.device) as (device, processes),
        stores.opened_artefact(arguments.latents, "encode") as latents,
    ):
        train_model(arguments, settings, latents, device, processes)


def train_model(
    arguments: argparse.Namespace,
    settings: TrainSettings,
    latents: AnnData,
    device: torch.device,
    processes: Processes,
) -> None:
    """What one of the processes does; the first one reads the checkpoints and writes all files."""
    require(latents, str(arguments.latents), obs=(CELL_TYPE, SPLIT), obsm=(LATENT, LATENT_SCALE))
    record = files.read_json(arguments.hierarchy, "branches", "codec", "schedule", "shrinkage", "support")
    encoded = stores.read_provenance(latents, arguments.latents)
    require_same_codec(record["codec"], encoded["codec"], str(arguments.hierarchy), str(arguments.latents))
    try:
        hierarchy, schedule = Hierarchy.from_list(record["branches"]), NoiseSchedule.from_dict(record["schedule"])
    except BranchgenError as error:
        raise BranchgenError(f"{arguments.hierarchy}: {error}; derive it again") from error
    classes = tuple(latents.obs[CELL_TYPE].cat.categories)
    if set(classes) != set(hierarchy.classes):
        raise BranchgenError(f"{arguments.hierarchy} has other classes than {arguments.latents}; derive it again")
    each = f", each of {processes.n} processes" if processes.n > 1 else ""
    log.info("running on %s%s", describe(device), each)

    mean, scale = (np.asarray(latents.obsm[name], dtype=np.float32) for name in (LATENT, LATENT_SCALE))
    codes = {split: codes_of(latents, split, classes) for split in ("train", "ref")}
    train, ref = (split_data((mean, scale), found, classes, device) for found in codes.values())
    weights = class_weights(train.codes, len(classes), settings.class_weighting)
    moments = moments_of(
        (mean, scale), codes["train"], hierarchy, classes, weights, record["shrinkage"], settings, arguments.seed
    )
    shape = Shape(
        n_latent=train.n_latent,
        n_branches=len(hierarchy.branches),
        n_hidden=settings.n_hidden,
        n_blocks=settings.n_blocks,
        n_head=settings.n_head,
    )
    network = BranchedDenoiser(shape, schedule, moments, torch_generator(arguments.seed, "train", "weights")).to(device)
    state = TrainingState.begin(network, settings)
    inputs = {
        "latents": files.file_hash(arguments.latents),
        "hierarchy": state_hash({name: record[name] for name in ("branches", "schedule", "codec")}),
    }
    folder = Path(arguments.checkpoints or f"{arguments.output_model}.checkpoints")
    checkpoints = Checkpoints(folder, checkpoint_key(inputs, settings, arguments.seed))
    if (found := processes.of_first(checkpoints.load() if processes.is_first else None)) is not None:
        state.restore(found)
        log.info("resuming from step %d", state.step)
    requests = Requests(processes.largest, passed_on=processes.n > 1)

    def save(training: dict[str, Any]) -> None:
        if processes.is_first:
            checkpoints.save(training)
        if requests.heard:
            log.info("checkpoint at step %d, as a signal asked for one", training["step"])
        requests.answered()

    with requests.noted(), Progress("train", settings.n_steps, state.step, shown=processes.is_first) as progress:
        fit(
            state,
            hierarchy,
            train,
            ref,
            weights,
            settings,
            arguments.seed,
            computing=Computing(processes=processes, precision=settings.precision, compiled=settings.compile),
            # The clocks of the others are not asked, as only signals make all of them save at the same step.
            checkpoint_seconds=settings.checkpoint_seconds if processes.is_first else math.inf,
            save=save,
            save_now=requests.listen,
            report=lambda step, loss, held_out: progress.to(step, lambda: f"loss {loss:.3f}, held-out {held_out:.3f}"),
        )
    if not processes.is_first:
        return
    log.info("stopped at step %d; best held-out loss %.4f at step %d", state.step, state.best_loss, state.best_step)
    counts = np.bincount(train.codes, minlength=len(classes))
    model = Model(
        weights={name: value.cpu() for name, value in state.best.items()},
        shape=shape,
        hierarchy=hierarchy,
        schedule=schedule,
        moments=moments,
        support=record["support"],
        class_counts={name: int(count) for name, count in zip(classes, counts, strict=True)},
        codec=encoded["codec"],
        genes=tuple(encoded["genes"]),
        provenance=provenance("train", settings.to_dict(), arguments.seed, inputs, step=state.best_step),
        factor=record.get("factor", 1.0),
    )
    history = pd.DataFrame(history_columns(state.history))
    with files.written_together(arguments.output_model, arguments.output_training) as (model_path, training_path):
        files.write_state(model.to_state(), model_path)
        files.write_table(history, training_path)
    checkpoints.remove()


def checkpoint_key(inputs: Mapping[str, str], settings: TrainSettings, seed: int) -> str:
    """Hash of all that must agree for a checkpoint to be continued; how often one is written need not."""
    what = {name: value for name, value in settings.to_dict().items() if name != "checkpoint_seconds"}
    return state_hash([__version__, inputs, what, seed])


def split_data(
    posteriors: Sequence[NDArray[np.float32]],
    codes: NDArray[np.int64],
    classes: tuple[str, ...],
    device: torch.device,
) -> TrainingData:
    """The cells that have a code: on the GPU if there is room, or else where all are, mapped into memory."""
    rows = np.flatnonzero(codes >= 0)
    size = 2 * len(rows) * posteriors[0].shape[1] * posteriors[0].itemsize
    if device.type == "cuda" and size < SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
        mean, scale = (torch.from_numpy(values[rows]).to(device) for values in posteriors)
        return TrainingData(mean=mean, scale=scale, codes=codes[rows], classes=classes)
    with warnings.catch_warnings():
        # They are in a file, which is not to be written.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        mean, scale = (torch.from_numpy(values) for values in posteriors)
    return TrainingData(mean=mean, scale=scale, codes=codes[rows], classes=classes, rows=rows)


def moments_of(
    posterior: tuple[NDArray[np.float32], NDArray[np.float32]],
    codes: NDArray[np.int64],
    hierarchy: Hierarchy,
    classes: tuple[str, ...],
    weights: NDArray[np.float64],
    shrinkage: float,
    settings: TrainSettings,
    seed: int,
) -> BranchMoments:
    """What is known of the branches in closed form, by posterior means and standard deviations of training cells."""
    moments = Moments.of_classes(*posterior, codes, len(classes), shrinkage)
    mixtures = class_mixtures(
        *posterior,
        codes,
        Prior(moments.covariance.mean(axis=0), shrinkage),
        settings.n_gaussians,
        [numpy_rng(seed, "train", "gaussians", name) for name in classes],
    )
    return BranchMoments.pooled(hierarchy, classes, moments, weights, mixtures)


def codes_of(latents: AnnData, split: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class of every cell of a split, and −1 for those of the others, (n_cells,)."""
    inside = (latents.obs[SPLIT] == split).to_numpy()
    if not inside.any():
        raise BranchgenError(f"the latents hold no cells of the {split} split; prepare and encode again")
    return np.where(inside, latents.obs[CELL_TYPE].cat.set_categories(list(classes)).cat.codes, -1)


class Checkpoints:
    """The last two checkpoints of one training, in a folder; others, of other inputs or settings, are replaced."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._last, self._before = folder / "checkpoint.pt", folder / "checkpoint_before.pt"
        self._key = key

    def load(self) -> dict[str, Any] | None:
        """State of the last checkpoint that is whole; None where there is none of this training."""
        for path in (self._last, self._before):
            if path.exists() and (state := self._read(path)) is not None:
                return state
        return None

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            state = files.read_state(path, "checkpoint")
        except BranchgenError as error:
            log.warning("not used: %s", error)
            return None
        if state["key"] != self._key:
            log.info("not used: %s is of other inputs or settings", path)
            return None
        if state.get("hash") != state_hash(state["training"]):
            log.warning("not used: %s is damaged, its content does not fit its hash", path)
            return None
        return dict(state["training"])

    def save(self, training: dict[str, Any]) -> None:
        """Write a checkpoint and keep the one before; an interruption at any moment leaves one of them."""
        about = {"kind": "checkpoint", "format_version": FORMAT_VERSION, "key": self._key}
        with files.written_together(self._last) as (path,):
            files.write_state({**about, "hash": state_hash(training), "training": training}, path)
            if self._last.exists():
                os.replace(self._last, self._before)

    def remove(self) -> None:
        """Training is done."""
        shutil.rmtree(self._folder, ignore_errors=True)
