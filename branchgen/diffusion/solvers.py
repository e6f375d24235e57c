"""Integrators of the reverse process over a grid of times.

The deterministic process is dx/d ln σ = x − D(x, t), with D the denoiser (Karras et al. 2022, arXiv 2206.00364, eq. 1
with s = 1); noise levels are vectors over coordinates. A solver takes the process, a start x and falling times, and
returns x at every one of them. All is either of one branch, x of shape (n_cells, d) and times that are numbers, or of
several at once, x of shape (n_segments, n_cells, d) and times (n_segments, 1), a branch for every segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count, pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from branchgen.diffusion.schedule import NoiseSchedule

Array = NDArray[np.float64]
Denoise = Callable[[Tensor, Any], Tensor]
"""E[x_0 | x_t = x], of the shape of x, at one time t, or one for every segment."""

CORRECTOR_RATIO = 0.16
"""Signal-to-noise ratio r of the Langevin corrector (Song et al. 2021, arXiv 2011.13456, algorithm 4)."""

N_BETWEEN = 2
"""Steps of the solver for one of the denoiser, where there is a mixture in closed form."""

LANGEVIN_KEPT = 0.8
"""Share of a cell's place that a Langevin step keeps."""


@dataclass(frozen=True)
class Reference:
    """A Gaussian close to the data of a branch, whose part of the process is integrated exactly.

    `mean` (d,), an orthonormal `basis` (d, d) in its columns, and `variance` (d,) along the basis.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor

    @classmethod
    def of(cls, mean: Array, basis: Array, variance: Array, like: Tensor) -> Self:
        """Reference of arrays, on the device and in the dtype of a tensor."""
        return cls(*(torch.from_numpy(part).to(like) for part in (mean, basis, variance)))

    @classmethod
    def of_segments(cls, references: Sequence[Reference]) -> Self:
        """A reference for every segment: mean and variance (n_segments, 1, d), basis (n_segments, d, d)."""
        mean, basis, variance = (
            torch.stack([getattr(one, name) for one in references]) for name in ("mean", "basis", "variance")
        )
        return cls(mean[:, None], basis, variance[:, None])

    def without_noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """From noise levels sigma to none, exact for the Gaussian: m + U √(λ/(λ + σ²)) Uᵀ (x − m)."""
        kept = torch.sqrt(self.variance / (self.variance + sigma**2))
        return self.mean + ((x - self.mean) @ self.basis * kept) @ self.basis.mT

    def with_noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Inverse of `without_noise`: along the flow from no noise to levels sigma."""
        widened = torch.sqrt((self.variance + sigma**2) / self.variance)
        return self.mean + ((x - self.mean) @ self.basis * widened) @ self.basis.mT


def principal_axes(covariance: Array, schedule: NoiseSchedule) -> tuple[Array, Array]:
    """Eigenvectors, in columns, and eigenvalues of covariances (..., d, d); coordinate axes under vector noise.

    Closed forms for a noised Gaussian need covariance and noise to commute, as any covariance does with uniform noise.
    """
    if schedule.is_uniform:
        return eigenvectors(covariance)
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    return np.broadcast_to(np.eye(covariance.shape[-1]), covariance.shape).copy(), np.maximum(variance, 1e-12)


def eigenvectors(covariance: Array) -> tuple[Array, Array]:
    """Eigenvectors, in columns, and eigenvalues, more than zero, of covariances (..., d, d)."""
    variance, basis = np.linalg.eigh(covariance)
    return basis, np.maximum(variance, 1e-12)


@dataclass(frozen=True)
class OfBranch:
    """Denoiser of one branch by a function that can denoise segments of several branches at once.

    The function takes x (n_segments, n_cells, d), times (n_segments, 1) and branches (n_segments,).
    """

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    branch: int

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Denoise cells (n_cells, d) at one time."""
        return together([self])(x[None], x.new_full((1, 1), t))[0]


def together(denoisers: Sequence[Denoise]) -> Denoise:
    """Denoiser of segments by these, one for each; those that are of a function must all be of the same.

    A function is asked once for all of them. Where there are more segments than denoisers, the others are zero, or of
    the last: they are there for the shape alone.
    """
    of_branch = [one for one in denoisers if isinstance(one, OfBranch)]
    if of_branch:
        function, branches = of_branch[0].function, [one.branch for one in of_branch]

        @cache
        def branch_of(n_segments: int, device: torch.device) -> Tensor:
            return torch.tensor([*branches, *branches[-1:] * (n_segments - len(branches))], device=device)

        return lambda x, t: function(x, t, branch_of(len(x), x.device))

    def one_by_one(x: Tensor, t: Tensor) -> Tensor:
        denoised = torch.zeros_like(x)
        for number, denoise in enumerate(denoisers):
            denoised[number] = denoise(x[number], float(t[number]))
        return denoised

    return one_by_one


@dataclass(frozen=True, kw_only=True)
class Process:
    """The reverse process of a branch, or of one for every segment, and the generators of its noise."""

    denoise: Denoise
    schedule: NoiseSchedule
    generators: Sequence[torch.Generator]
    """One, or one for every segment."""
    reference: Reference | None = None
    mixture: Denoise | None = None
    """A denoiser in closed form that is close to `denoise`, which costs far more."""

    def noise_like(self, x: Tensor) -> Tensor:
        """Standard normal noise of the shape of x."""
        if x.dim() == 2:
            return noise_like(x, self.generators[0])
        return torch.stack([noise_like(part, one) for part, one in zip(x, self.generators, strict=True)])


Solver = Callable[[Process, Tensor, Sequence[Any]], list[Tensor]]
"""Takes a process, x at the first of some times, and these, and returns x at all of them."""


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, drawn where the generator lives, so that every device sees the same."""
    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)


def dpmpp_2m(process: Process, x: Tensor, times: Sequence[Any]) -> list[Tensor]:
    """DPM-Solver++(2M), second order, one evaluation per step (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

    With a reference N(m, S) the denoiser is split into the Gaussian's own, m + S (S + σ²)⁻¹ (x − m), and a residual ρ.
    Along an eigenvector of S with variance λ, y = x − m then follows exactly

        y' = √(λ + σ'²) (y / √(λ + σ²) + ∫ ρ d ln σ / √(λ + σ²)),

    and only ρ is extrapolated from two steps. Without a reference λ = 0, m = 0, which is the published method.
    Where the process has a mixture, steps are shorter, and the denoiser is asked at the given times only (`refined`).
    """
    if process.mixture is not None:
        process, times = refined(process, process.mixture, times)
        return dpmpp_2m(process, x, times)[::N_BETWEEN]
    reference = process.reference
    if reference is None:
        d = x.shape[-1]
        reference = Reference(x.new_zeros(d), torch.eye(d).to(x), x.new_full((d,), 1e-12))
    mean, basis, variance = reference.mean, reference.basis, reference.variance
    deviation = torch.sqrt(variance)
    states, y = [x], (x - mean) @ basis
    sigma = process.schedule.sigma(times[0], x)
    arc, scale = torch.asinh(deviation / sigma), torch.sqrt(variance + sigma**2)
    before: tuple[Tensor, Tensor] | None = None
    for t, t_next in pairwise(times):
        sigma_next = process.schedule.sigma(t_next, x)
        step = torch.log(sigma / sigma_next)
        residual = (process.denoise(states[-1], t) - mean) @ basis - variance / scale**2 * y
        estimate = residual if before is None else residual + (residual - before[1]) * (step / (2 * before[0]))
        # The integral of d ln σ / √(λ + σ²) is asinh(√λ / σ) / √λ, between the two noise levels.
        arc_next, scale_next = torch.asinh(deviation / sigma_next), torch.sqrt(variance + sigma_next**2)
        y = (scale_next / scale) * y + (scale_next * (arc_next - arc) / deviation) * estimate
        states.append(mean + y @ basis.mT)
        before, sigma, arc, scale = (step, residual), sigma_next, arc_next, scale_next
    return states


def refined(process: Process, mixture: Denoise, times: Sequence[Any]) -> tuple[Process, list[Any]]:
    """The same process for N_BETWEEN times as many steps, and their times, at which it is asked in order.

    Classes far apart under a shared branch make its denoiser turn quickly from one to the other, which a mixture of
    their Gaussians does as well. Between the given times, D(x, t) is the mixture's plus the difference of the two,
    extrapolated from the last two given times, linearly in t and so in ln σ.
    """
    known: list[tuple[Any, Tensor]] = []
    asked = count()

    def denoise(x: Tensor, t: Any) -> Tensor:
        closed = mixture(x, t)
        if next(asked) % N_BETWEEN == 0:
            denoised = process.denoise(x, t)
            known[:] = [*known[-1:], (t, denoised - closed)]
            return denoised
        last, difference = known[-1]
        if len(known) > 1:
            before, earlier = known[0]
            onwards = (t - last) / (last - before)
            if isinstance(onwards, Tensor):
                onwards = onwards[..., None]
            difference = difference + (difference - earlier) * onwards
        return closed + difference

    finer = [a + (b - a) * (i / N_BETWEEN) for a, b in pairwise(times) for i in range(N_BETWEEN)]
    return replace(process, denoise=denoise, mixture=None), [*finer, times[-1]]


def heun(process: Process, x: Tensor, times: Sequence[Any]) -> list[Tensor]:
    """Heun's method on dx/dσ: second order, two evaluations per step (Karras et al. 2022, algorithm 1)."""
    states = [x]
    for t, t_next in pairwise(times):
        sigma, sigma_next = process.schedule.sigma(t, x), process.schedule.sigma(t_next, x)
        slope = (x - process.denoise(x, t)) / sigma
        guess = x + (sigma_next - sigma) * slope
        slope_next = (guess - process.denoise(guess, t_next)) / sigma_next
        x = x + (sigma_next - sigma) * (slope + slope_next) / 2
        states.append(x)
    return states


def sde(process: Process, x: Tensor, times: Sequence[Any]) -> list[Tensor]:
    """SDE-DPM-Solver++(2M): stochastic, one evaluation per step (Lu et al. 2022, arXiv 2211.01095, section 6)."""
    states = [x]
    before: tuple[Tensor, Tensor] | None = None
    for t, t_next in pairwise(times):
        sigma, sigma_next = process.schedule.sigma(t, x), process.schedule.sigma(t_next, x)
        step = torch.log(sigma / sigma_next)
        kept = (sigma_next / sigma) ** 2
        denoised = process.denoise(x, t)
        estimate = denoised if before is None else denoised + (denoised - before[1]) * step / (2 * before[0])
        x = kept * x + (1 - kept) * estimate + sigma_next * torch.sqrt(1 - kept) * process.noise_like(x)
        states.append(x)
        before = step, denoised
    return states


def pc(process: Process, x: Tensor, times: Sequence[Any]) -> list[Tensor]:
    """Predictor-corrector: Euler-Maruyama, then one Langevin step (Song et al. 2021, arXiv 2011.13456, algorithm 2).

    The corrector's step is 2 (r σ)², which is Song et al.'s with norms replaced by their expectations, so that a cell
    does not depend on the others of its batch. Needs hundreds of steps; two evaluations per step.
    """
    states = [x]
    for t, t_next in pairwise(times):
        sigma, sigma_next = process.schedule.sigma(t, x), process.schedule.sigma(t_next, x)
        dropped = sigma**2 - sigma_next**2
        score = (process.denoise(x, t) - x) / sigma**2
        x = x + dropped * score + torch.sqrt(dropped) * process.noise_like(x)
        step = 2 * (CORRECTOR_RATIO * sigma_next) ** 2
        score = (process.denoise(x, t_next) - x) / sigma_next**2
        x = x + step * score + torch.sqrt(2 * step) * process.noise_like(x)
        states.append(x)
    return states


def langevin(process: Process, x: Tensor, t: float | Tensor, n_steps: int) -> Tensor:
    """Langevin steps at one time under the process's own distribution, one evaluation each; needs a reference N(m, S).

    x' = x + (1 − a) P s(x) + √(1 − a²) P^½ n with P = S + σ², the score s(x) = (D(x) − x) / σ² and a = LANGEVIN_KEPT.
    Where the data are the reference this is its exact Ornstein-Uhlenbeck process, so that variances stay.
    """
    reference, sigma = process.reference, process.schedule.sigma(t, x)
    if reference is None:
        raise ValueError("Langevin steps need a reference")
    basis, scale = reference.basis, torch.sqrt(reference.variance + sigma**2)
    drawn = (1 - LANGEVIN_KEPT**2) ** 0.5
    for _ in range(n_steps):
        score = (process.denoise(x, t) - x) / sigma**2
        moved = (score @ basis) * scale**2 * (1 - LANGEVIN_KEPT) + (process.noise_like(x) @ basis) * scale * drawn
        x = x + moved @ basis.mT
    return x


SOLVERS: dict[str, Solver] = {"dpmpp_2m": dpmpp_2m, "heun": heun, "sde": sde, "pc": pc}
EVALUATIONS = {"dpmpp_2m": 1, "heun": 2, "sde": 1, "pc": 2}
"""Evaluations of the network in a step."""
