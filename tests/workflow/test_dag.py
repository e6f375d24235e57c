"""What the workflow would do: command lines, several datasets, use as a module, mistakes in the configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from run_workflow import QUICK, ROOT, STEPS, jobs, snakemake, write_config

from branchgen.cli import build_parser, settings_of
from branchgen.config import SECTIONS
from branchgen.interface.commands import COMMANDS

WITHOUT = [step for step in STEPS if step not in {"transmute", "plot_transmutation"}]
"""Steps of a dataset without pairs to transmute."""
COMMANDS_OF_STEPS = [step.split("_")[0] for step in STEPS if not step.startswith("plot_")]
RUN = ["prepare", "encode", "derive", "train", "generate", "evaluate"]
"""Steps of one run of the benchmark, without baselines."""
FLAT = ["derive_flat", "train_flat", "generate_flat"]
TINY = {"source": "tiny.h5ad", "label_key": "cell_type"}
URL = {"source": "https://example.org/lung.h5ad", "sha256": "0123456789abcdef" * 4, "label_key": "cell type"}


def commands(dry_run: str) -> dict[str, Namespace]:
    """Parsed command lines, by command, of a dry run with --printshellcmds on one dataset."""
    found = {}
    for line in re.findall(r"branchgen \w+ -.*", dry_run):
        command, redirection = line.split(" > ")
        arguments = build_parser().parse_args(shlex.split(command)[1:])
        assert re.fullmatch(rf"\S*/{arguments.command}\.log 2>&1", redirection)
        found[arguments.command] = arguments
    return found


def test_command_lines_carry_the_configuration(dataset: Path) -> None:
    n_cells = {"A0": 7, "it's B": 9}
    config = write_config(dataset, "flags.yaml", seed=11, generate={"n_cells": n_cells}, train={"n_steps": 61})
    run = snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--printshellcmds")
    assert jobs(run) == dict.fromkeys(STEPS, 1)
    found = commands(run.stdout)
    assert sorted(found) == sorted(COMMANDS_OF_STEPS)
    for name, arguments in found.items():
        settings = settings_of(arguments).to_dict()
        wanted = {**SECTIONS[name]().to_dict(), **QUICK[name]}
        if name in {"generate", "baseline"}:
            assert yaml.safe_load(settings.pop("n_cells")) == (n_cells if name == "generate" else wanted["n_cells"])
            wanted.pop("n_cells")
        if name == "train":
            wanted["n_steps"] = 61
        assert settings == wanted
        assert not COMMANDS[name].seed or arguments.seed == 11
        assert not COMMANDS[name].device or arguments.device == "cpu"
    assert found["prepare"].source == "tiny.h5ad"
    assert found["prepare"].split_key == "donor"
    assert found["train"].checkpoints == "results/tiny/checkpoints"
    assert found["baseline"].method == "gauss"
    assert (found["transmute"].source, found["transmute"].target) == ("A0", "B3")
    assert found["evaluate"].baselines == ["gauss=results/tiny/gauss/generated.h5ad"]


def lines_of(command: str, dry_run: str) -> list[Namespace]:
    """Parsed command lines of one command, each with its log beside what it writes."""
    found = []
    for line in re.findall(rf"branchgen {command} -.*", dry_run):
        text, redirection = line.split(" > ")
        arguments = build_parser().parse_args(shlex.split(text)[1:])
        output = next(value for name, value in vars(arguments).items() if name.startswith("output_"))
        folder = str(output.parent).replace("results", "logs", 1)
        assert redirection == f"{folder}/{command}.log 2>&1"
        found.append(arguments)
    return found


@pytest.mark.parametrize(
    ("baselines", "further"),
    [
        (["gauss", "flat"], ["baseline_latent", *FLAT]),
        (["scvi"], ["baseline_scvi"]),
        ([], []),
    ],
)
def test_benchmark_runs_the_workflow_on_every_dataset_with_every_seed(
    dataset: Path, baselines: list[str], further: list[str]
) -> None:
    benchmark = {"n_seeds": 3, "baselines": baselines}
    config = write_config(dataset, "bench.yaml", datasets={"far.2": URL, "tiny": TINY}, benchmark=benchmark, seed=5)
    run = snakemake("benchmark", "--directory", dataset, "--configfile", config, "--dry-run", "--printshellcmds")
    # A download serves all seeds.
    assert jobs(run) == {**dict.fromkeys([*RUN, *further], 6), "fetch": 1, "compare": 1, "benchmark": 1}

    folders = [Path(f"results/{name}/benchmark/seed_{seed}") for name in ("far.2", "tiny") for seed in (5, 6, 7)]
    prepared = {line.output_cells.parent: line for line in lines_of("prepare", run.stdout)}
    assert sorted(prepared) == sorted(folders)
    for command in ("prepare", "encode", "derive", "train", "generate", "evaluate"):
        for line in lines_of(command, run.stdout):
            output = next(value for name, value in vars(line).items() if name.startswith("output_"))
            assert f"seed_{line.seed}" in output.parts
    assert prepared[folders[0]].source == "results/far.2/source.h5ad"
    assert prepared[folders[3]].source == "tiny.h5ad"

    for line in lines_of("evaluate", run.stdout):
        folder = line.output_metrics.parent
        files = [f"{name}={folder}/{name}/generated.h5ad" for name in baselines]
        assert line.baselines == (files or None)
    (compared,) = re.findall(r"branchgen compare .*", run.stdout)
    compared = build_parser().parse_args(shlex.split(compared.split(" > ")[0])[1:])
    assert compared.runs == [f"{folder.parts[1]}:{folder.name[5:]}={folder}" for folder in folders]
    assert compared.times == [run.replace("results", "benchmarks") for run in compared.runs]


def test_flat_is_trained_and_sampled_without_a_tree(dataset: Path) -> None:
    datasets = {"tiny": {**TINY, "levels": ["lineage", "cell_type"]}}
    benchmark = {"n_seeds": 1, "baselines": ["flat"]}
    config = write_config(dataset, "flat.yaml", datasets=datasets, benchmark=benchmark)
    run = snakemake("benchmark", "--directory", dataset, "--configfile", config, "--dry-run", "--printshellcmds")
    folder = "results/tiny/benchmark/seed_0"
    derived = {line.output_hierarchy.parent.name: line for line in lines_of("derive", run.stdout)}
    assert (derived["flat"].flat, derived["flat"].levels) == (True, None)
    assert (derived["seed_0"].flat, derived["seed_0"].levels) == (False, ["lineage", "cell_type"])
    trained = {str(line.output_model): line for line in lines_of("train", run.stdout)}
    flat = trained[f"{folder}/flat/model.pt"]
    assert (str(flat.latents), str(flat.hierarchy), flat.checkpoints) == (
        f"{folder}/latents.h5ad",
        f"{folder}/flat/hierarchy.json",
        f"{folder}/flat/checkpoints",
    )
    other = trained[f"{folder}/model.pt"]
    assert settings_of(flat) == settings_of(other)
    made = {str(line.output_generated): line for line in lines_of("generate", run.stdout)}
    assert str(made[f"{folder}/flat/generated.h5ad"].codec) == f"{folder}/codec.pt"


def test_embedded_example(tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(ROOT / "config")
    run = snakemake("--directory", tmp_path, "--dry-run", "--printshellcmds")
    assert jobs(run) == dict.fromkeys(WITHOUT, 1)
    assert commands(run.stdout)["prepare"].source == "scanpy:pbmc68k_reduced"


def test_datasets_side_by_side_with_trees_of_their_own(dataset: Path) -> None:
    (dataset / "tree.nwk").write_text("((A0,A1),(B2,B3));")
    datasets = {
        "given": {**TINY, "newick": "tree.nwk"},
        "nested": {**TINY, "levels": ["lineage", "cell_type"]},
        "far": URL,
    }
    config = write_config(dataset, "many.yaml", datasets=datasets)
    run = snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--printshellcmds")
    assert jobs(run) == {**dict.fromkeys(WITHOUT, 3), "fetch": 1}
    lines = {
        dataset: re.search(rf"branchgen derive --cells results/{dataset}/.*", run.stdout).group()
        for dataset in datasets
    }
    assert "--newick tree.nwk " in lines["given"]
    assert "--levels" not in lines["given"]
    assert "--levels lineage cell_type " in lines["nested"]
    assert "--newick" not in lines["nested"] + lines["far"]
    fetch = commands("\n".join(re.findall("branchgen fetch.*", run.stdout)))["fetch"]
    assert (fetch.url, fetch.sha256) == (URL["source"], URL["sha256"])
    assert f"--source results/far/source.h5ad --label-key '{URL['label_key']}'" in run.stdout


def test_configuration_given_replaces_the_example(dataset: Path) -> None:
    (dataset / "config").mkdir(exist_ok=True)
    (dataset / "config" / "config.yaml").write_text((ROOT / "config" / "config.yaml").read_text())
    config = write_config(dataset, "mine.yaml")
    run = snakemake("--directory", dataset, "--configfile", config, "--dry-run")
    assert jobs(run) == dict.fromkeys(STEPS, 1)
    assert "pbmc68k" not in run.stdout


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": {"n_stepz": 10}}, "n_stepz"),
        ({"trian": {"n_steps": 10}}, "trian"),
        ({"train": {"n_steps": "many"}}, "many"),
        ({"datasets": {"tiny": {**TINY, "lable_key": "x"}}}, "lable_key"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_and_stops(dataset: Path, changes: dict, named: str) -> None:
    config = write_config(dataset, "mistake.yaml", **changes)
    run = snakemake("--directory", dataset, "--configfile", config)
    assert run.returncode != 0
    assert named in run.stdout
    assert "rule " not in run.stdout


def test_module_of_another_workflow(dataset: Path) -> None:
    config = yaml.safe_load(write_config(dataset, "module.yaml").read_text())
    other = dataset / "other.smk"
    other.write_text(f"""
module cells:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: {config!r}
    pathvars:
        results="elsewhere/out",
        logs="elsewhere/log",
        benchmarks="elsewhere/time",

use rule * from cells as cells_*

rule study:
    default_target: True
    input: "elsewhere/out/tiny/generated.h5ad"
""")
    run = snakemake("--directory", dataset, "--dry-run", "--printshellcmds", snakefile=other)
    wanted = ["cells_prepare", "cells_encode", "cells_derive", "cells_train", "cells_generate"]
    assert jobs(run) == {**dict.fromkeys(wanted, 1), "study": 1}
    assert not re.search(r"(?<!/)\b(results|logs|benchmarks)/", run.stdout)
    assert commands(run.stdout)["generate"].output_generated == Path("elsewhere/out/tiny/generated.h5ad")
    run = snakemake("--directory", dataset, "elsewhere/out/tiny/cells.h5ad", snakefile=other)
    assert run.returncode == 0, run.stdout
    for path in ("out/tiny/cells.h5ad", "log/tiny/prepare.log", "time/tiny/prepare.tsv"):
        assert (dataset / "elsewhere" / path).is_file()


@pytest.mark.parametrize(
    ("n_gpus", "launcher"), [(0, ""), (1, ""), (2, "torchrun --standalone --nproc-per-node 2 -m ")]
)
def test_several_gpus_train_one_model(n_gpus: int, launcher: str, dataset: Path) -> None:
    config = write_config(dataset, "gpus.yaml", device="cuda" if n_gpus else "cpu")
    options = ["--resources", "gpu=2", "--set-resources", f"train:gpu={n_gpus}", "--"]
    options = ["--directory", dataset, "--configfile", config, "--dry-run", "--printshellcmds", *options]
    run = snakemake(*options, "results/tiny/model.pt")
    (line,) = re.findall(r"Shell command: (.*branchgen train .*) > ", run.stdout, flags=re.MULTILINE)
    # The shell decides, so the shell is asked, with programs that say how they were called.
    programs = 'torchrun() { echo torchrun "$@"; }; branchgen() { echo branchgen "$@"; }'
    said = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{programs}; {line}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith(f"{launcher}branchgen train --latents results/tiny/latents.h5ad ")


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_lint(snakefile: str, dataset: Path) -> None:
    run = snakemake("--lint", "--configfile", write_config(dataset), snakefile=ROOT / snakefile)
    assert run.returncode == 0, run.stdout
    assert "in a good condition" in run.stdout


@pytest.mark.parametrize("profile", sorted((ROOT / "workflow" / "profiles").glob("*/profile.yaml")), ids=str)
def test_profile_names_rules_that_exist(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    texts = [path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk")]
    rules = re.findall(r"^ *(?:rule (\w+):|use rule \w+ as (\w+) with:)", "\n".join(texts), flags=re.MULTILINE)
    assert set(settings.get("set-resources", {})) <= {name for pair in rules for name in pair if name}


def test_default_profile_caps_the_jobs_on_the_gpu(dataset: Path) -> None:
    config = write_config(dataset, "profile.yaml")
    profile = ROOT / "workflow" / "profiles" / "default"
    run = snakemake("--directory", dataset, "--configfile", config, "--dry-run", "--workflow-profile", profile)
    assert jobs(run) == dict.fromkeys(STEPS, 1)
