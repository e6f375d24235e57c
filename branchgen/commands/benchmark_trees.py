"""`branchgen benchmark-trees`: derived trees beside known ones, simulated or real."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from branchgen import files
from branchgen.benchmark_config import BenchmarkTreesSettings
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError
from branchgen.hierarchy.agreement import restricted, robinson_foulds, time_agreement, triplet_agreement
from branchgen.hierarchy.derive import derive
from branchgen.hierarchy.newick import parse_newick
from branchgen.hierarchy.parts import Parts
from branchgen.hierarchy.simulate import random_tree, simulate
from branchgen.hierarchy.tree import Hierarchy
from branchgen.progress import Progress
from branchgen.seeds import numpy_rng

log = logging.getLogger(__name__)

FEWEST, MOST = 8, 16
"""Classes of a simulated tree."""
FEWEST_KNOWN = 3
"""Classes that a known tree must have."""


def run(arguments: argparse.Namespace, settings: BenchmarkTreesSettings) -> None:
    """Derive simulated trees, and compare derived hierarchies with known trees where they are given."""
    rows = [of_known_tree(pair) for pair in arguments.known or ()]
    with Progress("benchmark-trees", settings.n_trees) as progress:
        for number in range(settings.n_trees):
            rows.append(of_simulation(number, settings, arguments.seed))
            progress.to(number + 1)
    table = pd.DataFrame(rows)
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    for kind, part in table.groupby("kind", sort=False):
        print(f"{len(part)} trees, {kind}; mean and least")
        print(part.drop(columns=["tree", "kind"]).agg(["mean", "min"]).T.round(3).to_string())
    if arguments.known:
        print(table[table["kind"] == "known"].drop(columns="kind").round(3).to_string(index=False))


def of_simulation(number: int, settings: BenchmarkTreesSettings, seed: int) -> dict[str, Any]:
    """A row for one simulated tree: derived as by default, all branch points where the criterion has them."""
    rng = numpy_rng(seed, "benchmark-trees", number)
    schedule = NoiseSchedule.uniform(0.1, 10.0, settings.n_latent)
    known = random_tree(int(rng.integers(FEWEST, MOST + 1)), rng)
    cells = simulate(
        known,
        schedule.levels,
        n_cells=settings.n_cells,
        n_genes=settings.n_genes,
        n_latent=settings.n_latent,
        n_counts=settings.n_counts,
        rng=rng,
    )
    dealing = numpy_rng(seed, "benchmark-trees", number, "parts")
    found = derive(
        Parts.of_cells(cells.latents, cells.scale, cells.codes, dealing, cells.shares),
        cells.classes,
        sigma=schedule.levels,
        criterion="fidelity",
        epsilon=0.5,
        max_evaluations=1.0,
        min_branch_span=0.0,
        shrinkage=float(settings.n_latent),
        n_bootstrap=settings.n_bootstrap,
        rng=numpy_rng(seed, "benchmark-trees", number, "derive"),
    )
    tree = found.hierarchy.to_clade()
    supports = [support.support for support in found.support.values() if support.support is not None]
    return {
        "tree": f"simulated {number + 1}",
        "kind": "simulated",
        "n_classes": len(cells.classes),
        "exact": robinson_foulds(known, tree) == 0,
        "triplets": triplet_agreement(known, tree),
        "robinson_foulds": robinson_foulds(known, tree),
        "times": time_agreement(known, tree),
        "support": float(np.mean(supports)) if supports else float("nan"),
    }


def of_known_tree(text: str) -> dict[str, Any]:
    """A row for a derived hierarchy and the Newick file of the tree that is known: HIERARCHY=NEWICK.

    Both are compared by the classes that they have in common: of artefacts, or of progenitors, no tree may be known.
    """
    first, _, second = text.partition("=")
    if not second:
        raise BranchgenError(f"--known is {text!r}; it must be HIERARCHY=NEWICK, two files")
    record = files.read_json(Path(first), "branches", "support")
    tree = Hierarchy.from_list(record["branches"]).to_clade()
    files.require_file(Path(second))
    known = parse_newick(Path(second).read_text())
    common = set(known.classes) & set(tree.classes)
    if len(common) < FEWEST_KNOWN:
        raise BranchgenError(
            f"{second} has {len(common)} of the classes of {first}, and {FEWEST_KNOWN} are the fewest that a tree says "
            f"something of; its leaves must be named as the classes: {', '.join(tree.classes)}"
        )
    for path, names in ((first, set(known.classes) - common), (second, set(tree.classes) - common)):
        if names:
            log.warning("not in %s, and left out: %s", path, ", ".join(sorted(names)))
    known, tree = restricted(known, common), restricted(tree, common)
    supports = [value["support"] for value in record["support"].values() if value["support"] is not None]
    return {
        "tree": first,
        "kind": "known",
        "n_classes": len(tree.classes),
        "exact": robinson_foulds(known, tree) == 0,
        "triplets": triplet_agreement(known, tree),
        "robinson_foulds": robinson_foulds(known, tree),
        "times": float("nan"),
        "support": float(np.mean(supports)) if supports else float("nan"),
    }
