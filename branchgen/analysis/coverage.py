"""Whether generated cells cover the real ones without repeating those the generator has seen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors

from branchgen.analysis.two_sample import Floats, squared_distances

N_NEIGHBOURS = 5
"""Neighbours that make the ball around a cell."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


def coverage_of(real: Floats, generated: Floats) -> Coverage:
    """How the generated cells lie among the real ones; samples of equal size, more than five cells each.

    A cell's ball reaches to its fifth neighbour in its own sample. precision: share of generated cells in a ball of
    a real cell; recall: share of real cells in a ball of a generated one; density: balls of real cells that hold a
    generated cell, over five, which unlike precision is not fooled by an outlier's wide ball; coverage: share of real
    cells whose own ball holds a generated cell.
    """
    real_radius, generated_radius = (_radius(x) ** 2 for x in (real, generated))
    n_balls = np.zeros(len(generated))
    recalled, covered, start = 0, 0, 0
    for distances in squared_distances(real, generated):
        radius = real_radius[start : start + len(distances), None]
        inside = distances <= radius
        n_balls += inside.sum(axis=0)
        covered += int(inside.any(axis=1).sum())
        recalled += int((distances <= generated_radius).any(axis=1).sum())
        start += len(distances)
    return Coverage(
        precision=float((n_balls > 0).mean()),
        recall=recalled / len(real),
        density=float(n_balls.mean() / N_NEIGHBOURS),
        coverage=covered / len(real),
    )


def nearer_train_share(cells: Floats, train: Floats, holdout: Floats) -> float:
    """Share of cells that are nearer to a training cell than to any holdout cell; 0.5 without memorisation.

    `train` and `holdout` must be of equal size; a tie counts half.
    """
    _, to_train = pairwise_distances_argmin_min(cells, train)
    _, to_holdout = pairwise_distances_argmin_min(cells, holdout)
    return float(np.mean((to_train < to_holdout) + 0.5 * (to_train == to_holdout)))


def distance_ratio(cells: Floats, train: Floats, percentile: float) -> float:
    """Percentile over cells of the distance to the nearest training cell over that to the second nearest.

    Near one where a cell is close to no training cell in particular; zero for a copy. At least two training cells.
    """
    distances, _ = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(train).kneighbors(cells)
    ratio = np.divide(distances[:, 0], distances[:, 1], out=np.zeros(len(cells)), where=distances[:, 1] > 0)
    return float(np.percentile(ratio, percentile))


def duplicate_rate(counts: sparse.csr_matrix, train: frozenset[bytes]) -> float:
    """Share of cells that equal, in the counts of all genes, a training cell or an earlier cell of their own.

    `train` are the texts of the training cells.
    """
    rows = row_bytes(counts)
    new = set(rows) - train
    return 1 - len(new) / len(rows)


def _radius(cells: Floats) -> Floats:
    """Distance of every cell to its fifth neighbour."""
    distances, _ = NearestNeighbors(n_neighbors=N_NEIGHBOURS, algorithm="brute").fit(cells).kneighbors()
    radius: Floats = distances[:, -1]
    return radius


def row_bytes(counts: sparse.csr_matrix) -> list[bytes]:
    """One text per row, equal for equal rows."""
    canonical = counts.astype(np.int64)
    canonical.sum_duplicates()
    canonical.eliminate_zeros()
    indices, data, ends = canonical.indices.astype(np.int64), canonical.data, canonical.indptr
    return [indices[start:end].tobytes() + data[start:end].tobytes() for start, end in pairwise(ends)]
