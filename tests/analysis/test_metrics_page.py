"""The page of tables: every metric once, the floor first, and what comes nearest to it marked."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pandas as pd
from drawing import invented_hierarchy, invented_metrics, invented_verdicts

from branchgen.analysis.evaluate import COLUMNS
from branchgen.analysis.metrics import METRICS
from branchgen.analysis.metrics_page import GROUPS, metrics_page

HIERARCHY, _ = invented_hierarchy(6)
BASELINES = ("flat", "gauss")


class Tables(HTMLParser):
    """Rows of all tables as lists of texts; bold ones in asterisks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += f"*{data}*" if "strong" in self.open and "span" not in self.open else data


def page(metrics: pd.DataFrame) -> str:
    return metrics_page(metrics, invented_verdicts(6), HIERARCHY)


def row(source: str, value: float, metric: str = "c2st_auc", kind: str = "all", group: str = "all") -> tuple:
    return (source, kind, group, metric, value, 0.01, 100, 3)


def test_groups_hold_every_metric_once() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(METRICS)


def test_page_has_every_metric_with_the_floor_first() -> None:
    text = page(invented_metrics(6, baselines=BASELINES))
    rows = Tables(text).rows
    labels = {line[0].removesuffix(" · 10³") for line in rows}
    assert set(METRICS.values()) <= labels
    headers = [line for line in rows if line[0] == "" and line[1] == "floor"]
    assert headers[0] == ["", "floor", "branchgen", "flat", "gauss", "nb", "train", "limit"]
    assert not re.search(r"(src|href)\s*=", text)  # needs nothing else


def test_nearest_to_the_floor_is_marked_and_a_memoriser_is_not() -> None:
    values = {"floor": 0.5, "train": 0.5, "nb": 0.44, "gauss": 0.53, "branchgen": 0.55}
    metrics = pd.DataFrame([row(*pair) for pair in values.items()], columns=COLUMNS)
    line = next(line for line in Tables(page(metrics)).rows if line[0] == METRICS["c2st_auc"])
    assert [cell.startswith("*") for cell in line] == [False, False, False, True, False, False]
    assert line[3] == "*0.530 *± 0.010"


def test_branches_are_called_by_their_types_and_texts_are_escaped() -> None:
    branch = next(branch for branch in HIERARCHY.branches if 1 < len(branch.classes) < 6)
    rows = [row("floor", 0.5), row("branchgen", 0.6)]
    rows += [row(source, 0.5, kind="branch", group=branch.name) for source in ("floor", "branchgen")]
    text = page(pd.DataFrame(rows, columns=COLUMNS))
    assert html.escape(", ".join(branch.classes)) in text
    assert "<unassigned>" not in text
    assert "&lt;unassigned&gt;" in text


def test_equal_tables_give_equal_pages() -> None:
    metrics = invented_metrics(6)
    assert page(metrics) == page(metrics.copy())
