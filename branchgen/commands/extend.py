"""`branchgen extend`: a model and cells of new classes to a model with these classes."""

from __future__ import annotations

import argparse
import json
import logging

import pandas as pd
from torch import Tensor

from branchgen import files
from branchgen.cells.keys import CELL_TYPE, COUNTS, SPLIT
from branchgen.config import ExtendSettings, GenerateSettings
from branchgen.device import choose_device, describe
from branchgen.diffusion.checkpoint import Model
from branchgen.errors import BranchgenError
from branchgen.extension import Extension, NewCells, extend
from branchgen.hierarchy.newick import to_newick
from branchgen.progress import Progress
from branchgen.provenance import FORMAT_VERSION, provenance
from branchgen.trained import Trained

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, settings: ExtendSettings) -> None:
    """Add every class of the cells, one after the other in the order of their names."""
    device = choose_device(arguments.device)
    trained = Trained.read(arguments.model, arguments.codec, device)
    cells = trained.cells(arguments.cells, obs=(CELL_TYPE, SPLIT), layers=(COUNTS,))
    names = sorted(set(cells.obs[CELL_TYPE].astype(str)))
    taken = trained.model.grown(GenerateSettings().n_steps).hierarchy.index
    known = [name for name in names if name in taken]
    if known:
        raise BranchgenError(
            f"{arguments.model} has the class or branch {known[0]!r} of {arguments.cells} already; "
            "give cells of new classes alone"
        )
    log.info("running on %s", describe(device))
    inputs = {**trained.inputs, "cells": files.file_hash(arguments.cells)}
    record = provenance("extend", settings.to_dict(), arguments.seed, inputs, classes=names)
    model, rows = trained.model, []
    for name in names:
        new = NewCells.of(cells, name, str(arguments.cells))
        with Progress(f"extend by {name}", settings.n_steps) as progress:

            def report(step: int, loss: Tensor, held_out: float, progress: Progress = progress) -> None:
                progress.to(step, lambda: f"loss {loss:.3f}, held-out {held_out:.3f}")

            model, found = extend(model, trained.codec, new, settings, arguments.seed, device, record, report)
        rows.append(found.to_row())
        tell(found)
    outputs = (arguments.output_model, arguments.output_hierarchy, arguments.output_newick, arguments.output_summary)
    tree = model.grown(GenerateSettings().n_steps).hierarchy
    with files.written_together(*outputs) as (model_path, hierarchy_path, newick_path, summary_path):
        files.write_state(model.to_state(), model_path)
        hierarchy_path.write_text(json.dumps(hierarchy_record(model, record), indent=1) + "\n")
        newick_path.write_text(to_newick(tree))
        files.write_table(pd.DataFrame(rows), summary_path)


def tell(found: Extension) -> None:
    """Say where a class went, and warn where the codec has no place for it."""
    place, fit = found.graft.place, found.fit
    log.info(
        "%s: %d training cells, most like %s (correlation %.2f); leaves %s at time %.3f; "
        "held-out loss %.3f after %d steps",
        place.name,
        found.graft.n_cells,
        found.nearest,
        found.correlation,
        place.host,
        place.time,
        found.held_out_loss,
        found.n_steps,
    )
    if found.offset_gain:
        log.info("%s: decoded with gene-wise offsets, %.1f nats per held-out cell", place.name, found.offset_gain)
    if found.is_strange:
        log.warning(
            "%s: on held-out cells the codec gains %.1f nats per cell over the mean profile of the class, on the "
            "classes it was fitted to %.1f at least: it does not know these cells, and generated ones will not look "
            "like them; encode and train with them",
            place.name,
            fit.gain,
            found.least_gain,
        )
    else:
        log.info("%s: on held-out cells the codec gains %.1f nats per cell over the mean profile", place.name, fit.gain)


def hierarchy_record(model: Model, record: str) -> dict[str, object]:
    """The hierarchy with its new classes, on the grid of the default solver, as `derive` writes one."""
    grown = model.grown(GenerateSettings().n_steps)
    return {
        "format_version": FORMAT_VERSION,
        "codec": model.codec,
        "classes": list(grown.hierarchy.classes),
        "branches": grown.hierarchy.to_list(),
        "schedule": model.schedule.to_dict(),
        "shrinkage": float(len(model.schedule.sigma_min)),
        "factor": model.factor,
        "support": {grown.ends[name]: dict(values) for name, values in model.support.items()},
        "provenance": record,
    }
