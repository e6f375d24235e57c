"""What a generator may have memorised: its cells beside the training cells and as many held-out ones."""

from __future__ import annotations

from branchgen.analysis.coverage import distance_ratio, duplicate_rate, nearer_train_share, row_bytes
from branchgen.analysis.metrics import View
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells, matched


class Memory:
    """The training cells, and the holdout cells to compare them with."""

    def __init__(self, train: Cells, holdout: Cells, reference: Reference, seed: int) -> None:
        self._train, self._holdout, self._reference, self._seed = train, holdout, reference, seed
        self._rows = frozenset(row_bytes(train.counts))
        self._scores = reference.project(train.counts)

    def metrics(self, view: View, max_cells: int, repeat: int) -> dict[str, float]:
        """Shares and ratios of at most `max_cells` cells; duplicates among all.

        Which training cells stand beside as many holdout cells of every type depends on the repeat.
        """
        values = {"duplicate_rate": duplicate_rate(view.cells.counts, self._rows)}
        scores = view.scores[:: -(-len(view) // max_cells)]
        values["distance_ratio_p5"] = distance_ratio(scores, self._scores, percentile=5)
        near, far = matched(self._train, self._holdout, self._seed, "memorisation", repeat)
        if len(near):
            values["nearer_train"] = nearer_train_share(
                scores, self._reference.project(near.counts), self._reference.project(far.counts)
            )
        return values
