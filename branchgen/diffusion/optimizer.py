"""AdamW, and the average of the weights, for a network of which a step sees only some branches.

A branch that is not in a batch has a gradient of zero, and yet AdamW moves its head: by the momentum of earlier
gradients, which decays, and by weight decay; and its average follows. Over any number of such steps,

    w ← a w − b u,    e ← c e + d w − f u,    u = m / (√v + ε),

for weights w with average e and moments m, v of their gradients; a to f depend on the steps alone. They are kept for
every branch and applied when it is next drawn, so that a step costs the same for any number of branches. The result
is that of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on all weights in every step, up to ε and to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from branchgen.config import FitSettings
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.pinned import to_device

_BETAS = 0.9, 0.999
_EPSILON = 1e-8


class Pending:
    """What the steps without a branch would have done to it: their number, and a to f, for every branch."""

    def __init__(self, n_branches: int) -> None:
        self.n_missed = np.zeros(n_branches)
        self.a, self.b, self.c, self.d, self.f = np.repeat([1.0, 0.0, 1.0, 0.0, 0.0], n_branches).reshape(5, -1)

    def done(self, rows: NDArray[np.int64]) -> None:
        """Nothing is missing any more."""
        for values, start in zip(self._all, (0.0, 1.0, 0.0, 1.0, 0.0, 0.0), strict=True):
            values[rows] = start

    def add(self, step: int, rate: float, weight_decay: float, kept: float) -> None:
        """One step more, the `step`-th of all, of which the average keeps a share `kept`."""
        first, second = _BETAS
        self.n_missed += 1
        stays = 1 - rate * weight_decay
        momentum = (first / math.sqrt(second)) ** self.n_missed
        self.a *= stays
        self.b *= stays
        self.b += rate * math.sqrt(1 - second**step) / (1 - first**step) * momentum
        self.c *= kept
        self.d += (1 - kept) * (self.a - self.d)
        self.f += (1 - kept) * (self.b - self.f)

    def to_state(self) -> Tensor:
        """Shape (6, n_branches)."""
        return torch.from_numpy(np.stack(self._all))

    def restore(self, state: Tensor) -> None:
        """Inverse of `to_state`."""
        for values, saved in zip(self._all, state.numpy(), strict=True):
            values[:] = saved

    @property
    def factors(self) -> tuple[NDArray[np.float64], ...]:
        """The factors a to f, each of shape (n_branches,)."""
        return self.a, self.b, self.c, self.d, self.f

    @property
    def _all(self) -> tuple[NDArray[np.float64], ...]:
        return self.n_missed, *self.factors


@dataclass(frozen=True)
class Drawn:
    """Branches, and of every parameter of their heads the weights, averages, and moments w, e, m, v as they are now."""

    rows: NDArray[np.int64]
    at: Tensor
    heads: list[tuple[Tensor, ...]]


class BranchOptimizer:
    """Steps of a network's weights, and of their average in a copy of it; weights that need no gradient stay."""

    def __init__(self, network: BranchedDenoiser, average: BranchedDenoiser, settings: FitSettings) -> None:
        pairs = list(zip(network.named_parameters(), average.parameters(), strict=True))
        self._heads = [(weight, mean) for (name, weight), mean in pairs if name.startswith("heads.")]
        self._shared = [
            (weight, mean) for (name, weight), mean in pairs if not name.startswith("heads.") and weight.requires_grad
        ]
        self._adamw = torch.optim.AdamW(
            [{"params": [weight for weight, _ in self._shared]}],
            betas=_BETAS,
            eps=_EPSILON,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight, _ in self._heads]
        self._counts = [torch.zeros((), device=weight.device) for weight, _ in self._heads]
        self._pending = Pending(network.shape.n_branches)
        self.n_steps = 0
        self._settings = settings

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring the heads of all branches to where all steps until now would have brought them."""
        self._write(self._read(np.flatnonzero(self._pending.n_missed)))

    @torch.no_grad()
    def draw(self, rows: NDArray[np.int64]) -> Drawn:
        """Bring the heads of some branches up to now; needed before gradients are computed for a step of them."""
        drawn = self._read(rows)
        for (weight, _), (w, *_) in zip(self._heads, drawn.heads, strict=True):
            weight.index_copy_(0, drawn.at, w)
        return drawn

    @torch.no_grad()
    def step(self, drawn: Drawn, rate: float, kept: float) -> None:
        """One step along the gradients, which only the drawn branches have; the average keeps a share `kept`."""
        self.n_steps += 1
        shared = [weight.grad for weight, _ in self._shared if weight.grad is not None]
        of_heads = [of_rows(weight.grad, drawn.at) for weight, _ in self._heads if weight.grad is not None]
        clip(shared + of_heads, self._settings.gradient_clip)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()
        w, e, m, v = map(list, zip(*drawn.heads, strict=True))
        adamw(
            w,
            of_heads,
            m,
            v,
            [],
            self._counts,
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=rate,
            weight_decay=self._settings.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )
        torch._foreach_lerp_(
            [*e, *(mean for _, mean in self._shared)], [*w, *(weight for weight, _ in self._shared)], 1 - kept
        )
        self._pending.add(self.n_steps, rate, self._settings.weight_decay, kept)
        self._write(drawn)

    def _read(self, rows: NDArray[np.int64]) -> Drawn:
        """Heads of some branches as they are now."""
        at = to_device(torch.from_numpy(rows), self._heads[0][0].device)
        heads = [tuple(values.index_select(0, at) for values in values_of) for values_of in self._all()]
        if self._pending.n_missed[rows].any():
            first, second = _BETAS
            missed = self._pending.n_missed[rows]
            found = np.stack([*(values[rows] for values in self._pending.factors), first**missed, second**missed])
            factors = to_device(torch.from_numpy(found).to(self._moments[0][0].dtype), at.device)
            a, b, c, d, f, fade, fade_squared = factors[..., None, None]
            for w, e, m, v in heads:
                u = v.sqrt().add_(_EPSILON)
                torch.div(m, u, out=u)
                e.mul_(c).addcmul_(d, w).addcmul_(f, u, value=-1)
                w.mul_(a).addcmul_(b, u, value=-1)
                m.mul_(fade)
                v.mul_(fade_squared)
        return Drawn(rows, at, heads)

    def _write(self, drawn: Drawn) -> None:
        for own, values_of in zip(self._all(), drawn.heads, strict=True):
            for whole, values in zip(own, values_of, strict=True):
                whole.index_copy_(0, drawn.at, values)
        self._pending.done(drawn.rows)

    def _all(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Weights of the heads, their averages, and the moments of their gradients."""
        for pair, moments in zip(self._heads, self._moments, strict=True):
            yield *pair, *moments

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight, _ in (*self._shared, *self._heads):
            weight.grad = None

    def to_state(self) -> dict[str, Any]:
        """Plain types and tensors; what is pending stays so, so that saving changes nothing."""
        return {
            "adamw": self._adamw.state_dict(),
            "moments": [list(pair) for pair in self._moments],
            "pending": self._pending.to_state(),
            "n_steps": self.n_steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._adamw.load_state_dict(state["adamw"])
        for own, saved in zip(self._moments, state["moments"], strict=True):
            for values, others in zip(own, saved, strict=True):
                values.copy_(others)
        self._pending.restore(state["pending"])
        self.n_steps = state["n_steps"]
        for count in self._counts:
            count.fill_(self.n_steps)


def of_rows(gradient: Tensor, rows: Tensor) -> Tensor:
    """Rows of a gradient; where it is sparse, it has no others."""
    if not gradient.is_sparse:
        return gradient.index_select(0, rows)
    parts = gradient._values()
    total = parts.new_zeros((len(rows), *parts.shape[1:]))
    return total.index_add_(0, torch.searchsorted(rows, gradient._indices()[0]), parts)


def clip(gradients: list[Tensor], largest: float) -> None:
    """Shorten gradients to a norm of at most `largest`, all by the same factor."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-6), max=1.0))
