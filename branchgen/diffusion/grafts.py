"""Heads for new classes on a trained network, whose own weights and moments stay what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from branchgen.diffusion.handover import Array, BranchMoments
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.hierarchy.grafts import Grown, Place
from branchgen.hierarchy.tree import Branch, Hierarchy

SHARED = ("enter", "embed", "blocks", "norm", "frequencies", "centre", "spread")
"""Parts of the network that a new class has in common with the old ones."""


@dataclass(frozen=True, kw_only=True)
class Graft:
    """A new class: its place, the moments of its cells, (d,) and (d, d), and the weights of its head."""

    place: Place
    mean: Array
    covariance: Array
    weights: Mapping[str, Tensor]
    n_cells: int
    provenance: str

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors."""
        return {
            **self.place.to_dict(),
            "mean": torch.from_numpy(self.mean),
            "covariance": torch.from_numpy(self.covariance),
            "weights": dict(self.weights),
            "n_cells": self.n_cells,
            "provenance": self.provenance,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Inverse of `to_state`."""
        return cls(
            place=Place(name=state["name"], host=state["host"], time=state["time"]),
            mean=state["mean"].numpy(),
            covariance=state["covariance"].numpy(),
            weights=state["weights"],
            n_cells=state["n_cells"],
            provenance=state["provenance"],
        )


def lone_class(name: str) -> Hierarchy:
    """The hierarchy of one class, whose only branch reaches from data to noise."""
    return Hierarchy((Branch(name=name, classes=(name,), t_start=0.0, t_end=1.0),))


def new_head(network: BranchedDenoiser, mean: Array, covariance: Array, generator: torch.Generator) -> BranchedDenoiser:
    """A denoiser of one class with the shared parts of a trained network, which stay, and a head that learns."""
    shape = replace(network.shape, n_branches=1)
    moments = BranchMoments(mean[None], covariance[None], np.ones(1), ((0,),))
    head = BranchedDenoiser(shape, network.schedule, moments, generator)
    shared = {name: value for name, value in network.state_dict().items() if name.split(".")[0] in SHARED}
    head.load_state_dict(shared, strict=False)
    for name, weight in head.named_parameters():
        weight.requires_grad = name.split(".")[0] not in SHARED
    return head.to(network.mean.device)


def own_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the weights of a network with one class, those that it does not share."""
    return {name: value.cpu() for name, value in state.items() if name.split(".")[0] not in SHARED}


def grafted(network: BranchedDenoiser, graft: Graft) -> BranchedDenoiser:
    """The denoiser of a new class, ready for sampling."""
    head = new_head(network, graft.mean, graft.covariance, torch.Generator())
    head.load_state_dict(dict(graft.weights), strict=False)
    return head.eval().requires_grad_(requires_grad=False)


def grown_moments(moments: BranchMoments, old: Hierarchy, new: Grown, grafts: Sequence[Graft]) -> BranchMoments:
    """Moments of every branch with the new classes: parts of an old branch have its own, and its own classes.

    They are those of the samples that the branch gives, in which the new classes are not.
    """
    tree, known = new.hierarchy, {graft.place.name: graft for graft in grafts}
    leaf = {branch.classes[0]: i for i, branch in enumerate(tree.branches) if branch.t_start == 0}
    rows: list[tuple[Array, Array, float, tuple[int, ...]]] = []
    for trunk in new.trunks:
        if trunk in known:
            rows.append((known[trunk].mean, known[trunk].covariance, 1.0, (leaf[trunk],)))
        else:
            row = old.index[trunk]
            below = tuple(leaf[name] for name in old.branches[row].classes)
            rows.append((moments.mean[row], moments.covariance[row], float(moments.weights[row]), below))
    mean, covariance, weights, leaves = zip(*rows, strict=True)
    mixtures = {leaf[old.branches[row].classes[0]]: mixture for row, mixture in moments.mixtures.items()}
    return BranchMoments(np.stack(mean), np.stack(covariance), np.array(weights), leaves, mixtures)
