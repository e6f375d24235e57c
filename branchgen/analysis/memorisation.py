"""What a generator may have memorised: its cells beside the training cells and as many held-out ones."""

from __future__ import annotations

from branchgen.analysis.coverage import distance_ratio, duplicate_rate, nearer_train_share
from branchgen.analysis.reference import Reference
from branchgen.analysis.samples import Cells, matched


class Memory:
    """The training cells, beside as many holdout cells of every type, drawn by generators of the given name."""

    def __init__(self, train: Cells, holdout: Cells, reference: Reference, seed: int, *name: str | int) -> None:
        near, far = matched(train, holdout, seed, *name)
        self._reference = reference
        self._counts = train.counts
        self._train = reference.project(train.counts)
        self._near, self._far = reference.project(near.counts), reference.project(far.counts)

    def metrics(self, cells: Cells, max_cells: int) -> dict[str, float]:
        """Shares and ratios of at most `max_cells` cells; duplicates among all."""
        counts = cells.counts
        values = {"duplicate_rate": duplicate_rate(counts, self._counts)}
        scores = self._reference.project(counts[:: -(-counts.shape[0] // max_cells)])
        values["distance_ratio_p5"] = distance_ratio(scores, self._train, percentile=5)
        if len(self._near):
            values["nearer_train"] = nearer_train_share(scores, self._near, self._far)
        return values
