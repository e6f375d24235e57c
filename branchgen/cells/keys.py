"""Where things stand in an AnnData object: the slot names of every file branchgen reads or writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from branchgen.errors import BranchgenError

if TYPE_CHECKING:
    from anndata import AnnData

CELL_TYPE = "cell_type"
"""obs: string categorical, the class of a cell."""
SPLIT = "split"
"""obs: string categorical, one of SPLITS."""
LIBRARY_SIZE = "library_size"
"""obs: UMIs of a cell over the modelled genes."""
TOTAL_COUNTS = "total_counts"
"""obs: UMIs of a cell over all genes of the input."""
ANCESTOR = "ancestor"
"""obs: cells with the same number share their noise above the branch point of their classes."""
SOURCE_CELL = "source_cell"
"""obs: name of the real cell that a transmuted cell was."""
SOURCE_TYPE = "source_type"
"""obs: class of the real cell that a transmuted cell was."""
BRANCH = "branch"
"""obs: name of the branch whose end a cell has reached."""
POPULATION = "population"
"""obs: whose cells a population at a branch point is, the parent's that reach it or a child's that leave it."""
TIME = "time"
"""obs: diffusion time of a cell, 0 for data and 1 for noise."""

COUNTS = "counts"
"""layers: sparse integer counts."""
LATENT = "X_latent"
"""obsm: float32 latent coordinates; the last one is the standardised log library size."""
LATENT_SCALE = "X_latent_scale"
"""obsm: float32 posterior standard deviation of every latent coordinate; zero where the codec has none."""
DENOISED = "X_denoised"
"""obsm: float32 expectation of the latent coordinates at time 0, given the noised ones."""

VARIABLE = "highly_variable"
"""var: whether a gene is modelled."""
PROVENANCE = "branchgen"
"""uns: JSON string with version, command, settings, seed and the hashes of the inputs."""

SPLITS = ("train", "ref", "test", "holdout")
"""Splits of the cells; test and holdout are for evaluation alone."""
SEEN = ("train", "ref")
"""Splits that the generator sees."""


def require(cells: AnnData, source: str, **slots: tuple[str, ...]) -> None:
    """Check that `cells`, read from `source`, holds the named slots, e.g. ``obs=("cell_type",)``.

    Raises BranchgenError naming the first missing slot and what is there.
    """
    for attribute, names in slots.items():
        present = list(getattr(cells, attribute).keys())
        for name in names:
            if name not in present:
                raise BranchgenError(f"{source} has no {attribute}[{name!r}]; it has {present}")
