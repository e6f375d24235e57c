"""Moments of the branches, and how a sample passes from a branch into its child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Hierarchy

Array = NDArray[np.float64]
Handover = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BranchMoments:
    """Means (n_branches, d) and covariances (n_branches, d, d) of the data of every branch, without noise."""

    mean: Array
    covariance: Array

    @classmethod
    def pooled(cls, hierarchy: Hierarchy, classes: Sequence[str], moments: Moments, weights: Array) -> Self:
        """Moments of every branch's mixture of classes.

        `weights` (n_classes,), in the order of `classes`, must be those under which the branches are trained: the
        shared branch gives samples of that mixture, and of no other.
        """
        code = {name: position for position, name in enumerate(classes)}
        pairs = [moments.pooled([code[name] for name in branch.classes], weights) for branch in hierarchy.branches]
        return cls(np.stack([mean for mean, _ in pairs]), np.stack([covariance for _, covariance in pairs]))

    def to_state(self) -> dict[str, Tensor]:
        """Tensors in double precision."""
        return {"mean": torch.from_numpy(self.mean), "covariance": torch.from_numpy(self.covariance)}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Inverse of `to_state`."""
        return cls(state["mean"].numpy(), state["covariance"].numpy())


def start(moments: BranchMoments, branch: int, noise: Tensor, sigma: Array) -> Tensor:
    """Sample of N(m, S + diag σ²) of a branch from standard normal noise of shape (n_cells, d)."""
    root = np.linalg.cholesky(moments.covariance[branch] + np.diag(sigma**2))
    return (noise.double().cpu() @ torch.from_numpy(root.T) + torch.from_numpy(moments.mean[branch])).to(noise)


def transport(moments: BranchMoments, parent: int, child: int, sigma: Array) -> Handover:
    """Optimal-transport map from the parent's to the child's Gaussian at the branch point.

    T(x) = m_c + A (x − m_p), A = Σ_p^-½ (Σ_p^½ Σ_c Σ_p^½)^½ Σ_p^-½ with Σ = S + diag σ² (Gelbrich 1990); it removes
    the mismatch of the first two moments. `sigma` has shape (d,).
    """
    noise = np.diag(sigma**2)
    root, inverse = _roots(moments.covariance[parent] + noise)
    middle, _ = _roots(root @ (moments.covariance[child] + noise) @ root)
    matrix = torch.from_numpy(inverse @ middle @ inverse)
    offset, target = torch.from_numpy(moments.mean[parent]), torch.from_numpy(moments.mean[child])

    def carry(x: Tensor) -> Tensor:
        return (target.to(x.device) + (x.double() - offset.to(x.device)) @ matrix.to(x.device)).to(x)

    return carry


def identity(moments: BranchMoments, parent: int, child: int, sigma: Array) -> Handover:
    """The sample as it is (Tseng et al., arXiv 2212.10777)."""
    del moments, parent, child, sigma
    return lambda x: x


HANDOVERS: dict[str, Callable[[BranchMoments, int, int, Array], Handover]] = {
    "transport": transport,
    "identity": identity,
}


def levels_at(schedule: NoiseSchedule, time: float) -> Array:
    """Noise levels (d,) at one time, in double precision."""
    levels: Array = schedule.levels(np.array([time]))[0]
    return levels


def _roots(matrix: Array) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, 0))
    return vectors * root @ vectors.T, vectors / root @ vectors.T
