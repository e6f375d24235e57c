"""The branched denoiser: one residual encoder shared by all branches, one head per branch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.schedule import NoiseSchedule
from branchgen.diffusion.solvers import Denoise, principal_axes

_N_FREQUENCIES = 16
_N_EMBEDDING = 64


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the network."""

    n_latent: int
    n_branches: int
    n_hidden: int
    n_blocks: int
    n_head: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class ResidualBlock(nn.Module):
    """h + W₂ silu(W₁ norm(h) + E(noise level)), with W₂ zero at the start."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_hidden)
        self.first = nn.Linear(n_hidden, n_hidden)
        self.level = nn.Linear(_N_EMBEDDING, n_hidden)
        self.second = nn.Linear(n_hidden, n_hidden)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        update: Tensor = self.second(F.silu(self.first(self.norm(h)) + self.level(embedding)))
        return h + update


class Heads(nn.Module):
    """One small perceptron per branch; a grouped product applies only those of the batch."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n, h, m, d = shape.n_branches, shape.n_hidden, shape.n_head, shape.n_latent
        self.first = nn.Parameter(torch.empty(n, h, m))
        self.bias = nn.Parameter(torch.zeros(n, 1, m))
        self.second = nn.Parameter(torch.zeros(n, m, d))
        self.shift = nn.Parameter(torch.zeros(n, 1, d))

    def forward(self, h: Tensor, branch: Tensor) -> Tensor:
        """Outputs (n_segments, n_rows, d) of hidden states (n_segments, n_rows, h), a branch per segment."""
        inner = F.silu(torch.baddbmm(self.bias[branch], h, self.first[branch]))
        return torch.baddbmm(self.shift[branch], inner, self.second[branch])


class BranchedDenoiser(nn.Module):
    """D(x, t) ≈ E[z | x_t = x] for every branch, preconditioned around the branch's own Gaussian N(m, S).

    As in Karras et al. (2022, arXiv 2206.00364, section 5), but along the eigenvectors U of S, with eigenvalues λ:
    y = Uᵀ (x − m) and D = m + U [λ/(λ + σ²) y + √λ σ/√(λ + σ²) F]. Without F this is the Gaussian's own denoiser; F has
    a target of unit variance at every noise level and along every eigenvector, and learns what is not Gaussian.
    Cells come in segments of one branch each, so that a step costs the same for any number of branches.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    centre: Tensor
    spread: Tensor
    frequencies: Tensor

    def __init__(
        self, shape: Shape, schedule: NoiseSchedule, moments: BranchMoments, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = shape
        self.schedule = schedule
        h = shape.n_hidden
        mean, covariance = torch.from_numpy(moments.mean).float(), torch.from_numpy(moments.covariance).float()
        basis, variance = principal_axes(moments.covariance, schedule)
        self.register_buffer("mean", mean)
        self.register_buffer("basis", torch.from_numpy(basis).float())
        self.register_buffer("variance", torch.from_numpy(variance).float())
        self.register_buffer("centre", mean[0].clone())
        self.register_buffer("spread", covariance[0].diagonal().clone())
        self.register_buffer("frequencies", 2.0 ** torch.linspace(-1, 4, _N_FREQUENCIES))
        self.enter = nn.Linear(shape.n_latent, h)
        self.embed = nn.Linear(2 * _N_FREQUENCIES, _N_EMBEDDING)
        self.blocks = nn.ModuleList(ResidualBlock(h) for _ in range(shape.n_blocks))
        self.norm = nn.LayerNorm(h)
        self.heads = Heads(shape)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw every weight that is not zero from the generator (He et al. 2015)."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if (weight.dim() > 1 and weight.any()) or name.endswith("heads.first"):
                    fan_in = weight.shape[-2] if name.startswith("heads") else weight.shape[-1]
                    weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(fan_in))
                elif name.endswith("bias"):
                    weight.zero_()

    def forward(self, x: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """Denoised x.

        Parameters
        ----------
        x
            Noised latents, shape (n_segments, n_rows, d).
        t
            Their times, shape (n_segments, n_rows).
        branch
            Branch of every segment, shape (n_segments,).
        """
        mean, basis, skip, out = self._preconditioning(t, branch)
        along = skip * ((x - mean) @ basis) + out * self.residual(x, t, branch)
        return mean + along @ basis.mT

    def scaled(self, error: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """Error of a denoised x along the eigenvectors, in units of c_out; shapes as in `forward`."""
        _, basis, _, out = self._preconditioning(t, branch)
        return error @ basis / out

    def _preconditioning(self, t: Tensor, branch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean (n_segments, 1, d), basis (n_segments, d, d), and c_skip and c_out (n_segments, n_rows, d)."""
        variance = self.variance[branch][:, None]
        sigma = self.schedule.sigma(t, self.mean)
        total = variance + sigma**2
        return self.mean[branch][:, None], self.basis[branch], variance / total, torch.sqrt(variance / total) * sigma

    def residual(self, x: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """What the network adds, F, of unit scale; shapes as in `forward`."""
        sigma = self.schedule.sigma(t, self.mean)
        h = self.enter((x - self.centre) / torch.sqrt(self.spread + sigma**2))
        # The schedule is fixed with the model, so the clock says as much as ln σ, for vector noise too.
        phase = t[..., None] * self.frequencies
        embedding = F.silu(self.embed(torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)))
        for block in self.blocks:
            h = block(h, embedding)
        output: Tensor = self.heads(F.silu(self.norm(h)), branch)
        return output

    def denoiser(self, branch: int) -> Denoise:
        """Denoiser of one branch for the solvers."""

        def denoise(x: Tensor, t: float) -> Tensor:
            times = x.new_full((1, len(x)), t)
            denoised: Tensor = self(x[None], times, torch.tensor([branch], device=x.device))
            return denoised[0]

        return denoise
