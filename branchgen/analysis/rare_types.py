"""Rare types by themselves, of whose few held-out cells one run says little and several say something.

Test and holdout cells are held-out together here, and every comparison is drawn several times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse

from branchgen.analysis.classifiers import boosted_trees, tell_apart
from branchgen.analysis.coverage import nearer_train_share
from branchgen.analysis.memorisation import NEARER
from branchgen.analysis.samples import ALL, LIMIT, TEST, TRAIN, Cells, Study, matched
from branchgen.analysis.threads import side_by_side
from branchgen.analysis.two_sample import Floats
from branchgen.benchmark_config import BenchmarkRareTypesSettings
from branchgen.seeds import numpy_rng

REAL = "real"
"""Held-out cells themselves, which neither remember the training cells nor differ from held-out ones."""
AUC = "c2st_auc"
MOST_CELLS = 5000
"""Cells on either side of a classifier at most."""
FEWEST = 5
"""Held-out cells of a type whose halves are compared, at the least."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What compares the cells of all sources with the held-out ones, the cells of one run."""

    study: Study
    held_out: Cells
    settings: BenchmarkRareTypesSettings
    seed: int

    @classmethod
    def of(cls, study: Study, settings: BenchmarkRareTypesSettings, seed: int) -> Self:
        """With the cells of both held-out splits."""
        splits = [study.splits[name] for name in (TEST, "holdout")]
        counts = sparse.csr_matrix(sparse.vstack([cells.counts for cells in splits], format="csr"))
        held_out = Cells(counts=counts, types=np.concatenate([cells.types for cells in splits]))
        return cls(study=study, held_out=held_out, settings=settings, seed=seed)

    @property
    def sources(self) -> dict[str, Cells]:
        """Training cells, and those of every generator."""
        return {TRAIN: self.study.splits[TRAIN], **self.study.made}

    @property
    def rare(self) -> dict[str, int]:
        """Training cells of the types that have few of them."""
        return {
            name: n for name, n in self.study.splits[TRAIN].n_per_type().items() if n <= self.settings.max_train_cells
        }

    def auc(self, comparison: tuple[str, str, int]) -> float:
        """Area under the curve of boosted trees between cells of a source and as many held-out ones of a type."""
        source, group, draw = comparison
        held_out, made = self.held_out, self.sources[source]
        if group != ALL:
            held_out, made = held_out.of_types([group]), made.of_types([group])
        real, others = matched(held_out, made, self.seed, "rare types", source, group, draw)
        rng = partial(numpy_rng, self.seed, "rare types", AUC, source, group, draw)
        rows = np.sort(rng("rows").permutation(len(real))[:MOST_CELLS])
        a, b = (self.study.reference.expression(cells.counts[rows]).toarray() for cells in (real, others))
        return tell_apart(boosted_trees, a, b, rng("trees")).auc

    def nearer(self, group: str) -> Iterator[dict[str, float]]:
        """Share of the cells of every source that are nearer to training cells than to as many held-out ones, by draw.

        One half of the held-out cells is what is compared with, the other half are the cells `real`, and, moved to the
        mean of the training cells, those of `limit`: the least that whoever estimates a mean must remember.
        """
        held_out, train = (self._scores(cells, group) for cells in (self.held_out, self.study.splits[TRAIN]))
        made = {name: self._scores(cells, group) for name, cells in self.study.made.items()}
        for draw in range(self.settings.n_yardsticks):
            rng = partial(numpy_rng, self.seed, "rare types", NEARER, group, draw)
            far, real = np.array_split(held_out[rng("halves").permutation(len(held_out))], 2)
            n = min(len(far), len(train))
            sides = train[rng(TRAIN).choice(len(train), n, replace=False)], far[:n]
            cells = {REAL: real, LIMIT: real - real.mean(axis=0) + train.mean(axis=0), **made}
            yield {name: nearer_train_share(scores, *sides) for name, scores in cells.items() if len(scores)}

    def _scores(self, cells: Cells, group: str) -> Floats:
        return self.study.reference.project(cells.of_types([group]).counts)


def rare_type_table(study: Study, settings: BenchmarkRareTypesSettings, seed: int) -> pd.DataFrame:
    """What classifier and neighbours find of every rare type, a row for every source, type and metric.

    `c2st_auc` has a row over all types, too, and only types of enough held-out cells; of a type, or of a source, that
    has no cells there is no row. `n_cells` are held-out cells, `n_train` training cells, `sd` is over the draws.
    """
    judge = Judge.of(study, settings, seed)
    n_train, n_held_out = judge.rare, judge.held_out.n_per_type()
    large = [name for name in n_train if n_held_out.get(name, 0) >= settings.min_cells]
    comparisons = [
        (source, group, draw)
        for group, (source, cells), draw in product(
            [ALL, *large] if n_train else [], judge.sources.items(), range(settings.n_draws)
        )
        if group == ALL or cells.n_per_type().get(group, 0) >= settings.min_cells
    ]
    found = [
        (source, group, AUC, area)
        for (source, group, _), area in zip(comparisons, side_by_side(judge.auc, comparisons), strict=True)
    ]
    for group in n_train:
        if n_held_out.get(group, 0) >= FEWEST:
            for shares in judge.nearer(group):
                found += [(source, group, NEARER, share) for source, share in shares.items()]
    keys = ["group", "metric", "source"]
    table = pd.DataFrame(found, columns=["source", "group", "metric", "value"])
    table = table.groupby(keys, sort=False)["value"].agg(["mean", "std", "size"]).reset_index()
    table = table.rename(columns={"mean": "value", "std": "sd", "size": "n_draws"})
    numbers = {
        "n_train": {**n_train, ALL: len(study.splits[TRAIN])},
        "n_cells": {**n_held_out, ALL: len(judge.held_out)},
    }
    return table.assign(**{name: table["group"].map(of).astype(int) for name, of in numbers.items()})


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of every comparison over the runs of a data set, and its standard error, which one run does not have."""
    keys = ["dataset", "metric", "group", "source"]
    found = table.groupby(keys, sort=False).agg(
        value=("value", "mean"), error=("value", "sem"), n_seeds=("value", "size"), n_train=("n_train", "mean")
    )
    return found.reset_index()
