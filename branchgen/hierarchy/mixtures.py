"""Classes that are no Gaussian: mixtures of a few, with one covariance, as many as cells left out ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Self

import numpy as np
from numpy.typing import NDArray

from branchgen.hierarchy.moments import Array, Reals, mixture_moments, moments_of_cells

MOST_CELLS = 10_000
"""Cells of a class at most that its mixture is fitted to."""
FEWEST_CELLS = 8
"""Cells of a class that there are at least for every Gaussian."""
_N_FOLDS = 5
_MOST_ITERATIONS = 100
_TOLERANCE = 1e-3
"""Gain of the mean log density, in nats, below which expectation maximisation ends."""
_N_STARTS = 3
_NO_CELL = 1e-9
_SMALLEST = 1e-9
"""Least variance in any direction, in units of the mean."""


@dataclass(frozen=True)
class TiedMixture:
    """Σ_k w_k N(m_k, W): weights (k,), means (k, d), and the covariance (d, d) that all have in common."""

    weights: Array
    mean: Array
    covariance: Array

    @classmethod
    def single(cls, mean: Array, covariance: Array) -> Self:
        """One Gaussian."""
        return cls(np.ones(1), mean[None], covariance)

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of the whole."""
        return mixture_moments(self.weights, self.mean, self.covariance)

    def log_joint(self, latents: Array) -> Array:
        """Log density of cells (n, d) and of the Gaussian that each is of, (n, k)."""
        root = _root(self.covariance)
        white, means = (_whitened(values, root) for values in (latents, self.mean))
        squares = (white**2).sum(axis=1)[:, None] - 2 * white @ means.T + (means**2).sum(axis=1)
        constant = np.log(np.diag(root)).sum() + len(root) / 2 * np.log(2 * np.pi)
        return np.asarray(np.log(self.weights) - squares / 2 - constant)


@dataclass(frozen=True)
class Prior:
    """A covariance (d, d) that counts as many cells, on which those of few cells lean."""

    covariance: Array
    n_cells: float

    def shrunk(self, covariance: Array, n_cells: int) -> Array:
        """Covariance estimated from a number of cells, leaning on this one."""
        trust = n_cells / (n_cells + self.n_cells)
        return trust * covariance + (1 - trust) * self.covariance


def class_mixtures(
    latents: Reals,
    scale: Reals,
    codes: NDArray[np.int64],
    prior: Prior,
    most: int,
    rngs: Sequence[np.random.Generator],
) -> dict[int, TiedMixture]:
    """Mixtures of the classes that one Gaussian is too few for, by their codes; there is a generator for every class.

    Parameters
    ----------
    latents, scale
        Posterior means and standard deviations, shape (n_cells, d): the mixtures are those of posterior samples.
    codes
        Class of every cell, shape (n_cells,).
    prior
        For the covariance within the Gaussians.
    most
        Number of Gaussians of a class at most.
    """
    found: dict[int, TiedMixture] = {}
    for code, rng in enumerate(rngs if most > 1 else ()):
        rows = np.flatnonzero(codes == code)
        rows = np.sort(rng.permutation(rows)[:MOST_CELLS])
        mixture = choose_mixture(latents[rows].astype(float), scale[rows].astype(float), prior, most, rng)
        if len(mixture.weights) > 1:
            found[code] = mixture
    return found


def choose_mixture(latents: Array, scale: Array, prior: Prior, most: int, rng: np.random.Generator) -> TiedMixture:
    """The mixture of one class, latents and posterior standard deviations (n_cells, d).

    Gaussians are added as long as the mean log density of cells left out grows by more than its standard error.
    """
    n_cells = len(latents)
    fold = rng.permutation(n_cells) % _N_FOLDS
    samples = latents + scale * rng.standard_normal(latents.shape)

    def left_out(n_gaussians: int) -> Array:
        """Log density (n_cells,) of every cell by a mixture that it was left out of."""
        density = np.empty(n_cells)
        for out in (fold == number for number in range(_N_FOLDS)):
            mixture = fit_mixture(latents[~out], scale[~out], prior, n_gaussians, rng)
            density[out] = np.logaddexp.reduce(mixture.log_joint(samples[out]), axis=1)
        return density

    chosen = 1
    most = min(most, n_cells // FEWEST_CELLS)
    if most > 1:
        best = left_out(1)
        for n_gaussians in range(2, most + 1):
            found = left_out(n_gaussians)
            gain = found - best
            if gain.mean() > gain.std() / np.sqrt(n_cells):
                chosen, best = n_gaussians, found
            elif n_gaussians > chosen + 1:
                break
    return fit_mixture(latents, scale, prior, chosen, rng)


def fit_mixture(latents: Array, scale: Array, prior: Prior, n_gaussians: int, rng: np.random.Generator) -> TiedMixture:
    """A number of Gaussians by expectation maximisation, the densest of a few starts; shapes as in `choose_mixture`."""
    n_cells = len(latents)
    if n_gaussians == 1:
        mean, covariance, _ = moments_of_cells(latents, scale)
        return TiedMixture.single(mean, prior.shrunk(covariance, n_cells))
    known, squares = np.diag((scale**2).mean(axis=0)), latents.T @ latents
    points = _whitened(latents, _root(prior.covariance))

    def ascend() -> tuple[float, TiedMixture]:
        equal = np.full(n_gaussians, 1 / n_gaussians)
        mixture = TiedMixture(equal, latents[_far_apart(points, n_gaussians, rng)], prior.covariance)
        before = -np.inf
        for _ in range(_MOST_ITERATIONS):
            joint = mixture.log_joint(latents)
            density = np.logaddexp.reduce(joint, axis=1)
            if density.mean() - before < _TOLERANCE:
                break
            before = float(density.mean())
            shares = np.exp(joint - density[:, None])
            sizes = shares.sum(axis=0) + _NO_CELL
            means = shares.T @ latents / sizes[:, None]
            # As many means as there are Gaussians are estimated from the same cells.
            within = (squares - (means.T * sizes) @ means) / (n_cells - n_gaussians) + known
            mixture = TiedMixture(sizes / sizes.sum(), means, prior.shrunk(within, n_cells))
        return before, mixture

    return max((ascend() for _ in range(_N_STARTS)), key=itemgetter(0))[1]


def _far_apart(points: Array, number: int, rng: np.random.Generator) -> list[int]:
    """Rows to start from, drawn by the squared distance from those drawn before (Arthur and Vassilvitskii 2007)."""
    rows = [int(rng.integers(len(points)))]
    while len(rows) < number:
        squares = np.min([((points - points[row]) ** 2).sum(axis=1) for row in rows], axis=0)
        rows.append(int(np.searchsorted(np.cumsum(squares), rng.random() * squares.sum())))
    return rows


def _root(covariance: Array) -> Array:
    """Lower triangular root of a covariance (d, d), which may have directions without variance."""
    return np.linalg.cholesky(covariance + _SMALLEST * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))


def _whitened(points: Array, root: Array) -> Array:
    """Points (n, d) in units of a covariance of which `root` is the root."""
    return np.asarray(np.linalg.solve(root, points.T).T, dtype=float)
