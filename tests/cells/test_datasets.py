"""The embedded cells: their counts are recovered exactly, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy
from scipy import sparse

from branchgen.cells.datasets import ROUNDING, load_embedded, recovered_counts
from branchgen.errors import BranchgenError


def stored(counts: sparse.csr_matrix, totals: np.ndarray) -> sparse.csr_matrix:
    """What the embedded file stores: normalised, log1p, three decimals, float32."""
    normalised = sparse.csr_matrix(counts.multiply(1e4 / totals[:, None]))
    normalised.data = np.round(np.log1p(normalised.data), 3).astype(np.float32)
    return normalised


def random_counts(largest: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(1)
    counts = sparse.csr_matrix(rng.integers(0, largest, size=(40, 60)) * (rng.random((40, 60)) < 0.4))
    return counts, np.asarray(counts.sum(axis=1), dtype=float).ravel() + rng.integers(1000, 9000, size=40)


def test_counts_survive_normalisation_and_rounding() -> None:
    counts, totals = random_counts(largest=400)
    recovered = recovered_counts(stored(counts, totals), totals)
    assert recovered.dtype == np.int32
    assert (recovered != counts).nnz == 0


def test_values_that_do_not_come_from_counts_are_refused() -> None:
    counts, totals = random_counts(largest=50)
    values = stored(counts, totals)
    shifted = values.copy()
    shifted.data = shifted.data + np.float32(2.5 * ROUNDING)
    with pytest.raises(BranchgenError, match=rf"cannot be recovered from \d+ of {values.nnz} embedded values"):
        recovered_counts(shifted, totals)
    with pytest.raises(BranchgenError, match="cannot be recovered"):
        recovered_counts(values, totals * 1.1)


def test_counts_so_large_that_rounding_confuses_neighbours_are_refused() -> None:
    counts, totals = random_counts(largest=5000)
    with pytest.raises(BranchgenError, match="cannot be recovered"):
        recovered_counts(stored(counts, totals), totals)


@pytest.mark.filterwarnings("error")
def test_embedded_cells_hold_the_integer_counts_behind_the_stored_values() -> None:
    cells = load_embedded("scanpy:pbmc68k_reduced")
    original = scanpy.datasets.pbmc68k_reduced()
    counts, totals = cells.X, original.obs["n_counts"].to_numpy(dtype=float)
    assert cells.shape == (700, 765)
    assert counts.dtype == np.int32
    assert (counts.data > 0).all()
    # Some of the UMIs are on genes that were left out, so a cell's sum stays below its total.
    share = np.asarray(counts.sum(axis=1)).ravel() / totals
    assert ((share > 0.1) & (share < 0.8)).all()
    # Normalised again the counts are what was stored, and the totals of every cell are those of single molecules.
    again = stored(counts, totals)
    assert np.abs(again - original.raw.X).max() < 2 * ROUNDING
    assert (np.array([row.data.min() for row in counts]) == 1).all()
    assert list(cells.obs["bulk_labels"]) == list(original.obs["bulk_labels"])


def test_other_names_are_refused_with_those_that_exist() -> None:
    with pytest.raises(BranchgenError, match="'scanpy:pbmc3k'; there is scanpy:pbmc68k_reduced"):
        load_embedded("scanpy:pbmc3k")
