"""From an input of raw counts to the cells that are modelled: validation, filters, splits, variable genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.cells.counts import RawCounts
from branchgen.cells.genes import given_genes, modelled_genes
from branchgen.cells.keys import CELL_TYPE, LIBRARY_SIZE, SEEN, SPLIT, SPLITS, TOTAL_COUNTS, VARIABLE
from branchgen.cells.splits import grouped_split, stratified_split
from branchgen.config import PrepareSettings
from branchgen.errors import BranchgenError

RESERVED = ("root", "all")
"""Names that classes may not have: the branch above all classes, and tables' rows for all classes together."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was left out of the input and why; `classes` maps a class to its cells."""

    cells_with_few_genes: int
    classes: dict[str, int]
    genes_in_few_cells: int
    genes_less_variable: int
    cells_without_modelled_counts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Cells and genes that are modelled: `cells` without X, the counts of the input and where in it they are."""

    cells: AnnData
    counts: RawCounts
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    removed: Removed

    def blocks(self) -> Iterator[sparse.csr_matrix]:
        """Counts of the cells, in their order, read from the input some after the other: CSR int32."""
        return self.counts.selected(self.rows, self.columns)


def prepare(
    cells: AnnData,
    *,
    label_key: str,
    counts: str,
    split_key: str | None,
    settings: PrepareSettings,
    source: str,
    rng: np.random.Generator,
    genes: Sequence[str] | None = None,
) -> Prepared:
    """Cells and genes that are modelled, and what was removed.

    `counts` is ``X`` or the name of a layer, `source` what the errors call the input. In this order: cells with few
    genes and then small classes are removed; the rest is split, by the values of ``obs[split_key]`` or else by
    class; genes in few cells and then all but the most variable ones are removed, both judged on the train and ref
    splits alone, unless `genes` says which are modelled, in their order; cells without counts of the remaining genes
    are removed. Labels become strings, whatever they were.

    The result has the modelled genes in the input's order, all input columns of obs and var, and in obs the class, the
    split, the UMIs over the modelled and over all genes. Its counts are read from the input when they are asked for.
    Raises BranchgenError for an input that cannot be modelled.
    """
    check_names(cells, source)
    labels = class_labels(cells, label_key, source)
    groups = None if split_key is None else column(cells, split_key, source).astype(str).to_numpy(dtype=object)
    matrix = RawCounts(cells, counts, source)
    n_genes, totals = np.empty((2, cells.n_obs), dtype=np.int64)
    for place, block in matrix.blocks(check=True):
        n_genes[place], totals[place] = np.diff(block.indptr), np.asarray(block.sum(axis=1)).ravel()

    rows = np.flatnonzero(n_genes >= settings.min_genes_per_cell)
    n_few = cells.n_obs - len(rows)
    if not len(rows):
        raise BranchgenError(
            f"no cell of {source} has {settings.min_genes_per_cell} detected genes; lower min_genes_per_cell"
        )
    small = small_classes(labels[rows], settings.min_cells_per_class)
    rows = rows[~np.isin(labels[rows], list(small))]
    classes, codes = _classes(labels[rows], settings, small, source)
    names = cells.obs_names.to_numpy()[rows]
    if groups is None or split_key is None:
        splits = stratified_split(codes, names, rng)
    else:
        splits = grouped_split(codes, groups[rows], split_key, rng)

    seen = np.isin(splits, [SPLITS.index(name) for name in SEEN])
    if genes is None:
        detected, columns = modelled_genes(matrix, rows[seen], settings, source)
    else:
        detected, columns = cells.n_vars, given_genes(cells, genes, source)
    modelled = matrix.totals(rows, columns)
    kept = modelled > 0
    check_splits(codes[kept], splits[kept], classes, split_key, source)
    rows, splits, sizes = rows[kept], splits[kept], {LIBRARY_SIZE: modelled[kept], TOTAL_COUNTS: totals[rows[kept]]}

    removed = Removed(
        cells_with_few_genes=n_few,
        classes=small,
        genes_in_few_cells=cells.n_vars - detected,
        genes_less_variable=detected - len(columns),
        cells_without_modelled_counts=int((~kept).sum()),
    )
    assembled = _assemble(cells, rows, columns, labels[rows], splits, sizes)
    return Prepared(cells=assembled, counts=matrix, rows=rows, columns=columns, removed=removed)


def check_names(cells: AnnData, source: str) -> None:
    """Raise BranchgenError unless there are cells and genes with names of their own."""
    if not cells.n_obs or not cells.n_vars:
        raise BranchgenError(f"{source} holds {cells.n_obs} cells and {cells.n_vars} genes; it must hold some of both")
    for kind, names, remedy in (
        ("cell", cells.obs_names, "obs_names_make_unique"),
        ("gene", cells.var_names, "var_names_make_unique"),
    ):
        twice = names[names.duplicated()].unique()
        if len(twice):
            raise BranchgenError(
                f"{source} has {len(twice)} duplicate {kind} names, such as {twice[0]!r}; every {kind} must have a "
                f"name of its own (AnnData.{remedy})"
            )


def column(cells: AnnData, key: str, source: str) -> pd.Series[Any]:
    """Column of obs without missing values; BranchgenError lists the columns, or counts the missing values."""
    if key not in cells.obs:
        raise BranchgenError(
            f"{source} has no column {key!r} in obs; it has {', '.join(map(str, cells.obs)) or 'none'}"
        )
    values: pd.Series[Any] = cells.obs[key]
    n_missing = int(values.isna().sum())
    if n_missing:
        raise BranchgenError(
            f"obs[{key!r}] of {source} has {n_missing} missing values in {cells.n_obs} cells; "
            "fill them, or remove these cells"
        )
    return values


def class_labels(cells: AnnData, key: str, source: str) -> NDArray[np.object_]:
    """Class of every cell as text, shape (n_cells,); numbers and truth values are written out.

    BranchgenError for a column that is absent, that has missing values, or for a name that cannot
    be the name of a branch and stand in one line of a table.
    """
    labels = column(cells, key, source).astype(str).to_numpy(dtype=object)
    classes = np.unique(labels)
    where = f"obs[{key!r}] of {source}"
    for name in classes:
        if name in RESERVED:
            raise BranchgenError(f"{where} has a class {name!r}, which is reserved; rename it")
        if not name.strip() or not name.isprintable():
            raise BranchgenError(f"{where} has a class {name!r}; names must be text without line breaks or tabs")
    return labels


def small_classes(labels: NDArray[np.object_], min_cells: int) -> dict[str, int]:
    """Classes of fewer than `min_cells` cells, with their numbers of cells."""
    names, sizes = np.unique(labels, return_counts=True)
    return {str(name): int(size) for name, size in zip(names, sizes, strict=True) if size < min_cells}


def check_splits(
    codes: NDArray[np.int64],
    splits: NDArray[np.int64],
    classes: list[str],
    split_key: str | None,
    source: str,
) -> None:
    """Raise BranchgenError where the splits lack the cells they need.

    Split by class, every class must be in every split; split by donor or batch, every class must be in train and
    every split must have some cells.
    """
    table = split_table(codes, splits, len(classes))
    if split_key is None:
        if table.all():
            return
        position, split = np.argwhere(table == 0)[0]
        raise BranchgenError(
            f"class {classes[position]!r} of {source} has fewer cells than the splits need: {table[position].sum()} in "
            f"all, none for {SPLITS[split]}; raise min_cells_per_class, or merge the class with another"
        )
    absent = [f"class {classes[position]!r} in train" for position in np.flatnonzero(table[:, 0] == 0)]
    absent += [f"any class in {SPLITS[split]}" for split in np.flatnonzero(table.sum(axis=0) == 0)]
    if absent:
        raise BranchgenError(
            f"{source} has fewer cells than splits by obs[{split_key!r}] need: none of {', '.join(absent)}; "
            "give a column whose values have the classes in common, or none to split by class"
        )


def split_table(codes: NDArray[np.int64], splits: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Number of cells of every class in every split, shape (n_classes, n_splits)."""
    table = np.zeros((n_classes, len(SPLITS)), dtype=np.int64)
    np.add.at(table, (codes, splits), 1)
    return table


def _classes(
    labels: NDArray[np.object_], settings: PrepareSettings, small: dict[str, int], source: str
) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the classes, sorted, and the class of every cell as a number."""
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    if not len(names):
        removed = ", ".join(f"{name} ({size})" for name, size in small.items())
        raise BranchgenError(
            f"{source} has no class of at least {settings.min_cells_per_class} cells (removed: {removed}); "
            "lower min_cells_per_class"
        )
    return [str(name) for name in names], codes


def _assemble(
    cells: AnnData,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    labels: NDArray[np.object_],
    splits: NDArray[np.int64],
    sizes: dict[str, NDArray[np.int64]],
) -> AnnData:
    """The prepared cells without their counts; `labels`, `splits` and `sizes` are of the `rows` of the input."""
    obs = cells.obs.iloc[rows].copy()
    for key in obs.columns[[isinstance(kind, pd.CategoricalDtype) for kind in obs.dtypes]]:
        obs[key] = obs[key].cat.remove_unused_categories()
    obs[CELL_TYPE] = pd.Categorical(labels)
    obs[SPLIT] = pd.Categorical(np.array(SPLITS, dtype=object)[splits], categories=list(SPLITS))
    obs = obs.assign(**sizes)
    var = cells.var.iloc[columns].copy()
    var[VARIABLE] = True
    return AnnData(obs=obs, var=var)
