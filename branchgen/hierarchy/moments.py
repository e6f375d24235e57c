"""Means and covariances of classes and of groups of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Reals = NDArray[np.floating]


@dataclass(frozen=True)
class Moments:
    """Means of shape (n, d) and covariances of shape (n, d, d) of n classes, with how sure they are.

    `mean_noise` and `covariance_noise` (n,) are the reciprocals of the numbers of cells behind the estimates; zero
    where the moments are exact. `known` (n, d) is the part of the covariances' diagonals that is not estimated from the
    spread of cells: the variance of their posteriors.
    """

    mean: Array
    covariance: Array
    mean_noise: Array
    covariance_noise: Array
    known: Array

    @classmethod
    def exact(cls, mean: Array, covariance: Array) -> Self:
        """Known moments."""
        return cls(mean, covariance, np.zeros(len(mean)), np.zeros(len(mean)), np.zeros_like(mean))

    @classmethod
    def of_classes(
        cls, latents: Reals, scale: Reals, codes: NDArray[np.int64], n_classes: int, shrinkage: float
    ) -> Self:
        """Moments of every class in one pass over its cells.

        Parameters
        ----------
        latents, scale
            Posterior means and standard deviations, shape (n_cells, d): the moments are those of posterior samples.
        codes
            Class of every cell, shape (n_cells,); every class has at least one cell.
        shrinkage
            Number of cells that the covariance pooled within classes (equal class weights) counts as. Small classes
            have fewer cells than coordinates, and lean on what classes have in common.
        """
        d = latents.shape[1]
        mean, known, n_cells = np.zeros((n_classes, d)), np.zeros((n_classes, d)), np.zeros(n_classes)
        covariance = np.zeros((n_classes, d, d))
        for code in range(n_classes):
            rows = codes == code
            n_cells[code] = rows.sum()
            mean[code], covariance[code], known[code] = moments_of_cells(
                latents[rows].astype(float), scale[rows].astype(float)
            )
        return cls.shrunk(n_cells, mean, covariance, known, shrinkage)

    @classmethod
    def shrunk(cls, n_cells: Array, mean: Array, covariance: Array, known: Array, shrinkage: float) -> Self:
        """Moments of classes of some numbers of cells (n,), whose covariances lean on their mean; see `of_classes`."""
        trust = n_cells / (n_cells + shrinkage)
        leaning = trust[:, None, None] * covariance + (1 - trust[:, None, None]) * covariance.mean(axis=0)
        known = trust[:, None] * known + (1 - trust[:, None]) * known.mean(axis=0)
        # The error of a mean is 1/n, but of a handful of cells nobody can say what is error: to part too early costs
        # time, to part too late costs a class its identity. So small classes are corrected less.
        return cls(mean, leaning, trust**2 / n_cells, trust**2 / n_cells, known)

    @classmethod
    def with_new_class(
        cls,
        mean: Array,
        covariance: Array,
        n_cells: NDArray[np.int64],
        latents: Array,
        scale: Array,
        shrinkage: float,
    ) -> Self:
        """Moments of classes of which there are moments, (n, d) and (n, d, d), and numbers of cells, and of a new one.

        The new class, the last, has cells: `latents` and `scale` are as in `of_classes`, and so is what is made of
        them; what the others' covariances have in common is their mean. The spread of posteriors is taken to be that of
        the new cells for all, as it is the codec's.
        """
        new_mean, new_covariance, known = moments_of_cells(latents, scale)
        sizes = np.append(n_cells, len(latents)).astype(float)
        trust = sizes / (sizes + shrinkage)
        shrunk = trust[-1] * new_covariance + (1 - trust[-1]) * covariance.mean(axis=0)
        return cls(
            np.concatenate([mean, new_mean[None]]),
            np.concatenate([covariance, shrunk[None]]),
            trust**2 / sizes,
            trust**2 / sizes,
            np.tile(known, (len(sizes), 1)),
        )

    def replaced(self, pairs: Mapping[int, tuple[Array, Array]]) -> Self:
        """The same with other means (d,) and covariances (d, d) of some classes."""
        mean, covariance = self.mean.copy(), self.covariance.copy()
        for code, pair in pairs.items():
            mean[code], covariance[code] = pair
        return replace(self, mean=mean, covariance=covariance)

    def pooled(self, members: Sequence[int], weights: Array | None = None) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of the mixture of some classes, of equal weights where none are given."""
        chosen = list(members)
        share = np.full(len(chosen), 1 / len(chosen)) if weights is None else weights[chosen] / weights[chosen].sum()
        return mixture_moments(share, self.mean[chosen], np.einsum("k,kij->ij", share, self.covariance[chosen]))


def mixture_moments(weights: Array, mean: Array, within: Array) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of a mixture, by weights (k,), means (k, d) and the mean of the covariances."""
    centre = weights @ mean
    apart = mean - centre
    return centre, within + np.einsum("k,ki,kj->ij", weights, apart, apart)


def moments_of_cells(latents: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Mean (d,) and covariance (d, d) of posterior samples of some cells, and the posteriors' own variance (d,)."""
    mean, known = latents.mean(axis=0), (scale**2).mean(axis=0)
    centred = latents - mean
    return mean, centred.T @ centred / max(len(latents) - 1, 1) + np.diag(known), known


def gaussian_divergence(mean_p: Array, covariance_p: Array, mean_q: Array, covariance_q: Array) -> Array:
    """Kullback-Leibler divergence KL(N_p ‖ N_q) in nats; leading axes are broadcast.

    ½ [tr(Σ_q⁻¹ Σ_p) + (m_q − m_p)ᵀ Σ_q⁻¹ (m_q − m_p) − d + ln det Σ_q − ln det Σ_p]
    """
    precision = np.asarray(np.linalg.inv(covariance_q), dtype=float)
    log_determinant = np.asarray(np.linalg.slogdet(covariance_q)[1], dtype=float)
    return divergence_by_precision(mean_p, covariance_p, mean_q, precision, log_determinant)


def divergence_by_precision(
    mean_p: Array, covariance_p: Array, mean_q: Array, precision_q: Array, log_determinant_q: Array
) -> Array:
    """`gaussian_divergence` from Σ_q⁻¹ and ln det Σ_q, for many p against one q."""
    apart = mean_q - mean_p
    trace = np.einsum("...ij,...ji->...", precision_q, covariance_p)
    distance = np.einsum("...i,...ij,...j->...", apart, precision_q, apart)
    log_determinants = log_determinant_q - np.linalg.slogdet(covariance_p)[1]
    return np.asarray((trace + distance - mean_p.shape[-1] + log_determinants) / 2)
