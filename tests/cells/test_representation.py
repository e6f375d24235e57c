"""Whether a codec knows a class: by what it gains over the mean profile, on held-out cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from low_rank import GENES, TRAIN, counts_of, expected_counts
from scipy import sparse

from branchgen.cells.codec import Codec, standardised
from branchgen.cells.principal import PrincipalComponents
from branchgen.cells.representation import ByClass, offsets_of, offsets_of_rare_classes, representation


@pytest.fixture(scope="module")
def codec() -> Codec:
    return standardised("pca", GENES, PrincipalComponents.fit(TRAIN, 4, 0), TRAIN, torch.zeros(1))


def cells(order: np.ndarray, factor: np.ndarray, seed: int) -> sparse.csr_matrix:
    """Cells of a class whose programs act on other genes, and whose means are other multiples of those of the codec."""
    return counts_of(expected_counts(400, seed)[:, order] * factor, seed)


SAME, NONE = np.arange(len(GENES)), np.ones(len(GENES))
OTHER = np.random.default_rng(5).permutation(len(GENES))
FACTOR = np.exp(np.random.default_rng(6).normal(0, 0.7, len(GENES)))


def held(order: np.ndarray, factor: np.ndarray, n_cells: int = 400) -> ByClass:
    return of(cells(order, factor, 3)[:n_cells], cells(order, factor, 4))


def of(train: sparse.csr_matrix, ref: sparse.csr_matrix) -> ByClass:
    """Cells of a class that has no others beside it."""
    counts = sparse.csr_matrix(sparse.vstack([train, ref], format="csr"))
    rows = np.arange(counts.shape[0])
    return ByClass(counts=counts, train_rows=rows[: train.shape[0]], ref_rows=rows[train.shape[0] :])


def generator_of(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(len(name))


def test_programs_that_the_codec_knows_gain_and_others_do_not(codec: Codec) -> None:
    known, strange = (representation(codec, held(order, NONE)) for order in (SAME, OTHER))
    assert known.gain > 20
    assert strange.is_below(known.gain)
    assert not known.is_below(known.gain)


def test_offsets_mend_means_but_not_programs(codec: Codec) -> None:
    """A class of the same programs at other means is one that the codec knows, with offsets; one of others is not."""
    known = representation(codec, held(SAME, NONE)).gain
    gains = {}
    for name, order in (("moved", SAME), ("strange", OTHER)):
        of_class = held(order, FACTOR)
        offsets, gain = offsets_of(codec, of_class, generator_of(name))
        before, after = (representation(one, of_class) for one in (codec, codec.shifted_by(offsets)))
        assert gain == pytest.approx(before.codec_loss - after.codec_loss, abs=0.01)
        gains[name] = [before.gain, after.gain]
    assert gains["moved"][0] < 0 < known / 2 < gains["moved"][1]
    assert gains["strange"][0] < gains["strange"][1] < known / 2


def test_classes_get_offsets_where_held_out_cells_gain(codec: Codec) -> None:
    """A class of many cells gets none, nor does one of three; a moved one does, of few cells already."""
    many = of(sparse.vstack([cells(SAME, FACTOR, seed) for seed in (3, 5)], format="csr"), cells(SAME, FACTOR, 4))
    classes = {"three": held(SAME, NONE, 3), "moved": held(SAME, FACTOR), "few": held(SAME, FACTOR, 30), "many": many}
    found = offsets_of_rare_classes(codec, classes, generator_of)
    assert set(found) == {"moved", "few"}
    # The latents of the cells have taken a part of the factors.
    assert np.corrcoef(found["moved"][0], np.log(FACTOR))[0, 1] > 0.9
    again = offsets_of_rare_classes(codec, dict(reversed(classes.items())), generator_of)
    assert all(torch.equal(found[name], again[name]) for name in found)
    # A codec keeps them in its file, and decodes the class by them.
    kept = Codec.from_state(replace(codec, offsets=found).to_state())
    latents = torch.zeros((1, kept.n_latent))
    assert torch.equal(kept.decode(latents).expected, codec.decode(latents).expected)
    assert torch.equal(
        kept.of_class("moved").decode(latents).expected, codec.shifted_by(found["moved"]).decode(latents).expected
    )
    assert not torch.equal(kept.of_class("moved").decode(latents).expected, codec.decode(latents).expected)
