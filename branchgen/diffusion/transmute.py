"""Cells of one class as cells of another: up to the branch point they have in common, and down again.

Noise up to the branch point hides what tells the classes apart and leaves what is larger; the other class's branches
then add their own (Tseng et al., arXiv 2212.10777, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from branchgen.diffusion.blocks import BLOCK
from branchgen.diffusion.handover import between, levels_at
from branchgen.diffusion.mixture import responsibilities, whitened
from branchgen.diffusion.sampler import TreeSampler
from branchgen.diffusion.solvers import SOLVERS, Denoise, Process, dpmpp_2m, noise_like
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Branch, Hierarchy
from branchgen.seeds import torch_generator

SCOPE = "transmute"


def with_fresh_noise(sampler: TreeSampler, latents: Tensor, source: str, target: str, block: int) -> Tensor:
    """Noise of the branch point's level, drawn anew: what is smaller than it is lost."""
    time = sampler.hierarchy.branch_point(source, target).t_start
    generator = torch_generator(sampler.seed, SCOPE, "noise", source, target, block)
    sigma = torch.from_numpy(levels_at(sampler.schedule, time)).to(latents)
    return latents + sigma * noise_like(latents, generator)


def by_the_flow(sampler: TreeSampler, latents: Tensor, source: str, target: str, block: int) -> Tensor:
    """The probability flow of the source's branches, backwards: nothing is drawn, and every cell keeps its place.

    At noise the place of a cell among those of its class is its own as before; two cells of different classes may meet.
    """
    del block
    tree = sampler.hierarchy
    x = latents
    for branch, times in sampler.runs(below(sampler, source, target))[::-1]:
        if times[-1] == 0:
            x = sampler.references[tree.index[branch.name]].with_noise(x, sampler.schedule.sigma(0.0, x))
        x = dpmpp_2m(process_of(sampler, branch, source, torch.Generator()), x, times[::-1])[-1]
    return x


NOISINGS: dict[str, Callable[[TreeSampler, Tensor, str, str, int], Tensor]] = {
    "flow": by_the_flow,
    "fresh": with_fresh_noise,
}


def across(sampler: TreeSampler, source: str, target: str) -> Callable[[Tensor], Tensor]:
    """How cells of one class become cells of another at the branch point.

    They are of one class, not of the mixture that the shared branch makes: what carries them is the optimal transport
    between the noised Gaussians of the two classes; nothing, where the hand-over is the identity.
    """
    if sampler.handover == "identity":
        return lambda x: x
    tree = sampler.hierarchy
    sigma = levels_at(sampler.schedule, tree.branch_point(source, target).t_start)
    a, b = (tree.index[tree.path(name)[-1].name] for name in (source, target))
    return between(sampler.moments, a, b, sigma)


def below(sampler: TreeSampler, name: str, other: str) -> list[Branch]:
    """Branches of a class that it does not share with another, from the branch point to the leaf."""
    return [branch for branch in sampler.hierarchy.path(name) if other not in branch.classes]


def process_of(sampler: TreeSampler, branch: Branch, name: str, generator: torch.Generator) -> Process:
    """Reverse process of one class in a branch, which it may share with others.

    A class that the branch was trained without, as it came to the tree later, has its own denoiser at every time.
    """
    tree = sampler.hierarchy
    position, leaf = (tree.index[found.name] for found in (branch, tree.path(name)[-1]))
    if leaf not in sampler.moments.leaves[position]:
        position, denoise = leaf, sampler.denoiser_of(sampler.trunk_of[leaf])
    else:
        denoise = denoiser_of_class(sampler, branch, name)
    return Process(
        denoise=denoise,
        schedule=sampler.schedule,
        generators=[generator],
        reference=sampler.references[position],
    )


def denoiser_of_class(sampler: TreeSampler, branch: Branch, name: str) -> Denoise:
    """Denoiser of one class in a branch.

    A shared branch denoises the mixture of its classes, and would let cells of one class run over to the others. What
    the classes' Gaussians say of the difference, D_c(x) − Σ_k r_k(x) D_k(x) with posterior probabilities r, is added:
    exact where classes are Gaussian.
    """
    position = sampler.hierarchy.index[branch.name]
    denoise = sampler.denoiser_of(sampler.trunk_of[position])
    if len(branch.classes) == 1:
        return denoise
    component = branch.classes.index(name)

    def of_class(x: Tensor, t: float) -> Tensor:
        sigma = levels_at(sampler.schedule, t)
        mixture = sampler.moments.mixture(position, sigma)
        white = whitened(mixture, x)
        # D_k(x) = x − σ² Σ_k⁻¹ (x − m_k), with Σ_k the noised covariance.
        pulls = np.einsum("kij,nkj->nki", mixture.inverse_roots, white.cpu().numpy()) * sigma**2
        shift = np.einsum("nk,nki->ni", responsibilities(mixture, white), pulls) - pulls[:, component]
        return denoise(x, t) + torch.from_numpy(shift).to(x)

    return of_class


def require_two_classes(tree: Hierarchy, source: str, target: str) -> None:
    """Raise BranchgenError unless these are two classes of the hierarchy."""
    for name in (source, target):
        if name not in tree.classes:
            raise BranchgenError(f"no class is called {name!r}; there are {', '.join(tree.classes)}")
    if source == target:
        raise BranchgenError(f"cells of class {source!r} are what they are to become; name two classes")


@torch.no_grad()
def transmute(sampler: TreeSampler, latents: Tensor, source: str, target: str, noising: str) -> Iterator[Tensor]:
    """Latents (n_cells, d) of cells of the class `source` as cells of the class `target`, in blocks, in their order.

    `noising` is how cells come to the branch point: ``flow`` or ``fresh``. A cell depends on its place in the order,
    and not on the number of cells. Raises BranchgenError for names that are not two classes of the hierarchy.
    """
    tree = sampler.hierarchy
    require_two_classes(tree, source, target)
    carry = across(sampler, source, target)
    for block, first in enumerate(range(0, len(latents), BLOCK)):
        part = latents[first : first + BLOCK]
        # Whole blocks, so that what is drawn for a cell does not depend on how many follow.
        x = torch.cat([part, part[-1:].expand(BLOCK - len(part), -1)])
        x = carry(NOISINGS[noising](sampler, x, source, target, block))
        for branch, times in sampler.runs(below(sampler, target, source)):
            trunk = sampler.trunk_of[tree.index[branch.name]]
            generator = torch_generator(sampler.seed, SCOPE, "descend", source, trunk, block)
            x = SOLVERS[sampler.solver](process_of(sampler, branch, target, generator), x, times)[-1]
        # Nothing is handed over on the way: the cells are of the target's class from the branch point on.
        leaf = sampler.references[tree.index[tree.path(target)[-1].name]]
        yield leaf.without_noise(x, sampler.schedule.sigma(0.0, x))[: len(part)]
