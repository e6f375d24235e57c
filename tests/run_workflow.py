"""Snakemake as a user calls it, on a small dataset with quick settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent

QUICK: dict[str, Any] = {
    "device": "cpu",
    "prepare": {},
    "encode": {"codec": "pca", "n_latent": 8},
    "derive": {"n_bootstrap": 5},
    "train": {"n_hidden": 32, "n_blocks": 1, "n_head": 16, "n_steps": 60, "batch_size": 128, "validate_every": 30},
    "generate": {"n_cells": 30, "n_steps": 6},
    "baseline": {"n_cells": 30},
    "analyse": {"n_cells": 32},
    "transmute": {"n_steps": 6},
    "extend": {"n_steps": 20, "batch_size": 128, "validate_every": 10},
    "evaluate": {"n_genes": 50, "n_components": 10, "n_umap": 60, "n_seeds": 2},
    "plot": {},
}


STEPS = [
    "prepare",
    "encode",
    "derive",
    "train",
    "generate",
    "baseline_latent",
    "analyse",
    "transmute",
    "plot_transmutation",
    "plot_branch_points",
    "evaluate",
    "plot",
]
"""Rules that run for the small dataset, in an order in which they can."""


def command(*arguments: str | Path, snakefile: Path = ROOT / "Snakefile") -> list[str | Path]:
    """Command line of Snakemake; one thread for every job, as tests share their machine."""
    program = Path(sys.executable).parent / "snakemake"
    return [program, "--snakefile", snakefile, "--cores", "2", "--max-threads", "1", *arguments]


def environment(package: Path | None = None) -> dict[str, str]:
    """Variables of a user who has not activated the environment: the folder of this Python is not on PATH.

    `package` is a folder with another copy of branchgen.
    """
    here = Path(sys.executable).parent
    path = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != here)
    other = {} if package is None else {"PYTHONPATH": str(package)}
    return {**os.environ, "PATH": path, **other}


def snakemake(
    *arguments: str | Path, snakefile: Path = ROOT / "Snakefile", package: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake as a process of its own; stdout holds its messages, too."""
    return subprocess.run(
        command(*arguments, snakefile=snakefile),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        env=environment(package),
    )


def jobs(dry_run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Number of jobs by rule in the table of a dry run, without the rule `all`."""
    assert dry_run.returncode == 0, dry_run.stdout
    if "Nothing to be done" in dry_run.stdout:
        return {}
    table = dry_run.stdout.split("Job stats:")[1].split("total")[0]
    found = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
    found.pop("all", None)
    return found


def write_config(folder: Path, name: str = "config.yaml", **changes: Any) -> Path:
    """Configuration of the small dataset; a changed section keeps what the change does not name."""
    tiny = {"source": "tiny.h5ad", "label_key": "cell_type", "split_key": "donor"}
    config = {"datasets": {"tiny": {**tiny, "transmute": [{"from": "A0", "to": "B3"}]}}, **QUICK}
    for key, value in changes.items():
        config[key] = {**QUICK[key], **value} if isinstance(QUICK.get(key), dict) else value
    path = folder / name
    path.write_text(yaml.safe_dump(config))
    return path
