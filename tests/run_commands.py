"""The commands on a small data set with quick settings: every file under one name in one folder."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from anndata import AnnData

from branchgen.cli import main
from branchgen.interface.commands import COMMANDS

FILES = {
    "cells": "cells.h5ad",
    "codec": "codec.pt",
    "latents": "latents.h5ad",
    "hierarchy": "hierarchy.json",
    "newick": "hierarchy.nwk",
    "divergence": "divergence.parquet",
    "model": "model.pt",
    "training": "training.parquet",
    "generated": "generated.h5ad",
    "transmuted": "transmuted.h5ad",
    "changes": "changes.parquet",
    "branch-points": "branch_points.h5ad",
    "table": "branch_points.parquet",
    "genes": "branch_genes.parquet",
    "fates": "fates.h5ad",
    "separability": "separability.parquet",
}
"""Name of every file by its flag."""
NEW_CELLS = "new_cells.h5ad"
"""Name of the prepared cells of a new class."""
READ_BY_EXTEND = {"cells": NEW_CELLS}
WRITTEN_BY_EXTEND = {
    "model": "extended.pt",
    "hierarchy": "extended.json",
    "newick": "extended.nwk",
    "summary": "extension.parquet",
}
SOURCE = "source.h5ad"
"""Name of the simulated cells."""

SETTINGS: dict[str, dict[str, object]] = {
    "prepare": {"label_key": "cell_type"},
    "encode": {"device": "cpu", "codec": "pca", "n_latent": 6},
    "derive": {"n_bootstrap": 5, "min_branch_span": 0.0},
    "train": {
        "device": "cpu",
        "n_hidden": 32,
        "n_blocks": 1,
        "n_head": 16,
        "n_steps": 40,
        "batch_size": 128,
        "validate_every": 20,
    },
    "generate": {"device": "cpu", "n_steps": 6, "n_cells": 20},
    "analyse": {"device": "cpu", "n_steps": 6, "n_cells": 16, "n_draws": 8},
    "transmute": {"device": "cpu", "n_steps": 6, "source": "A0", "target": "B2"},
    "extend": {"device": "cpu", "n_steps": 20, "batch_size": 128, "validate_every": 10},
}
"""Quick settings of every command, in the order in which they run."""


def input_name(command: str, flag: str) -> str:
    """Name of the file that a command reads for a flag."""
    return (READ_BY_EXTEND if command == "extend" else {}).get(flag, FILES.get(flag, flag))


def output_name(command: str, flag: str) -> str:
    """Name of the file that a command writes for a flag."""
    return (WRITTEN_BY_EXTEND if command == "extend" else FILES).get(flag, flag)


def command_line(command: str, folder: Path, output: Path | None = None, **changes: object) -> list[str]:
    """Arguments of a command that reads from a folder and writes to it, or to another.

    A change replaces a setting or an input, is a further option, or (None) leaves one out; a list gives many values.
    """
    about = COMMANDS[command]
    files = {flag: folder / input_name(command, flag) for flag in about.inputs}
    if command == "prepare":
        files["source"] = folder / SOURCE
    values = {**{flag.replace("-", "_"): path for flag, path in files.items()}, **SETTINGS.get(command, {}), **changes}
    line = [command]
    for flag in about.outputs:
        line += [f"--output-{flag}", str((output or folder) / output_name(command, flag))]
    for name, value in values.items():
        if value is not None:
            # One text, so that a negative number is not taken for a flag.
            flag = f"--{name.replace('_', '-')}"
            if flag[2:] in about.switches:
                line += [flag] if value else []
            else:
                line += [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]
    return line


def prepare_new_cells(folder: Path, source: AnnData) -> None:
    """Prepare cells of new classes for the model of a folder."""
    with TemporaryDirectory() as elsewhere:
        source.write_h5ad(Path(elsewhere) / SOURCE)
        line = command_line("prepare", Path(elsewhere), like=folder / FILES["cells"])
        assert main(line) == 0
        (Path(elsewhere) / FILES["cells"]).rename(folder / NEW_CELLS)


def run_command(command: str, folder: Path, output: Path | None = None, **changes: object) -> int:
    """Run a command in this process; returns its exit code.

    On one thread, whatever other libraries have set: the number of threads decides how sums are rounded.
    """
    torch.set_num_threads(1)
    return main(command_line(command, folder, output, **changes))
