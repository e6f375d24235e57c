"""How training steps are computed: by how many processes, in which precision, compiled or not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from branchgen.diffusion.batches import N_SEGMENTS
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.errors import BranchgenError

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Denoised x of x, its times, and a branch per segment; see `BranchedDenoiser.forward`."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train one network, each on its share of every batch, and the rank of this one among them."""

    rank: int = 0
    n: int = 1

    def __post_init__(self) -> None:
        if N_SEGMENTS % self.n:
            divisors = [str(n) for n in range(1, N_SEGMENTS + 1) if N_SEGMENTS % n == 0]
            raise BranchgenError(
                f"{self.n} processes cannot train one model: the {N_SEGMENTS} segments of a batch must be shared "
                f"equally; start one of {', '.join(divisors)}"
            )

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Segments of a batch that this one works on."""
        size = N_SEGMENTS // self.n
        return slice(self.rank * size, (self.rank + 1) * size)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all processes; a GPU computes it when it comes to it."""
        if self.n == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.n

    def largest(self, number: int) -> int:
        """Largest of the numbers that the processes have; all wait for each other."""
        if self.n == 1:
            return number
        # On the CPU: asking a GPU for a number would wait for all that it has still to do.
        found = torch.tensor([number])
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def of_first(self, value: Any) -> Any:
        """What the first process has."""
        if self.n == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Processes, precision of the learned part of the network (float32, bfloat16), and whether it is compiled."""

    processes: Processes = field(default_factory=Processes)
    precision: str = "float32"
    compiled: bool = False

    def forward_of(self, network: BranchedDenoiser) -> Forward:
        """The network's forward pass in training; its gradients are means over the processes."""
        module: nn.Module = network
        network.heads.sparse = not self.compiled and self.processes.n == 1
        if self.compiled:
            module = cast(nn.Module, torch.compile(module, dynamic=False))
        if self.processes.n > 1:
            with warnings.catch_warnings():
                # Newer versions of torch have another name for the argument, which older ones do not know.
                warnings.simplefilter("ignore", FutureWarning)
                # The buffers are moments, which no step changes.
                module = nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
        return partial(module, precision=getattr(torch, self.precision))
