"""
Checks the configuration and renders it for the command line.
"""

import json
import os
import re
import shlex
import sys

from snakemake.utils import validate

from branchgen.fingerprint import fingerprint

validate(config, schema="../schemas/config.schema.yaml")

# A virtual environment need not be activated: what is on PATH comes first, the folder of this Python last.
os.environ.update(PATH=os.pathsep.join([*os.get_exec_path(), os.path.dirname(sys.executable)]))

FORMAT = config["plot"]["format"]
N_GPUS = int(config["device"] != "cpu")


wildcard_constraints:
    dataset="|".join(map(re.escape, config["datasets"])),


def source_file(wildcards):
    """The h5ad of a dataset: a file of the user, a download, or none for what comes with scanpy."""
    source = config["datasets"][wildcards.dataset]["source"]
    if source.startswith("scanpy:"):
        return []
    return "<results>/{dataset}/source.h5ad" if "://" in source else source


def flags(section):
    """Settings of a section as flags of its command."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in config[section].items()}
    return " ".join(f"--{name.replace('_', '-')} {shlex.quote(text)}" for name, text in texts.items())


def dataset_flags(wildcards, keys):
    """Those of the named keys that a dataset has, as flags."""
    dataset = config["datasets"][wildcards.dataset]
    values = {key: dataset[key] for key in keys if key in dataset}
    return " ".join(
        f"--{key.replace('_', '-')} {shlex.join([value] if isinstance(value, str) else value)}"
        for key, value in values.items()
    )


def memory_mb(floor):
    """Megabytes for a job: four times its inputs, at least `floor`; more with every attempt."""
    return lambda wildcards, input, attempt: attempt * max(floor, 4 * sum(map(os.path.getsize, input)) // 10**6)
