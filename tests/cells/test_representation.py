"""Whether a codec knows a class: by what it gains over the mean profile, on held-out cells."""

import numpy as np
import pytest
import torch
from low_rank import GENES, TRAIN, counts_of, expected_counts
from scipy import sparse

from branchgen.cells.codec import Codec, dense, standardised
from branchgen.cells.offsets import fit_offsets
from branchgen.cells.principal import PrincipalComponents
from branchgen.cells.representation import representation


@pytest.fixture(scope="module")
def codec() -> Codec:
    return standardised("pca", GENES, PrincipalComponents.fit(TRAIN, 4, 0), TRAIN, torch.zeros(1))


def cells(order: np.ndarray, factor: np.ndarray, seed: int) -> sparse.csr_matrix:
    """Cells of a class whose programs act on other genes, and whose means are other multiples of those of the codec."""
    return counts_of(expected_counts(400, seed)[:, order] * factor, seed)


SAME, NONE = np.arange(len(GENES)), np.ones(len(GENES))
OTHER = np.random.default_rng(5).permutation(len(GENES))
FACTOR = np.exp(np.random.default_rng(6).normal(0, 0.7, len(GENES)))


def test_programs_that_the_codec_knows_gain_and_others_do_not(codec: Codec) -> None:
    known = representation(codec, cells(SAME, NONE, 3), cells(SAME, NONE, 4))
    strange = representation(codec, cells(OTHER, NONE, 3), cells(OTHER, NONE, 4))
    assert known.gain > 20
    assert strange.is_below(known.gain)
    assert not known.is_below(known.gain)


def test_offsets_mend_means_but_not_programs(codec: Codec) -> None:
    """A class of the same programs at other means is one that the codec knows, with offsets; one of others is not."""
    known = representation(codec, cells(SAME, NONE, 3), cells(SAME, NONE, 4)).gain
    gains = {}
    for name, order in (("moved", SAME), ("strange", OTHER)):
        train, ref = cells(order, FACTOR, 3), cells(order, FACTOR, 4)
        expected, dispersion = codec.decode(torch.from_numpy(codec.encode(train)[0]))
        mended = codec.with_offsets(fit_offsets(dense(train, expected), expected, dispersion))
        gains[name] = [representation(one, train, ref).gain for one in (codec, mended)]
    assert gains["moved"][0] < 0 < known / 2 < gains["moved"][1]
    assert gains["strange"][0] < gains["strange"][1] < known / 2
