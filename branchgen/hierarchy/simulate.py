"""Cells of a known tree with known branch times, in latent space and as counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from branchgen.hierarchy.criteria import Sigma
from branchgen.hierarchy.moments import Array
from branchgen.hierarchy.topology import joined
from branchgen.hierarchy.tree import Clade

WITHIN = 0.4
"""Standard deviation of a class in every latent coordinate."""
POSTERIOR = 0.15
"""Standard deviation of the posterior of a cell."""
EARLIEST, LATEST = 0.25, 0.8
"""Times between which branch points lie."""
GAP = 0.04
"""Least time between a branch point and the one above it."""
LOADING = 0.1
"""Standard deviation over genes of the change of a log-mean along a latent coordinate."""
RARE = 0.01
"""Share of the cells that are of the first class."""


@dataclass(frozen=True, kw_only=True)
class SimulatedCells:
    """Latents (n_cells, d) with their posteriors' deviations, counts as shares of the cell's total, and classes."""

    tree: Clade
    latents: Array
    scale: Array
    shares: sparse.csr_matrix
    codes: NDArray[np.int64]
    classes: tuple[str, ...]


def random_tree(n_classes: int, rng: np.random.Generator) -> Clade:
    """A tree of random shape whose branch points have random times, later ones nearer to the noise.

    Two clades join at a time, drawn with weights by their sizes to a random power: trees are from balanced to like a
    comb.
    """
    names = [f"type {chr(ord('A') + code)}" for code in range(n_classes)]
    times = np.linspace(EARLIEST, LATEST, n_classes - 1) + rng.uniform(-0.4, 0.4, n_classes - 1) * GAP / 2
    times = np.sort(times)
    clades = [Clade(classes=(name,), name=name) for name in names]
    power = rng.uniform(-1, 2)
    for time in times:
        sizes = np.array([len(clade.classes) for clade in clades], dtype=float) ** power
        first, second = rng.choice(len(clades), 2, replace=False, p=sizes / sizes.sum())
        pair = [clades[first], clades[second]]
        clades = [clade for clade in clades if clade not in pair]
        clades.append(joined(pair, float(time)))
    return clades[0]


def simulate(
    tree: Clade, sigma: Sigma, *, n_cells: int, n_genes: int, n_latent: int, n_counts: int, rng: np.random.Generator
) -> SimulatedCells:
    """Cells of the classes of a tree, one of which is rare.

    Classes are Gaussians of standard deviation w in every latent coordinate. The children of a branch point at time t
    lie D = 2 √(e − 1) √(w² + σ(t)²) apart, in a direction of their own: so far that two noised classes are half a nat
    from what they have in common, ½ ln(1 + D² / 4 (w² + σ²)) = ½. Log-means of genes are linear in the latents.
    """
    classes = tuple(sorted(tree.classes))
    means = dict.fromkeys(classes, np.zeros(n_latent))
    directions = iter(np.linalg.qr(rng.normal(size=(n_latent, n_latent)))[0])

    def part(clade: Clade) -> None:
        if not clade.children:
            return
        noise = float(np.mean(sigma(np.array([clade.time]))))
        apart = 2 * np.sqrt(np.e - 1) * np.hypot(WITHIN, noise)
        direction = next(directions)
        for child, side in zip(clade.children, (-0.5, 0.5), strict=True):
            for name in child.classes:
                means[name] = means[name] + side * apart * direction
            part(child)

    part(tree)
    weights = rng.dirichlet(np.full(len(classes), 3.0))
    weights[0] = 0
    weights = (1 - RARE) * weights / weights.sum()
    weights[0] = RARE
    numbers = np.maximum(np.round(weights * n_cells).astype(int), 10)
    codes = np.repeat(np.arange(len(classes)), numbers)
    latents = np.stack([means[name] for name in classes])[codes] + WITHIN * rng.normal(size=(len(codes), n_latent))
    loadings = LOADING * rng.normal(size=(n_latent, n_genes))
    log_mean = rng.normal(0, 1.5, n_genes) + latents @ loadings
    share = np.exp(log_mean - log_mean.max(axis=1, keepdims=True))
    rate = n_counts * share / share.sum(axis=1, keepdims=True)
    counts = rng.poisson(rng.gamma(4.0, rate / 4.0)).astype(float)
    observed = latents + POSTERIOR * rng.normal(size=latents.shape)
    return SimulatedCells(
        tree=tree,
        latents=observed,
        scale=np.full_like(observed, POSTERIOR),
        shares=sparse.csr_matrix(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)),
        codes=codes,
        classes=classes,
    )
