"""The model as a state of plain types: weights, and all that sampling needs, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from branchgen.diffusion.grafts import Graft, grafted, grown_moments
from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sampler import TreeSampler, branch_times
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import Denoise
from branchgen.errors import BranchgenError
from branchgen.hierarchy.grafts import Grown, grown
from branchgen.hierarchy.tree import Hierarchy
from branchgen.provenance import FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained branched diffusion model; loadable with ``weights_only=True`` from its state."""

    weights: Mapping[str, Tensor]
    shape: Shape
    hierarchy: Hierarchy
    schedule: NoiseSchedule
    moments: BranchMoments
    support: Mapping[str, Mapping[str, float | None]]
    class_counts: Mapping[str, int]
    codec: str
    genes: tuple[str, ...]
    provenance: str
    grafts: tuple[Graft, ...] = ()
    """New classes, in the order in which they came; `hierarchy`, `moments` and `weights` are without them."""
    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """Gene-wise offsets of the codec, (2, n_genes), for classes that it was not fitted to."""
    factor: float = 1.0
    """By which the branch points of the hierarchy were moved towards the data."""

    @property
    def n_train(self) -> dict[str, int]:
        """Training cells of every class, new ones last."""
        return {**self.class_counts, **{graft.place.name: graft.n_cells for graft in self.grafts}}

    @property
    def newest(self) -> list[str]:
        """Classes by which the model was extended last."""
        return [graft.place.name for graft in self.grafts if graft.provenance == self.grafts[-1].provenance]

    def grown(self, n_steps: int) -> Grown:
        """The hierarchy with the new classes, each on the grid of the solver."""
        places = [graft.place for graft in self.grafts]
        return grown(self.hierarchy, places, lambda branch: branch_times(branch, n_steps))

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors."""
        return {
            "kind": "model",
            "format_version": FORMAT_VERSION,
            "weights": dict(self.weights),
            "shape": self.shape.to_dict(),
            "hierarchy": self.hierarchy.to_list(),
            "schedule": self.schedule.to_dict(),
            "moments": self.moments.to_state(),
            "support": {name: dict(values) for name, values in self.support.items()},
            "class_counts": dict(self.class_counts),
            "codec": self.codec,
            "genes": list(self.genes),
            "provenance": self.provenance,
            "grafts": [graft.to_state() for graft in self.grafts],
            "offsets": dict(self.offsets),
            "factor": self.factor,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Inverse of `to_state`."""
        return cls(
            weights=state["weights"],
            shape=Shape(**state["shape"]),
            hierarchy=Hierarchy.from_list(state["hierarchy"]),
            schedule=NoiseSchedule.from_dict(state["schedule"]),
            moments=BranchMoments.from_state(state["moments"]),
            support=state["support"],
            class_counts=state["class_counts"],
            codec=state["codec"],
            genes=tuple(state["genes"]),
            provenance=state["provenance"],
            grafts=tuple(map(Graft.from_state, state.get("grafts", ()))),
            offsets=state.get("offsets", {}),
            factor=state.get("factor", 1.0),
        )

    def network(self, device: torch.device) -> BranchedDenoiser:
        """The network with its weights, ready for sampling."""
        network = BranchedDenoiser(self.shape, self.schedule, self.moments, torch.Generator())
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval().requires_grad_(requires_grad=False)

    def sampler(
        self, device: torch.device, *, solver: str, n_steps: int, handover: str, seed: int, n_corrections: int = 0
    ) -> TreeSampler:
        """Sampler of the model on a device, for its new classes too."""
        network, tree = self.network(device), self.grown(n_steps)
        heads = {graft.place.name: grafted(network, graft) for graft in self.grafts}

        def place_of(name: str) -> tuple[BranchedDenoiser, int]:
            return (heads[name], 0) if name in heads else (network, self.hierarchy.index[name])

        def denoiser_of(name: str) -> Denoise:
            head, branch = place_of(name)
            return head.denoiser(branch)

        def mixture_of(name: str) -> Denoise:
            head, branch = place_of(name)
            return head.mixture_of(branch)

        return TreeSampler(
            hierarchy=tree.hierarchy,
            trunks=tree.trunks,
            schedule=self.schedule,
            moments=grown_moments(self.moments, self.hierarchy, tree, self.grafts),
            denoiser_of=denoiser_of,
            mixture_of=mixture_of,
            solver=solver,
            n_steps=n_steps,
            handover=handover,
            seed=seed,
            like=network.mean,
            n_corrections=n_corrections,
        )


def require_same_codec(found: str, expected: str, what: str, other: str) -> None:
    """Raise BranchgenError with both hashes unless two artefacts belong to the same codec."""
    if found != expected:
        raise BranchgenError(
            f"{what} belongs to codec {found} but {other} to codec {expected}; "
            "make both with the same 'branchgen encode' run"
        )
