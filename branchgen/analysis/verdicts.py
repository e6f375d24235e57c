"""Whether the generated cells of a type can be told from real ones, and by which genes: an interval and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from branchgen.analysis.classifiers import N_FOLDS, HeldOut
from branchgen.analysis.metrics import MIN_CELLS_OF_GENES
from branchgen.analysis.samples import FLOOR

VARIANCE = "c2st_variance"
"""Of the area under the curve in one repeat, were the held-out scores independent."""
DISTINGUISHABLE, INDISTINGUISHABLE, TOO_FEW = "distinguishable", "indistinguishable", "too few cells"
LEVEL = 0.025
"""Probability of the verdict 'distinguishable' where the cells are not."""
N_GENES = 5
"""Genes that are named, at most."""
COLUMNS = ["source", "group", "n_cells", "auc", "low", "high", "floor_auc", "verdict", "genes"]


@dataclass(frozen=True, kw_only=True)
class Area:
    """Area under the curve, mean over repeats, and its standard error."""

    auc: float
    error: float

    @classmethod
    def of(cls, aucs: Sequence[float], variances: Sequence[float]) -> Area:
        """Area of repeated k-fold cross-validations, with the variances of independent scores.

        Training sets of different folds overlap, so that their areas go together: the variance of the mean of k folds
        is 1/k + 1/(k − 1) times that of one (Nadeau & Bengio 2003), where 1/k would be that of independent ones, and
        so 1 + k/(k − 1) times that of independent scores. Repeats with the same cells take little of it away, which
        is not counted.
        """
        inflation = 1 + N_FOLDS / (N_FOLDS - 1)
        return cls(auc=float(np.mean(aucs)), error=float(np.sqrt(inflation * np.mean(variances))))

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided 95 % interval, cut at 0 and 1."""
        return max(0.0, self.auc - _QUANTILE * self.error), min(1.0, self.auc + _QUANTILE * self.error)

    def exceeds(self, floor: Area | None) -> bool:
        """Whether the area is above one half or, where that of two real samples is, too, above theirs.

        Between donors or batches even real cells can be told apart; then the floor is the yardstick, with its error.
        """
        if floor is not None and floor.interval[0] > 0.5:
            return self.auc - floor.auc > _QUANTILE * float(np.hypot(self.error, floor.error))
        return self.interval[0] > 0.5


_QUANTILE = float(norm.isf(LEVEL))


def verdict_table(
    runs: pd.DataFrame,
    sources: Sequence[str],
    groups: Sequence[str],
    n_cells: Mapping[tuple[str, str], int],
    genes: Mapping[tuple[str, str], str],
) -> pd.DataFrame:
    """A row for every source and group: AUC, its interval, that of the floor, the verdict, and the genes behind it.

    `runs` has the areas and variances of all repeats, `n_cells` the matched cells of a source and group. Genes are
    named only where the cells can be told apart: elsewhere they would be those of chance.
    """
    areas = _areas(runs)
    rows = []
    for source in sources:
        for group in groups:
            n, area, floor = n_cells.get((source, group), 0), areas.get((source, group)), areas.get((FLOOR, group))
            floor_auc = np.nan if floor is None else floor.auc
            if area is None or n < MIN_CELLS_OF_GENES:
                rows.append((source, group, n, np.nan, np.nan, np.nan, floor_auc, TOO_FEW, ""))
                continue
            apart = area.exceeds(floor)
            verdict = DISTINGUISHABLE if apart else INDISTINGUISHABLE
            named = genes.get((source, group), "") if apart else ""
            rows.append((source, group, n, area.auc, *area.interval, floor_auc, verdict, named))
    return pd.DataFrame(rows, columns=COLUMNS)


def important_genes(found: HeldOut, names: NDArray[np.str_], rng: np.random.Generator) -> str:
    """Genes whose shuffling costs a classifier most, with the direction: 'LYZ+, CD3D-' are higher and lower.

    The direction is that of the mean log-normalised expression in the second sample.
    """
    importance = found.importance(rng)
    higher = found.features[found.second].mean(axis=0) > found.features[~found.second].mean(axis=0)
    top = [j for j in np.argsort(-importance, kind="stable")[:N_GENES] if importance[j] > 0]
    return ", ".join(f"{names[j]}{'+' if higher[j] else '-'}" for j in top)


def _areas(runs: pd.DataFrame) -> dict[tuple[str, str], Area]:
    """Area of every source and group that has one."""
    known = runs[runs["metric"].isin(["c2st_auc", VARIANCE]) & (runs["kind"] != "branch")]
    values = known.pivot_table(index=["source", "group", "repeat"], columns="metric", values="value")
    return (
        {
            (str(source), str(group)): Area.of(part["c2st_auc"].tolist(), part[VARIANCE].tolist())
            for (source, group), part in values.groupby(level=["source", "group"])
        }
        if len(values)
        else {}
    )
