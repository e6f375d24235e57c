"""Verdicts are right as often as they say where there is no difference, and find and name the one that is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from branchgen.analysis.classifiers import penalised_logistic, tell_apart
from branchgen.analysis.verdicts import LEVEL, VARIANCE, Area, important_genes, verdict_table

N_GENES = 60
GENES = np.array([f"gene_{i}" for i in range(N_GENES)])
PROFILE = np.random.default_rng(0).gamma(0.5, 1.0, N_GENES)


def log_counts(n_cells: int, rng: np.random.Generator, **fold_changes: float) -> np.ndarray:
    """Log-normalised negative-binomial counts of one type, some genes higher or lower by a factor."""
    mean = PROFILE.copy()
    for gene, factor in fold_changes.items():
        mean[gene == GENES] *= factor
    counts = rng.poisson(rng.gamma(2.0, mean * 200 / PROFILE.sum() / 2.0, (n_cells, N_GENES)))
    return np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))


def areas(a: np.ndarray, b: np.ndarray, seed: int, n_repeats: int) -> Area:
    found = [tell_apart(penalised_logistic, a, b, np.random.default_rng([seed, r])) for r in range(n_repeats)]
    return Area.of([one.auc for one in found], [one.variance for one in found])


@pytest.mark.parametrize(("n_cells", "n_repeats", "n_tests"), [(30, 1, 400), (100, 3, 150)])
def test_of_equal_samples_as_many_are_distinguishable_as_the_level_says(
    n_cells: int, n_repeats: int, n_tests: int
) -> None:
    rng = np.random.default_rng(n_cells)
    found = [areas(log_counts(n_cells, rng), log_counts(n_cells, rng), seed, n_repeats) for seed in range(n_tests)]
    share = np.mean([area.exceeds(None) for area in found])
    assert share <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / n_tests)
    # And the error is not just a large one: the areas spread as it says.
    assert np.std([area.auc for area in found]) == pytest.approx(np.mean([area.error for area in found]), rel=0.2)
    outside = np.mean([not area.interval[0] <= 0.5 <= area.interval[1] for area in found])
    assert 0.01 <= outside <= 0.1


def test_a_planted_difference_is_found_and_named_with_its_direction() -> None:
    rng = np.random.default_rng(1)
    gene = GENES[np.argsort(-PROFILE)[5]]
    for factor, sign in ((4.0, "+"), (1 / 4, "-")):
        a, b = log_counts(150, rng), log_counts(150, rng, **{gene: factor})
        assert areas(a, b, 0, 3).exceeds(None)
        found = tell_apart(penalised_logistic, a, b, np.random.default_rng(0))
        assert important_genes(found, GENES, np.random.default_rng(1)).split(", ")[0] == gene + sign


def runs(**aucs: float) -> pd.DataFrame:
    """One repeat of several sources and of one class, all with a standard deviation of .02 before its correction."""
    rows = [
        (0, source, "class", "B", metric, value, 50)
        for source, auc in aucs.items()
        for metric, value in (("c2st_auc", auc), (VARIANCE, 0.02**2))
    ]
    return pd.DataFrame(rows, columns=["repeat", "source", "kind", "group", "metric", "value", "n_cells"])


def verdict(n_cells: int = 50, **aucs: float) -> pd.Series:
    numbers = {(source, "B"): n_cells for source in aucs}
    table = verdict_table(runs(**aucs), ("branchgen",), ("B",), numbers, {("branchgen", "B"): "LYZ+, CD3D-"})
    assert len(table) == 1
    return table.iloc[0]


def test_verdict_interval_floor_and_genes_of_a_class() -> None:
    # √(.02² · (1 + 5/4)) = .03
    found = verdict(floor=0.5, branchgen=0.6)
    assert (found["low"], found["high"]) == pytest.approx((0.6 - 1.96 * 0.03, 0.6 + 1.96 * 0.03), abs=1e-4)
    assert (found["verdict"], found["genes"], found["floor_auc"]) == ("distinguishable", "LYZ+, CD3D-", 0.5)
    found = verdict(floor=0.5, branchgen=0.55)
    assert (found["verdict"], found["genes"]) == ("indistinguishable", "")


def test_where_real_cells_can_be_told_apart_they_are_the_yardstick() -> None:
    assert verdict(floor=0.8, branchgen=0.82)["verdict"] == "indistinguishable"
    assert verdict(floor=0.8, branchgen=0.86)["verdict"] == "indistinguishable"  # both have an error
    assert verdict(floor=0.8, branchgen=0.9)["verdict"] == "distinguishable"


def test_a_class_with_too_few_cells_has_no_verdict() -> None:
    found = verdict(n_cells=29, floor=0.5, branchgen=0.9)
    assert found["verdict"] == "too few cells"
    assert np.isnan(found[["auc", "low", "high"]].astype(float)).all()


def test_repeats_with_the_same_cells_are_no_further_cells() -> None:
    one, many = (Area.of([0.58, 0.62] * n, [0.02**2] * 2 * n) for n in (1, 500))
    for area in (one, many):
        assert (area.auc, area.error) == pytest.approx((0.6, 0.03))
