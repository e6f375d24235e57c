"""Optimal transport between mixtures of Gaussians (Delon and Desolneux 2020, arXiv 1907.05254)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    def take(self, chosen: NDArray[np.int64]) -> GaussianMixture:
        """The mixture of some components, at their relative weights."""
        weights = self.weights[chosen]
        return GaussianMixture(
            names=tuple(self.names[i] for i in chosen),
            weights=weights / weights.sum(),
            mean=self.mean[chosen],
            covariance=self.covariance[chosen],
        )


class MixtureMap:
    """Random map that carries samples of one mixture to samples of another.

    A sample x is assigned to component i with its posterior probability w_i N(x; m_i, Σ_i) / Σ_j w_j N(x; m_j, Σ_j),
    and is then a sample of N(m_i, Σ_i). Where the target has the component (by name), it stays; otherwise it is drawn
    to a target component by a `coupling`, and follows the Gaussians' optimal map. Either every name of the
    target is in the source, with weights in proportion, so that what stays is never too much, or none is.
    """

    def __init__(self, source: GaussianMixture, target: GaussianMixture) -> None:
        if len(set(target.names) - set(source.names)) not in (0, len(target.names)):
            raise BranchgenError("a mixture can only be carried to one of its own components, or to another altogether")
        self._source, self._target = source, target
        position = {name: i for i, name in enumerate(target.names)}
        self._stays = np.array([position.get(name, -1) for name in source.names])
        leaving = np.flatnonzero(self._stays < 0)
        self._goes = np.zeros((len(source.names), len(target.names)))
        if len(leaving):
            self._goes[leaving] = coupling(source.take(leaving), target)
        self._maps: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Carry cells of shape (n_cells, d)."""
        u = torch.rand((2, len(x)), generator=generator, dtype=torch.float64).numpy()
        component = _draw(responsibilities(self._source, x), u[0])
        aim = np.where(self._stays[component] < 0, _draw(self._goes[component], u[1]), -1)
        carried = x.clone()
        for i, j in np.unique(np.stack([component, aim], axis=1)[aim >= 0], axis=0).tolist():
            rows = torch.from_numpy(np.flatnonzero((component == i) & (aim == j))).to(x.device)
            carried[rows] = self._map(i, j)(x[rows])
        return carried

    def _map(self, i: int, j: int) -> Callable[[Tensor], Tensor]:
        if (i, j) not in self._maps:
            a, b = self._source, self._target
            self._maps[i, j] = gaussian_map(a.mean[i], a.covariance[i], b.mean[j], b.covariance[j])
        return self._maps[i, j]


def gaussian_map(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> Callable[[Tensor], Tensor]:
    """Optimal-transport map between two Gaussians (Gelbrich 1990).

    T(x) = m_b + A (x − m_a), A = Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½, on x of shape (n_cells, d).
    """
    root, inverse = _roots(covariance_a)
    middle, _ = _roots(root @ covariance_b @ root)
    matrix = torch.from_numpy(inverse @ middle @ inverse)
    offset, aim = torch.from_numpy(mean_a), torch.from_numpy(mean_b)

    def carry(x: Tensor) -> Tensor:
        return (aim.to(x.device) + (x.double() - offset.to(x.device)) @ matrix.to(x.device)).to(x)

    return carry


def coupling(a: GaussianMixture, b: GaussianMixture) -> Array:
    """Probability of every component of b given one of a, shape (k_a, k_b), near first.

    Any coupling carries one mixture to the other; a near component has much the same shape. Pairs get what is left of
    their weights by rising cost, ‖m_a − m_b‖² + ‖Σ_a^½ − Σ_b^½‖², which is the squared Wasserstein distance where the
    covariances commute, and an upper bound of it otherwise.
    """
    k_a, k_b = len(a.names), len(b.names)
    if k_b == 1:
        return np.ones((k_a, 1))
    parts = [np.concatenate([m.mean, _roots(m.covariance)[0].reshape(len(m.names), -1)], axis=1) for m in (a, b)]
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
    factor = torch.linalg.cholesky(torch.from_numpy(mixture.covariance).to(x.device))
    apart = x.double()[None] - torch.from_numpy(mixture.mean).to(x.device)[:, None]
    whitened = torch.linalg.solve_triangular(factor, apart.transpose(1, 2), upper=False)
    log_root = torch.log(torch.diagonal(factor, dim1=1, dim2=2)).sum(dim=1)
    log_weight = torch.from_numpy(np.log(mixture.weights)).to(x.device)
    joint = (log_weight - log_root)[:, None] - (whitened**2).sum(dim=1) / 2
    posterior: Array = torch.softmax(joint, dim=0).T.cpu().numpy()
    return posterior


def _draw(probabilities: Array, u: Array) -> NDArray[np.int64]:
    """One position per row, by inverting the cumulative probabilities at u; shapes (n, k) and (n,)."""
    cumulative = np.cumsum(probabilities, axis=1)
    position = (u[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    return np.asarray(np.minimum(position, probabilities.shape[1] - 1))


def _roots(matrix: Array) -> tuple[Array, Array]:
    """Square root of a positive matrix (or of a stack of them) and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, 0))[..., None, :]
    transposed = np.swapaxes(vectors, -1, -2)
    return vectors * root @ transposed, vectors / root @ transposed
