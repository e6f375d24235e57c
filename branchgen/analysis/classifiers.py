"""Classifier two-sample tests: whether a classifier can tell generated cells from real ones, and by which genes.

Scores are out of fold, so that a classifier is judged by cells that it has not seen (Lopez-Paz & Oquab 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.floating[Any]]
MakeClassifier = Callable[[np.random.Generator], Any]

N_FOLDS = 5
"""Folds of the cross-validation of a classifier, and so the least number of cells on either side."""
N_TREES = 50
"""Trees of the random forest."""
N_CANDIDATES = 100
"""Genes whose importance is looked at: those whose distributions differ most."""
N_HELD_OUT = 200
"""Held-out cells of every fold, at most, on which importance is measured."""
BLOCK = 2**22
"""Values in the permuted copies that are scored at once."""


def boosted_trees(rng: np.random.Generator) -> Any:
    """Gradient-boosted trees: the strongest of the three, for many cells."""
    # Early stopping would depend on the number of cells: scikit-learn turns it on above 10,000. A quarter of the
    # default bins halves the time and costs no power.
    return HistGradientBoostingClassifier(max_bins=63, early_stopping=False, random_state=_state(rng))


def random_forest(rng: np.random.Generator) -> Any:
    """Random forest, which sees few coordinates (principal components) better than many."""
    return RandomForestClassifier(N_TREES, min_samples_leaf=3, random_state=_state(rng))


def penalised_logistic(rng: np.random.Generator) -> Any:
    """Logistic regression with a strong ridge penalty on standardised genes: quick, and the best with few cells."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200, tol=1e-3))


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Scores of cells, each by a model that has not seen it; larger ones say that a cell is of the second sample.

    `features` has a row per cell, those of the first sample first; `second` says which they are; `folds` has the rows
    that each of `models` has not seen.
    """

    features: Floats
    second: NDArray[np.bool_]
    scores: Floats
    models: Sequence[Any]
    folds: Sequence[NDArray[np.int64]]

    @property
    def auc(self) -> float:
        """Area under the curve of all scores: 0.5 where the samples cannot be told apart, 1 where they can."""
        return float(roc_auc_score(self.second, self.scores))

    @property
    def variance(self) -> float:
        """Variance of the area, were the scores independent (DeLong et al. 1988)."""
        a, b = self.scores[~self.second], self.scores[self.second]
        ranks = rankdata(np.concatenate([a, b]))
        of_a = (ranks[: len(a)] - rankdata(a)) / len(b)
        of_b = (ranks[len(a) :] - rankdata(b)) / len(a)
        return float(of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b))

    def importance(self, rng: np.random.Generator) -> Floats:
        """Loss of held-out area when one feature is shuffled between held-out cells, mean over folds, per feature.

        Only of the features whose distributions differ most between the samples; zero for all others.
        """
        n_features = self.features.shape[1]
        differ = _largest_gaps(self.features, self.second)
        candidates = np.sort(np.argsort(-differ, kind="stable")[:N_CANDIDATES])
        losses = np.zeros(n_features)
        for model, fold in zip(self.models, self.folds, strict=True):
            rows = fold if len(fold) <= N_HELD_OUT else rng.permutation(fold)[:N_HELD_OUT]
            losses[candidates] += _losses(model, self.features[rows], self.second[rows], candidates, rng)
        return losses / len(self.models)


def tell_apart(make: MakeClassifier, a: Floats, b: Floats, rng: np.random.Generator) -> HeldOut:
    """Scores of both samples, 5-fold, stratified; each a float array with a row per cell, at least five cells."""
    features = np.concatenate([a, b])
    second = np.arange(len(features)) >= len(a)
    classifier = make(rng)
    splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=_state(rng))
    folds = [test for _, test in splitter.split(features, second)]
    models = []
    scores = np.empty(len(features))
    for fold in folds:
        seen = np.ones(len(features), dtype=bool)
        seen[fold] = False
        models.append(clone(classifier).fit(features[seen], second[seen]))
        scores[fold] = _score(models[-1], features[fold])
    return HeldOut(features=features, second=second, scores=scores, models=models, folds=folds)


def _score(model: Any, features: Floats) -> Floats:
    scores: Floats = model.predict_proba(features)[:, 1]
    return scores


def _largest_gaps(features: Floats, second: NDArray[np.bool_]) -> Floats:
    """Largest difference between the distribution functions of both samples, per feature (Kolmogorov-Smirnov)."""
    order = np.argsort(features, axis=0)
    gaps = np.cumsum(np.where(second, 1 / second.sum(), -1 / (~second).sum())[order], axis=0)
    values = np.take_along_axis(features, order, axis=0)
    gaps[:-1][values[:-1] == values[1:]] = 0  # amid equal values the order says nothing
    largest: Floats = np.abs(gaps).max(axis=0)
    return largest


def _losses(
    model: Any, features: Floats, second: NDArray[np.bool_], candidates: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Loss of area by shuffling each candidate feature of these cells."""
    whole = _areas(_score(model, features)[None], second)
    orders = rng.permuted(np.tile(np.arange(len(second)), (len(candidates), 1)), axis=1)
    step = max(1, BLOCK // features.size)
    losses = []
    for start in range(0, len(candidates), step):
        block = candidates[start : start + step]
        copies = np.tile(features, (len(block), 1, 1))
        for copy, feature, order in zip(copies, block, orders[start : start + step], strict=True):
            copy[:, feature] = features[order, feature]
        scores = _score(model, copies.reshape(-1, features.shape[1])).reshape(len(block), -1)
        losses.append(whole - _areas(scores, second))
    return np.concatenate(losses)


def _areas(scores: Floats, second: NDArray[np.bool_]) -> Floats:
    """Area under the curve of every row of scores: the rank sum of the second sample (Mann & Whitney 1947)."""
    n = int(second.sum())
    ranks = rankdata(scores, axis=1)[:, second].sum(axis=1)
    areas: Floats = (ranks - n * (n + 1) / 2) / (n * (len(second) - n))
    return areas


def _state(rng: np.random.Generator) -> int:
    """Seed for scikit-learn, which takes 32 bits."""
    return int(rng.integers(2**32, dtype=np.uint32))
