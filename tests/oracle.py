"""An exact Gaussian-mixture tree: every quantity of a branched diffusion model in closed form.

Each class is one Gaussian; a branch is the mixture of its classes with given weights. All in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import Denoise
from branchgen.hierarchy.moments import Moments
from branchgen.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class GaussianMixtureTree:
    """Classes N(mean[k], covariance[k]) with weights; the noised mixture's density, score and denoiser at every t."""

    classes: tuple[str, ...]
    moments: Moments
    weights: np.ndarray
    schedule: NoiseSchedule

    def codes(self, members: Sequence[str]) -> list[int]:
        return [self.classes.index(name) for name in members]

    def log_density(self, members: Sequence[str], x: Tensor, t: float) -> Tensor:
        """ln p_t(x) of the noised mixture of some classes, shape (n,)."""
        parts, _ = self._components(members, x, t)
        return torch.logsumexp(parts, dim=1)

    def denoise(self, members: Sequence[str], x: Tensor, t: float) -> Tensor:
        """E[x_0 | x_t = x] under the mixture of some classes, shape (n, d)."""
        parts, means = self._components(members, x, t)
        return torch.einsum("nk,nkd->nd", torch.softmax(parts, dim=1), means)

    def score(self, members: Sequence[str], x: Tensor, t: float) -> Tensor:
        """∇ ln p_t(x), by automatic differentiation of the log-density."""
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.log_density(members, x, t).sum(), x)
        return gradient

    def denoiser(self, members: Sequence[str]) -> Denoise:
        return lambda x, t: self.denoise(members, x, t)

    def sample(self, name: str, n: int, rng: np.random.Generator) -> Tensor:
        code = self.classes.index(name)
        x = rng.multivariate_normal(self.moments.mean[code], self.moments.covariance[code], n)
        return torch.from_numpy(x)

    def sampler(self, hierarchy: Hierarchy, **choices: Any) -> TreeSampler:
        """Sampler with the exact denoisers of a hierarchy's branches; fields that are not chosen have plain values."""
        values = {"solver": "dpmpp_2m", "n_steps": 10, "handover": "transport", "seed": 0, **choices}
        moments = self.branch_moments(hierarchy)
        untrained = self.untrained(moments)
        return TreeSampler(
            hierarchy=hierarchy,
            schedule=self.schedule,
            moments=moments,
            denoiser_of=lambda name: self.denoiser(hierarchy.node(name).classes),
            mixture_of=lambda name: untrained.mixture_of(hierarchy.index[name]),
            like=torch.zeros(1, dtype=torch.float64),
            **values,
        )

    def untrained(self, moments: BranchMoments) -> BranchedDenoiser:
        """A network that knows these moments and nothing else, in double precision."""
        n_branches, n_latent = moments.mean.shape
        shape = Shape(n_latent=n_latent, n_branches=n_branches, n_hidden=8, n_blocks=1, n_head=4)
        network = BranchedDenoiser(shape, self.schedule, moments, torch.Generator().manual_seed(0))
        return network.double().requires_grad_(requires_grad=False)

    def branch_moments(self, hierarchy: Hierarchy) -> BranchMoments:
        return BranchMoments.pooled(hierarchy, self.classes, self.moments, self.weights)

    def _components(self, members: Sequence[str], x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Joint log-densities ln w_k + ln N(x; m_k, S_k + Σ), (n, k), and conditional means, (n, k, d)."""
        codes = self.codes(members)
        mean, covariance = (torch.from_numpy(of[codes]).to(x) for of in (self.moments.mean, self.moments.covariance))
        noised = torch.linalg.cholesky(covariance + torch.diag(self.schedule.sigma(t, x) ** 2))
        apart = x - mean[:, None]
        distance = torch.linalg.solve_triangular(noised, apart.mT, upper=False).square().sum(dim=1)
        log_scale = noised.diagonal(dim1=1, dim2=2).log().sum(dim=1) + 0.5 * x.shape[1] * float(np.log(2 * np.pi))
        shares = self.weights[codes] / self.weights[codes].sum()
        joint = torch.from_numpy(np.log(shares)).to(x)[:, None] - 0.5 * distance - log_scale[:, None]
        means = mean[:, None] + apart @ torch.cholesky_solve(covariance, noised)
        return joint.T, means.transpose(0, 1)


def binary_tree(
    n_classes: int = 12, d: int = 20, *, seed: int = 0, separation: float = 3.0, equal: bool = False
) -> GaussianMixtureTree:
    """Classes whose means part level by level, with anisotropic, correlated covariances of their own."""
    rng = np.random.default_rng(seed)
    depth = int(np.ceil(np.log2(n_classes)))
    mean = np.zeros((n_classes, d))
    for level in range(depth):
        shift = rng.normal(size=(2 ** (level + 1), d)) * separation * 0.6**level / np.sqrt(d)
        for code in range(n_classes):
            mean[code] += shift[code >> max(depth - level - 1, 0)]
    covariance = np.empty((n_classes, d, d))
    for code in range(n_classes):
        rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
        covariance[code] = rotation * rng.uniform(0.1, 0.6, d) @ rotation.T
    weights = np.full(n_classes, 1 / n_classes) if equal else rng.dirichlet(np.full(n_classes, 5.0))
    classes = tuple(f"type {chr(ord('A') + code)}" for code in range(n_classes))
    schedule = NoiseSchedule.uniform(0.02, 10.0, d)
    return GaussianMixtureTree(classes, Moments.exact(mean, covariance), weights, schedule)
