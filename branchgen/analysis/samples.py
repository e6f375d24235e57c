"""The cells that are compared: real ones by split, generated ones by source, at equal numbers of every type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.reference import Reference, fit_reference
from branchgen.cells import keys
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.seeds import numpy_rng

FLOOR, LIMIT, TRAIN, NB, OWN = "floor", "limit", "train", "nb", "branchgen"
SOURCES = (FLOOR, LIMIT, TRAIN, NB, OWN)
"""What is always compared with test: holdout, holdout with errors of estimation, training cells, negative binomials,
and the generated cells."""
REAL = (FLOOR, LIMIT, TRAIN)
"""Sources of real cells: yardsticks, no generators."""
CODEC = "codec"
"""The baseline of training cells through the codec and back: a yardstick, too."""
TEST = "test"
"""The split that every source is compared with."""
ALL = "all"
"""Group of the comparison over all types."""
MIN_CELLS = 3
"""Cells that every split must have."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Counts, CSR of shape (n_cells, n_genes), and type of every cell."""

    counts: sparse.csr_matrix
    types: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.types)

    def take(self, rows: NDArray[np.int64]) -> Cells:
        """These cells, in this order."""
        return Cells(counts=self.counts[rows], types=self.types[rows])

    def n_per_type(self) -> dict[str, int]:
        """Number of cells of every type, in the order of the names."""
        names, numbers = np.unique(self.types, return_counts=True)
        return dict(zip(names.tolist(), numbers.tolist(), strict=True))

    def of_types(self, names: Sequence[str]) -> Cells:
        """The cells of these types."""
        return self.take(np.flatnonzero(np.isin(self.types, names)))


@dataclass(frozen=True, kw_only=True)
class Study:
    """All cells of an evaluation, and the transforms in which they are compared.

    `splits` are the real cells, `made` the generated ones: those of branchgen first, then of the baselines by name.
    """

    splits: dict[str, Cells]
    made: dict[str, Cells]
    genes: NDArray[np.str_]
    reference: Reference

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines that were given."""
        return tuple(self.made)[1:]


def read_study(
    generated: AnnData, cells: AnnData, baselines: Mapping[str, AnnData], settings: EvaluateSettings, seed: int
) -> Study:
    """Cells of all sources, in the order of their names: no draw depends on the order in a file.

    `cells` are prepared cells with all splits; `generated` and the baselines have the same genes in the same order.
    Raises BranchgenError where genes, types or names do not fit.
    """
    keys.require(cells, "the file of the prepared cells", obs=(keys.CELL_TYPE, keys.SPLIT), layers=(keys.COUNTS,))
    for name in baselines:
        if name in {*SOURCES, *keys.SPLITS, ALL}:
            raise BranchgenError(f"a baseline is called {name!r}, a name that is taken; give it another")
    made = {OWN: generated, **dict(sorted(baselines.items()))}
    for name, part in made.items():
        _check(part, cells, "the generated cells" if name == OWN else f"the cells of the baseline {name!r}")
    split = cells.obs[keys.SPLIT].to_numpy().astype(str)
    splits = {name: _cells_of(cells, np.flatnonzero(split == name)) for name in keys.SPLITS}
    for name, real in splits.items():
        if len(real) < MIN_CELLS:
            raise BranchgenError(f"the prepared cells have {len(real)} cells in split {name!r}; at least {MIN_CELLS}")
    ref = splits["ref"].counts
    if ref.shape[0] > settings.max_cells:
        rows = numpy_rng(seed, "evaluate", "ref").choice(ref.shape[0], settings.max_cells, replace=False)
        ref = ref[np.sort(rows)]
    return Study(
        splits=splits,
        made={name: _cells_of(part, np.arange(part.n_obs)) for name, part in made.items()},
        genes=cells.var_names.to_numpy().astype(str),
        reference=fit_reference(ref, n_variable=settings.n_genes, n_components=settings.n_components),
    )


def _check(generated: AnnData, cells: AnnData, who: str) -> None:
    """Raise BranchgenError unless both hold counts and types of the same genes."""
    keys.require(generated, f"the file of {who.removeprefix('the cells of ')}", **_SLOTS)
    right = "give cells that were made from these prepared cells"
    missing = cells.var_names.difference(generated.var_names, sort=False)
    if len(missing):
        raise BranchgenError(
            f"{who} lack {len(missing)} of the {cells.n_vars} genes of the prepared cells, the first is "
            f"{missing[0]!r}; {right}"
        )
    if not cells.var_names.equals(generated.var_names):
        raise BranchgenError(
            f"{who} have {generated.n_vars} genes in another order, or others besides the {cells.n_vars} "
            f"of the prepared cells; {right}"
        )
    unknown = sorted(set(generated.obs[keys.CELL_TYPE].astype(str)) - set(cells.obs[keys.CELL_TYPE].astype(str)))
    if unknown:
        raise BranchgenError(
            f"{who} are of type {', '.join(map(repr, unknown))}, unknown to the prepared cells; {right}"
        )


_SLOTS = {"obs": (keys.CELL_TYPE,), "layers": (keys.COUNTS,)}


def _cells_of(cells: AnnData, rows: NDArray[np.int64]) -> Cells:
    rows = rows[np.argsort(cells.obs_names.to_numpy().astype(str)[rows], kind="stable")]
    counts = sparse.csr_matrix(cells.layers[keys.COUNTS])[rows]
    return Cells(counts=counts, types=cells.obs[keys.CELL_TYPE].to_numpy().astype(str)[rows])


def matched(a: Cells, b: Cells, seed: int, *name: str | int) -> tuple[Cells, Cells]:
    """As many cells of every type from either, the smaller of the two numbers, drawn without replacement.

    Row i of both is of the same type. The generators are named after `name`.
    """
    rows_a, rows_b = matched_rows(a, b, seed, *name)
    return a.take(rows_a), b.take(rows_b)


def matched_rows(a: Cells, b: Cells, seed: int, *name: str | int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the cells that `matched` takes."""
    n_a, n_b = a.n_per_type(), b.n_per_type()
    rows_a: list[NDArray[np.int64]] = [_NONE]
    rows_b: list[NDArray[np.int64]] = [_NONE]
    for type_ in sorted(n_a.keys() & n_b.keys()):
        n_kept = min(n_a[type_], n_b[type_])
        for cells, rows, side in ((a, rows_a, "a"), (b, rows_b, "b")):
            found = np.flatnonzero(cells.types == type_)
            rng = numpy_rng(seed, "match", *name, side, type_)
            rows.append(found if len(found) == n_kept else np.sort(rng.choice(found, n_kept, replace=False)))
    return np.concatenate(rows_a), np.concatenate(rows_b)


_NONE = np.array([], dtype=np.int64)
