"""How a sample passes from a branch into its child, by the Gaussian moments of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.diffusion.mixture import GaussianMixture, MixtureMap, gaussian_map
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import eigenvectors, principal_axes
from branchgen.hierarchy.mixtures import TiedMixture
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Hierarchy

Array = NDArray[np.float64]
Handover = Callable[[Tensor, torch.Generator], Tensor]
"""From cells (n_cells, d) that leave a branch, and a generator, to cells that enter its child."""


@dataclass(frozen=True)
class BranchMoments:
    """Means (n_branches, d) and covariances (n_branches, d, d) of the data of every branch, without noise.

    `weights` (n_branches,) is how much of the training a branch's classes are, and `leaves` holds, for every branch,
    the positions of the branches at time zero below it, one for each of its classes. `mixtures` holds, by the position
    of such a branch, the Gaussians of a class that is not one alone.
    """

    mean: Array
    covariance: Array
    weights: Array
    leaves: tuple[tuple[int, ...], ...]
    mixtures: Mapping[int, TiedMixture] = field(default_factory=dict)

    @classmethod
    def pooled(
        cls,
        hierarchy: Hierarchy,
        classes: Sequence[str],
        moments: Moments,
        weights: Array,
        mixtures: Mapping[int, TiedMixture] = MappingProxyType({}),
    ) -> Self:
        """Moments of every branch's mixture of classes.

        `weights` (n_classes,), in the order of `classes`, must be those under which the branches are trained: the
        shared branch gives samples of that mixture, and of no other. `mixtures` are of the classes, by their position,
        that are not a single Gaussian; their moments take the place of the others.
        """
        moments = moments.replaced({position: mixture.moments for position, mixture in mixtures.items()})
        code = {name: position for position, name in enumerate(classes)}
        members = [[code[name] for name in branch.classes] for branch in hierarchy.branches]
        pairs = [moments.pooled(codes, weights) for codes in members]
        leaf = {branch.classes[0]: i for i, branch in enumerate(hierarchy.branches) if branch.t_start == 0}
        return cls(
            np.stack([mean for mean, _ in pairs]),
            np.stack([covariance for _, covariance in pairs]),
            np.array([weights[codes].sum() for codes in members]),
            tuple(tuple(leaf[name] for name in branch.classes) for branch in hierarchy.branches),
            {leaf[classes[position]]: mixture for position, mixture in mixtures.items()},
        )

    def at_branch_point(self, branch: int, sigma: Array) -> GaussianMixture:
        """The same, kept: all children of a branch ask for its decompositions."""
        key = branch, sigma.tobytes()
        if key not in self._kept:
            self._kept[key] = self.mixture(branch, sigma)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[int, bytes], GaussianMixture]:
        return {}

    def parts(self, leaf: int) -> TiedMixture:
        """The Gaussians of the class of a branch at time zero."""
        return self.mixtures.get(leaf) or TiedMixture.single(self.mean[leaf], self.covariance[leaf])

    @cached_property
    def _eigenvectors(self) -> tuple[Array, Array]:
        return eigenvectors(self.covariance)

    def axes(self, schedule: NoiseSchedule) -> tuple[Array, Array]:
        """`principal_axes` of every branch: bases (n_branches, d, d) and variances (n_branches, d)."""
        return self._eigenvectors if schedule.is_uniform else principal_axes(self.covariance, schedule)

    def mixture(self, branch: int, sigma: Array) -> GaussianMixture:
        """The noised data of a branch, one Gaussian for every class; noise levels (d,)."""
        leaves = self.leaves[branch]
        weights = self.weights[list(leaves)]
        return self.mixture_of(leaves, weights / weights.sum(), sigma)

    def mixture_of(self, leaves: Sequence[int], weights: Array, sigma: Array) -> GaussianMixture:
        """The same of the classes of any branches at time zero, at weights (n_leaves,) that sum to one."""
        rows = list(leaves)
        if (sigma == sigma[0]).all():
            # Uniform noise leaves the axes where they are, at every branch point.
            basis, variance = (values[rows] for values in self._eigenvectors)
            variance = variance + sigma**2
        else:
            basis, variance = eigenvectors(self.covariance[rows] + np.diag(sigma**2))
        return GaussianMixture(
            names=tuple(leaves), weights=weights, mean=self.mean[rows], basis=basis, variance=variance
        )

    def within(self) -> Array:
        """Mean covariance of the Gaussians of every branch's classes, shape (n_branches, d, d)."""
        inside = {leaf: self.parts(leaf).covariance for leaves in self.leaves for leaf in leaves}
        return np.stack(
            [
                np.average([inside[leaf] for leaf in leaves], axis=0, weights=self.weights[list(leaves)])
                for leaves in self.leaves
            ]
        )

    def to_state(self) -> dict[str, Any]:
        """Plain types, and tensors in double precision."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ("mean", "covariance", "weights")}
        mixtures = {
            leaf: {name: torch.from_numpy(values) for name, values in asdict(mixture).items()}
            for leaf, mixture in self.mixtures.items()
        }
        return {**arrays, "leaves": [list(leaves) for leaves in self.leaves], "mixtures": mixtures}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Inverse of `to_state`."""
        mean, covariance, weights = (state[name].numpy() for name in ("mean", "covariance", "weights"))
        mixtures = {
            leaf: TiedMixture(**{name: values.numpy() for name, values in mixture.items()})
            for leaf, mixture in state.get("mixtures", {}).items()
        }
        return cls(mean, covariance, weights, tuple(map(tuple, state["leaves"])), mixtures)


def start(moments: BranchMoments, branch: int, noise: Tensor, sigma: Array) -> Tensor:
    """Sample of N(m, S + diag σ²) of a branch from standard normal noise of shape (n_cells, d)."""
    root = np.linalg.cholesky(moments.covariance[branch] + np.diag(sigma**2))
    return (noise.double().cpu() @ torch.from_numpy(root.T) + torch.from_numpy(moments.mean[branch])).to(noise)


def transport(moments: BranchMoments, parent: int, child: int, sigma: Array) -> Handover:
    """Transport between the mixtures of the classes' Gaussians at the branch point.

    A sample whose class the child holds stays where it is; another goes to a class of the child. Exact where every
    noised class is a Gaussian, however far apart they are. `sigma` has shape (d,).
    """
    return MixtureMap(moments.at_branch_point(parent, sigma), moments.mixture(child, sigma))


def linear(moments: BranchMoments, parent: int, child: int, sigma: Array) -> Handover:
    """Optimal-transport map between the two branches' pooled Gaussians, which matches the first two moments alone."""
    carry = between(moments, parent, child, sigma)
    return lambda x, generator: carry(x)


def between(moments: BranchMoments, source: int, target: int, sigma: Array) -> Callable[[Tensor], Tensor]:
    """Optimal-transport map of cells (n_cells, d) between two branches' Gaussians with noise of levels `sigma` (d,)."""
    noise = np.diag(sigma**2)
    mean, covariance = moments.mean, moments.covariance
    return gaussian_map(mean[source], covariance[source] + noise, mean[target], covariance[target] + noise)


def identity(moments: BranchMoments, parent: int, child: int, sigma: Array) -> Handover:
    """The sample as it is (Tseng et al., arXiv 2212.10777)."""
    del moments, parent, child, sigma
    return lambda x, generator: x


HANDOVERS: dict[str, Callable[[BranchMoments, int, int, Array], Handover]] = {
    "transport": transport,
    "linear": linear,
    "identity": identity,
}


def levels_at(schedule: NoiseSchedule, time: float) -> Array:
    """Noise levels (d,) at one time, in double precision."""
    levels: Array = schedule.levels(np.array([time]))[0]
    return levels
