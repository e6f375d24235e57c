"""What a generator may have memorised: its cells beside the training cells and as many held-out ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from branchgen.analysis.coverage import distance_ratio, duplicate_rate, nearer_train_share, row_bytes
from branchgen.analysis.metrics import MIN_CELLS_PER_TYPE, Values, View, large_types
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells, matched_rows

NEARER = "nearer_train"
"""Share of cells that are nearer to a training cell than to any of as many held-out ones."""


class Memory:
    """The training cells, and the holdout cells to compare them with."""

    def __init__(self, train: Cells, holdout: Cells, reference: Reference, seed: int) -> None:
        self._train, self._holdout, self._seed = train, holdout, seed
        self._rows = frozenset(row_bytes(train.counts))
        self._train_scores, self._holdout_scores = (reference.project(cells.counts) for cells in (train, holdout))

    def metrics(self, view: View, max_cells: int, repeat: int) -> tuple[Values, dict[str, Values]]:
        """Shares and ratios of at most `max_cells` cells, duplicates among all; and the shares of every type.

        Which training cells stand beside as many holdout cells of every type depends on the repeat.
        """
        values = {"duplicate_rate": duplicate_rate(view.cells.counts, self._rows)}
        some = view.take(np.arange(0, len(view), -(-len(view) // max_cells)))
        values["distance_ratio_p5"] = distance_ratio(some.scores, self._train_scores, percentile=5)
        near, far = matched_rows(self._train, self._holdout, self._seed, "memorisation", repeat)
        of_types: dict[str, Values] = {}
        if len(near):
            sides = self._train_scores[near], self._holdout_scores[far]
            values[NEARER] = nearer_train_share(some.scores, *sides)
            # Both sides have the same types, row by row.
            types = self._train.types[near]
            for name in large_types(view.cells):
                if np.count_nonzero(types == name) < MIN_CELLS_PER_TYPE:
                    continue
                of_type = view.of_types([name]).scores[:max_cells]
                share = nearer_train_share(of_type, *(side[types == name] for side in sides))
                of_types[name] = {NEARER: share}
        return values, of_types

    def about_their_means(self, view: View) -> View:
        """Cells whose types have the means of the training cells, and are otherwise what they are.

        Of real cells that is the least that a generator must remember: whoever estimates a type from n cells has their
        mean, which is nearer to them than to others.
        """
        scores = view.scores.copy()
        for name in set(view.cells.types.tolist()):
            rows, train = view.cells.types == name, self._train.types == name
            if train.any():
                scores[rows] += self._train_scores[train].mean(axis=0) - scores[rows].mean(axis=0)
        return replace(view, scores=scores)
