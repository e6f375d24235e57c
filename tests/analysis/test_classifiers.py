"""Classifiers find nothing where there is nothing, what can be found where there is something, and where it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from branchgen.analysis import classifiers
from branchgen.analysis.classifiers import MakeClassifier, boosted_trees, penalised_logistic, random_forest, tell_apart

ALL_THREE = pytest.mark.parametrize("make", [boosted_trees, random_forest, penalised_logistic])


@pytest.fixture(autouse=True)
def small_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "N_TREES", 40)


def gaussians(n: int, d: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of unit Gaussians whose means are `shift` apart along the first coordinate."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, d))
    b[:, 0] += shift
    return a, b


@ALL_THREE
def test_classifiers_find_nothing_in_equal_samples_and_everything_in_distant_ones(make: MakeClassifier) -> None:
    def of(shift: float, *, swap: bool = False) -> float:
        a, b = gaussians(250, 4, shift)
        return tell_apart(make, *((b, a) if swap else (a, b)), np.random.default_rng(1)).auc

    assert of(0.0) == pytest.approx(0.5, abs=0.1)
    assert of(8.0) > 0.999
    # Two unit Gaussians δ apart are told apart with an area of Φ(δ/√2) at best.
    best = norm.cdf(1.5 / np.sqrt(2))
    assert best - 0.12 < of(1.5) < best + 0.03
    assert of(1.5, swap=True) == pytest.approx(of(1.5), abs=0.05)


@ALL_THREE
def test_scores_are_those_of_models_that_have_not_seen_the_cell(make: MakeClassifier) -> None:
    # Labels by chance: what has been seen can be learnt by heart, the rest is a guess.
    a, b = gaussians(100, 50)
    found = tell_apart(make, a, b, np.random.default_rng(0))
    assert sorted(np.concatenate(found.folds).tolist()) == list(range(200))
    seen = np.ones(200, dtype=bool)
    seen[found.folds[0]] = False
    on_seen = roc_auc_score(found.second[seen], found.models[0].predict_proba(found.features[seen])[:, 1])
    assert on_seen > 0.75
    assert found.auc == pytest.approx(0.5, abs=0.15)


def test_variance_is_that_of_independent_scores() -> None:
    # A model without training: the score is the first coordinate, so that scores are independent.
    rng = np.random.default_rng(0)
    areas, variances = [], []
    for _ in range(400):
        scores = np.concatenate([rng.normal(size=60), rng.normal(0.8, 1, 40)])
        found = classifiers.HeldOut(
            features=scores[:, None], second=np.arange(100) >= 60, scores=scores, models=(), folds=()
        )
        areas.append(found.auc)
        variances.append(found.variance)
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.2)
    assert np.mean(areas) == pytest.approx(norm.cdf(0.8 / np.sqrt(2)), abs=0.01)


@pytest.mark.parametrize("make", [boosted_trees, penalised_logistic])
def test_importance_names_the_feature_that_differs(make: MakeClassifier) -> None:
    a, b = gaussians(80, 30, 1.5)
    found = tell_apart(make, a, b, np.random.default_rng(0))
    importance = found.importance(np.random.default_rng(1))
    assert importance.shape == (30,)
    assert importance.argmax() == 0
    # Without the one feature that differs, nothing is left.
    assert importance[0] == pytest.approx(found.auc - 0.5, abs=0.1)
    assert np.abs(importance[1:]).max() < 0.3 * importance[0]


def test_importance_looks_at_features_that_differ_in_more_than_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "N_CANDIDATES", 3)
    a, b = gaussians(150, 30)
    b[:, 7] *= 3
    importance = tell_apart(boosted_trees, a, b, np.random.default_rng(0)).importance(np.random.default_rng(1))
    assert importance.argmax() == 7
    assert np.count_nonzero(importance) <= 3


def test_blocks_of_permuted_copies_do_not_change_the_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tell_apart(penalised_logistic, *gaussians(40, 12, 1.0), np.random.default_rng(0))
    whole = found.importance(np.random.default_rng(1))
    monkeypatch.setattr(classifiers, "BLOCK", 1)
    assert found.importance(np.random.default_rng(1)) == pytest.approx(whole)
