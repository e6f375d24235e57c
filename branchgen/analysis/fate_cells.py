"""Real cells with their fates, under the names that scanpy and CellRank 2 read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import dendrogram
from scipy.sparse.csgraph import minimum_spanning_tree

from branchgen.analysis.expression import normalised
from branchgen.analysis.fates import Doubles, Fates, Latents
from branchgen.analysis.figures import class_colours
from branchgen.analysis.figures_tree import leaf_order
from branchgen.cells.keys import CELL_TYPE, COUNTS, LATENT
from branchgen.hierarchy.tree import Hierarchy

FATES = "lineages_fwd"
"""obsm: probability of every class, in the order of the categories of TERMINAL; the name is CellRank's."""
TERMINAL = "term_states_fwd"
"""obs: class of the cells that stand for it, missing elsewhere; the name is CellRank's."""
CHILDREN = "child_probabilities"
"""obsm: probability of every child at its branch point; uns has the names of the columns, ``branch > child``."""
ENTROPY, COMMITMENT = "fate_entropy", "commitment"
"""obs: entropy of the probabilities of the classes (nats), and one less its share of the largest there can be."""
N_TERMINAL = 30
"""Cells that stand for a class, at most."""


def fate_cells(cells: AnnData, latents: Latents, found: Fates, hierarchy: Hierarchy) -> AnnData:
    """Prepared cells with log-normalised expression in X, their fates, and the tree as a dendrogram of their types.

    The cells that stand for a class (CellRank's terminal states) are those of its own which it is surest of.
    """
    classes = list(found.classes)
    result = AnnData(
        normalised(sparse.csr_matrix(cells.layers[COUNTS])).log1p().astype(np.float32),
        obs=cells.obs.copy(),
        var=pd.DataFrame(index=cells.var_names),
    )
    types = cells.obs[CELL_TYPE].astype(str).to_numpy()
    terminal = terminal_cells(types, found)
    result.obs[CELL_TYPE] = pd.Categorical(types, categories=classes)
    result.obs[TERMINAL] = pd.Series(result.obs[CELL_TYPE]).where(terminal)
    result.obs[f"{TERMINAL}_probs"] = np.where(terminal, found.of_classes.max(axis=1), np.nan)
    result.obs[ENTROPY], result.obs[COMMITMENT] = found.entropy, found.commitment
    result.obsm[LATENT] = latents.mean.astype(np.float32)
    result.obsm[FATES] = found.of_classes
    result.obsm[CHILDREN] = found.of_children
    result.uns[CHILDREN] = [f"{branch} > {child}" for branch, child in found.children]
    colours = class_colours(leaf_order(hierarchy))
    named = np.array([to_hex(colours[name]) for name in classes])
    result.uns[f"{TERMINAL}_colors"] = result.uns[f"{CELL_TYPE}_colors"] = named
    if len(classes) > 1:
        result.uns[f"dendrogram_{CELL_TYPE}"] = scanpy_dendrogram(hierarchy, classes)
        result.uns["paga"] = scanpy_graph(types, found)
        result.uns[f"{CELL_TYPE}_sizes"] = np.array([(types == name).sum() for name in classes])
    return result


def terminal_cells(types: NDArray[Any], found: Fates) -> NDArray[np.bool_]:
    """Whether a cell stands for its class, shape (n_cells,)."""
    chosen = np.zeros(len(types), dtype=bool)
    for code, name in enumerate(found.classes):
        rows = np.flatnonzero(types == name)
        surest = np.argsort(-found.of_classes[rows, code], kind="stable")[:N_TERMINAL]
        chosen[rows[surest]] = True
    return chosen


def scanpy_graph(types: NDArray[Any], found: Fates) -> dict[str, Any]:
    """How classes are linked by the fates of their cells, in the form of `scanpy.tl.paga`.

    A connectivity is the mean probability of the one class for cells of the other, added over both directions: 1 where
    two classes cannot be told apart once noised to their branch point, and 0 where none of their cells is in doubt. The
    tree is the spanning tree of the strongest links.
    """
    classes = found.classes
    mean = np.zeros((len(classes),) * 2)
    for code, name in enumerate(classes):
        own = types == name
        mean[code] = found.of_classes[own].mean(axis=0) if own.any() else 0.0
    linked = np.minimum(mean + mean.T, 1.0)
    np.fill_diagonal(linked, 0.0)
    # scipy takes zero for no link, and looks for the least sum.
    tree = minimum_spanning_tree(np.where(linked > 0, 2 - linked, 0.0))
    tree.data = 2 - tree.data
    return {
        "connectivities": sparse.csr_matrix(linked),
        "connectivities_tree": sparse.csr_matrix(tree),
        "groups": CELL_TYPE,
    }


def scanpy_dendrogram(hierarchy: Hierarchy, categories: list[str]) -> dict[str, Any]:
    """The tree in the form of `scanpy.tl.dendrogram`, heights in diffusion time."""
    heights = parting_times(hierarchy, categories)
    linkage = linkage_of(hierarchy, categories)
    drawn = dendrogram(linkage, labels=categories, no_plot=True)
    return {
        "linkage": linkage,
        "groupby": [CELL_TYPE],
        "use_rep": LATENT,
        "cor_method": "none",
        "linkage_method": "branchgen",
        "categories_ordered": drawn["ivl"],
        "categories_idx_ordered": drawn["leaves"],
        "dendrogram_info": drawn,
        "correlation_matrix": 1 - heights,
    }


def parting_times(hierarchy: Hierarchy, classes: list[str]) -> Doubles:
    """Time at which every two classes part, (n_classes, n_classes); zero on the diagonal."""
    times = np.zeros((len(classes),) * 2)
    for i, a in enumerate(classes):
        for j, b in enumerate(classes[:i]):
            times[i, j] = times[j, i] = hierarchy.branch_point(a, b).t_start
    return times


def linkage_of(hierarchy: Hierarchy, classes: list[str]) -> Doubles:
    """The tree as scipy's linkage matrix (n_classes − 1, 4); several children of a branch join one after another."""
    rows: list[tuple[int, int, float, int]] = []
    node: dict[int, tuple[int, int]] = {}
    for position, branch in enumerate(hierarchy.branches):
        if branch.t_start == 0:
            node[position] = classes.index(branch.classes[0]), 1
    # Children have later positions than their parents, and lower times: from the data to the noise.
    for position in sorted(hierarchy.branch_points, key=lambda p: (hierarchy.branches[p].t_start, -p)):
        children = [node[child] for child in hierarchy.children[position]]
        joined, size = children[0]
        for other, n_other in children[1:]:
            size += n_other
            rows.append((joined, other, hierarchy.branches[position].t_start, size))
            joined = len(classes) + len(rows) - 1
        node[position] = joined, size
    return np.array(rows, dtype=float)
