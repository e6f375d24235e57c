"""What the field's standard generative model gives: scVI, and a Gaussian mixture per class in its latent space.

scVI: Lopez et al. 2018, doi 10.1038/s41592-018-0229-2. It is an optional extra and imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from sklearn.mixture import GaussianMixture

from branchgen.errors import BranchgenError
from branchgen.seeds import named_seed

REGULARISATION = 1e-4
"""Added to the variances of the mixtures; scVI's latents have variances near one."""


@dataclass(frozen=True, kw_only=True)
class ScviMixtures:
    """A trained scVI with, for every class, a mixture of its latents and the library sizes of its training cells."""

    module: Any
    mixtures: tuple[GaussianMixture, ...]
    library_sizes: tuple[NDArray[np.float64], ...]

    @classmethod
    def fit(
        cls,
        train: sparse.csr_matrix,
        ref: sparse.csr_matrix,
        codes: NDArray[np.int64],
        n_classes: int,
        *,
        n_components: int,
        max_epochs: int,
        device: torch.device,
        seed: int,
    ) -> Self:
        """Train scVI on counts of the train cells, stop by those of ref, and fit the mixtures to train.

        `codes` are the classes of the train cells, `n_components` the most components of a mixture, and
        `max_epochs` the most passes over the cells; 0 leaves their number to scVI.
        Raises BranchgenError where scVI is not installed.
        """
        model = _trained(train, ref, max_epochs, device, named_seed(seed, "baseline", "scvi") % 2**32)
        latents = model.get_latent_representation(indices=np.arange(train.shape[0]), give_mean=False)
        sizes = np.asarray(train.sum(axis=1), dtype=float).ravel()
        return cls(
            module=model.module.eval(),
            mixtures=tuple(
                best_mixture(latents[codes == code], n_components, named_seed(seed, "baseline", "mixture", code))
                for code in range(n_classes)
            ),
            library_sizes=tuple(sizes[codes == code] for code in range(n_classes)),
        )

    @torch.no_grad()
    def draw(self, code: int, n_cells: int, rng: np.random.Generator) -> tuple[sparse.csr_matrix, NDArray[np.float32]]:
        """Counts (n_cells, n_genes) and latents (n_cells, n_latent) of new cells of one class."""
        latents = draw_mixture(self.mixtures[code], n_cells, rng)
        like = next(self.module.parameters())
        library = torch.from_numpy(np.log(rng.choice(self.library_sizes[code], n_cells))[:, None])
        generated = self.module.generative(
            z=torch.from_numpy(latents).to(like),
            library=library.to(like),
            batch_index=torch.zeros((n_cells, 1), dtype=torch.long, device=like.device),
        )
        expected, dispersion = (
            part.cpu().numpy().astype(float) for part in (generated["px"].mu, generated["px"].theta)
        )
        rate = rng.standard_gamma(dispersion) * (expected / dispersion)
        return sparse.csr_matrix(rng.poisson(rate).astype(np.int32)), latents.astype(np.float32)


def _trained(train: sparse.csr_matrix, ref: sparse.csr_matrix, max_epochs: int, device: torch.device, seed: int) -> Any:
    """An scvi.model.SCVI with negative-binomial counts and otherwise its defaults."""
    try:
        import scvi
    except ImportError as error:
        raise BranchgenError(
            "the method scvi needs scvi-tools, which is not installed; install it with pip install 'branchgen[scvi]', "
            "in a checkout pip install -e '.[scvi]'"
        ) from error
    scvi.settings.seed = seed
    cells = AnnData(sparse.vstack([train, ref], format="csr").astype(np.float32))
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells, gene_likelihood="nb")
    n_train = train.shape[0]
    model.train(
        max_epochs=max_epochs or None,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        early_stopping=True,
        datasplitter_kwargs={"external_indexing": [np.arange(n_train), np.arange(n_train, cells.n_obs)]},
        enable_progress_bar=False,
    )
    return model


def best_mixture(latents: NDArray[Any], n_components: int, seed: int) -> GaussianMixture:
    """The Gaussian mixture with the lowest BIC of 1 to `n_components`, fitted to latents (n_cells, d).

    A full covariance takes more cells than coordinates: components are only as many as there are such portions of
    cells, and fewer cells than one portion give a single Gaussian with a diagonal covariance.
    """
    n_cells, n_latent = latents.shape
    if n_cells < 2:
        latents = np.repeat(latents, 2, axis=0)
    most = n_cells // (2 * (n_latent + 1))
    kind = "full" if most else "diag"
    fits = [
        GaussianMixture(components, covariance_type=kind, reg_covar=REGULARISATION, random_state=seed % 2**32).fit(
            latents.astype(float)
        )
        for components in range(1, max(1, min(most, n_components)) + 1)
    ]
    scores: Sequence[float] = [fit.bic(latents.astype(float)) for fit in fits]
    return fits[int(np.argmin(scores))]


def draw_mixture(mixture: GaussianMixture, n_cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (n_cells, d) of a mixture; its own `sample` takes no generator."""
    components = rng.choice(len(mixture.weights_), n_cells, p=mixture.weights_ / mixture.weights_.sum())
    points = np.empty((n_cells, mixture.means_.shape[1]))
    for number, mean in enumerate(mixture.means_):
        covariance = mixture.covariances_[number]
        rows = components == number
        full = covariance if mixture.covariance_type == "full" else np.diag(covariance)
        points[rows] = rng.multivariate_normal(mean, full, int(rows.sum()), method="cholesky")
    return points
