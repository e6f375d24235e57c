"""Where real cells stand in the tree: which child of a branch point, and which class, they belong to once noised.

A cell is noised as far as a branch point lies from the data and told apart by Bayes' rule among the Gaussians of the
classes below, all classes equally likely beforehand; probabilities are means over the noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from branchgen.diffusion.handover import levels_at
from branchgen.diffusion.mixture import responsibilities, whitened
from branchgen.diffusion.sampler import TreeSampler
from branchgen.seeds import numpy_rng

Doubles = NDArray[np.float64]

BLOCK = 2**15
"""Noised cells that are looked at together."""
N_TIMES = 21
"""Times at which siblings are told apart."""
SEPARABILITY = ["branch", "time", "sigma", "accuracy", "chance", "n_cells"]


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Posterior means and standard deviations of cells in the latent space, both (n_cells, d)."""

    mean: Doubles
    scale: Doubles

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: NDArray[Any]) -> Latents:
        """These cells."""
        return Latents(mean=self.mean[rows], scale=self.scale[rows])

    def noised(self, sigma: Doubles, noise: Doubles) -> Iterator[tuple[slice, Doubles]]:
        """Blocks of cells with the noise of the diffusion and of their posteriors, (n_block, n_draws, d).

        `noise` (n_draws, d) is the same for all cells, so that nothing depends on how many there are.
        """
        step = max(1, BLOCK // len(noise))
        for first in range(0, len(self), step):
            rows = slice(first, first + step)
            spread = np.sqrt(self.scale[rows] ** 2 + sigma**2)
            yield rows, self.mean[rows, None] + spread[:, None] * noise


@dataclass(frozen=True, kw_only=True)
class Fates:
    """Probability of every child at its branch point, (n_cells, n_children), and of every class, (n_cells, n_classes).

    The probability of a class is the product of those of the branches that lead to it.
    """

    children: tuple[tuple[str, str], ...]
    """Branch and child of every column."""
    of_children: Doubles
    classes: tuple[str, ...]
    of_classes: Doubles

    @cached_property
    def entropy(self) -> Doubles:
        """Entropy of the classes (nats), shape (n_cells,): zero for a cell of one fate."""
        p = np.clip(self.of_classes, np.finfo(float).tiny, 1)
        return np.asarray(-(p * np.log(p)).sum(axis=1))

    @property
    def commitment(self) -> Doubles:
        """One less the entropy as a share of its maximum, shape (n_cells,): 1 for one fate, 0 where all are alike."""
        most = np.log(len(self.classes))
        return 1 - self.entropy / most if most else np.ones(len(self.of_classes))


def fates(sampler: TreeSampler, cells: Latents, n_draws: int) -> Fates:
    """Fates of cells, with `n_draws` draws of noise at every branch point."""
    tree = sampler.hierarchy
    columns: list[tuple[str, str]] = []
    found: list[Doubles] = []
    reached = np.ones((len(cells), len(tree.branches)))
    for position in tree.branch_points:
        branch = tree.branches[position]
        noise = draws(sampler, branch.name, n_draws)
        of_children = child_probabilities(sampler, position, cells, branch.t_start, noise)
        for number, child in enumerate(tree.children[position]):
            columns.append((branch.name, tree.branches[child].name))
            found.append(of_children[:, number])
            reached[:, child] = reached[:, position] * of_children[:, number]
    leaves = [tree.index[tree.path(name)[-1].name] for name in tree.classes]
    return Fates(
        children=tuple(columns),
        of_children=np.stack(found, axis=1) if found else np.ones((len(cells), 0)),
        classes=tree.classes,
        of_classes=reached[:, leaves],
    )


def child_probabilities(sampler: TreeSampler, position: int, cells: Latents, time: float, noise: Doubles) -> Doubles:
    """Probability of every child of a branch, (n_cells, n_children), for cells noised to a time; means over `noise`."""
    tree, moments = sampler.hierarchy, sampler.moments
    sigma = levels_at(sampler.schedule, time)
    classes = tree.branches[position].classes
    # Classes that came later are below the branch, too, though not among those that it gives samples of.
    leaves = [tree.index[tree.path(name)[-1].name] for name in classes]
    mixture = moments.mixture_of(leaves, np.full(len(leaves), 1 / len(leaves)), sigma)
    children = [tree.branches[child].classes for child in tree.children[position]]
    members = np.array([[name in child for child in children] for name in classes], dtype=float)
    found = np.empty((len(cells), members.shape[1]))
    for rows, x in cells.noised(sigma, noise):
        white = whitened(mixture, torch.from_numpy(x.reshape(-1, x.shape[-1])))
        each = responsibilities(mixture, white) @ members
        found[rows] = each.reshape(*x.shape[:2], -1).mean(axis=1)
    return found


def draws(sampler: TreeSampler, name: str, n_draws: int) -> Doubles:
    """Standard normal noise (n_draws, d), each draw beside its negative."""
    half = numpy_rng(sampler.seed, "analyse", "fates", name).standard_normal(
        (-(-n_draws // 2), len(sampler.schedule.sigma_min))
    )
    return np.concatenate([half, -half])[:n_draws]


def separability_table(sampler: TreeSampler, cells: Latents, types: Sequence[str], n_draws: int) -> pd.DataFrame:
    """How well the children of every branch point can be told apart, from data to noise.

    A row per branch and time: `accuracy` is the mean over children of the probability that cells of a child are given
    to it, `chance` that of a guess. Children without a cell are left out, and branches with fewer than two children.
    """
    tree = sampler.hierarchy
    labels = np.asarray(types)
    rows: list[tuple[str, float, float, float, float, int]] = []
    for position in tree.branch_points:
        branch = tree.branches[position]
        inside = np.flatnonzero(np.isin(labels, branch.classes))
        members = [np.isin(labels[inside], tree.branches[child].classes) for child in tree.children[position]]
        present = [number for number, own in enumerate(members) if own.any()]
        if len(present) < 2:
            continue
        noise = draws(sampler, branch.name, n_draws)
        for time in np.linspace(0, 1, N_TIMES).tolist():
            found = child_probabilities(sampler, position, cells.take(inside), time, noise)
            accuracy = float(np.mean([found[members[number], number].mean() for number in present]))
            sigma = float(levels_at(sampler.schedule, time).mean())
            rows.append((branch.name, time, sigma, accuracy, 1 / len(members), len(inside)))
    return pd.DataFrame(rows, columns=SEPARABILITY)
