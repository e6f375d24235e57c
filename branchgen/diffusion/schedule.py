"""How much noise every latent coordinate carries at every time.

x_t = z + σ(t) ⊙ n with n ~ N(0, I) and t in [0, 1]; σ is a vector over coordinates, non-decreasing in t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from branchgen.errors import BranchgenError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@lru_cache(maxsize=64)
def _logarithms(levels: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Logarithms of noise levels; kept, as a copy to a GPU would hold up every step."""
    # Whoever derives or draws a hierarchy needs a schedule, and has no other use for torch, two seconds to import.
    import torch

    return torch.log(torch.tensor(levels, dtype=torch.float64)).to(device, dtype)


@dataclass(frozen=True)
class NoiseSchedule:
    """Log-linear noise levels: ln σ_k(t) runs from ln sigma_min[k] at t = 0 to ln sigma_max[k] at t = 1."""

    sigma_min: tuple[float, ...]
    sigma_max: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sigma_min) != len(self.sigma_max):
            raise BranchgenError("a noise schedule needs as many smallest as largest noise levels")
        if not all(0 < low < high for low, high in zip(self.sigma_min, self.sigma_max, strict=True)):
            raise BranchgenError("every noise level must be positive and sigma_min below sigma_max")

    @classmethod
    def uniform(cls, sigma_min: float, sigma_max: float, n_latent: int) -> Self:
        """The same levels for every coordinate."""
        return cls((float(sigma_min),) * n_latent, (float(sigma_max),) * n_latent)

    @property
    def is_uniform(self) -> bool:
        """Whether all coordinates carry the same noise at every time."""
        return len(set(zip(self.sigma_min, self.sigma_max, strict=True))) == 1

    def levels(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise levels of shape (n, d) at times of shape (n,)."""
        low, high = np.log(self.sigma_min), np.log(self.sigma_max)
        return np.asarray(np.exp(low + np.asarray(times, dtype=float)[:, None] * (high - low)))

    def sigma(self, t: float | Tensor, like: Tensor) -> Tensor:
        """Noise levels at t on the device and in the dtype of `like`: (d,) for a number, (*shape, d) for a tensor."""
        return levels_between(*self.logarithms(like), t)

    def logarithms(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of sigma_min and sigma_max on the device and in the dtype of `like`, each (d,)."""
        low, high = (_logarithms(levels, like.device, like.dtype) for levels in (self.sigma_min, self.sigma_max))
        return low, high

    def to_dict(self) -> dict[str, list[float]]:
        """Plain values."""
        return {"sigma_min": list(self.sigma_min), "sigma_max": list(self.sigma_max)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(tuple(map(float, record["sigma_min"])), tuple(map(float, record["sigma_max"])))


def levels_between(low: Tensor, high: Tensor, t: float | Tensor) -> Tensor:
    """Noise levels at t, from their logarithms (d,) at times 0 and 1; shapes as in `NoiseSchedule.sigma`."""
    clock = t if isinstance(t, float | int) else t[..., None]
    return (low + clock * (high - low)).exp()
