"""The branched denoiser: one residual encoder shared by all branches, one head per branch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from branchgen.diffusion.handover import BranchMoments
from branchgen.diffusion.schedule import NoiseSchedule, levels_between
from branchgen.diffusion.solvers import Denoise, OfBranch, principal_axes

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


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor; `values[rows]` is several times slower on a CPU."""
    return values.index_select(0, rows)


class _SparseRows(torch.autograd.Function):
    """Rows of a weight, (n_segments, ...); the gradient is sparse, and costs the same for any number of rows."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(rows[None], gradients[0], ctx.shape, check_invariants=False), None


class Heads(nn.Module):
    """One small perceptron per branch; a grouped product applies only those of the batch."""

    sparse = False
    """Whether gradients are sparse; other processes and compilers want them dense."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        n, h, m, d = shape.n_branches, shape.n_hidden, shape.n_head, shape.n_latent
        self.first = nn.Parameter(torch.empty(n, h, m))
        self.bias = nn.Parameter(torch.zeros(n, 1, m))
        self.second = nn.Parameter(torch.zeros(n, m, d))
        self.shift = nn.Parameter(torch.zeros(n, 1, d))

    def forward(self, h: Tensor, branch: Tensor) -> Tensor:
        """Outputs (n_segments, n_rows, d) of hidden states (n_segments, n_rows, h), a branch per segment."""
        rows = _SparseRows.apply if self.sparse else _rows
        inner = F.silu(torch.baddbmm(rows(self.bias, branch), h, rows(self.first, branch)))
        return torch.baddbmm(rows(self.shift, branch), inner, rows(self.second, branch))


class BranchedDenoiser(nn.Module):
    """D(x, t) ≈ E[z | x_t = x] for every branch, preconditioned around the moments of the branch and its classes.

    As in Karras et al. (2022, arXiv 2206.00364, section 5), but along the eigenvectors U of the branch's covariance S,
    with eigenvalues λ, and around the denoiser M of a mixture of Gaussians, one for every class:
    D = M(x, σ) + U √λ σ/√(λ + σ²) Uᵀ F. For a single class M is m + S (S + σ²)⁻¹ (x − m), and F has a target of unit
    variance at every noise level and in every direction: it learns what is not Gaussian. It sees where x is, and x
    whitened by the branch's Gaussian, for within a class cells differ by far less than between classes.
    Cells come in segments of one branch each, so that a step costs the same for any number of branches.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    within_basis: Tensor
    within: Tensor
    classes: Tensor
    half_squares: Tensor
    log_weights: Tensor
    centre: Tensor
    spread: Tensor
    frequencies: Tensor
    log_sigma_min: Tensor
    log_sigma_max: Tensor

    def __init__(
        self, shape: Shape, schedule: NoiseSchedule, moments: BranchMoments, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = shape
        self.schedule = schedule
        h = shape.n_hidden
        self._remember(moments)
        self.register_buffer("frequencies", 2.0 ** torch.linspace(-1, 4, _N_FREQUENCIES))
        for name, levels in zip(("min", "max"), schedule.logarithms(self.mean), strict=True):
            self.register_buffer(f"log_sigma_{name}", levels.clone(), persistent=False)
        self.enter = nn.Linear(2 * shape.n_latent, h)
        self.embed = nn.Linear(2 * _N_FREQUENCIES, _N_EMBEDDING)
        self.blocks = nn.ModuleList(ResidualBlock(h) for _ in range(shape.n_blocks))
        self.norm = nn.LayerNorm(h)
        self.heads = Heads(shape)
        self._initialise(generator)

    def _remember(self, moments: BranchMoments) -> None:
        """Moments as buffers, along the eigenvectors of the branches' covariances."""

        def keep(name: str, values: NDArray[np.float64], *, persistent: bool = True) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=persistent)

        basis, variance = moments.axes(self.schedule)
        within_basis, within = principal_axes(moments.within(), self.schedule)
        leaves = sorted({leaf for below in moments.leaves for leaf in below})
        parts = [moments.parts(leaf) for leaf in leaves]
        leaf_of = np.repeat(leaves, [len(part.weights) for part in parts])
        apart = np.concatenate([part.mean for part in parts]) - moments.mean[:, None]
        weights = moments.weights[leaf_of] * np.concatenate([part.weights for part in parts])
        inside = np.array([np.isin(leaf_of, below) for below in moments.leaves])
        keep("mean", moments.mean)
        keep("basis", basis)
        keep("variance", variance)
        keep("within_basis", within_basis)
        keep("within", within)
        keep("classes", apart @ within_basis, persistent=False)
        keep("half_squares", (apart @ within_basis) ** 2 / 2, persistent=False)
        keep("log_weights", np.log(np.where(inside, weights, 1e-300)), persistent=False)
        keep("centre", moments.mean[0])
        keep("spread", np.diagonal(moments.covariance[0]))

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw every weight that is not zero from the generator (He et al. 2015)."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if (weight.dim() > 1 and weight.any()) or name.endswith("heads.first"):
                    fan_in = weight.shape[-2] if name.startswith("heads") else weight.shape[-1]
                    weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(fan_in))
                elif name.endswith("bias"):
                    weight.zero_()

    def forward(self, x: Tensor, t: Tensor, branch: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """Denoised x.

        Parameters
        ----------
        x
            Noised latents, shape (n_segments, n_rows, d).
        t
            Their times, shape (n_segments, n_rows), or (n_segments, 1) where a segment has one.
        branch
            Branch of every segment, shape (n_segments,).
        precision
            Of the matrix products of the learned part; the rest would lose what tells close cells apart.
        """
        sigma = self._sigma(t)
        mean, basis, variance = (_rows(values, branch) for values in (self.mean, self.basis, self.variance))
        mean, variance = mean[:, None], variance[:, None]
        total = torch.sqrt(variance + sigma**2)
        white = (x - mean) @ basis / total @ basis.mT
        absolute = (x - self.centre) / torch.sqrt(self.spread + sigma**2)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            learned = self._residual(torch.cat([absolute, white], dim=-1), t, branch).to(x)
        return self.mixture(x, t, branch) + (torch.sqrt(variance) * sigma / total * (learned @ basis)) @ basis.mT

    def mixture(self, x: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """E[z | x_t = x] for classes with means m_k and one covariance W; shapes as in `forward`.

        c + W (W + σ²)⁻¹ (x − c) with c = Σ_k r_k m_k and r the posterior probabilities of the branch's classes.
        """
        mean, basis, variance = (_rows(values, branch) for values in (self.mean, self.within_basis, self.within))
        mean, variance = mean[:, None], variance[:, None]
        total = variance + self._sigma(t) ** 2
        along = (x - mean) @ basis
        classes, half_squares = _rows(self.classes, branch), _rows(self.half_squares, branch)
        fit = (along / total) @ classes.mT - (1 / total) @ half_squares.mT
        centre = torch.softmax(_rows(self.log_weights, branch)[:, None] + fit, dim=-1) @ classes
        return mean + (centre + variance / total * (along - centre)) @ basis.mT

    def scaled(self, error: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """Error of a denoised x along the eigenvectors of S, in units of c_out; shapes as in `forward`."""
        sigma, variance = self._sigma(t), _rows(self.variance, branch)[:, None]
        return error @ _rows(self.basis, branch) / (sigma * torch.sqrt(variance / (variance + sigma**2)))

    def _residual(self, x: Tensor, t: Tensor, branch: Tensor) -> Tensor:
        """What the network adds to the Gaussian, of unit scale, at inputs (n_segments, n_rows, 2 d)."""
        h = self.enter(x)
        # The schedule is fixed with the model, so the clock says as much as ln σ, for vector noise too.
        phase = t[..., None] * self.frequencies
        embedding = F.silu(self.embed(torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)))
        for block in self.blocks:
            h = block(h, embedding)
        output: Tensor = self.heads(F.silu(self.norm(h)), branch)
        return output

    def _sigma(self, t: Tensor) -> Tensor:
        """Noise levels at t, from buffers: a compiled network cannot ask the schedule for tensors."""
        return levels_between(self.log_sigma_min, self.log_sigma_max, t)

    def denoiser(self, branch: int) -> Denoise:
        """Denoiser of one branch for the solvers."""
        return OfBranch(self, branch)

    def mixture_of(self, branch: int) -> Denoise:
        """`mixture` of one branch for the solvers."""
        return OfBranch(self.mixture, branch)
