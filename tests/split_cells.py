"""Simulated cells with the slots of prepared ones, and their tree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from branchgen.hierarchy.tree import Branch, Hierarchy

SHARES = {"train": 0.4, "ref": 0.1, "test": 0.15, "holdout": 0.15, "spare": 0.2}


def with_splits(cells: AnnData, seed: int = 0) -> AnnData:
    """Simulated cells with the slots of prepared ones, and a spare split that no split of the contract knows."""
    cells = cells.copy()
    cells.layers["counts"] = sparse.csr_matrix(cells.X, dtype=np.int32)
    rng = np.random.default_rng(seed)
    split = np.empty(cells.n_obs, dtype=object)
    for name in cells.obs["cell_type"].cat.categories:
        rows = rng.permutation(np.flatnonzero(cells.obs["cell_type"] == name))
        cuts = np.round(np.cumsum(list(SHARES.values()))[:-1] * len(rows)).astype(int)
        for label, part in zip(SHARES, np.split(rows, cuts), strict=True):
            split[part] = label
    cells.obs["split"] = pd.Categorical(split)
    return cells


def tree_of(cells: AnnData) -> Hierarchy:
    """The two lineages of the simulator, which part first."""
    types = list(cells.obs["cell_type"].cat.categories)
    lineages = {name: [type_ for type_ in types if type_[0] == name[-1]] for name in ("lineage A", "lineage B")}
    branches = [Branch(name="root", classes=tuple(types), t_start=0.7, t_end=1.0)]
    for name, members in lineages.items():
        branches.append(Branch(name=name, classes=tuple(members), t_start=0.4, t_end=0.7))
        branches += [Branch(name=type_, classes=(type_,), t_start=0.0, t_end=0.4) for type_ in members]
    return Hierarchy(tuple(branches))
