"""One table of all runs of a benchmark: metrics, verdicts and cost over datasets, seeds and sources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from branchgen.analysis.samples import ALL
from branchgen.analysis.targets import Statistic
from branchgen.analysis.verdicts import DISTINGUISHABLE, INDISTINGUISHABLE
from branchgen.errors import BranchgenError
from branchgen.hierarchy.tree import Hierarchy

COST = "cost"
"""Kind of the rows that say what a run has cost."""
VERDICT_AUC = "verdict_auc"
BRANCH = "branch"
"""Kind of the rows that are about all classes below a branch."""
AND = " + "
"""Between the classes of a branch."""
FIXED = ["dataset", "source", "kind", "group", "metric"]
"""What the seeds of one value have in common."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the workflow: `metrics` and `verdicts` of evaluate, and by source what each step has cost.

    Branches have in the metrics the names of `named_by_classes`.
    """

    dataset: str
    seed: int
    metrics: pd.DataFrame
    verdicts: pd.DataFrame
    cost: dict[str, dict[str, float]]


def folders_of_runs(texts: Sequence[str], flag: str) -> dict[tuple[str, int], str]:
    """Folders by dataset and seed, from texts such as ``lung:0=results/lung`` that a flag has been given."""
    found: dict[tuple[str, int], str] = {}
    for text in texts:
        parts = re.fullmatch(r"(.+?):(\d+)=(.+)", text)
        if parts is None:
            raise BranchgenError(f"--{flag} has {text!r}; it must be DATASET:SEED=FOLDER such as lung:0=results/lung")
        key = (parts[1], int(parts[2]))
        if key in found:
            raise BranchgenError(f"--{flag} names {key[0]}:{key[1]} twice; name every dataset and seed once")
        found[key] = parts[3]
    return found


def compare(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for every dataset, seed, source, kind, group and metric, with mean and sd over the seeds beside its value.

    Kinds are those of the metrics (``all``, ``class``, ``branch``) and ``cost``. Verdicts are metrics of their class,
    too: `verdict_auc`, and `distinguishable` (0 or 1; absent where there were too few cells). The standard deviation
    (n − 1) of one seed is missing. Raises BranchgenError for a dataset and seed that come twice.
    """
    seen: set[tuple[str, int]] = set()
    for run in runs:
        if (run.dataset, run.seed) in seen:
            raise BranchgenError(f"the run {run.dataset}:{run.seed} is given twice; give every dataset and seed once")
        seen.add((run.dataset, run.seed))
    parts = [
        part.assign(dataset=run.dataset, seed=run.seed)
        for run in runs
        for part in (run.metrics[[*FIXED[1:], "value", "n_cells"]], _verdict_rows(run.verdicts), _cost_rows(run.cost))
        if len(part)
    ]
    table = pd.concat(parts, ignore_index=True)
    over_seeds = table.groupby(FIXED, sort=False)["value"].agg(["mean", "std", "count"])
    over_seeds = over_seeds.rename(columns={"std": "sd", "count": "n_seeds"}).reset_index()
    table = table.merge(over_seeds, on=FIXED, how="left", sort=False, validate="many_to_one")
    return table[["dataset", "seed", *FIXED[1:], "value", "n_cells", "mean", "sd", "n_seeds"]]


def named_by_classes(metrics: pd.DataFrame, hierarchy: Hierarchy) -> pd.DataFrame:
    """The same metrics with every branch called by its classes: another seed derives another tree, with other names."""
    is_branch = metrics["kind"] == BRANCH
    unknown = sorted(set(metrics["group"][is_branch]) - set(hierarchy.index))
    if unknown:
        raise BranchgenError(f"the metrics have a branch {unknown[0]!r}, which the hierarchy has not; they do not fit")
    names = {branch.name: AND.join(sorted(branch.classes)) for branch in hierarchy.branches}
    return metrics.assign(group=metrics["group"].map(names).where(is_branch, metrics["group"]))


def _verdict_rows(verdicts: pd.DataFrame) -> pd.DataFrame:
    judged = verdicts[verdicts["verdict"].isin([DISTINGUISHABLE, INDISTINGUISHABLE])]
    kind = ["all" if group == ALL else "class" for group in judged["group"]]
    common = judged[["source", "group", "n_cells"]].assign(kind=kind)
    return pd.concat(
        [
            common.assign(metric=VERDICT_AUC, value=judged["auc"].astype(float)),
            common.assign(metric=DISTINGUISHABLE, value=(judged["verdict"] == DISTINGUISHABLE).astype(float)),
        ]
    )


def _cost_rows(cost: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = [(source, metric, value) for source, values in cost.items() for metric, value in values.items()]
    table = pd.DataFrame(rows, columns=["source", "metric", "value"])
    return table.assign(kind=COST, group=ALL, n_cells=pd.array([pd.NA] * len(table), dtype="Int64"))


def statistics(table: pd.DataFrame, dataset: str) -> dict[tuple[str, str], Statistic]:
    """Mean and sd over the seeds by source and metric, of the metrics over all cells and of the cost of a dataset."""
    rows = table[(table["dataset"] == dataset) & (table["group"] == ALL)].drop_duplicates(["source", "metric"])
    return {
        (str(source), str(metric)): Statistic(float(mean), float(sd), int(n))
        for source, metric, mean, sd, n in zip(
            rows["source"], rows["metric"], rows["mean"], rows["sd"], rows["n_seeds"], strict=True
        )
    }
