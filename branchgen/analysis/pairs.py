"""What is compared with the test cells: the cells of every source, as many of every type as of test."""

from __future__ import annotations

from branchgen.analysis.baselines import draw_types
from branchgen.analysis.limit import relative_errors, with_errors
from branchgen.analysis.samples import FLOOR, LIMIT, NB, OWN, TEST, TRAIN, Cells, Study, matched
from branchgen.errors import BranchgenError
from branchgen.seeds import numpy_rng


def sources_of(study: Study) -> tuple[str, ...]:
    """Everything that is compared with test, from the floor to the generated cells."""
    return (FLOOR, LIMIT, TRAIN, NB, *study.baselines, OWN)


def pair_of(study: Study, source: str, seed: int, repeat: int) -> tuple[Cells, Cells]:
    """Matched test cells and cells of a source, those of one repeat.

    Raises BranchgenError where they have no type in common.
    """
    test, train = study.splits[TEST], study.splits["train"]
    if source == NB:
        n_test = test.n_per_type()
        rngs = {name: numpy_rng(seed, "evaluate", NB, repeat, name) for name in n_test}
        counts, types = draw_types(train.counts, train.types, n_test, rngs)
        other = Cells(counts=counts, types=types)
    elif source == LIMIT:
        holdout, errors = study.splits["holdout"], relative_errors(train.counts, train.types)
        rng = numpy_rng(seed, "evaluate", LIMIT, repeat)
        other = Cells(counts=with_errors(holdout.counts, errors, rng), types=holdout.types)
    else:
        other = {FLOOR: study.splits["holdout"], TRAIN: train, **study.made}[source]
    real, other = matched(test, other, seed, source, repeat)
    if not len(real):
        raise BranchgenError(f"{_who(source)} and the test cells have no type in common; give both every type")
    return real, other


def _who(source: str) -> str:
    known = {
        FLOOR: "the holdout cells",
        TRAIN: "the training cells",
        NB: "the training cells",
        OWN: "the generated cells",
    }
    return known.get(source, f"the cells of the baseline {source!r}")
