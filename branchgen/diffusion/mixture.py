"""Optimal transport between mixtures of Gaussians (Delon and Desolneux 2020, arXiv 1907.05254)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.errors import BranchgenError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """Components with names, weights (k,) that sum to one, means (k, d) and covariances (k, d, d)."""

    names: tuple[int, ...]
    weights: Array
    mean: Array
    covariance: Array

    @cached_property
    def roots(self) -> Array:
        """Square roots of the covariances, (k, d, d)."""
        return _roots(self.covariance)

    @cached_property
    def factors(self) -> tuple[Array, Array]:
        """Cholesky factors L of the covariances and their inverses, each (k, d, d)."""
        return _factors(self.covariance)

    @cached_property
    def whitening(self) -> tuple[Tensor, Tensor, Tensor]:
        """What `responsibilities` asks for every cell: rows of L⁻¹ (k d, d), L⁻¹ m (k d,), and ln w − ln |L| (k,)."""
        factor, inverse = self.factors
        k, d = self.mean.shape
        centre = (inverse @ self.mean[..., None]).reshape(k * d)
        log_weight = np.log(self.weights) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        return torch.from_numpy(inverse.reshape(k * d, d)), torch.from_numpy(centre), torch.from_numpy(log_weight)

    def take(self, chosen: NDArray[np.int64]) -> GaussianMixture:
        """The mixture of some components, at their relative weights."""
        weights = self.weights[chosen]
        some = GaussianMixture(
            names=tuple(self.names[i] for i in chosen),
            weights=weights / weights.sum(),
            mean=self.mean[chosen],
            covariance=self.covariance[chosen],
        )
        # Decompositions are what a map costs, and siblings ask for the same.
        vars(some)["roots"] = self.roots[chosen]
        return some


class MixtureMap:
    """Random map that carries samples of one mixture to samples of another.

    A sample x is assigned to component i with its posterior probability w_i N(x; m_i, Σ_i) / Σ_j w_j N(x; m_j, Σ_j),
    and is then a sample of N(m_i, Σ_i). Where the target has the component (by name), it stays; otherwise it is drawn
    to a target component by a `coupling`, and follows the Gaussians' optimal map. Either every name of the
    target is in the source, with weights in proportion, so that what stays is never too much, or none is.
    """

    def __init__(self, source: GaussianMixture, target: GaussianMixture) -> None:
        new = set(target.names) - set(source.names)
        if len(new) not in (0, len(target.names)):
            raise BranchgenError("a mixture can only be carried to one of its own components, or to another altogether")
        position = {name: i for i, name in enumerate(target.names)}
        self._stays = np.array([position.get(name, -1) for name in source.names])
        leaving = np.flatnonzero(self._stays < 0)
        # A part of the source is not kept twice: siblings share it, and a large tree has many.
        self._source, self._target, self._places = source, target, np.arange(len(target.names))
        if not new:
            self._target, self._places = source, np.array([source.names.index(name) for name in target.names])
        self._goes = np.zeros((len(source.names), len(target.names)))
        if len(leaving):
            self._goes[leaving] = coupling(source.take(leaving), self._target.take(self._places))
        self._maps: dict[tuple[int, int], GaussianMap] = {}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Carry cells of shape (n_cells, d)."""
        u = torch.rand((2, len(x)), generator=generator, dtype=torch.float64).numpy()
        component = _draw(responsibilities(self._source, x), u[0])
        aim = np.where(self._stays[component] < 0, _draw(self._goes[component], u[1]), -1)
        carried = x.clone()
        moving = np.flatnonzero(aim >= 0)
        if len(moving):
            maps = [self._map(i, j) for i, j in zip(component[moving].tolist(), aim[moving].tolist(), strict=True)]
            rows = torch.from_numpy(moving).to(x.device)
            carried[rows] = GaussianMap.of_cells(maps)(x[rows, None])[:, 0]
        return carried

    def _map(self, i: int, j: int) -> GaussianMap:
        if (i, j) not in self._maps:
            a, b, k = self._source, self._target, self._places[j]
            factor, inverse = (parts[i] for parts in a.factors)
            self._maps[i, j] = GaussianMap.of(a.mean[i], factor, inverse, b.mean[k], b.covariance[k])
        return self._maps[i, j]


@dataclass(frozen=True)
class GaussianMap:
    """T(x) = aim + (x − centre) A on x of shape (n_cells, d), with a symmetric A (d, d); all in double precision."""

    centre: Tensor
    matrix: Tensor
    aim: Tensor

    @classmethod
    def of(cls, mean_a: Array, factor: Array, inverse: Array, mean_b: Array, covariance_b: Array) -> Self:
        """See `gaussian_map`; the first covariance is L Lᵀ, of which L and L⁻¹ are given."""
        values, vectors = np.linalg.eigh(factor.T @ covariance_b @ factor)
        half = vectors.T @ inverse
        matrix = half.T @ (np.sqrt(np.maximum(values, 0))[:, None] * half)
        return cls(torch.from_numpy(mean_a), torch.from_numpy((matrix + matrix.T) / 2), torch.from_numpy(mean_b))

    @classmethod
    def of_cells(cls, maps: Sequence[GaussianMap]) -> Self:
        """A map for every cell, on x of shape (n_cells, 1, d)."""
        centre, matrix, aim = (torch.stack([getattr(m, name) for m in maps]) for name in ("centre", "matrix", "aim"))
        return cls(centre[:, None], matrix, aim[:, None])

    def __call__(self, x: Tensor) -> Tensor:
        """Carry cells, in their own precision and on their device."""
        centre, matrix, aim = (part.to(x.device) for part in (self.centre, self.matrix, self.aim))
        return (aim + (x.double() - centre) @ matrix).to(x)


def gaussian_map(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> GaussianMap:
    """Optimal-transport map between two Gaussians (Gelbrich 1990).

    The symmetric A with A Σ_a A = Σ_b: L⁻ᵀ (Lᵀ Σ_b L)^½ L⁻¹ for Σ_a = L Lᵀ, which is Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½.
    """
    factor, inverse = _factors(covariance_a)
    return GaussianMap.of(mean_a, factor, inverse, mean_b, covariance_b)


def coupling(a: GaussianMixture, b: GaussianMixture) -> Array:
    """Probability of every component of b given one of a, shape (k_a, k_b), near first.

    Any coupling carries one mixture to the other; a near component has much the same shape. Pairs get what is left of
    their weights by rising cost, ‖m_a − m_b‖² + ‖Σ_a^½ − Σ_b^½‖², which is the squared Wasserstein distance where the
    covariances commute, and an upper bound of it otherwise.
    """
    k_a, k_b = len(a.names), len(b.names)
    if k_b == 1:
        return np.ones((k_a, 1))
    parts = [np.concatenate([m.mean, m.roots.reshape(len(m.names), -1)], axis=1) for m in (a, b)]
    squares = [(part**2).sum(axis=1) for part in parts]
    cost = squares[0][:, None] + squares[1] - 2 * parts[0] @ parts[1].T
    plan = np.zeros((k_a, k_b))
    left_a, left_b = a.weights.copy(), b.weights.copy()
    for pair in np.argsort(cost, axis=None, kind="stable"):
        i, j = divmod(int(pair), k_b)
        moved = min(left_a[i], left_b[j])
        plan[i, j] += moved
        left_a[i] -= moved
        left_b[j] -= moved
    return np.asarray(plan / plan.sum(axis=1, keepdims=True))


def responsibilities(mixture: GaussianMixture, x: Tensor) -> Array:
    """Posterior probability of every component, shape (n_cells, k)."""
    rows, centre, log_weight = (part.to(x.device) for part in mixture.whitening)
    whitened = (x.double() @ rows.T - centre).reshape(len(x), len(log_weight), -1)
    joint = log_weight - (whitened**2).sum(dim=2) / 2
    posterior: Array = torch.softmax(joint, dim=1).cpu().numpy()
    return posterior


def _draw(probabilities: Array, u: Array) -> NDArray[np.int64]:
    """One position per row, by inverting the cumulative probabilities at u; shapes (n, k) and (n,)."""
    cumulative = np.cumsum(probabilities, axis=1)
    position = (u[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    return np.asarray(np.minimum(position, probabilities.shape[1] - 1))


def _factors(matrix: Array) -> tuple[Array, Array]:
    """Cholesky factors of positive matrices, and their inverses."""
    factor = np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    return factor, np.asarray(np.linalg.inv(factor), dtype=np.float64)


def _roots(matrix: Array) -> Array:
    """Square roots of a stack of positive matrices."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[..., None, :] @ np.swapaxes(vectors, -1, -2))
