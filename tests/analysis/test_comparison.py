"""The table and the page of a benchmark: means over seeds, targets beside the floor, verdicts, and cost."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from invent_runs import CLASSES, invented_metrics, invented_verdicts

from branchgen.analysis.comparison import Run, compare, named_by_classes, statistics
from branchgen.analysis.comparison_page import page
from branchgen.analysis.html_tables import figures, number
from branchgen.analysis.targets import OWN_TARGETS, TARGETS, Statistic, Target, outcomes
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy


def run(dataset: str, seed: int, *baselines: str) -> Run:
    return Run(
        dataset=dataset,
        seed=seed,
        metrics=invented_metrics(seed, baselines),
        verdicts=invented_verdicts(seed, baselines),
        cost={"branchgen": {"evaluations": 0.4, "train_seconds": 50.0 + seed}, "flat": {"evaluations": 1.0}},
    )


RUNS = [run("lung", seed, "gauss", "flat", "scvi") for seed in range(3)] + [run("a & b", 0, "gauss")]


def test_a_row_for_every_value_with_mean_and_sd_over_the_seeds() -> None:
    table = compare(RUNS)
    assert list(table) == [
        "dataset", "seed", "source", "kind", "group", "metric", "value", "n_cells", "mean", "sd", "n_seeds",
    ]  # fmt: skip
    assert not table.duplicated(["dataset", "seed", "source", "kind", "group", "metric"]).any()
    auc = table[(table["metric"] == "c2st_auc") & (table["kind"] == "all") & (table["source"] == "branchgen")]
    lung = auc[auc["dataset"] == "lung"]
    assert lung["seed"].tolist() == [0, 1, 2]
    assert lung["value"].tolist() == pytest.approx([0.54, 0.541, 0.542])
    assert lung["mean"].tolist() == pytest.approx([0.541] * 3)
    assert lung["sd"].tolist() == pytest.approx([0.001] * 3)
    assert lung["n_seeds"].tolist() == [3] * 3
    (other,) = auc[auc["dataset"] == "a & b"].itertuples()
    assert (other.value, other.mean, other.n_seeds) == (0.54, 0.54, 1)
    assert math.isnan(other.sd)


def test_verdicts_and_cost_are_rows_too() -> None:
    table = compare(RUNS)
    own = table[(table["dataset"] == "lung") & (table["source"] == "branchgen")]
    apart = own[own["metric"] == "distinguishable"].drop_duplicates("group").set_index("group")
    assert apart["mean"].to_dict() == pytest.approx({"B": 2 / 3, CLASSES[1]: 0.0, "all": 2 / 3})
    assert apart["kind"].to_dict() == {"B": "class", CLASSES[1]: "class", "all": "all"}
    seconds = own[own["metric"] == "train_seconds"]
    assert seconds["value"].tolist() == [50, 51, 52]
    assert set(seconds["kind"]) == {"cost"}
    assert seconds["n_cells"].isna().all()


def test_a_run_that_comes_twice_is_refused() -> None:
    with pytest.raises(BranchgenError, match="lung:0 is given twice"):
        compare([RUNS[0], RUNS[0]])


def branch(name: str, *classes: str, parent: str | None = "root", low: float = 0.0, high: float = 0.5) -> dict:
    return {"name": name, "classes": list(classes), "t_start": low, "t_end": high, "parent": parent}


def test_branches_of_different_trees_are_called_by_their_classes() -> None:
    """What is node 1 for one seed holds other classes for the next: their mean would be one of apples and pears."""
    metrics = invented_metrics(0)
    metrics.loc[metrics["kind"] == "branch", "group"] = "node 1"
    leaves = [branch(name, name, parent="node 1", high=0.3) for name in ("b", "a")]
    tree = Hierarchy.from_list(
        [
            branch("root", "c", "b", "a", parent=None, low=0.5, high=1.0),
            branch("c", "c"),
            branch("node 1", "b", "a", low=0.3),
            *leaves,
        ]
    )
    found = named_by_classes(metrics, tree)
    assert set(found.loc[found["kind"] == "branch", "group"]) == {"a + b"}
    pd.testing.assert_frame_equal(found[found["kind"] != "branch"], metrics[metrics["kind"] != "branch"])
    metrics.loc[metrics["kind"] == "branch", "group"] = "node 7"
    with pytest.raises(BranchgenError, match="the metrics have a branch 'node 7', which the hierarchy has not"):
        named_by_classes(metrics, tree)


def target(metric: str, reference: str = "floor") -> Target:
    (found,) = [found for found in (*TARGETS, *OWN_TARGETS) if (found.metric, found.reference) == (metric, reference)]
    return found


@pytest.mark.parametrize(
    ("metric", "floor", "inside", "outside"),
    [
        ("c2st_auc", 0.5, [0.3, 0.55], [0.5501, 0.9]),
        ("forest_auc", 0.6, [0.64], [0.641]),
        ("nearest_neighbour_accuracy", 0.5, [0.54], [0.541]),
        ("precision", 0.8, [0.76, 1.0], [0.759]),
        ("recall", 0.8, [0.76, 1.0], [0.759]),
        ("lfc_slope", 0.9, [0.855, 0.945], [0.854, 0.946, -0.9]),
        ("nearer_train", 0.45, [0.2, 0.53], [0.531]),
    ],
)
def test_targets_beside_the_floor(metric: str, floor: float, inside: list[float], outside: list[float]) -> None:
    allowed = target(metric).allowed(Statistic(floor, 0.01, 3))
    for value in inside:
        assert allowed.low - 1e-12 <= value <= allowed.high + 1e-12
    assert not any(value in allowed for value in outside)


def test_targets_beside_other_sources() -> None:
    flat = target("mmd_squared_by_type", "flat").allowed(Statistic(1e-3, 3e-4, 9))
    assert (1.1e-3 in flat, 1.1001e-3 in flat) == (True, False)
    assert 1e-3 in target("mmd_squared_by_type", "flat").allowed(Statistic(1e-3, math.nan, 1))
    scvi = target("c2st_auc", "scvi").allowed(Statistic(0.6, 0.01, 3))
    assert (0.6 in scvi, 0.5999 in scvi) == (False, True)


def test_outcomes_of_the_invented_runs() -> None:
    found = {
        (outcome.target.metric, outcome.target.reference): outcome.met
        for outcome in outcomes(statistics(compare(RUNS), "lung"))
    }
    assert found == {
        ("c2st_auc", "floor"): True,
        ("recall", "floor"): False,
        ("mmd_squared_by_type", "flat"): False,
        ("evaluations", "branchgen"): True,
        ("c2st_auc", "scvi"): True,
        ("mmd_squared_by_type", "scvi"): True,
    }
    gauss = {outcome.target.metric: outcome.met for outcome in outcomes(statistics(compare(RUNS), "lung"), "gauss")}
    assert gauss == {"c2st_auc": False, "recall": False}


class Tables(HTMLParser):
    """The texts of all cells, by table and row; fails where an element is not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "data-src"} & {name for name, _ in attrs}
        if tag == "meta":
            return
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data


def test_page_shows_metrics_with_their_floor_first_and_marks_what_is_met() -> None:
    tables = Tables(page(RUNS)).tables
    summary, metrics = tables[:2]
    assert summary[1:] == [
        ["lung", "0.501 ± 0.001", "0.541 ± 0.001", "1 of 2", "4 of 6"],
        ["a & b", "0.500", "0.540", "1 of 2", "2 of 3"],
    ]
    assert metrics[0] == ["", "floor", "branchgen", "flat", "gauss", "scvi", "nb", "train", "target"]
    auc = next(row for row in metrics if row[0].startswith("Boosted trees"))
    assert auc[1:] == [
        "0.501 ± 0.001", "0.541 ± 0.001✓", "0.531 ± 0.001✓", "0.581 ± 0.001✗", "0.561 ± 0.001✗", "0.701 ± 0.001✗",
        "0.511 ± 0.001✓", "≤ 0.551",
    ]  # fmt: skip
    recall = next(row for row in metrics if row[0] == "Recall")
    assert recall[2] == "0.840 ± 0.000✗"
    assert recall[-1] == "≥ 0.855"
    mmd = next(row for row in metrics if row[0].endswith("· 10³"))
    assert mmd[2] == "2.10 ± 0.10"


def test_page_says_which_types_can_be_told_apart_and_by_which_genes() -> None:
    tables = Tables(page(RUNS)).tables
    verdicts = next(table for table in tables if table[0][0] == "type")
    rows = {row[0]: row[1:] for row in verdicts[1:]}
    assert list(rows) == ["B", "T <CD4+>", "rare", "all types"]
    assert rows["B"] == [
        "100", "0.500", "0.540 0.490 – 0.590", "0.530", "0.580", "0.560", "distinguishable with 2 of 3 seeds✗",
        "LYZ ↑, HLA-DRA ↓, G0 ↑, G2 ↑",
    ]  # fmt: skip
    assert rows["T <CD4+>"][-2:] == ["indistinguishable✓", ""]
    assert rows["rare"][2:] == ["–", "–", "–", "–", "too few cells", ""]


def test_page_needs_nothing_else_and_is_a_function_of_the_runs() -> None:
    first = page(RUNS)
    assert first == page(RUNS)
    assert not re.search(r"https?://|@import|url\(|<script", first)
    assert "<CD4+>" not in first  # names are text, not HTML


def test_a_benchmark_of_one_run_without_baselines() -> None:
    tables = Tables(page([run("lung", 0)])).tables
    assert tables[1][0] == ["", "floor", "branchgen", "nb", "train", "target"]
    assert not any("±" in cell for table in tables for row in table for cell in row)


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(0.12345, 3, "0.123"), (-0.5, 1, "\N{MINUS SIGN}0.5"), (-0.0001, 2, "0.00"), (12345.6, 0, "12\N{THIN SPACE}346")],
)
def test_numbers(value: float, decimals: int, expected: str) -> None:
    assert number(value, decimals) == expected


def test_figures_of_nothing() -> None:
    assert "–" in figures(None, 3)
    assert "–" in figures(Statistic(math.nan, math.nan, 0), 3)


def test_empty_verdicts_are_left_out() -> None:
    bare = run("lung", 0)
    empty = Run(dataset="lung", seed=0, metrics=bare.metrics, verdicts=bare.verdicts.iloc[:0], cost={})
    assert "Can they be told apart" not in page([empty])
    assert isinstance(compare([empty]), pd.DataFrame)
