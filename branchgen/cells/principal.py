"""The linear codec: principal components of log-normalised counts, with a dispersion per gene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from torch import Tensor

from branchgen.cells.autoencoder import log_normalised
from branchgen.cells.distribution import LARGEST_DISPERSION, SMALLEST_DISPERSION, CountDistribution
from branchgen.errors import BranchgenError

_MOMENT_BLOCK = 1024


class PrincipalComponents:
    """Components (n_latent, n_genes) around a mean profile (n_genes,) of log-normalised counts.

    Decoding inverts the projection and the logarithm, and scales the profile to the library size.
    """

    def __init__(self, mean: Tensor, components: Tensor, dispersion: Tensor) -> None:
        self.mean = mean
        self.components = components
        self.dispersion = dispersion

    @classmethod
    def fit(cls, counts: sparse.csr_matrix, n_latent: int, seed: int) -> Self:
        """Fit on counts (n_cells, n_genes); dispersions by the method of moments on what the components leave.

        Raises BranchgenError for more components than cells or genes allow.
        """
        if n_latent >= min(counts.shape):
            raise BranchgenError(
                f"n_latent is {n_latent}; pca needs fewer than the {counts.shape[0]} training cells "
                f"and the {counts.shape[1]} genes"
            )
        size = np.asarray(counts.sum(axis=1)).ravel()
        scaled = sparse.csr_matrix(sparse.diags(1e4 / size) @ counts).log1p()
        pca = PCA(n_latent, svd_solver="arpack", random_state=seed).fit(scaled)
        body = cls(
            torch.from_numpy(np.asarray(pca.mean_, dtype=np.float32).ravel()),
            torch.from_numpy(pca.components_.astype(np.float32)),
            torch.ones(counts.shape[1]),
        )
        excess, square = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
        for first in range(0, counts.shape[0], _MOMENT_BLOCK):
            block = torch.from_numpy(counts[first : first + _MOMENT_BLOCK].toarray().astype(np.float32))
            expected = body.decode(body.encode(block)[0], torch.log(block.sum(dim=1))).expected
            excess += ((block - expected) ** 2 - expected).double().sum(dim=0).numpy()
            square += (expected**2).double().sum(dim=0).numpy()
        # Var = μ + μ²/θ, so θ = Σμ² / Σ((x − μ)² − μ).
        theta = square / np.maximum(excess, square / LARGEST_DISPERSION + 1e-12)
        body.dispersion = torch.from_numpy(np.clip(theta, SMALLEST_DISPERSION, LARGEST_DISPERSION)).float()
        return body

    def encode(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        latent = (log_normalised(counts) - self.mean) @ self.components.T
        return latent, torch.zeros_like(latent)

    def decode(self, latent: Tensor, log_library: Tensor) -> CountDistribution:
        profile = torch.expm1(torch.clamp(self.mean + latent @ self.components, 0, 10)) + 1e-3
        expected = profile / profile.sum(dim=1, keepdim=True) * torch.exp(log_library)[:, None]
        return CountDistribution(expected=expected, dispersion=self.dispersion.expand_as(expected))

    def to(self, device: torch.device) -> PrincipalComponents:
        return PrincipalComponents(self.mean.to(device), self.components.to(device), self.dispersion.to(device))

    def to_state(self) -> dict[str, Any]:
        return {
            "mean": self.mean.cpu(),
            "components": self.components.cpu(),
            "dispersion": self.dispersion.cpu(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["mean"], state["components"], state["dispersion"])
