"""Transport between Gaussian mixtures by coupling their components (Delon and Desolneux 2020, arXiv 1907.05254)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.errors import BranchgenError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """Components with names, weights (k,) that sum to one, means (k, d), and covariances by their principal axes.

    These are an orthonormal `basis` (k, d, d) in its columns, and the `variance` (k, d) along it.
    """

    names: tuple[int, ...]
    weights: Array
    mean: Array
    basis: Array
    variance: Array

    @cached_property
    def roots(self) -> Array:
        """Square roots of the covariances, (k, d, d)."""
        return self._along_axes(np.sqrt(self.variance))

    @cached_property
    def inverse_roots(self) -> Array:
        """Their inverses, (k, d, d)."""
        return self._along_axes(1 / np.sqrt(self.variance))

    def _along_axes(self, values: Array) -> Array:
        return np.asarray(self.basis * values[:, None] @ self.basis.transpose(0, 2, 1))

    @cached_property
    def whitening(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is asked for every cell: rows of Σ^-½ (k d, d), Σ^-½ m (k d,), and ln w − ½ ln |Σ| (k,)."""
        k, d = self.mean.shape
        centre = (self.inverse_roots @ self.mean[..., None]).reshape(k * d)
        log_weight = np.log(self.weights) - np.log(self.variance).sum(axis=1) / 2
        return (
            torch.from_numpy(self.inverse_roots.reshape(k * d, d)),
            torch.from_numpy(centre),
            torch.from_numpy(log_weight),
        )

    @cached_property
    def colouring(self) -> tuple[Tensor, Tensor]:
        """Square roots (k, d, d) of the covariances, and means (k, d)."""
        return torch.from_numpy(self.roots), torch.from_numpy(self.mean)

    def take(self, chosen: NDArray[np.int64]) -> GaussianMixture:
        """The mixture of some components, at their relative weights."""
        weights = self.weights[chosen]
        return GaussianMixture(
            names=tuple(self.names[i] for i in chosen),
            weights=weights / weights.sum(),
            mean=self.mean[chosen],
            basis=self.basis[chosen],
            variance=self.variance[chosen],
        )


class MixtureMap:
    """Random map that carries samples of one mixture to samples of another.

    A sample x is assigned to component i with its posterior probability w_i N(x; m_i, Σ_i) / Σ_j w_j N(x; m_j, Σ_j),
    and is then a sample of N(m_i, Σ_i). Where the target has the component (by name), it stays; otherwise it is drawn
    to a target component j by a `coupling`, as m_j + Σ_j^½ Σ_i^-½ (x − m_i). That is the optimal map between the two
    Gaussians where their covariances commute, and hardly longer where these are close to it, as under the noise of a
    branch point; and it needs decompositions of components, of which there are far fewer than pairs. Either every name
    of the target is in the source, with weights in proportion, so that what stays is never too much, or none is.
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

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Carry cells of shape (n_cells, d)."""
        u = torch.rand((2, len(x)), generator=generator, dtype=torch.float64).numpy()
        white = whitened(self._source, x)
        component = _draw(responsibilities(self._source, white), u[0])
        aim = np.where(self._stays[component] < 0, _draw(self._goes[component], u[1]), -1)
        carried = x.clone()
        moving = np.flatnonzero(aim >= 0)
        if len(moving):
            rows, origins, aims = (
                torch.from_numpy(values).to(x.device)
                for values in (moving, component[moving], self._places[aim[moving]])
            )
            roots, mean = (part.to(x.device).index_select(0, aims) for part in self._target.colouring)
            carried[rows] = (mean + (white[rows, origins, None] @ roots)[:, 0]).to(x)
        return carried


@dataclass(frozen=True)
class GaussianMap:
    """T(x) = aim + (x − centre) A on x of shape (n_cells, d), with a symmetric A (d, d); all in double precision."""

    centre: Tensor
    matrix: Tensor
    aim: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Carry cells, in their own precision and on their device."""
        centre, matrix, aim = (part.to(x.device) for part in (self.centre, self.matrix, self.aim))
        return (aim + (x.double() - centre) @ matrix).to(x)


def gaussian_map(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> GaussianMap:
    """Optimal-transport map between two Gaussians (Gelbrich 1990).

    The symmetric A with A Σ_a A = Σ_b: L⁻ᵀ (Lᵀ Σ_b L)^½ L⁻¹ for Σ_a = L Lᵀ, which is Σ_a^-½ (Σ_a^½ Σ_b Σ_a^½)^½ Σ_a^-½.
    """
    factor = np.linalg.cholesky(covariance_a)
    values, vectors = np.linalg.eigh(factor.T @ covariance_b @ factor)
    half = np.linalg.solve(factor.T, vectors).T
    matrix = half.T @ (np.sqrt(np.maximum(values, 0))[:, None] * half)
    return GaussianMap(torch.from_numpy(mean_a), torch.from_numpy((matrix + matrix.T) / 2), torch.from_numpy(mean_b))


def coupling(a: GaussianMixture, b: GaussianMixture) -> Array:
    """Probability of every component of b given one of a, shape (k_a, k_b), near first.

    Any coupling carries one mixture to the other; a near component has much the same shape. Pairs get what is left of
    their weights by rising cost, ‖m_a − m_b‖² + ‖Σ_a^½ − Σ_b^½‖², the mean square of the way of `MixtureMap`.
    """
    k_a, k_b = len(a.names), len(b.names)
    if k_b == 1:
        return np.ones((k_a, 1))
    parts = [np.concatenate([m.mean, m.roots.reshape(len(m.names), -1)], axis=1) for m in (a, b)]
    squares = [(part**2).sum(axis=1) for part in parts]
    cost = squares[0][:, None] + squares[1] - 2 * parts[0] @ parts[1].T
    plan = np.zeros((k_a, k_b))
    left_a, left_b = a.weights.tolist(), b.weights.tolist()
    for pair in np.argsort(cost, axis=None, kind="stable").tolist():
        i, j = divmod(pair, k_b)
        moved = min(left_a[i], left_b[j])
        if moved:
            plan[i, j] = moved
            left_a[i] -= moved
            left_b[j] -= moved
    return np.asarray(plan / plan.sum(axis=1, keepdims=True))


def whitened(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """Σ^-½ (x − m) of every component, shape (n_cells, k, d), in double precision."""
    rows, centre, log_weight = (part.to(x.device) for part in mixture.whitening)
    return (x.double() @ rows.T - centre).reshape(len(x), len(log_weight), -1)


def responsibilities(mixture: GaussianMixture, white: Tensor) -> Array:
    """Posterior probability of every component, shape (n_cells, k), of `whitened` cells."""
    joint = mixture.whitening[2].to(white.device) - (white**2).sum(dim=2) / 2
    posterior: Array = torch.softmax(joint, dim=1).cpu().numpy()
    return posterior


def _draw(probabilities: Array, u: Array) -> NDArray[np.int64]:
    """One position per row, by inverting the cumulative probabilities at u; shapes (n, k) and (n,)."""
    cumulative = np.cumsum(probabilities, axis=1)
    position = (u[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    return np.asarray(np.minimum(position, probabilities.shape[1] - 1))
