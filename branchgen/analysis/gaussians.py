"""What a diffusion model must beat: one Gaussian per class in the latent space of its own codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from branchgen.hierarchy.moments import Array, Moments


@dataclass(frozen=True, kw_only=True)
class ClassGaussians:
    """A Gaussian N(mean, root·rootᵀ) for every class; shapes (n_classes, d) and (n_classes, d, d)."""

    mean: Array
    root: Array

    @classmethod
    def fit(cls, latents: Array, scale: Array, codes: NDArray[np.int64], n_classes: int) -> Self:
        """Gaussians of posterior samples, from posterior means and standard deviations of shape (n_cells, d).

        Covariances are shrunk as those of the hierarchy are: the common one counts as many cells as there are
        coordinates. `codes` are the classes of the cells; every class has at least one cell.
        """
        moments = Moments.of_classes(latents, scale, codes, n_classes, shrinkage=float(latents.shape[1]))
        values, vectors = np.linalg.eigh(moments.covariance)
        # A Cholesky factor would not do: a coordinate in which nothing varies has no variance.
        root = vectors * np.sqrt(values.clip(0))[:, None, :]
        return cls(mean=moments.mean, root=root)

    def draw(self, code: int, n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Latents of new cells of one class, (n_cells, d)."""
        noise = rng.standard_normal((n_cells, self.mean.shape[1]))
        return np.asarray(self.mean[code] + noise @ self.root[code].T, dtype=np.float32)
