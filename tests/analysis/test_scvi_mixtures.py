"""Mixtures in the latent space of scVI; what needs scVI itself is skipped where it is not installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from simulate import simulate_cells

from branchgen.analysis.scvi_mixtures import ScviMixtures, best_mixture, draw_mixture

CENTRES = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])


def test_bic_finds_the_number_of_components() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 1.0, (200, 2)) for centre in CENTRES])
    found = best_mixture(points, 5, seed=0)
    assert found.n_components == 3
    assert sorted(map(tuple, found.means_.round())) == sorted(map(tuple, CENTRES))
    assert best_mixture(points[:200], 5, seed=0).n_components == 1
    assert best_mixture(points, 2, seed=0).n_components == 2


def test_drawn_points_have_the_moments_of_the_data() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 1.0, (200, 2)) for centre in CENTRES])
    drawn = draw_mixture(best_mixture(points, 3, seed=0), 100_000, np.random.default_rng(1))
    assert drawn.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.1)
    assert np.cov(drawn.T) == pytest.approx(np.cov(points.T), rel=0.03, abs=0.1)


@pytest.mark.parametrize("n_cells", [1, 2, 21])
def test_few_cells_give_one_gaussian_with_a_diagonal_covariance(n_cells: int) -> None:
    points = np.random.default_rng(0).standard_normal((n_cells, 10))
    found = best_mixture(points, 5, seed=0)
    assert (found.n_components, found.covariance_type) == (1, "diag")
    drawn = draw_mixture(found, 20_000, np.random.default_rng(1))
    assert drawn.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.1)
    assert drawn.var(axis=0) == pytest.approx(points.var(axis=0) + 1e-4, rel=0.1)


def test_scvi_makes_counts_of_the_class_that_is_asked_for() -> None:
    pytest.importorskip("scvi", reason="needs the extra scvi")
    cells = simulate_cells()
    codes = cells.obs["cell_type"].cat.codes.to_numpy().astype(np.int64)
    is_ref = np.arange(cells.n_obs) % 5 == 0
    counts = sparse.csr_matrix(cells.X)
    made = [
        ScviMixtures.fit(
            counts[~is_ref],
            counts[is_ref],
            codes[~is_ref],
            4,
            n_components=2,
            max_epochs=30,
            device=torch.device("cpu"),
            seed=seed,
        ).draw(code, 200, np.random.default_rng(code))
        for seed, code in ((0, 0), (0, 3), (0, 3))
    ]
    for (drawn, latents), code in zip(made, (0, 3, 3), strict=True):
        assert drawn.shape == (200, cells.n_vars)
        assert drawn.dtype == np.int32
        assert len(latents) == 200
        profiles = np.stack([np.asarray(counts[codes == other].mean(axis=0)).ravel() for other in range(4)])
        found = np.asarray(drawn.mean(axis=0)).ravel()
        likeness = [np.corrcoef(np.log1p(found), np.log1p(profile))[0, 1] for profile in profiles]
        assert int(np.argmax(likeness)) == code
        sizes = np.asarray(drawn.sum(axis=1)).ravel()
        expected = np.asarray(counts[~is_ref][codes[~is_ref] == code].sum(axis=1)).ravel()
        assert sizes.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert (made[1][0] != made[2][0]).nnz == 0
