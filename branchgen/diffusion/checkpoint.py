"""The model as a state of plain types: weights, and all that sampling needs, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import TreeSampler
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.errors import BranchgenError
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
        )

    def network(self, device: torch.device) -> BranchedDenoiser:
        """The network with its weights, ready for sampling."""
        network = BranchedDenoiser(self.shape, self.schedule, self.moments, torch.Generator())
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval().requires_grad_(requires_grad=False)

    def sampler(
        self, device: torch.device, *, solver: str, n_steps: int, handover: str, seed: int, n_corrections: int = 0
    ) -> TreeSampler:
        """Sampler of the model on a device."""
        network = self.network(device)
        return TreeSampler(
            hierarchy=self.hierarchy,
            schedule=self.schedule,
            moments=self.moments,
            denoiser_of=lambda name: network.denoiser(self.hierarchy.index[name]),
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
