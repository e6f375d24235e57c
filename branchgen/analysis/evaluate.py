"""Generated cells against held-out real ones, beside a floor and two baselines, at equal numbers of every type."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from branchgen.analysis.baselines import draw_types
from branchgen.analysis.coverage import distance_ratio, duplicate_rate, nearer_train_share
from branchgen.analysis.metrics import METRICS, Cells, Values, pooled_metrics, type_metrics
from branchgen.analysis.reference import Reference, fit_reference
from branchgen.cells import keys
from branchgen.config import EvaluateSettings
from branchgen.errors import BranchgenError
from branchgen.seeds import named_seed, numpy_rng

FLOOR = "floor"
SOURCES = (FLOOR, "train", "nb", "branchgen")
"""Rows of the table, all compared with test: holdout, training cells, negative binomials, and the generated cells."""
ALL = "all"
"""Group of the metrics over all types."""
MIN_CELLS = 3
"""Cells that every split must have."""

log = logging.getLogger(__name__)


def evaluate(generated: AnnData, cells: AnnData, settings: EvaluateSettings, seed: int) -> pd.DataFrame:
    """Metrics in long form: source, group (``all`` or a type), metric, value, n_cells (on either side).

    `cells` are prepared cells with all splits; `generated` has the same genes in the same order. Every source is
    compared with test at equal numbers of every type: the smaller of the two. Where a source lacks a type, as a split
    by donor may, the type is left out on both sides. The result does not depend on the order of the cells.
    Raises BranchgenError where genes or types do not fit.
    """
    made, splits, reference = _read(generated, cells, settings, seed)
    test, train = splits["test"], splits["train"]
    n_test = test.n_per_type()
    rngs = {name: numpy_rng(seed, "evaluate", "nb", name) for name in n_test}
    sources = {
        FLOOR: splits["holdout"],
        "train": train,
        "nb": Cells(**dict(zip(("counts", "types"), draw_types(train.counts, train.types, n_test, rngs), strict=True))),
        "branchgen": made,
    }
    memory = _Memory(train, splits["holdout"], reference, seed)
    rows: list[tuple[str, str, str, float, int]] = []
    for source in SOURCES:
        real, other = _matched(test, sources[source], seed, source)
        log.info("comparing %s with test: %d of %d cells", source, len(real), len(test))
        if not len(real):
            raise BranchgenError(f"{_MEANING[source]} and the test cells have no type in common; give both every type")
        of_types = type_metrics(real, other, reference, settings.max_cells)
        values = pooled_metrics(real, other, reference, settings.max_cells, seed, source)
        n_real = real.n_per_type()
        if of_types:
            values["mmd_squared_by_type"] = _mean_over_types(of_types, n_real)
        # Real cells that no generator has seen are the floor of memorisation; holdout itself is its yardstick.
        values |= memory.metrics(real if source == FLOOR else other, settings.max_cells)
        rows += _rows(source, ALL, values, len(real))
        for name, value in of_types.items():
            rows += _rows(source, name, value, n_real[name])
    return pd.DataFrame(rows, columns=["source", "group", "metric", "value", "n_cells"])


def _mean_over_types(of_types: dict[str, Values], n_cells: dict[str, int]) -> float:
    """Mean MMD², weighted by cells: its standard error goes with 1/n, so rare types would drown the others."""
    values = [value["mmd_squared"] for value in of_types.values()]
    return float(np.average(values, weights=[n_cells[name] for name in of_types]))


def embed(generated: AnnData, cells: AnnData, settings: EvaluateSettings, seed: int) -> pd.DataFrame:
    """UMAP of test and generated cells at equal numbers of every type: umap_1, umap_2, cell_type, source.

    source is real or generated; the distances are those in the principal components of the ref cells.
    """
    from umap import UMAP  # compiles for seconds when imported

    made, splits, reference = _read(generated, cells, settings, seed)
    real, other = _matched(splits["test"], made, seed, "umap")
    if len(real) < MIN_CELLS:
        raise BranchgenError(
            f"the generated and the test cells have {len(real)} cells of common types; a UMAP needs {MIN_CELLS}"
        )
    if len(real) > settings.n_umap:
        rows = np.sort(numpy_rng(seed, "embed", "rows").choice(len(real), settings.n_umap, replace=False))
        real, other = real.take(rows), other.take(rows)
    scores = np.concatenate([reference.project(real.counts), reference.project(other.counts)])
    mapping = UMAP(
        n_neighbors=min(15, len(scores) - 1), init="pca", n_jobs=1, random_state=named_seed(seed, "embed") % 2**32
    )
    positions = mapping.fit_transform(scores.astype(np.float32))
    return pd.DataFrame(
        {
            "umap_1": positions[:, 0],
            "umap_2": positions[:, 1],
            "cell_type": np.concatenate([real.types, other.types]),
            "source": np.repeat(["real", "generated"], len(real)),
        }
    )


_MEANING = {
    FLOOR: "the holdout cells",
    "train": "the training cells",
    "nb": "the training cells",
    "branchgen": "the generated cells",
}


class _Memory:
    """What a generator may have memorised: the training cells, beside as many holdout cells of every type."""

    def __init__(self, train: Cells, holdout: Cells, reference: Reference, seed: int) -> None:
        near, far = _matched(train, holdout, seed, "memorisation")
        self._reference = reference
        self._counts = train.counts
        self._train = reference.project(train.counts)
        self._near, self._far = reference.project(near.counts), reference.project(far.counts)

    def metrics(self, cells: Cells, max_cells: int) -> Values:
        """Shares and ratios of at most `max_cells` cells; duplicates among all."""
        counts = cells.counts
        values = {"duplicate_rate": duplicate_rate(counts, self._counts)}
        scores = self._reference.project(counts[:: -(-counts.shape[0] // max_cells)])
        values["distance_ratio_p5"] = distance_ratio(scores, self._train, percentile=5)
        if len(self._near):
            values["nearer_train"] = nearer_train_share(scores, self._near, self._far)
        return values


def _read(
    generated: AnnData, cells: AnnData, settings: EvaluateSettings, seed: int
) -> tuple[Cells, dict[str, Cells], Reference]:
    """Generated cells, real cells by split, and the transforms fitted on ref."""
    _check(generated, cells)
    split = cells.obs[keys.SPLIT].to_numpy().astype(str)
    splits = {name: _cells_of(cells, np.flatnonzero(split == name)) for name in keys.SPLITS}
    for name, part in splits.items():
        if len(part) < MIN_CELLS:
            raise BranchgenError(f"the prepared cells have {len(part)} cells in split {name!r}; at least {MIN_CELLS}")
    ref = splits["ref"].counts
    if ref.shape[0] > settings.max_cells:
        rows = numpy_rng(seed, "evaluate", "ref").choice(ref.shape[0], settings.max_cells, replace=False)
        ref = ref[np.sort(rows)]
    reference = fit_reference(ref, n_variable=settings.n_genes, n_components=settings.n_components)
    return _cells_of(generated, np.arange(generated.n_obs)), splits, reference


def _check(generated: AnnData, cells: AnnData) -> None:
    """Raise BranchgenError unless both hold counts and types of the same genes."""
    keys.require(cells, "the file of the prepared cells", obs=(keys.CELL_TYPE, keys.SPLIT), layers=(keys.COUNTS,))
    keys.require(generated, "the file of the generated cells", obs=(keys.CELL_TYPE,), layers=(keys.COUNTS,))
    missing = cells.var_names.difference(generated.var_names, sort=False)
    if len(missing):
        raise BranchgenError(
            f"the generated cells lack {len(missing)} of the {cells.n_vars} genes of the prepared cells, the first is "
            f"{missing[0]!r}; give generated cells and the prepared cells of the same run"
        )
    if not cells.var_names.equals(generated.var_names):
        raise BranchgenError(
            f"the generated cells have {generated.n_vars} genes in another order, or others besides the {cells.n_vars} "
            "of the prepared cells; give generated cells and the prepared cells of the same run"
        )
    unknown = sorted(set(generated.obs[keys.CELL_TYPE].astype(str)) - set(cells.obs[keys.CELL_TYPE].astype(str)))
    if unknown:
        raise BranchgenError(
            f"the generated cells are of type {', '.join(map(repr, unknown))}, unknown to the prepared cells; "
            "give generated cells and the prepared cells of the same run"
        )


def _cells_of(cells: AnnData, rows: NDArray[np.int64]) -> Cells:
    """These rows, ordered by name, so that no draw depends on the order in the file."""
    rows = rows[np.argsort(cells.obs_names.to_numpy().astype(str)[rows], kind="stable")]
    counts = sparse.csr_matrix(cells.layers[keys.COUNTS])[rows]
    return Cells(counts=counts, types=cells.obs[keys.CELL_TYPE].to_numpy().astype(str)[rows])


def _matched(a: Cells, b: Cells, seed: int, name: str) -> tuple[Cells, Cells]:
    """As many cells of every type from either, the smaller of the two numbers, drawn without replacement."""
    n_a, n_b = a.n_per_type(), b.n_per_type()
    rows_a: list[NDArray[np.int64]] = []
    rows_b: list[NDArray[np.int64]] = []
    for type_ in sorted(n_a.keys() & n_b.keys()):
        n_kept = min(n_a[type_], n_b[type_])
        for cells, rows, side in ((a, rows_a, "a"), (b, rows_b, "b")):
            found = np.flatnonzero(cells.types == type_)
            rng = numpy_rng(seed, "match", name, side, type_)
            rows.append(found if len(found) == n_kept else np.sort(rng.choice(found, n_kept, replace=False)))
    return a.take(np.concatenate([_NONE, *rows_a])), b.take(np.concatenate([_NONE, *rows_b]))


_NONE = np.array([], dtype=np.int64)


def _rows(source: str, group: str, values: Values, n_cells: int) -> Iterator[tuple[str, str, str, float, int]]:
    for metric in METRICS:
        if metric in values and np.isfinite(values[metric]):
            yield source, group, metric, values[metric], n_cells
