"""
Checks the configuration and renders it for the command line.
"""

import json
import os
import re
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from branchgen.fingerprint import fingerprint

validate(config, schema="../schemas/config.schema.yaml")

# A virtual environment need not be activated: what is on PATH comes first, the folder of this Python last.
os.environ.update(PATH=os.pathsep.join([*os.get_exec_path(), os.path.dirname(sys.executable)]))

FORMAT = config["plot"]["format"]
N_GPUS = int(config["device"] != "cpu")
RUNS = [
    (dataset, config["seed"] + number)
    for dataset in config["datasets"]
    for number in range(config["benchmark"]["n_seeds"])
]
TIMED_OF_BASELINES = {
    "codec": ["codec/baseline"],
    "gauss": ["gauss/baseline"],
    "flat": ["flat/train", "flat/generate"],
    "scvi": ["scvi/baseline"],
}
TIMED = [
    "encode",
    "train",
    "generate",
    *(step for name in config["benchmark"]["baselines"] for step in TIMED_OF_BASELINES[name]),
]


# What follows the name of a dataset where one run of the benchmark on it is meant, with files in a folder of its own.
OF_BENCHMARK = r"(?:/benchmark/seed_(\d+))?"
OF_DATASETS = "|".join(map(re.escape, config["datasets"]))


wildcard_constraints:
    extension="[^/]+",
    cost="[0-9.e-]+",
    dataset=f"(?:{OF_DATASETS}){OF_BENCHMARK}",


def run_of(wildcards):
    """Name of the dataset, and seed of the run of the benchmark on it; no seed outside of the benchmark."""
    name, seed = re.fullmatch(f"(.+?){OF_BENCHMARK}", wildcards.dataset).groups()
    return name, None if seed is None else int(seed)


def seed_of(wildcards):
    """Seed of all randomness: that of the configuration, or that of the run of the benchmark."""
    _, seed = run_of(wildcards)
    return config["seed"] if seed is None else seed


def transmutations(dataset):
    """Pairs of classes, from and to, by the name of the files of their cells."""
    pairs = {
        "_to_".join(re.sub(r"[^A-Za-z0-9.+-]+", "_", pair[end]) for end in ("from", "to")): pair
        for pair in config["datasets"][dataset].get("transmute", [])
    }
    if len(pairs) < len(config["datasets"][dataset].get("transmute", [])):
        raise WorkflowError(
            f"dataset {dataset}: two pairs of transmute have the same file name, as only letters, digits and .+- "
            f"count: {', '.join(pairs)}; rename a class"
        )
    return pairs


def classes_of_pair(wildcards):
    """From and to of a pair of classes, as flags."""
    pair = transmutations(wildcards.dataset)[wildcards.pair]
    return shlex.join([f"--source={pair['from']}", f"--target={pair['to']}"])


def extensions(wildcards):
    """New cells of a dataset by the name of the extension, in their order."""
    return about(wildcards)["extend"]


def model_before(wildcards):
    """The model that is extended: the trained one, or that of the extension before."""
    names = list(extensions(wildcards))
    position = names.index(wildcards.extension)
    folder = f"<results>/{wildcards.dataset}"
    return f"{folder}/extended/{names[position - 1]}/model.pt" if position else f"{folder}/model.pt"


def about(wildcards):
    """What the configuration says of a dataset."""
    name, _ = run_of(wildcards)
    return config["datasets"][name]


def source_file(wildcards):
    """The h5ad of a dataset: a file of the user, a download, or none for what comes with scanpy."""
    source = about(wildcards)["source"]
    if source.startswith("scanpy:"):
        return []
    name, _ = run_of(wildcards)
    return f"<results>/{name}/source.h5ad" if "://" in source else source


def flags(section):
    """Settings of a section as flags of its command."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in config[section].items()}
    return " ".join(f"--{name.replace('_', '-')} {shlex.quote(text)}" for name, text in texts.items())


def dataset_flags(wildcards, keys):
    """Those of the named keys that a dataset has, as flags."""
    return as_flags(about(wildcards), keys)


def as_flags(table, keys):
    """Those of the named keys that a table has, as flags."""
    values = {key: table[key] for key in keys if key in table}
    return " ".join(
        f"--{key.replace('_', '-')} {shlex.join([value] if isinstance(value, str) else value)}"
        for key, value in values.items()
    )


def baselines_of(wildcards):
    """Names of the baselines that are evaluated: those of the benchmark in its runs, the quick one elsewhere."""
    _, seed = run_of(wildcards)
    return ["gauss"] if seed is None else config["benchmark"]["baselines"]


def files_of_runs(folder, *names):
    """Files of these names of every run of the benchmark, below a folder."""
    return [f"{folder}/{dataset}/benchmark/seed_{seed}/{name}" for dataset, seed in RUNS for name in names]


def named_files(flag, names, paths):
    """Flag with NAME=PATH of every name; nothing where there is no name."""
    pairs = [f"{name}={path}" for name, path in zip(names, paths, strict=True)]
    return shlex.join([flag, *pairs]) if pairs else ""


def folders_of_runs(flag, first_files):
    """Flag with the folder of every run, from one file that stands in each."""
    names = [f"{dataset}:{seed}" for dataset, seed in RUNS]
    return named_files(flag, names, map(os.path.dirname, first_files))


def memory_mb(floor):
    """Megabytes for a job: four times its inputs, at least `floor`; more with every attempt."""
    return lambda wildcards, input, attempt: attempt * max(floor, 4 * sum(map(os.path.getsize, input)) // 10**6)
