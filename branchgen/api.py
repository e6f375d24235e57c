"""A finished run in a notebook: what the commands write to files, as AnnData objects and figures.

>>> from branchgen.api import open_run
>>> run = open_run("results/pbmc68k")
>>> cells = run.generate({"CD56+ NK": 500})
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from anndata import AnnData
from matplotlib.figure import Figure
from scipy import sparse

from branchgen.analysis.branch_points import branch_point_cells
from branchgen.analysis.fate_cells import fate_cells
from branchgen.analysis.fates import Latents, fates
from branchgen.analysis.figures import class_colours
from branchgen.analysis.figures_tree import leaf_order, tree_figure
from branchgen.cells.keys import CELL_TYPE, COUNTS, PROVENANCE, require
from branchgen.cells.numbers import requested_numbers
from branchgen.config import AnalyseSettings, GenerateSettings, TransmuteSettings
from branchgen.device import choose_device
from branchgen.diffusion.blocks import allocate
from branchgen.diffusion.transmute import require_two_classes
from branchgen.errors import BranchgenError
from branchgen.hierarchy.derive import Support
from branchgen.hierarchy.grafts import Grown
from branchgen.hierarchy.tree import Hierarchy
from branchgen.provenance import provenance
from branchgen.trained import Trained, of_class


def open_run(folder: str | Path, device: str = "auto", extension: str | None = None) -> Run:
    """The run of a dataset, from its folder of results, or its model after an extension.

    BranchgenError where there is no such model.
    """
    folder = Path(folder)
    model = folder / "model.pt" if extension is None else folder / "extended" / extension / "model.pt"
    return Run(folder, Trained.read(model, folder / "codec.pt", choose_device(device)))


class Run:
    """A trained model and the cells it was trained on.

    Settings are those of the sections of config.yaml, by name, with the same defaults; the same seed gives the same
    cells as the command. All methods raise BranchgenError, in one sentence, for what cannot be done.
    """

    def __init__(self, folder: Path, trained: Trained) -> None:
        self._folder, self._trained = folder, trained

    @property
    def hierarchy(self) -> Hierarchy:
        """The tree: branches with their classes and times."""
        return self._grown.hierarchy

    @cached_property
    def _grown(self) -> Grown:
        return self._trained.model.grown(GenerateSettings().n_steps)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.hierarchy.classes

    @cached_property
    def cells(self) -> AnnData:
        """The prepared cells: raw counts of the modelled genes, types and splits."""
        return self._trained.cells(self._folder / "cells.h5ad", obs=(CELL_TYPE,), layers=(COUNTS,))

    def generate(self, n_cells: int | str | Mapping[str, int] = "train", *, seed: int = 0, **settings: Any) -> AnnData:
        """New cells: a number of every class, a table of classes or branches to numbers, or as many as in training."""
        text = n_cells if isinstance(n_cells, str) else json.dumps(n_cells)
        chosen = GenerateSettings.from_mapping({"n_cells": text, **settings})
        model = self._trained.model
        sampler = self._trained.sampler(
            solver=chosen.solver,
            n_steps=chosen.n_steps,
            handover=chosen.handover,
            n_corrections=chosen.n_corrections,
            seed=seed,
        )
        request = requested_numbers(text, model.n_train, model.newest)
        numbers = allocate(request, sampler.hierarchy, model.n_train)
        made = self._trained.generate(sampler, numbers, chosen.ancestors)
        return self._signed(made, "generate", chosen.to_dict(), seed, n_cells=numbers)

    def transmute(self, cells: AnnData | str, to: str, *, seed: int = 0, **settings: Any) -> AnnData:
        """Real cells as cells of the class `to`: those of a class of the run, or prepared cells of one class."""
        chosen = TransmuteSettings.from_mapping(settings)
        if isinstance(cells, str):
            require_two_classes(self.hierarchy, cells, to)
            cells = of_class(self.cells, cells, str(self._folder / "cells.h5ad"))
        self._require(cells)
        types = sorted(set(cells.obs[CELL_TYPE].astype(str)))
        if len(types) != 1:
            raise BranchgenError(f"the cells are of {len(types)} classes ({', '.join(types)}); give those of one")
        require_two_classes(self.hierarchy, types[0], to)
        sampler = self._trained.sampler(n_steps=chosen.n_steps, handover=chosen.handover, seed=seed)
        made = self._trained.transmuted(sampler, cells, types[0], to, chosen.noising)
        return self._signed(made, "transmute", chosen.to_dict(), seed, source=types[0], target=to)

    def branch_points(self, *, seed: int = 0, **settings: Any) -> AnnData:
        """Populations at the branch points, denoised and decoded."""
        chosen = AnalyseSettings.from_mapping(settings)
        sampler = self._trained.sampler(n_steps=chosen.n_steps, handover=chosen.handover, seed=seed)
        found = branch_point_cells(sampler, self._trained.codec, self._trained.model.offsets, chosen.n_cells)
        return self._signed(found, "analyse", chosen.to_dict(), seed)

    def fates(self, cells: AnnData | None = None, *, seed: int = 0, **settings: Any) -> AnnData:
        """Probability of every class and child for real cells, those of the run where none are given."""
        chosen = AnalyseSettings.from_mapping(settings)
        cells = self.cells if cells is None else cells
        self._require(cells)
        sampler = self._trained.sampler(n_steps=chosen.n_steps, handover=chosen.handover, seed=seed)
        mean, scale = self._trained.codec.encode(sparse.csr_matrix(cells.layers[COUNTS]))
        latents = Latents(mean=mean.astype(float), scale=scale.astype(float))
        placed = fate_cells(cells, latents, fates(sampler, latents, chosen.n_draws), sampler.hierarchy)
        return self._signed(placed, "analyse", chosen.to_dict(), seed)

    def plot_tree(self) -> Figure:
        """The tree on the noise axis, with support and intervals of its branch points."""
        model = self._trained.model
        ends = self._grown.ends
        support = {ends[name]: Support(**values) for name, values in model.support.items()}  # type: ignore[arg-type]
        return tree_figure(self.hierarchy, model.schedule, support, class_colours(leaf_order(self.hierarchy)))

    def _require(self, cells: AnnData) -> None:
        require(cells, "the object", obs=(CELL_TYPE,), layers=(COUNTS,))
        self._trained.require_genes(cells, "the object")

    def _signed(self, made: AnnData, command: str, settings: dict[str, Any], seed: int, **more: Any) -> AnnData:
        made.uns[PROVENANCE] = provenance(command, settings, seed, dict(self._trained.inputs), **more)
        return made
