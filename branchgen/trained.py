"""A trained model with its codec: what the commands and notebooks make with it, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen import files, stores
from branchgen.cells.codec import Codec
from branchgen.cells.keys import (
    ANCESTOR,
    CELL_TYPE,
    COUNTS,
    LATENT,
    LIBRARY_SIZE,
    SOURCE_CELL,
    SOURCE_TYPE,
    require,
)
from branchgen.diffusion.blocks import BLOCK, Shard
from branchgen.diffusion.checkpoint import Model, require_same_codec
from branchgen.diffusion.sample import sample_blocks
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.transmute import transmute
from branchgen.errors import BranchgenError
from branchgen.seeds import numpy_rng

APART = 2**40
"""Between the numbers of the ancestors of independent classes: more than anybody's cells of one class."""


@dataclass(frozen=True)
class Cells:
    """Some cells that were made: counts (n_cells, n_genes), their table, and latents (n_cells, d)."""

    counts: sparse.csr_matrix
    obs: pd.DataFrame
    latents: NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """A model file and the codec that belongs to it, on a device."""

    path: Path
    model: Model
    codec: Codec
    device: torch.device
    inputs: Mapping[str, str] = field(compare=False)
    """Hashes for the provenance of what is made with them."""

    @classmethod
    def read(cls, model: Path, codec: Path, device: torch.device) -> Self:
        """Both from their files; BranchgenError where they do not belong together."""
        found = Model.from_state(files.read_state(model, "model"))
        state = files.read_state(codec, "codec")
        require_same_codec(found.codec, state["hash"], str(model), str(codec))
        inputs = {"model": files.file_hash(model), "codec": found.codec}
        return cls(Path(model), found, Codec.from_state(state).to(device), device, inputs)

    def codec_of(self, name: str) -> Codec:
        """The codec as it decodes cells of a class."""
        return self.codec.of_class(name, self.model.offsets)

    def sampler(
        self, *, n_steps: int, handover: str, seed: int, solver: str = "dpmpp_2m", n_corrections: int = 0
    ) -> TreeSampler:
        """Sampler of the model."""
        return self.model.sampler(
            self.device, solver=solver, n_steps=n_steps, handover=handover, seed=seed, n_corrections=n_corrections
        )

    def cells(self, path: Path, **slots: tuple[str, ...]) -> AnnData:
        """Prepared cells with these slots (see `require`); BranchgenError where their genes are not the model's."""
        cells = stores.read_artefact(path, "prepare")
        require(cells, str(path), **slots)
        self.require_genes(cells, str(path))
        return cells

    def require_genes(self, cells: AnnData, source: str) -> None:
        """Raise BranchgenError where cells have other genes than the model, or have them in another order."""
        if tuple(map(str, cells.var_names)) != self.model.genes:
            raise BranchgenError(
                f"{source} has other genes than {self.path}; train on these cells, or prepare them --like its own"
            )

    def generated(
        self,
        sampler: TreeSampler,
        numbers: Mapping[str, int],
        ancestors: str = "shared",
        shard: Shard | None = None,
    ) -> Iterator[Cells]:
        """New cells, as many of every class as wanted, block by block; `ancestors`, `shard` as in `sample_blocks`."""
        position = {name: number for number, name in enumerate(sampler.hierarchy.classes)}
        kind = class_type(numbers)
        for name, block, latents, wanted in sample_blocks(sampler, numbers, ancestors, shard):
            rng = numpy_rng(sampler.seed, "generate", "counts", name, block)
            counts = self.codec_of(name).draw_counts(latents[:wanted], rng)
            number = block * BLOCK + np.arange(wanted)
            # Independent cells have no ancestor in common, and so no number.
            apart = position[name] * APART if ancestors == "independent" else 0
            obs = generated_table(name, number, counts, kind).assign(**{ANCESTOR: number + apart})
            yield Cells(counts, obs, latents[:wanted].float().cpu().numpy())

    def generate(self, sampler: TreeSampler, numbers: Mapping[str, int], ancestors: str = "shared") -> AnnData:
        """The same cells in one object."""
        return self.as_anndata(joined(list(self.generated(sampler, numbers, ancestors))))

    def transmuted(
        self,
        sampler: TreeSampler,
        cells: AnnData,
        source: str,
        target: str,
        noising: str,
        progress: Callable[[int], None] = lambda _: None,
    ) -> AnnData:
        """Real cells of the class `source` as cells of the class `target`, in their order.

        They keep their library sizes, but for what is drawn, and their columns of obs. `progress` is told how many
        cells are done.
        """
        # The mean of its posterior is the best guess of where a cell is: a draw would blur its state.
        before = torch.from_numpy(self.codec.encode(sparse.csr_matrix(cells.layers[COUNTS]))[0])
        latents: list[NDArray[np.float32]] = []
        drawn: list[sparse.csr_matrix] = []
        done = 0
        for number, block in enumerate(transmute(sampler, before.to(sampler.like), source, target, noising)):
            # The last coordinate is the library size: a cell keeps its own.
            block[:, -1] = before[done : done + len(block), -1].to(block)
            rng = numpy_rng(sampler.seed, "transmute", "counts", source, target, number)
            drawn.append(self.codec_of(target).draw_counts(block, rng))
            latents.append(block.float().cpu().numpy())
            done += len(block)
            progress(done)
        counts = sparse.csr_matrix(sparse.vstack(drawn, format="csr"))
        obs = cells.obs.rename(columns={CELL_TYPE: SOURCE_TYPE}).assign(
            **{
                SOURCE_CELL: cells.obs_names.to_numpy(),
                CELL_TYPE: pd.Categorical([target] * cells.n_obs),
                LIBRARY_SIZE: library_sizes(counts),
            }
        )
        obs.index = pd.Index([f"{name}_as_{target}" for name in cells.obs_names])
        return self.as_anndata(Cells(counts, obs, np.concatenate(latents)))

    def as_anndata(self, made: Cells) -> AnnData:
        """Cells in the form of the contract: counts in X and in their layer, latents in obsm."""
        genes = pd.DataFrame(index=list(self.codec.genes))
        result = AnnData(X=made.counts, obs=made.obs, var=genes, obsm={LATENT: made.latents})
        result.layers[COUNTS] = result.X
        return result


def joined(parts: Sequence[Cells]) -> Cells:
    """Cells one after the other."""
    counts = sparse.csr_matrix(sparse.vstack([part.counts for part in parts], format="csr"))
    latents = np.concatenate([part.latents for part in parts])
    return Cells(counts, pd.concat([part.obs for part in parts]), latents)


def class_type(numbers: Mapping[str, int]) -> pd.CategoricalDtype:
    """Type of the column of classes, of the classes of which there are to be cells."""
    return pd.CategoricalDtype(sorted(name for name, count in numbers.items() if count))


def generated_table(
    name: str, number: NDArray[np.int64], counts: sparse.csr_matrix, kind: pd.CategoricalDtype
) -> pd.DataFrame:
    """Table of generated cells of a class with their numbers; a cell is its own ancestor unless said otherwise."""
    columns = {
        CELL_TYPE: pd.Categorical([name] * len(number), dtype=kind),
        LIBRARY_SIZE: library_sizes(counts),
        ANCESTOR: number,
    }
    return pd.DataFrame(columns, index=[f"{name}_{i}" for i in number])


def empty_table(numbers: Mapping[str, int]) -> pd.DataFrame:
    """Table of generated cells without a row."""
    none = np.zeros(0, dtype=np.int64)
    return generated_table("", none, sparse.csr_matrix((0, 1), dtype=np.int32), class_type(numbers))


def of_class(cells: AnnData, name: str, source: str) -> AnnData:
    """The cells of one class; BranchgenError where there are none."""
    found = cells[cells.obs[CELL_TYPE] == name]
    if not found.n_obs:
        raise BranchgenError(f"{source} has no cells of class {name!r}; train on these cells")
    return found


def library_sizes(counts: sparse.csr_matrix) -> NDArray[np.int64]:
    """Counts of every cell, shape (n_cells,)."""
    sizes: NDArray[np.int64] = np.asarray(counts.sum(axis=1)).ravel().astype(np.int64)
    return sizes
