"""A classifier that has learnt from cells is as good as the cells."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from branchgen.analysis.transfer import transfer_f1

RNG = np.random.default_rng(0)
TYPES = np.repeat(["a", "b", "c"], [100, 60, 20])
CENTRES = {"a": [4.0, 0.0], "b": [0.0, 4.0], "c": [-4.0, -4.0]}


def cells() -> np.ndarray:
    return np.array([CENTRES[name] for name in TYPES]) + RNG.normal(size=(len(TYPES), 2))


def test_cells_of_the_right_type_teach_the_types() -> None:
    assert transfer_f1(cells(), TYPES, cells(), TYPES) > 0.97


def test_cells_with_types_by_chance_teach_nothing() -> None:
    assert transfer_f1(cells(), RNG.permutation(TYPES), cells(), TYPES) < 0.45


def test_every_type_counts_alike_whatever_its_number() -> None:
    # A generator that has lost the rare type gives it the cells of another.
    lost = cells()
    lost[TYPES == "c"] = lost[:20]
    predicted = np.where(TYPES == "c", "b", TYPES)
    expected = f1_score(TYPES, predicted, average="macro")
    assert expected < 0.68
    assert transfer_f1(lost, TYPES, cells(), TYPES) == pytest.approx(expected, abs=0.08)
