"""Gene-wise offsets: found where a class needs them, and nowhere else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from branchgen.cells.distribution import CountDistribution
from branchgen.cells.drawing import drawn
from branchgen.cells.offsets import fit_offsets

N_GENES, DISPERSION = 200, 4.0
MARKERS = slice(0, 10)


def expectation(n_cells: int, seed: int) -> CountDistribution:
    """What a codec expects of cells: profiles that differ, and library sizes around 2,000."""
    rng = np.random.default_rng(seed)
    profile = np.exp(np.random.default_rng(9).normal(size=N_GENES) + 0.3 * rng.normal(size=(n_cells, N_GENES)))
    library = rng.lognormal(np.log(2000), 0.3, (n_cells, 1))
    expected = library * profile / profile.sum(axis=1, keepdims=True)
    dispersion = torch.full((n_cells, N_GENES), DISPERSION)
    return CountDistribution(expected=torch.from_numpy(expected).float(), dispersion=dispersion)


def counts_of(decoded: CountDistribution, seed: int) -> Tensor:
    return torch.from_numpy(drawn(decoded, np.random.default_rng(seed).spawn(3)).toarray()).float()


def truth() -> Tensor:
    """Ten markers, half of them up and half of them down, and dispersions of which ten are off, too."""
    offsets = torch.zeros((2, N_GENES))
    offsets[0, MARKERS] = torch.tensor([1.5, -1.5]).repeat(5)
    offsets[1, 10:20] = 1.0
    return offsets


def test_offsets_of_a_known_class_are_found() -> None:
    """Log-means: the counts of 400 cells leave an error of less than .1; of dispersions they say less."""
    decoded = expectation(400, 0)
    found = fit_offsets(counts_of(decoded.shifted(truth()), 1), decoded)
    error = found - truth()
    # A constant over all genes changes no profile.
    assert (error[0] - error[0].median()).abs().max() < 0.25
    assert (error[0] - error[0].median()).abs().mean() < 0.05
    assert found[1, 10:20].mean() - found[1, 20:].mean() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("n_cells", [3, 20, 400])
def test_a_class_that_needs_none_gets_next_to_none(n_cells: int) -> None:
    """Offsets without a prior, two a gene, would cost a cell that was not fitted to half a nat each, over `n_cells`."""
    decoded = expectation(n_cells, 0)
    found = fit_offsets(counts_of(decoded, 1), decoded)
    assert found.abs().median() < 0.1
    held_out = expectation(1000, 5)
    counts = counts_of(held_out, 6)
    without = held_out.negative_log_likelihood(counts).mean()
    assert held_out.shifted(found).negative_log_likelihood(counts).mean() - without < N_GENES / n_cells


def test_held_out_cells_gain_from_few_cells_already() -> None:
    decoded = expectation(30, 0)
    found = fit_offsets(counts_of(decoded.shifted(truth()), 1), decoded)
    held_out = expectation(500, 5)
    counts = counts_of(held_out.shifted(truth()), 6)
    without, best, ours = (
        one.negative_log_likelihood(counts).mean()
        for one in (held_out, held_out.shifted(truth()), held_out.shifted(found))
    )
    assert ours - best < 0.3 * (without - best)


def test_offsets_keep_library_sizes() -> None:
    decoded = expectation(20, 0)
    moved = decoded.shifted(truth()).expected
    torch.testing.assert_close(moved.sum(dim=1), decoded.expected.sum(dim=1))
    same = decoded.shifted(torch.zeros((2, N_GENES)))
    torch.testing.assert_close(same.expected, decoded.expected)
    assert torch.equal(same.dispersion, decoded.dispersion)
