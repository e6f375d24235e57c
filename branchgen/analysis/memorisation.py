"""What a generator may have memorised: its cells beside the training cells and as many held-out ones."""

from __future__ import annotations

import numpy as np

from branchgen.analysis.coverage import distance_ratio, duplicate_rate, nearer_train_share, row_bytes
from branchgen.analysis.metrics import Values, View, large_types
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells, matched


class Memory:
    """The training cells, and the holdout cells to compare them with."""

    def __init__(self, train: Cells, holdout: Cells, reference: Reference, seed: int) -> None:
        self._train, self._holdout, self._reference, self._seed = train, holdout, reference, seed
        self._rows = frozenset(row_bytes(train.counts))
        self._scores = reference.project(train.counts)

    def metrics(self, view: View, max_cells: int, repeat: int) -> tuple[Values, dict[str, Values]]:
        """Shares and ratios of at most `max_cells` cells, duplicates among all; and the shares of every type.

        Which training cells stand beside as many holdout cells of every type depends on the repeat.
        """
        values = {"duplicate_rate": duplicate_rate(view.cells.counts, self._rows)}
        some = view.take(np.arange(0, len(view), -(-len(view) // max_cells)))
        values["distance_ratio_p5"] = distance_ratio(some.scores, self._scores, percentile=5)
        near, far = matched(self._train, self._holdout, self._seed, "memorisation", repeat)
        of_types: dict[str, Values] = {}
        if len(near):
            sides = [self._reference.project(side.counts) for side in (near, far)]
            values["nearer_train"] = nearer_train_share(some.scores, *sides)
            # Both sides have the same types, row by row.
            for name in sorted({*large_types(view.cells)} & {*large_types(near)}):
                of_type = view.of_types([name]).scores[:max_cells]
                share = nearer_train_share(of_type, *(side[near.types == name] for side in sides))
                of_types[name] = {"nearer_train": share}
        return values, of_types
