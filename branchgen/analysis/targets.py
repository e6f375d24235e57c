"""What generated cells must reach, beside the floor: rules that hold for any data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from branchgen.analysis.samples import FLOOR, OWN

FLAT = "flat"
SCVI = "scvi"
EVALUATIONS = "evaluations"
"""Metric: network evaluations for one cell of every class, as a share of those without a tree."""


@dataclass(frozen=True)
class Statistic:
    """Mean and standard deviation of a metric over n seeds; the deviation of one seed is not a number."""

    mean: float
    sd: float
    n: int

    @property
    def standard_error(self) -> float:
        """Of the mean; zero where there is one seed."""
        return 0.0 if self.n < 2 else self.sd / self.n**0.5


@dataclass(frozen=True)
class Range:
    """Where a value must lie, ends included."""

    low: float = -np.inf
    high: float = np.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Target:
    """A metric, the source it is measured against, and the range that this source's value allows."""

    metric: str
    reference: str
    meaning: str
    allowed: Callable[[Statistic], Range]


def _above_floor(metric: str, margin: float) -> Target:
    meaning = f"at most the floor + {margin:g}"
    return Target(metric, FLOOR, meaning, lambda floor: Range(high=floor.mean + margin))


def _share_of_floor(metric: str, low: float, high: float = np.inf) -> Target:
    meaning = f"at least {low:g} × the floor" if high == np.inf else f"{low:g} to {high:g} × the floor"
    return Target(metric, FLOOR, meaning, lambda floor: Range(low * floor.mean, high * floor.mean))


def _ahead_of_scvi(metric: str) -> Target:
    return Target(metric, SCVI, "below scvi", lambda scvi: Range(high=float(np.nextafter(scvi.mean, -np.inf))))


TARGETS = (
    _above_floor("c2st_auc", 0.05),
    _above_floor("forest_auc", 0.04),
    _above_floor("nearest_neighbour_accuracy", 0.04),
    _share_of_floor("precision", 0.95),
    _share_of_floor("recall", 0.95),
    _share_of_floor("lfc_slope", 0.95, 1.05),
    Target("nearer_train", FLOOR, "at most 0.53", lambda _: Range(high=0.53)),
)
"""Targets that every generator can be held against."""

OWN_TARGETS = (
    Target(
        "mmd_squared_by_type",
        FLAT,
        "no worse than flat beyond its standard error",
        lambda flat: Range(high=flat.mean + flat.standard_error),
    ),
    Target(EVALUATIONS, OWN, "at most half of those without a tree", lambda _: Range(high=0.5)),
    *map(
        _ahead_of_scvi,
        (
            "c2st_auc",
            "forest_auc",
            "nearest_neighbour_accuracy",
            "mmd_squared",
            "mmd_squared_by_type",
            "energy_distance",
            "frechet_mean",
            "frechet_covariance",
        ),
    ),
)
"""Further targets of branchgen: the tree must cost nothing in quality and save work, and lead what the field uses."""


@dataclass(frozen=True)
class Outcome:
    """A target, the range it allows here, and whether the value lies in it."""

    target: Target
    allowed: Range
    value: Statistic

    @property
    def met(self) -> bool:
        """Whether the mean over the seeds lies in the range."""
        return self.value.mean in self.allowed


def outcomes(statistics: Mapping[tuple[str, str], Statistic], source: str = OWN) -> Iterator[Outcome]:
    """Outcomes of the targets of a source whose metric and reference are known.

    `statistics` are those over all cells of one dataset, by source and metric.
    """
    for target in (*TARGETS, *(OWN_TARGETS if source == OWN else ())):
        value, reference = (statistics.get((name, target.metric)) for name in (source, target.reference))
        if value is not None and reference is not None:
            yield Outcome(target, target.allowed(reference), value)
