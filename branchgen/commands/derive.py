"""`branchgen derive`: latent coordinates to a hierarchy with branch times."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen import files, stores
from branchgen.cells.counts import RawCounts, Rows
from branchgen.cells.keys import CELL_TYPE, COUNTS, LATENT, LATENT_SCALE, SPLIT, require
from branchgen.config import DeriveSettings
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import CRITERIA
from branchgen.hierarchy.derive import derive, divergence_over_time, flat
from branchgen.hierarchy.newick import parse_newick, to_newick
from branchgen.hierarchy.parts import Block, Parts, deal
from branchgen.hierarchy.topology import tree_of_levels
from branchgen.hierarchy.tree import Clade
from branchgen.provenance import FORMAT_VERSION, provenance
from branchgen.seeds import numpy_rng

log = logging.getLogger(__name__)

N_DIVERGENCE_TIMES = 51
CELLS_OF_BLOCK = 20_000
"""Cells whose counts are in memory at once."""


def run(arguments: argparse.Namespace, settings: DeriveSettings) -> None:
    """Derive the hierarchy from the training cells, or its times for a given tree."""
    if settings.sigma_min >= settings.sigma_max:
        raise BranchgenError(f"sigma_min {settings.sigma_min} must be below sigma_max {settings.sigma_max}")
    dealing = numpy_rng(arguments.seed, "derive", "parts")
    with stores.opened_artefact(arguments.latents, "encode") as latents:
        require(latents, str(arguments.latents), obs=(CELL_TYPE, SPLIT), obsm=(LATENT, LATENT_SCALE))
        codec = stores.read_provenance(latents, arguments.latents)["codec"]
        rows = np.flatnonzero(latents.obs[SPLIT] == "train")
        train = latents.obs.iloc[rows]
        classes = list(train[CELL_TYPE].cat.categories)
        tree = given_tree(arguments, train, classes)
        from_profiles = tree is None and settings.topology == "profiles" and not arguments.flat
        part, codes = deal(train[CELL_TYPE].cat.codes.to_numpy().astype(np.int64), dealing)
        with counts_of(arguments.cells, train.index) if from_profiles else nullcontext() as counts:
            parts = Parts.of_blocks(codes, blocks(latents, rows, part, counts))
    n_latent = parts.total.shape[1]
    schedule = NoiseSchedule.uniform(settings.sigma_min, settings.sigma_max, n_latent)
    shrinkage = float(n_latent)
    found = (
        flat(classes)
        if arguments.flat
        else derive(
            parts,
            classes,
            sigma=schedule.levels,
            criterion=settings.criterion,
            epsilon=settings.epsilon,
            max_evaluations=settings.max_evaluations,
            min_branch_span=settings.min_branch_span,
            shrinkage=shrinkage,
            n_bootstrap=settings.n_bootstrap,
            rng=numpy_rng(arguments.seed, "derive", "bootstrap"),
            tree=tree,
        )
    )
    record = {
        "format_version": FORMAT_VERSION,
        "codec": codec,
        "classes": list(found.hierarchy.classes),
        "branches": found.hierarchy.to_list(),
        "schedule": schedule.to_dict(),
        "shrinkage": shrinkage,
        "factor": found.factor,
        "support": {name: asdict(support) for name, support in found.support.items()},
        "provenance": provenance(
            "derive",
            settings.to_dict(),
            arguments.seed,
            {"cells": files.file_hash(arguments.cells), "latents": files.file_hash(arguments.latents)},
        ),
    }
    moments = parts.moments(np.arange(len(codes)), len(classes), shrinkage)
    times = np.linspace(0, 1, N_DIVERGENCE_TIMES)
    criterion = CRITERIA[settings.criterion](moments, schedule.levels, settings.epsilon)
    a, b, values = divergence_over_time(criterion, len(classes), times)
    names = np.array(classes)
    divergence = pd.DataFrame(
        {
            "class_a": np.tile(names[a], len(times)),
            "class_b": np.tile(names[b], len(times)),
            "time": np.repeat(times, len(a)),
            "sigma": np.repeat(schedule.levels(times).mean(axis=1), len(a)),
            "divergence": values.ravel(),
        }
    )
    outputs = (arguments.output_hierarchy, arguments.output_newick, arguments.output_divergence)
    with files.written_together(*outputs) as (hierarchy_path, newick_path, divergence_path):
        hierarchy_path.write_text(json.dumps(record, indent=1) + "\n")
        newick_path.write_text(to_newick(found.hierarchy))
        files.write_table(divergence, divergence_path)
    log.info(
        "%d classes, %d branches, %d branch points; sampling one cell of every class costs %.2f of that without a tree",
        len(classes),
        len(found.hierarchy.branches),
        len(found.hierarchy.branch_points),
        found.hierarchy.sharing(),
    )


def blocks(latents: AnnData, rows: NDArray[np.int64], part: NDArray[np.int64], counts: Rows | None) -> Iterator[Block]:
    """The cells of these rows with their parts, and shares where there are counts of them, some at a time."""
    for first in range(0, len(rows), CELLS_OF_BLOCK):
        place = np.arange(first, min(first + CELLS_OF_BLOCK, len(rows)))
        mean, scale = (latents.obsm[name][rows[place]].astype(float) for name in (LATENT, LATENT_SCALE))
        shares = None if counts is None else shares_of(counts[place])
        yield Block(parts=part[place], latents=mean, scale=scale, shares=shares)


@contextmanager
def counts_of(path: Path, names: pd.Index) -> Iterator[Rows]:
    """Counts of the named cells, read as they are needed."""
    with stores.opened_artefact(path, "prepare") as cells:
        require(cells, str(path), layers=(COUNTS,))
        rows = cells.obs_names.get_indexer(names)
        missing = names[rows < 0]
        if len(missing):
            raise BranchgenError(
                f"{path} lacks {len(missing)} of the {len(names)} encoded training cells, the first is "
                f"{missing[0]!r}; give the cells that were encoded"
            )
        if (np.diff(rows) <= 0).any():
            raise BranchgenError(f"{path} has the encoded cells in another order; give the cells that were encoded")
        yield Rows(counts=RawCounts(cells, COUNTS, str(path)), rows=rows)


def shares_of(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts divided by the cell's total, (n_cells, n_genes)."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags_array(1 / totals) @ counts.astype(np.float64))


def given_tree(arguments: argparse.Namespace, obs: pd.DataFrame, classes: Sequence[str]) -> Clade | None:
    """The tree of a Newick file or of nested columns; None where it is to be derived."""
    given = [f"--{name}" for name in ("newick", "levels", "flat") if getattr(arguments, name)]
    if len(given) > 1:
        raise BranchgenError(f"{given[0]} and {given[1]} both give a tree; choose one")
    if arguments.newick is not None:
        path = Path(arguments.newick)
        files.require_file(path)
        try:
            return parse_newick(path.read_text(), classes)
        except (BranchgenError, UnicodeDecodeError) as error:
            raise BranchgenError(f"{path}: {error}") from error
    if arguments.levels is not None:
        source = str(arguments.latents)
        return tree_of_levels([level_values(obs, key, classes, source) for key in arguments.levels], classes)
    return None


def level_values(obs: pd.DataFrame, key: str, classes: Sequence[str], source: str) -> list[str]:
    """Value of a column for every class; each class must have one."""
    if key not in obs:
        raise BranchgenError(f"{source} has no obs[{key!r}]; it has {list(obs)}")
    column = obs[key]
    if column.isna().any():
        raise BranchgenError(
            f"obs[{key!r}] of {source} has {int(column.isna().sum())} missing values; every cell needs its level"
        )
    values = column.astype(str).groupby(obs[CELL_TYPE], observed=False).unique()
    for name in classes:
        if len(values[name]) != 1:
            raise BranchgenError(
                f"obs[{key!r}] of {source} is not nested above the classes: {name!r} has {len(values[name])} values, "
                f"such as {' and '.join(values[name][:2])}; give a column with one value for every class"
            )
    return [str(values[name][0]) for name in classes]
