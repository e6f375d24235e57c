"""When groups of classes part: the earliest time at which they count as one distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from branchgen.hierarchy.moments import Array, Moments, divergence_by_precision
from branchgen.hierarchy.tree import HORIZON

Group = tuple[int, ...]
"""Classes of a group, ascending."""
Sigma = Callable[[Array], Array]
"""Noise levels of every coordinate, (n, d), at times (n,)."""

_BISECTIONS = 14
_CHUNK = 2048


class Criterion(Protocol):
    """A measure of how far groups are from one distribution, non-increasing in time, against a budget."""

    budget: float

    def excess(self, sets: Sequence[Sequence[Group]], times: Array) -> Array:
        """Measure of each of n sets of groups at its own time, shape (n,); all sets hold as many groups."""


class Fidelity:
    """Largest divergence (nats) of a noised child from the noised mixture of all children, by Gaussian moments.

    Classes have equal weights, so that big classes do not swallow small ones. Moments estimated from few cells are
    further apart than the true ones: what estimation alone adds is subtracted, or small classes would part earlier.
    """

    def __init__(self, moments: Moments, sigma: Sigma, epsilon: float) -> None:
        self.budget = epsilon
        self._moments = moments
        self._sigma = sigma
        self._pooled: dict[Group, tuple[Array, Array]] = {}
        self._noise: dict[tuple[tuple[Group, ...], int], tuple[float, float]] = {}

    def excess(self, sets: Sequence[Sequence[Group]], times: Array) -> Array:
        parts = [self._excess(sets[i : i + _CHUNK], times[i : i + _CHUNK]) for i in range(0, len(sets), _CHUNK)]
        return np.concatenate(parts)

    def _excess(self, sets: Sequence[Sequence[Group]], times: Array) -> Array:
        noise = self._sigma(times)[:, :, None] ** 2 * np.eye(self._moments.mean.shape[1])
        mean, covariance = self._stack([tuple(sorted(sum(groups, ()))) for groups in sets])
        precision = np.asarray(np.linalg.inv(covariance + noise), dtype=float)
        log_determinant = np.asarray(np.linalg.slogdet(covariance + noise)[1], dtype=float)
        excesses = []
        for i in range(len(sets[0])):
            m, s = self._stack([groups[i] for groups in sets])
            divergence = divergence_by_precision(m, s + noise, mean, precision, log_determinant)
            # Only the spread of the cells is estimated: the variance of their posteriors has no error to speak of.
            known = np.stack([self._moments.known[list(groups[i])].mean(axis=0) for groups in sets])
            estimated = precision @ (s - known[:, :, None] * np.eye(s.shape[-1]))
            excesses.append(np.maximum(divergence - self._bias(sets, i, estimated), 0))
        return np.asarray(np.max(excesses, axis=0))

    def _bias(self, sets: Sequence[Sequence[Group]], child: int, relative: Array) -> Array:
        """Expected divergence of a child's estimated moments from the pooled ones where the true ones agree.

        To second order in the errors, with R = Σ⁻¹ S the estimated share of the noised covariance, shape (n, d, d), and
        errors of mean and covariance as large as those of 1/a and 1/b independent cells:
        ½ a tr R + ¼ b ((tr R)² + tr R²).
        """
        a, b = np.array([self._difference_noise(tuple(groups), child) for groups in sets]).T
        trace = np.trace(relative, axis1=1, axis2=2)
        square = np.einsum("nij,nji->n", relative, relative)
        return np.asarray(a * trace / 2 + b * (trace**2 + square) / 4)

    def _difference_noise(self, groups: tuple[Group, ...], child: int) -> tuple[float, float]:
        """Errors a and b of a child's moments less the pooled ones', whose part they are."""
        key = groups, child
        if key not in self._noise:
            n_classes = sum(map(len, groups))
            a, b = 0.0, 0.0
            for i, group in enumerate(groups):
                # Class weights: 1/n of the pool, and besides 1/m of the child's own m classes.
                weight = 1 / n_classes - (1 / len(group) if i == child else 0.0)
                a += weight**2 * float(self._moments.mean_noise[list(group)].sum())
                b += weight**2 * float(self._moments.covariance_noise[list(group)].sum())
            self._noise[key] = a, b
        return self._noise[key]

    def _stack(self, groups: Sequence[Group]) -> tuple[Array, Array]:
        for group in groups:
            if group not in self._pooled:
                self._pooled[group] = self._moments.pooled(group)
        return np.stack([self._pooled[g][0] for g in groups]), np.stack([self._pooled[g][1] for g in groups])


class Similarity:
    """Root-mean-square distance between cells of different children, relative to that between cells of one class.

    The criterion of Tseng et al. (arXiv 2212.10777, section 3) compares mean similarities within and between classes
    of noised cells; their expectation over the noise is in closed form. The measure is the largest ratio over pairs of
    children less one, with the larger of the two distances within; every class has the same weight.
    """

    def __init__(self, moments: Moments, sigma: Sigma, epsilon: float) -> None:
        self.budget = epsilon
        self._sigma = sigma
        spread = np.trace(moments.covariance, axis1=1, axis2=2)
        apart = ((moments.mean[:, None] - moments.mean[None]) ** 2).sum(axis=-1)
        self._between = apart + spread[:, None] + spread[None]
        self._within = 2 * spread

    def excess(self, sets: Sequence[Sequence[Group]], times: Array) -> Array:
        noise = 2 * (self._sigma(times) ** 2).sum(axis=-1)
        ratios = np.zeros(len(sets))
        for i, groups in enumerate(sets):
            within = [self._within[list(group)].mean() for group in groups]
            for a in range(len(groups)):
                for b in range(a):
                    between = self._between[np.ix_(groups[a], groups[b])].mean()
                    ratios[i] = max(ratios[i], (between + noise[i]) / (max(within[a], within[b]) + noise[i]))
        return np.sqrt(np.maximum(ratios, 1)) - 1


CRITERIA: dict[str, Callable[[Moments, Sigma, float], Criterion]] = {"fidelity": Fidelity, "similarity": Similarity}


def merge_times(criterion: Criterion, sets: Sequence[Sequence[Group]]) -> NDArray[np.float64]:
    """Earliest time in [0, 1] at which each set of groups is within the budget; 1 where it never is."""
    low, high = np.zeros(len(sets)), np.full(len(sets), HORIZON)
    if not len(sets):
        return high
    high[criterion.excess(sets, low) <= criterion.budget] = 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        within = criterion.excess(sets, middle) <= criterion.budget
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    return high
