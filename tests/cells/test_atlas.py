"""The simulated atlas: negative-binomial counts of classes on a tree, a block at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from branchgen.cells.atlas import BLOCK, INVERSE_DISPERSION, inverted, random_atlas, tail
from branchgen.errors import BranchgenError


def simulated(n_cells: int, n_classes: int, n_genes: int, seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    blocks = list(random_atlas(n_cells, n_classes, n_genes, rng).blocks(rng))
    assert max(len(codes) for _, codes in blocks) <= BLOCK
    return sparse.vstack([counts for counts, _ in blocks], format="csr"), np.concatenate([codes for _, codes in blocks])


def test_counts_are_as_sparse_as_those_of_droplets() -> None:
    counts, codes = simulated(2000, 10, 2000)
    assert counts.shape == (2000, 2000)
    assert counts.dtype == np.int32
    assert counts.has_canonical_format
    assert counts.data.min() == 1
    assert 0.06 < counts.nnz / np.prod(counts.shape) < 0.08
    totals = np.asarray(counts.sum(axis=1)).ravel()
    assert 150 < np.median(totals) < 210
    assert 0.3 < np.log(totals).std() < 0.6
    assert len(codes) == 2000


@pytest.mark.parametrize(("n_cells", "n_classes"), [(120, 3), (2000, 50), (3001, 7)])
def test_every_class_has_cells(n_cells: int, n_classes: int) -> None:
    counts, codes = simulated(n_cells, n_classes, 60)
    assert counts.shape == (n_cells, 60)
    sizes = np.bincount(codes, minlength=n_classes)
    assert len(sizes) == n_classes
    assert sizes.min() >= 20
    # In random order: the first half has all classes.
    assert set(codes[: n_cells // 2]) == set(range(n_classes))


def test_cells_follow_from_the_seed() -> None:
    first, codes = simulated(1500, 5, 80)
    again, codes_again = simulated(1500, 5, 80)
    other, _ = simulated(1500, 5, 80, seed=1)
    assert (first != again).nnz == 0
    assert (codes == codes_again).all()
    assert (first != other).nnz


@pytest.mark.parametrize("mean", [0.01, 0.5, 20.0])
def test_counts_are_negative_binomial(mean: float) -> None:
    rng = np.random.default_rng(0)
    n = 400_000
    success = np.full(n, INVERSE_DISPERSION / (INVERSE_DISPERSION + mean), dtype=np.float32)
    level = np.float32(1) - rng.random(n, dtype=np.float32)
    positive = level <= tail(0, success)
    counts = np.zeros(n)
    counts[positive] = inverted(level[positive], success[positive])
    expected = rng.negative_binomial(INVERSE_DISPERSION, success[0], n)
    assert counts.mean() == pytest.approx(mean, rel=0.05)
    assert counts.var() == pytest.approx(mean + mean**2 / INVERSE_DISPERSION, rel=0.05)
    for quantile in (0.5, 0.9, 0.99):
        assert np.quantile(counts, quantile) == pytest.approx(np.quantile(expected, quantile), abs=1)


def test_classes_are_a_tree() -> None:
    log_means = random_atlas(2000, 12, 1500, np.random.default_rng(3)).log_means.astype(float)
    differ = (np.abs(log_means[:, None] - log_means[None]) > 1e-6).mean(axis=2)
    np.fill_diagonal(differ, 1)
    nearest, farthest = differ.min(axis=1), np.where(differ < 1, differ, 0).max(axis=1)
    # The two leaves of the last division differ in the genes of two branches, others in those of more.
    assert differ.min() == pytest.approx(1 - 0.85**2, abs=0.04)
    assert (farthest > nearest + 0.1).all()


def test_memory_is_that_of_a_block() -> None:
    def peak(n_blocks: int) -> int:
        rng = np.random.default_rng(0)
        tracemalloc.start()
        for _ in random_atlas(n_blocks * BLOCK, 4, 400, rng).blocks(rng):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(30) < 1.3 * peak(3)


@pytest.mark.parametrize(("n_cells", "n_classes"), [(1000, 1), (399, 10), (10, 2)])
def test_sizes_that_make_no_sense_are_refused(n_cells: int, n_classes: int) -> None:
    with pytest.raises(BranchgenError, match=f"an atlas of {n_cells} cells cannot have {n_classes} classes"):
        random_atlas(n_cells, n_classes, 100, np.random.default_rng(0))
