"""What diffusion time says about development: fates and branch points beside pseudotime and the graph of types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path
from scipy.stats import pearsonr, spearmanr

from branchgen.analysis.expression import Doubles
from branchgen.analysis.fate_cells import COMMITMENT, FATES, parting_times
from branchgen.cells.keys import CELL_TYPE, LATENT
from branchgen.hierarchy.tree import Hierarchy

N_NEIGHBOURS = 15
COLUMNS = ["question", "method", "value", "n"]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a differentiation.

    `time` (n_cells,) is pseudotime, and `fates` (n_cells, n_ends) the probabilities of the terminal classes `ends`.
    """

    root: str
    ends: tuple[str, ...]
    time: Doubles | None = None
    fates: Doubles | None = None


def lineage_table(cells: AnnData, hierarchy: Hierarchy, known: Known) -> pd.DataFrame:
    """Agreement with what is known, of branchgen and of scanpy's diffusion pseudotime and PAGA: a row per question.

    `cells` are those of `analyse` with their fates; scanpy works on a graph of neighbours in the same latent space. Its
    pseudotime starts at the cell of the root class that is surest of it. Where no pseudotime is known, that of scanpy
    takes its place, and is not judged itself.
    """
    types = cells.obs[CELL_TYPE].astype(str).to_numpy()
    classes = list(hierarchy.classes)
    graph = AnnData(obs=cells.obs[[CELL_TYPE]].copy(), obsm={LATENT: cells.obsm[LATENT]})
    sc.pp.neighbors(graph, n_neighbors=N_NEIGHBOURS, use_rep=LATENT)
    sc.tl.diffmap(graph)
    of_root = np.flatnonzero(types == known.root)
    fates = np.asarray(cells.obsm[FATES])
    graph.uns["iroot"] = int(of_root[fates[of_root, classes.index(known.root)].argmax()])
    sc.tl.dpt(graph)
    sc.tl.paga(graph, groups=CELL_TYPE)
    dpt = graph.obs["dpt_pseudotime"].to_numpy().astype(float)
    order = [list(graph.obs[CELL_TYPE].cat.categories).index(name) for name in classes]
    linked = np.asarray(graph.uns["paga"]["connectivities"].todense())[np.ix_(order, order)]
    rows = [
        *_time(known, dpt, cells.obs[COMMITMENT].to_numpy(), fates[:, classes.index(known.root)]),
        *_fates(known, types, classes, fates, linked),
        *_order(known, classes, parting_times(hierarchy, classes), linked, dpt),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


Row = tuple[str, str, float, int]


def _time(known: Known, dpt: Doubles, commitment: Doubles, of_root: Doubles) -> Iterator[Row]:
    """Spearman correlation of what is known of time with each of what could stand for it, over cells."""
    time = dpt if known.time is None else known.time
    usable = np.isfinite(time) & np.isfinite(dpt)
    candidates = {"1 − probability of the root": 1 - of_root, "commitment": commitment}
    if known.time is not None:
        candidates = {"diffusion pseudotime": dpt, **candidates}
    for name, values in candidates.items():
        yield "pseudotime", name, float(spearmanr(time[usable], values[usable]).statistic), int(usable.sum())


def _fates(
    known: Known, types: NDArray[np.str_], classes: Sequence[str], fates: Doubles, linked: Doubles
) -> Iterator[Row]:
    """Pearson correlation of known fates with ours, and with how PAGA links a cell's class, over undecided cells."""
    if known.fates is None:
        return
    ends = [classes.index(name) for name in known.ends]
    undecided = ~np.isin(types, known.ends)
    codes = np.array([classes.index(name) for name in types[undecided]])
    for name, found in {"fates": fates[undecided][:, ends], "PAGA": linked[codes][:, ends]}.items():
        total = found.sum(axis=1, keepdims=True)
        share = np.divide(found, total, out=np.full_like(found, 1 / len(ends)), where=total > 0)
        value = float(pearsonr(share.ravel(), known.fates[undecided].ravel()).statistic)
        yield "fates of undecided cells", name, value, int(undecided.sum())


def _order(known: Known, classes: Sequence[str], times: Doubles, linked: Doubles, dpt: Doubles) -> Iterator[Row]:
    """Spearman correlation of when ends part in development with when they part in diffusion, over pairs of ends.

    In development, ends part where the last class is that both come from: by its cells' latest time.
    """
    if known.fates is None or len(known.ends) < 3:
        return
    time = dpt if known.time is None else known.time
    with np.errstate(divide="ignore"):
        steps = np.where(linked > 0, 1 / np.maximum(linked, 1e-12), 0.0)
    far = shortest_path(steps, directed=False)
    truth, ours, paga = [], [], []
    for a, b in combinations(range(len(known.ends)), 2):
        common = (known.fates[:, a] > 0) & (known.fates[:, b] > 0)
        i, j = classes.index(known.ends[a]), classes.index(known.ends[b])
        truth.append(float(np.nanmax(time[common])))
        ours.append(-times[i, j])
        paga.append(-far[i, j])
    for name, values in {"branch points": ours, "PAGA": paga}.items():
        yield "order of partings", name, float(spearmanr(truth, values).statistic), len(truth)
