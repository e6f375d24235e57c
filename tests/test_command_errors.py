"""Every mistake in what a command is given: one sentence, exit code 2, and no file left."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from anndata import AnnData
from limits import full_disk, limit_files
from run_commands import SETTINGS, command_line, input_name, output_name, run_command

from branchgen import stores
from branchgen.cells.keys import PROVENANCE
from branchgen.cli import main
from branchgen.config import SECTIONS
from branchgen.interface.commands import COMMANDS

Spoil = Callable[[Path], None]


def nothing(folder: Path) -> None:
    """Leave the files as they are."""


def text(name: str, content: str | bytes) -> Spoil:
    """Write a file."""
    return lambda folder: void((folder / name).write_bytes(content.encode() if isinstance(content, str) else content))


def void(_: object) -> None:
    """Drop a result."""


def truncate(name: str) -> Spoil:
    """Cut a file in the middle."""

    def apply(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return apply


def replace(name: str, by: str) -> Spoil:
    """Put another file in the place of a file."""
    return lambda folder: void(shutil.copy(folder / by, folder / name))


def change_state(name: str, change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Change a model or a codec."""

    def apply(folder: Path) -> None:
        state = torch.load(folder / name, weights_only=True)
        change(state)
        torch.save(state, folder / name)

    return apply


def change_hierarchy(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Change a hierarchy."""

    def apply(folder: Path) -> None:
        path = folder / "hierarchy.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return apply


def change_cells(name: str, change: Callable[[AnnData], AnnData | None]) -> Spoil:
    """Change an h5ad in place, or put another in its place."""

    def apply(folder: Path) -> None:
        cells = stores.read_h5ad(folder / name)
        changed = change(cells)
        stores.write_h5ad(cells if changed is None else changed, folder / name)

    return apply


def of_another_version(cells: AnnData) -> None:
    cells.uns[PROVENANCE] = json.dumps({**json.loads(cells.uns[PROVENANCE]), "format_version": 999})


def without_record(cells: AnnData) -> None:
    cells.uns[PROVENANCE] = "[1]"


def half_the_levels(cells: AnnData) -> None:
    cells.obs["lineage"] = cells.obs["lineage"].where(np.arange(cells.n_obs) % 2 == 0)


def without_a_class(cells: AnnData) -> AnnData:
    return cells[cells.obs["cell_type"] != "B3"].copy()


def rename_a_class(record: dict[str, Any]) -> None:
    for branch in record["branches"]:
        branch["classes"] = ["T" if name == "B3" else name for name in branch["classes"]]


def leave_a_gap(record: dict[str, Any]) -> None:
    record["branches"][0]["t_start"] += 0.01


def forget_the_branches(record: dict[str, Any]) -> None:
    del record["branches"]


def shift(codec: dict[str, Any]) -> None:
    codec["centre"] += 1


@dataclass(frozen=True)
class Mistake:
    """A command, what is wrong with its files or arguments, and what the sentence must say."""

    command: str
    parts: list[str]
    arguments: dict[str, object] = field(default_factory=dict)
    spoil: Spoil = nothing


N_CELLS = "; it must be a number, the word train, or a table of class to number such as {{"
NO_CELL = "n_cells asks for no cell at all; ask for at least one"
CODECS = "{folder}/%s belongs to codec {hash} but {folder}/%s to codec {other_hash}; make both with the same"
NEWICK = {"newick": "{folder}/tree.nwk"}
VERSION = " has format version 999 but branchgen "

MISTAKES: dict[str, Mistake] = {
    "n_cells of an unknown class": Mistake(
        "generate",
        ["no class or branch is called 'T cell'; there are root, ", ", A0, A1, ", ", B2, B3"],
        {"n_cells": '{"A0": 3, "T cell": 5}'},
    ),
    **{
        f"n_cells is {value}": Mistake("generate", ["n_cells is ", N_CELLS], {"n_cells": value})
        for value in ("many", "", "12.5", "[1]", '{"A0": 1.5}', '{"A0": true}', '{"A0": 3', "null", "true", '"train"')
    },
    "n_cells is negative": Mistake("generate", ["n_cells asks for -3 cells of '"], {"n_cells": "-3"}),
    "n_cells of a class is negative": Mistake(
        "generate", ["n_cells asks for -3 cells of 'A1'; a number of cells is at least 0"], {"n_cells": '{"A1": -3}'}
    ),
    **{f"no cell asked for: {value}": Mistake("generate", [NO_CELL], {"n_cells": value}) for value in ("0", "{}")},
    "no cell of the only class asked for": Mistake("generate", [NO_CELL], {"n_cells": '{"A0": 0}'}),
    "Newick: a leaf that is no class": Mistake(
        "derive",
        [
            "{folder}/tree.nwk: the Newick tree does not match the classes: leaves that are no class: 'T'; ",
            "classes that are no leaf: 'B3'",
        ],
        NEWICK,
        text("tree.nwk", "((A0,A1),(B2,T));"),
    ),
    "Newick: a class that is no leaf": Mistake(
        "derive",
        ["{folder}/tree.nwk: the Newick tree does not match the classes: classes that are no leaf: 'A1', 'B3'\n"],
        NEWICK,
        text("tree.nwk", "(A0,B2);"),
    ),
    "Newick: a leaf twice": Mistake(
        "derive",
        ["{folder}/tree.nwk: the Newick tree has more than one leaf called 'A0'"],
        NEWICK,
        text("tree.nwk", "((A0,A1),(B2,B3),A0);"),
    ),
    "Newick: no end": Mistake(
        "derive",
        ["{folder}/tree.nwk: the Newick text is malformed: found 'the end' where ')' should be"],
        NEWICK,
        text("tree.nwk", "((A0,A1),(B2,B3)"),
    ),
    "Newick: two trees": Mistake(
        "derive",
        ["{folder}/tree.nwk: the Newick text is malformed: "],
        NEWICK,
        text("tree.nwk", "((A0,A1),(B2,B3));\n((A0,B2),(A1,B3));\n"),
    ),
    "Newick: a stray mark": Mistake(
        "derive", ["{folder}/tree.nwk: the Newick text is malformed"], NEWICK, text("tree.nwk", "((A0,A1)],(B2,B3));")
    ),
    "Newick: empty": Mistake(
        "derive", ["{folder}/tree.nwk: the Newick text is malformed: found 'the end'"], NEWICK, text("tree.nwk", "")
    ),
    "Newick: not text": Mistake("derive", ["{folder}/tree.nwk: "], NEWICK, text("tree.nwk", b"(\xff\xfe,A0);")),
    "Newick: no file": Mistake("derive", ["{folder}/tree.nwk does not exist; check the path"], NEWICK),
    "Newick and levels": Mistake(
        "derive",
        ["--newick and --levels both give a tree; choose one"],
        {**NEWICK, "levels": ["lineage"]},
        text("tree.nwk", "((A0,A1),(B2,B3));"),
    ),
    "levels and flat": Mistake(
        "derive", ["--levels and --flat both give a tree; choose one"], {"levels": ["lineage"], "flat": True}
    ),
    "level absent": Mistake(
        "derive", ["{folder}/latents.h5ad has no obs['tissue']; it has [", "'lineage'"], {"levels": ["tissue"]}
    ),
    "level not above the classes": Mistake(
        "derive",
        ["obs['donor'] of {folder}/latents.h5ad is not nested above the classes: 'A0' has 6 values, such as donor_"],
        {"levels": ["lineage", "donor"]},
    ),
    "level of numbers": Mistake(
        "derive",
        [
            "obs['total_counts'] of {folder}/latents.h5ad is not nested above the classes: 'A0' has ",
            " values, such as ",
        ],
        {"levels": ["total_counts"]},
    ),
    "level with missing values": Mistake(
        "derive",
        ["obs['lineage'] of {folder}/latents.h5ad has ", " missing values; every cell needs its level"],
        {"levels": ["lineage"]},
        change_cells("latents.h5ad", half_the_levels),
    ),
    "cells that were not encoded": Mistake(
        "derive",
        ["{folder}/cells.h5ad lacks ", " encoded training cells, the first is ", "; give the cells that were encoded"],
        {},
        change_cells("cells.h5ad", lambda cells: cells[cells.obs["split"] != "train"].copy()),
    ),
    "no noise between the levels": Mistake(
        "derive", ["sigma_min 2.0 must be below sigma_max 1.0"], {"sigma_min": 2.0, "sigma_max": 1.0}
    ),
    "transmute: no such class": Mistake(
        "transmute", ["no class is called 'T'; there are A0, A1, B2, B3"], {"source": "T"}
    ),
    "transmute: one class": Mistake(
        "transmute", ["cells of class 'B2' are what they are to become; name two classes"], {"source": "B2"}
    ),
    "transmute: a codec of another run": Mistake(
        "transmute", ["{folder}/model.pt belongs to codec "], {"codec": "{folder}/other_codec.pt"}
    ),
    "extend: a class that is there": Mistake(
        "extend",
        ["{folder}/model.pt has the class or branch 'A0' of {folder}/cells.h5ad already; give cells of new classes "],
        {"cells": "{folder}/cells.h5ad"},
    ),
    "extend: cells of other genes": Mistake(
        "extend",
        ["{folder}/other_cells.h5ad has other genes than {folder}/model.pt; train on these cells, or prepare "],
        {"cells": "{folder}/other_cells.h5ad"},
    ),
    "extend: no cell to stop by": Mistake(
        "extend",
        ["class 'C4' of {folder}/new_cells.h5ad has no cells in the ref split; split by class"],
        spoil=change_cells("new_cells.h5ad", lambda cells: cells[cells.obs["split"] != "ref"].copy()),
    ),
    "n_cells of new classes where there are none": Mistake(
        "generate",
        ["n_cells is 'new', but the model was never extended; give it a number, or train"],
        {"n_cells": "new"},
    ),
    "prepare: a gene is missing": Mistake(
        "prepare",
        ["{folder}/source.h5ad lacks 60 of the 120 genes that are modelled, the first is 'gene_60'; give counts of "],
        {"like": "{folder}/cells.h5ad"},
        change_cells("source.h5ad", lambda cells: cells[:, :60].copy()),
    ),
    "hierarchy of other latents": Mistake(
        "train", [CODECS % ("hierarchy.json", "other_latents.h5ad")], {"latents": "{folder}/other_latents.h5ad"}
    ),
    "model of another codec, to generate": Mistake(
        "generate", [CODECS % ("model.pt", "other_codec.pt")], {"codec": "{folder}/other_codec.pt"}
    ),
    "model of another codec, to analyse": Mistake(
        "analyse", [CODECS % ("model.pt", "other_codec.pt")], {"codec": "{folder}/other_codec.pt"}
    ),
    "hierarchy of other classes": Mistake(
        "train",
        ["{folder}/hierarchy.json has other classes than {folder}/latents.h5ad; derive it again"],
        spoil=change_hierarchy(rename_a_class),
    ),
    "hierarchy with a gap": Mistake(
        "train",
        ["{folder}/hierarchy.json: class 'A0' has no branch or several at time "],
        spoil=change_hierarchy(leave_a_gap),
    ),
    "hierarchy without branches": Mistake(
        "train",
        ["{folder}/hierarchy.json has no 'branches'; it must have branches, codec, schedule, shrinkage, support"],
        spoil=change_hierarchy(forget_the_branches),
    ),
    "hierarchy without branches, to plot": Mistake(
        "plot",
        ["{folder}/hierarchy.json has no 'branches'; it must have branches, schedule, support"],
        spoil=change_hierarchy(forget_the_branches),
    ),
    "generated cells of other genes": Mistake(
        "evaluate",
        ["the generated cells have 120 genes in another order, or others besides the 60 of the prepared cells; give "],
        {"cells": "{folder}/other_cells.h5ad"},
    ),
    "generated cells of other classes": Mistake(
        "evaluate",
        ["the generated cells are of type 'B3', unknown to the prepared cells; give "],
        spoil=change_cells("cells.h5ad", without_a_class),
    ),
    "cells of other genes": Mistake(
        "analyse",
        ["{folder}/other_cells.h5ad has other genes than {folder}/model.pt; train on these cells"],
        {"cells": "{folder}/other_cells.h5ad"},
    ),
    "cells of other classes": Mistake(
        "analyse",
        ["{folder}/cells.h5ad has other classes than {folder}/model.pt; train on these cells"],
        spoil=change_cells("cells.h5ad", without_a_class),
    ),
    "model of another version": Mistake(
        "generate",
        ["{folder}/model.pt" + VERSION, "make it again with this version"],
        spoil=change_state("model.pt", lambda state: state.update(format_version=999)),
    ),
    "codec of another version": Mistake(
        "generate",
        ["{folder}/codec.pt" + VERSION],
        spoil=change_state("codec.pt", lambda state: state.update(format_version=999)),
    ),
    "hierarchy of another version": Mistake(
        "train",
        ["{folder}/hierarchy.json" + VERSION],
        spoil=change_hierarchy(lambda record: record.update(format_version=999)),
    ),
    "cells of another version": Mistake(
        "encode", ["{folder}/cells.h5ad" + VERSION], spoil=change_cells("cells.h5ad", of_another_version)
    ),
    "latents of another version": Mistake(
        "derive", ["{folder}/latents.h5ad" + VERSION], spoil=change_cells("latents.h5ad", of_another_version)
    ),
    "a record that is not ours": Mistake(
        "derive",
        ["uns['branchgen'] of {folder}/latents.h5ad is not a record that branchgen wrote"],
        spoil=change_cells("latents.h5ad", without_record),
    ),
    **{
        f"truncated {name}": Mistake(command, [f"{{folder}}/{name}{part}"], spoil=truncate(name))
        for command, name, part in (
            ("encode", "cells.h5ad", " cannot be read as h5ad, it may be truncated: "),
            ("derive", "latents.h5ad", " cannot be read as h5ad, it may be truncated: "),
            ("train", "hierarchy.json", " is not a JSON file: "),
            ("generate", "model.pt", " is not a model file of branchgen, or it is damaged"),
            ("analyse", "codec.pt", " is not a codec file of branchgen, or it is damaged"),
            ("evaluate", "generated.h5ad", " cannot be read as h5ad, it may be truncated: "),
            ("plot", "training.parquet", " is not a Parquet table, or it is damaged"),
        )
    },
    "codec changed": Mistake(
        "generate",
        ["the codec's content does not fit its hash {hash}; encode again"],
        spoil=change_state("codec.pt", shift),
    ),
    "codec in the place of the model": Mistake(
        "generate", ["{folder}/model.pt is not a model file of branchgen\n"], spoil=replace("model.pt", "codec.pt")
    ),
    "model in the place of the codec": Mistake(
        "analyse", ["{folder}/codec.pt is not a codec file of branchgen\n"], spoil=replace("codec.pt", "model.pt")
    ),
    "latents in the place of cells": Mistake(
        "encode",
        ["{folder}/latents.h5ad was written by 'branchgen encode', not by 'branchgen prepare'"],
        {"cells": "{folder}/latents.h5ad"},
    ),
    "cells in the place of latents": Mistake(
        "train",
        ["{folder}/cells.h5ad was written by 'branchgen prepare', not by 'branchgen encode'"],
        {"latents": "{folder}/cells.h5ad"},
    ),
    "generated cells in the place of real ones": Mistake(
        "analyse",
        ["{folder}/generated.h5ad was written by 'branchgen generate', not by 'branchgen prepare'"],
        {"cells": "{folder}/generated.h5ad"},
    ),
    "raw cells in the place of prepared ones": Mistake(
        "encode",
        ["{folder}/source.h5ad was not written by branchgen (no uns['branchgen'])"],
        {"cells": "{folder}/source.h5ad"},
    ),
    "more components than genes": Mistake(
        "encode", ["n_latent is 200; pca needs fewer than the ", " training cells and the 120 genes"], {"n_latent": 200}
    ),
}


@pytest.fixture(scope="session")
def other_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells, codec and latents of the same simulation with fewer genes."""
    folder = tmp_path_factory.mktemp("other_run")
    assert run_command("prepare", tiny_run, folder, n_genes=60) == 0
    assert run_command("encode", folder) == 0
    return folder


@pytest.fixture
def folder(tiny_run: Path, other_run: Path, tmp_path: Path) -> Path:
    """Copy of all files, and of the cells, codec and latents of fewer genes."""
    folder = tmp_path / "files"
    shutil.copytree(tiny_run, folder)
    for path in other_run.iterdir():
        shutil.copy(path, folder / f"other_{path.name}")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Empty folder of the outputs."""
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def check(error: str, command: str, parts: list[str]) -> None:
    """One sentence that holds all parts, in their order."""
    assert error.startswith(f"branchgen {command}: "), error
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    position = 0
    for part in parts:
        assert part in error[position:]
        position = error.index(part, position) + len(part)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    what: str, folder: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake = MISTAKES[what]
    names = {"hash": "codec.pt", "other_hash": "other_codec.pt"}
    hashes = {name: torch.load(folder / file, weights_only=True)["hash"] for name, file in names.items()}
    mistake.spoil(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments = {
        name: value.replace("{folder}", str(folder)) if isinstance(value, str) else value
        for name, value in mistake.arguments.items()
    }
    assert run_command(mistake.command, folder, results, **arguments) == 2
    parts = [part.format(folder=folder, **hashes) for part in mistake.parts]
    check(capsys.readouterr().err, mistake.command, parts)
    assert not list(results.iterdir())
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


INPUTS = [(command, flag) for command, about in COMMANDS.items() for flag in about.inputs if command in SETTINGS]


@pytest.mark.parametrize(("command", "flag"), INPUTS)
def test_an_absent_input_is_named(
    command: str, flag: str, folder: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / input_name(command, flag)
    path.unlink()
    assert run_command(command, folder, results) == 2
    check(capsys.readouterr().err, command, [f"{path} does not exist; check the path"])
    assert not list(results.iterdir())


@pytest.mark.parametrize("command", [command for command, about in COMMANDS.items() if about.device])
@pytest.mark.parametrize(
    ("device", "part"),
    [
        ("cuda", "device 'cuda' is not there: torch {torch} sees 0 GPUs; use --device cpu, or install"),
        ("cuda:7", "device 'cuda:7' is not there: torch {torch} sees 0 GPUs; use --device cpu, or install"),
        ("quantum", "device 'quantum' is unknown; it must be auto, cpu, cuda or cuda:N"),
        ("cuda:x", "device 'cuda:x' is unknown; it must be auto, cpu, cuda or cuda:N"),
        ("meta", "device 'meta' is not supported; it must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_is_not_there(
    command: str,
    device: str,
    part: str,
    tiny_run: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    required = dict.fromkeys(COMMANDS[command].required, "x")
    assert run_command(command, tiny_run, results, device=device, **required) == 2
    check(capsys.readouterr().err, command, [part.format(torch=torch.__version__)])
    assert not list(results.iterdir())


def out_of_range() -> Iterator[tuple[str, str, object, str]]:
    """Command, setting and a value beyond its range, for every bound; and what is no number, for every number."""
    for command, section in SECTIONS.items():
        hints = typing.get_type_hints(section)
        for knob in dataclasses.fields(section):
            step = 1 if hints[knob.name] is int else 1e-9
            if (low := knob.metadata["low"]) is not None:
                yield command, knob.name, low - step, "it must be "
            if (high := knob.metadata["high"]) is not None:
                yield command, knob.name, high + step, "it must be "
            if hints[knob.name] is float:
                yield command, knob.name, "nan", "it must be a finite number"
                yield command, knob.name, "inf", "it must be a finite number"


@pytest.mark.parametrize(("command", "name", "value", "part"), list(out_of_range()))
def test_a_setting_out_of_range_is_named(
    command: str, name: str, value: object, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings are checked before any file is opened: here there is none."""
    line = [command, f"--{name.replace('_', '-')}={value}"]
    about = COMMANDS[command]
    for flag in about.inputs:
        line += [f"--{flag}", str(tmp_path / flag)]
    for flag in about.outputs:
        line += [f"--output-{flag}", str(tmp_path / "results" / flag)]
    for flag in about.required:
        line += [f"--{flag}", "x"]
    assert main(line) == 2
    check(capsys.readouterr().err, command, [f".{name} is ", part])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", SECTIONS)
def test_a_choice_or_a_type_that_does_not_fit_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    hints = typing.get_type_hints(SECTIONS[command])
    for name, hint in hints.items():
        if hint is str:
            continue
        flag = f"--{name.replace('_', '-')}"
        with pytest.raises(SystemExit) as caught:
            main([command, f"{flag}=soon"])
        assert caught.value.code == 2
        kind = "choice" if typing.get_origin(hint) is Literal else f"{hint.__name__} value"
        assert f"branchgen {command}: error: argument {flag}: invalid {kind}: 'soon'" in capsys.readouterr().err


@pytest.mark.parametrize("command", SETTINGS)
@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_leaves_what_there_was(
    command: str, old: bool, tiny_run: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = [results / output_name(command, flag) for flag in COMMANDS[command].outputs]
    for path in outputs if old else ():
        path.write_text("old")
    few = {"n_steps": 2} if "n_steps" in SETTINGS[command] else {}
    with full_disk(1000):
        assert run_command(command, tiny_run, results, **few) == 2
    names = ", ".join(map(str, outputs))
    check(capfd.readouterr().err, command, [f"cannot write {names}: File too large; check free space and permissions"])
    assert {path: path.read_text() for path in results.rglob("*")} == (dict.fromkeys(outputs, "old") if old else {})


def test_a_full_disk_in_the_middle_of_training(
    tiny_run: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with full_disk(1000):
        assert run_command("train", tiny_run, results, checkpoint_seconds=0) == 2
    path = results / "model.pt.checkpoints" / "checkpoint.pt"
    check(capfd.readouterr().err, "train", [f"cannot write {path}: File too large; check free space and permissions"])
    assert not [found for found in results.rglob("*") if found.is_file()]


def test_a_full_disk_while_cells_are_generated(tiny_run: Path, results: Path) -> None:
    """In a process of its own: HDF5 does not survive a failing write, and would crash when the process ends."""
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-m",
            "branchgen",
            *command_line("generate", tiny_run, results, n_cells=600, batch_size=100),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: limit_files(30_000),
    )
    assert done.returncode == 2, done.stderr
    *log, sentence = done.stderr.splitlines(keepends=True)
    assert [line.split(" ", 1)[1].split(" ")[0] for line in log] == ["running"]
    target = results / "generated.h5ad"
    check(sentence, "generate", [f"cannot write {target}: File too large; check free space and permissions"])
    assert done.stdout == ""
    assert not list(results.iterdir())


def test_the_same_command_lines_without_a_mistake_succeed(folder: Path, results: Path) -> None:
    """Were this to fail, the errors above could be those of the files."""
    (folder / "tree.nwk").write_text("((A0,A1),(B2,B3));")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for arguments in ({"newick": folder / "tree.nwk"}, {"levels": ["lineage"]}):
            assert run_command("derive", folder, results, **arguments) == 0
        for command in ("train", "generate", "analyse"):
            assert run_command(command, folder, results, n_steps=2) == 0
    commands = ("derive", "train", "generate", "analyse")
    made = {output_name(command, flag) for command in commands for flag in COMMANDS[command].outputs}
    assert {path.name for path in results.iterdir()} == made
