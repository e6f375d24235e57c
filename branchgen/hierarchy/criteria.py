"""When groups of classes part: the earliest time at which they count as one distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from branchgen.hierarchy.moments import Array, Moments, divergence_by_precision
from branchgen.hierarchy.tree import HORIZON

Group = tuple[int, ...]
"""Classes of a group, ascending."""
Sigma = Callable[[Array], Array]
"""Noise levels of every coordinate, (n, d), at times (n,)."""

Curve = Callable[[Array], Array]
"""Measure of n sets of groups, (n,), at times (n,)."""

_BISECTIONS = 14
_CHUNK = 2048


class Criterion(Protocol):
    """A measure of how far groups are from one distribution, non-increasing in time, against a budget."""

    budget: float

    def curve(self, sets: Sequence[Sequence[Group]]) -> Curve:
        """Measure of n sets of groups as a function of a time (n,) for each; all sets hold as many groups."""


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

    def curve(self, sets: Sequence[Sequence[Group]]) -> Curve:
        mean, covariance = self._stack([tuple(sorted(sum(groups, ()))) for groups in sets])
        children = [self._stack([groups[i] for groups in sets]) for i in range(len(sets[0]))]
        # Along the eigenvectors of what is common, noise that is the same in all coordinates is added to eigenvalues
        # alone, and a time costs next to nothing.
        common, basis = np.linalg.eigh(covariance)
        parts = [self._along(sets, i, child, mean, basis) for i, child in enumerate(children)]

        def measure(times: Array) -> Array:
            levels = self._sigma(times) ** 2
            if np.ptp(levels, axis=1).any():
                return self._excess(sets, levels, mean, covariance, children)
            total = common + levels
            return np.asarray(np.max([part.excess(total, levels) for part in parts], axis=0))

        return measure

    def _along(
        self, sets: Sequence[Sequence[Group]], child: int, moments: tuple[Array, Array], mean: Array, basis: Array
    ) -> _Along:
        m, s = moments
        rotated = basis.transpose(0, 2, 1) @ s @ basis
        return _Along(
            apart=np.einsum("nij,ni->nj", basis, m - mean),
            variance=np.diagonal(rotated, axis1=1, axis2=2),
            own=np.asarray(np.linalg.eigvalsh(s), dtype=float),
            estimated=rotated - basis.transpose(0, 2, 1) @ (self._known(sets, child)[:, :, None] * basis),
            noise=np.array([self._difference_noise(tuple(groups), child) for groups in sets]).T,
        )

    def _excess(
        self,
        sets: Sequence[Sequence[Group]],
        levels: Array,
        mean: Array,
        covariance: Array,
        children: Sequence[tuple[Array, Array]],
    ) -> Array:
        """The same for any variances of the noise, (n, d)."""
        noise = levels[:, :, None] * np.eye(mean.shape[1])
        precision = np.asarray(np.linalg.inv(covariance + noise), dtype=float)
        log_determinant = np.asarray(np.linalg.slogdet(covariance + noise)[1], dtype=float)
        excesses = []
        for i, (m, s) in enumerate(children):
            divergence = divergence_by_precision(m, s + noise, mean, precision, log_determinant)
            estimated = precision @ (s - self._known(sets, i)[:, :, None] * np.eye(s.shape[-1]))
            excesses.append(np.maximum(divergence - self._bias(sets, i, estimated), 0))
        return np.asarray(np.max(excesses, axis=0))

    def _known(self, sets: Sequence[Sequence[Group]], child: int) -> Array:
        """Variance of the posteriors of a child's cells, (n, d): only the spread of the cells is estimated."""
        return np.stack([self._moments.known[list(groups[child])].mean(axis=0) for groups in sets])

    def _bias(self, sets: Sequence[Sequence[Group]], child: int, relative: Array) -> Array:
        a, b = np.array([self._difference_noise(tuple(groups), child) for groups in sets]).T
        return _bias(a, b, relative)

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


@dataclass(frozen=True, kw_only=True)
class _Along:
    """Moments of a child along the eigenvectors of what it has in common with the others; n sets, d coordinates."""

    apart: Array
    """Its mean less the common one, (n, d)."""
    variance: Array
    """Diagonal of its covariance, (n, d)."""
    own: Array
    """Eigenvalues of its covariance, (n, d)."""
    estimated: Array
    """Estimated part of its covariance, (n, d, d)."""
    noise: Array
    """Errors a and b of its moments, (2, n)."""

    def excess(self, total: Array, level: Array) -> Array:
        """Divergence less its bias, (n,), for common eigenvalues with noise (n, d) and the noise's variances (n, d)."""
        trace = ((self.variance + level + self.apart**2) / total).sum(axis=1)
        logarithms = np.log(total).sum(axis=1) - np.log(self.own + level).sum(axis=1)
        divergence = (trace - total.shape[1] + logarithms) / 2
        bias = _bias(self.noise[0], self.noise[1], self.estimated / total[:, :, None])
        return np.asarray(np.maximum(divergence - bias, 0))


def _bias(a: Array, b: Array, relative: Array) -> Array:
    """Expected divergence of a child's estimated moments from the pooled ones where the true ones agree, (n,).

    To second order in the errors, with R = Σ⁻¹ S the estimated share of the noised covariance, shape (n, d, d), and
    errors of mean and covariance as large as those of 1/a and 1/b independent cells:
    ½ a tr R + ¼ b ((tr R)² + tr R²).
    """
    trace = np.trace(relative, axis1=1, axis2=2)
    square = np.einsum("nij,nji->n", relative, relative)
    return np.asarray(a * trace / 2 + b * (trace**2 + square) / 4)


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

    def curve(self, sets: Sequence[Sequence[Group]]) -> Curve:
        return lambda times: self._excess(sets, times)

    def _excess(self, sets: Sequence[Sequence[Group]], times: Array) -> Array:
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


def in_chunks(sets: Sequence[Sequence[Group]]) -> Iterator[slice]:
    """Places of as many sets as can be in memory at once."""
    for first in range(0, len(sets), _CHUNK):
        yield slice(first, first + _CHUNK)


def merge_times(criterion: Criterion, sets: Sequence[Sequence[Group]]) -> NDArray[np.float64]:
    """Earliest time in [0, 1] at which each set of groups is within the budget; 1 where it never is."""
    parts = [_merge_times(criterion, sets[place]) for place in in_chunks(sets)]
    return np.concatenate([np.zeros(0), *parts])


def _merge_times(criterion: Criterion, sets: Sequence[Sequence[Group]]) -> NDArray[np.float64]:
    low, high = np.zeros(len(sets)), np.full(len(sets), HORIZON)
    curve = criterion.curve(sets)
    high[curve(low) <= criterion.budget] = 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        within = curve(middle) <= criterion.budget
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    return high
