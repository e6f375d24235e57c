"""`branchgen benchmark-sharing`: what sharing branches saves and costs, by the way cells are handed over."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from branchgen import files
from branchgen.analysis.classifiers import boosted_trees, tell_apart
from branchgen.analysis.figures_sharing import PAPER
from branchgen.analysis.metrics import SCALES, Values, View, means_over_types, pooled_metrics, type_metrics
from branchgen.analysis.pairs import pair_of
from branchgen.analysis.samples import FLOOR, OWN, Study, read_study
from branchgen.benchmark_config import BenchmarkSharingSettings
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT
from branchgen.config import EvaluateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.sample import n_evaluations
from branchgen.seeds import numpy_rng
from branchgen.trained import Trained

log = logging.getLogger(__name__)

METRICS = (
    "c2st_auc",
    "mmd_squared_by_type",
    "lfc_slope",
    "forest_auc",
    "nearest_neighbour_accuracy",
    "precision",
    "recall",
)
WITHOUT_TREE = "without a tree"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How cells are made."""

    n_steps: int
    solver: str = "dpmpp_2m"
    handover: str = "transport"
    n_corrections: int = 0

    @property
    def name(self) -> str:
        """The way in words."""
        corrected = f", {self.n_corrections} Langevin steps" if self.n_corrections else ""
        return f"{self.handover}{corrected}, {self.n_steps} steps of {self.solver}"


def ways(settings: BenchmarkSharingSettings) -> Iterator[Way]:
    """Every way that is compared."""
    for handover in ("identity", "linear", "transport"):
        yield Way(n_steps=settings.n_steps, handover=handover)
    for handover in ("identity", "transport"):
        yield Way(n_steps=settings.n_steps, handover=handover, n_corrections=settings.n_corrections)
    if settings.n_paper_steps:
        yield Way(n_steps=settings.n_paper_steps, handover="identity", solver=PAPER)


def run(arguments: argparse.Namespace, settings: BenchmarkSharingSettings) -> None:
    """Generate as many cells of every class as test has, in every way, and compare them with test."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
    log.info("running on %s", describe(device))
    test = cells.obs[CELL_TYPE][cells.obs[SPLIT] == "test"].astype(str).value_counts()
    numbers = {name: int(test.get(name, 0)) for name in trained.model.n_train}
    _, without_tree = n_evaluations(trained.sampler(n_steps=settings.n_steps, handover="identity", seed=0), numbers)
    found = list(ways(settings))
    models = [(way.name, way, trained) for way in found]
    if arguments.flat_model is not None:
        flat = Trained.read(Path(arguments.flat_model), arguments.codec, device)
        models.insert(0, (WITHOUT_TREE, found[0], flat))
    rows: list[dict[str, object]] = []
    for number, (name, way, model) in enumerate(models):
        for repeat in range(settings.n_seeds):
            sampler = model.sampler(
                solver=way.solver,
                n_steps=way.n_steps,
                handover=way.handover,
                n_corrections=way.n_corrections,
                seed=arguments.seed + repeat,
            )
            made, _ = n_evaluations(sampler, numbers)
            started = time.perf_counter()
            cells_made = model.generate(sampler, numbers)
            cost = {"evaluations": made, "seconds": time.perf_counter() - started}
            study = read_study(cells_made, cells, {}, EvaluateSettings(), arguments.seed)
            if not number:
                rows.append({"way": FLOOR, "repeat": repeat, **compared(study, FLOOR, arguments.seed, repeat)})
            values = compared(study, OWN, arguments.seed, repeat)
            how = {} if model is not trained else {"handover": way.handover, "n_corrections": way.n_corrections}
            how |= {"solver": way.solver, "repeat": repeat}
            rows.append({"way": name, **how, **cost, "share": made / without_tree, **values})
            log.info("%s, repeat %d", name, repeat + 1)
    table = pd.DataFrame(rows)
    with files.written_together(arguments.output_table) as (path,):
        files.write_table(table, path)
    scaled = table.assign(**{name: factor * table[name] for name, factor in SCALES.items() if name in table})
    numbers_of = scaled.drop(columns=["handover", "n_corrections", "solver", "repeat"])
    print(numbers_of.groupby("way", sort=False).agg(["mean", "std"]).T.round(3).to_string())


def compared(study: Study, source: str, seed: int, repeat: int) -> Values:
    """Metrics of a source against the test cells."""
    settings = EvaluateSettings(n_permutations=19)
    real, other = pair_of(study, source, seed, repeat)
    a, b = View.of(real, study.reference), View.of(other, study.reference)
    rng = partial(numpy_rng, seed, "benchmark-sharing", source, repeat)
    values = pooled_metrics(a, b, study.reference.bandwidth, settings, rng)
    of_types = type_metrics(a, b, {}, study.reference.bandwidth, settings.max_cells)
    values |= means_over_types(of_types, real.n_per_type())
    values["c2st_auc"] = tell_apart(boosted_trees, a.genes(), b.genes(), rng("genes")).auc
    return {name: values[name] for name in METRICS if name in values}
