"""`branchgen benchmark-lineage`: fates and branch points beside what is known of a differentiation."""

from __future__ import annotations

import argparse

import numpy as np

from branchgen import files, stores
from branchgen.analysis.fate_cells import COMMITMENT, FATES
from branchgen.analysis.lineage import Known, lineage_table
from branchgen.cells.keys import CELL_TYPE, LATENT, require
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

FATE = "fate_"
"""What the columns of known fates begin with; the class follows."""


def run(arguments: argparse.Namespace, settings: None) -> None:
    """Compare, write the table, and print it."""
    del settings
    cells = stores.read_artefact(arguments.fates, "analyse")
    require(cells, str(arguments.fates), obs=(CELL_TYPE, COMMITMENT), obsm=(LATENT, FATES))
    record = files.read_json(arguments.hierarchy, "branches")
    hierarchy = Hierarchy.from_list(record["branches"])
    if arguments.root not in hierarchy.classes:
        raise BranchgenError(f"no class is called {arguments.root!r}; there are {', '.join(hierarchy.classes)}")
    time = None
    if arguments.time_key is not None:
        require(cells, str(arguments.fates), obs=(arguments.time_key,))
        time = cells.obs[arguments.time_key].to_numpy().astype(float)
    ends = tuple(name for name in hierarchy.classes if f"{FATE}{name}" in cells.obs)
    fates = np.stack([cells.obs[f"{FATE}{name}"].to_numpy() for name in ends], axis=1).astype(float) if ends else None
    table = lineage_table(cells, hierarchy, Known(root=arguments.root, ends=ends, time=time, fates=fates))
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    print(table.round(3).to_string(index=False))
