"""`branchgen baseline`: cells of a simpler generator, in the form of generated ones, to be compared with them."""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen import files, stores
from branchgen.analysis.gaussians import ClassGaussians
from branchgen.analysis.scvi_mixtures import ScviMixtures
from branchgen.cells.codec import Codec
from branchgen.cells.keys import (
    ANCESTOR,
    CELL_TYPE,
    COUNTS,
    LATENT,
    LATENT_SCALE,
    PROVENANCE,
    SPLIT,
    require,
)
from branchgen.cells.numbers import requested_numbers
from branchgen.config import BaselineSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.checkpoint import require_same_codec
from branchgen.errors import BranchgenError
from branchgen.growing import GrowingH5ad
from branchgen.progress import Progress
from branchgen.provenance import provenance
from branchgen.seeds import numpy_rng
from branchgen.trained import class_type, empty_table, generated_table

log = logging.getLogger(__name__)

BLOCK = 512
"""Cells drawn at once."""
INPUTS = {"codec": ("latents", "codec"), "gauss": ("latents", "codec"), "scvi": ("cells",)}
"""The files that every method needs."""

Drawn = tuple[sparse.csr_matrix, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training cells of a method: which class each has, and of how many there are."""

    rows: NDArray[np.bool_]
    codes: NDArray[np.int64]
    classes: list[str]

    @classmethod
    def of(cls, cells: AnnData) -> Training:
        """Training cells of prepared or encoded cells."""
        rows = (cells.obs[SPLIT] == "train").to_numpy()
        labels = cells.obs[CELL_TYPE][rows].astype(str).to_numpy()
        classes, codes = np.unique(labels, return_inverse=True)
        return cls(rows=rows, codes=codes.astype(np.int64), classes=[str(name) for name in classes])

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of training cells of every class."""
        return dict(zip(self.classes, np.bincount(self.codes).tolist(), strict=True))


class Latent:
    """What the methods share that draw in the codec's latent space."""

    def __init__(self, arguments: argparse.Namespace, settings: BaselineSettings, device: torch.device) -> None:
        source, codec_source = Path(arguments.latents), Path(arguments.codec)
        latents = stores.read_artefact(source, "encode")
        require(latents, str(source), obs=(CELL_TYPE, SPLIT), obsm=(LATENT, LATENT_SCALE))
        state = files.read_state(codec_source, "codec")
        found = stores.read_provenance(latents, source)["codec"]
        require_same_codec(found, state["hash"], str(source), str(codec_source))
        self.inputs = {"latents": files.file_hash(source), "codec": found}
        self.training = Training.of(latents)
        self._codec = Codec.from_state(state).to(device)
        self.genes = list(self._codec.genes)
        mean, scale = (latents.obsm[key][self.training.rows].astype(float) for key in (LATENT, LATENT_SCALE))
        self.fit(mean, scale)

    def fit(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        """Learn from posterior means and standard deviations of the training cells, (n_cells, n_latent)."""
        raise NotImplementedError

    def draw_latents(self, code: int, n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Latents of new cells of one class, shape (n_cells, n_latent)."""
        raise NotImplementedError

    def draw(self, code: int, n_cells: int, rng: np.random.Generator) -> Drawn:
        """Counts and latents of new cells of one class."""
        latents = self.draw_latents(code, n_cells, rng)
        return self._codec.of_class(self.training.classes[code]).draw_counts(torch.from_numpy(latents), rng), latents


class Reconstructed(Latent):
    """Training cells through the codec and back: what a perfect model of its latent space would give.

    No generator, for it copies; what a classifier sees here, it sees because of the codec.
    """

    def fit(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self._mean, self._scale = mean, scale

    def draw_latents(self, code: int, n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
        rows = rng.choice(np.flatnonzero(self.training.codes == code), n_cells)
        noise = rng.standard_normal((n_cells, self._mean.shape[1]))
        return np.asarray(self._mean[rows] + self._scale[rows] * noise, dtype=np.float32)


class Gauss(Latent):
    """One Gaussian per class in the codec's latent space."""

    def fit(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self._gaussians = ClassGaussians.fit(mean, scale, self.training.codes, len(self.training.classes))

    def draw_latents(self, code: int, n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
        return self._gaussians.draw(code, n_cells, rng)


class Scvi:
    """A Gaussian mixture per class in the latent space of scVI."""

    def __init__(self, arguments: argparse.Namespace, settings: BaselineSettings, device: torch.device) -> None:
        source = Path(arguments.cells)
        cells = stores.read_artefact(source, "prepare")
        require(cells, str(source), obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
        self.inputs = {"cells": files.file_hash(source)}
        self.training = Training.of(cells)
        self.genes = list(map(str, cells.var_names))
        counts = sparse.csr_matrix(cells.layers[COUNTS])
        self._mixtures = ScviMixtures.fit(
            counts[self.training.rows],
            counts[(cells.obs[SPLIT] == "ref").to_numpy()],
            self.training.codes,
            len(self.training.classes),
            n_components=settings.n_components,
            max_epochs=settings.max_epochs,
            device=device,
            seed=arguments.seed,
        )

    def draw(self, code: int, n_cells: int, rng: np.random.Generator) -> Drawn:
        """Counts and latents of new cells of one class."""
        return self._mixtures.draw(code, n_cells, rng)


METHODS: dict[str, type[Latent] | type[Scvi]] = {"codec": Reconstructed, "gauss": Gauss, "scvi": Scvi}


def run(arguments: argparse.Namespace, settings: BaselineSettings) -> None:
    """Fit the method to the training cells, and write cells that it draws."""
    device = choose_device(arguments.device)
    if arguments.method not in METHODS:
        raise BranchgenError(f"method is {arguments.method!r}; it must be one of {', '.join(METHODS)}")
    for name in INPUTS[arguments.method]:
        if getattr(arguments, name) is None:
            raise BranchgenError(f"the method {arguments.method} needs --{name}")
    log.info("running on %s", describe(device))
    method = METHODS[arguments.method](arguments, settings, device)
    numbers = requested_numbers(settings.n_cells, method.training.class_counts)
    for name in numbers:
        if name not in method.training.classes:
            raise BranchgenError(f"n_cells asks for class {name!r}, but there are {', '.join(method.training.classes)}")
    record = provenance(
        "baseline", settings.to_dict(), arguments.seed, method.inputs, method=arguments.method, n_cells=numbers
    )
    made = blocks(method, numbers, arguments.seed)
    first = next(made)
    n_done, n_latent = 0, first[2][1].shape[1]
    with (
        files.written_together(arguments.output_generated) as (path,),
        Progress("baseline", sum(numbers.values())) as progress,
        GrowingH5ad(path, method.genes, empty_table(numbers), {LATENT: n_latent}) as output,
    ):
        for name, begin, (counts, latents) in itertools.chain([first], made):
            table = generated_table(name, begin + np.arange(len(latents)), counts, class_type(numbers))
            # No two cells share noise, so that each has an ancestor of its own.
            output.append(counts, table.assign(**{ANCESTOR: n_done + np.arange(len(latents))}), {LATENT: latents})
            n_done += len(latents)
            progress.to(n_done)
        output.finish({PROVENANCE: record})
    log.info("%s: %d cells of %d classes", arguments.method, n_done, len(numbers))


def blocks(method: Latent | Scvi, numbers: Mapping[str, int], seed: int) -> Iterator[tuple[str, int, Drawn]]:
    """Class, number of the first cell, and the cells of every block; each block has a generator of its own."""
    for name, total in numbers.items():
        code = method.training.classes.index(name)
        for first in range(0, total, BLOCK):
            rng = numpy_rng(seed, "baseline", name, first // BLOCK)
            yield name, first, method.draw(code, min(BLOCK, total - first), rng)
