"""A trained model with its codec, and the cells it was trained on, as the commands that use them read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from anndata import AnnData

from branchgen import files
from branchgen.cells.codec import Codec
from branchgen.cells.keys import require
from branchgen.diffusion.checkpoint import Model, require_same_codec
from branchgen.diffusion.sample import TreeSampler
from branchgen.errors import BranchgenError


@dataclass(frozen=True)
class Trained:
    """A model file and the codec that belongs to it, on a device."""

    path: Path
    model: Model
    codec: Codec
    device: torch.device
    inputs: dict[str, str] = field(compare=False)
    """Hashes for the provenance of what is made with them."""

    @classmethod
    def read(cls, model: Path, codec: Path, device: torch.device) -> Self:
        """Both from their files; BranchgenError where they do not belong together."""
        found = Model.from_state(files.read_state(model, "model"))
        state = files.read_state(codec, "codec")
        require_same_codec(found.codec, state["hash"], str(model), str(codec))
        inputs = {"model": files.file_hash(model), "codec": found.codec}
        return cls(Path(model), found, Codec.from_state(state).to(device), device, inputs)

    def sampler(self, *, n_steps: int, handover: str, seed: int, solver: str = "dpmpp_2m") -> TreeSampler:
        """Sampler of the model."""
        return self.model.sampler(self.device, solver=solver, n_steps=n_steps, handover=handover, seed=seed)

    def cells(self, path: Path, **slots: tuple[str, ...]) -> AnnData:
        """Prepared cells with these slots (see `require`); BranchgenError where their genes are not the model's."""
        cells = files.read_artefact(path, "prepare")
        require(cells, str(path), **slots)
        if tuple(map(str, cells.var_names)) != self.model.genes:
            raise BranchgenError(f"{path} has other genes than {self.path}; train on these cells")
        return cells
