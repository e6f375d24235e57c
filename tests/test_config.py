"""config.yaml, its schema, its manual, the flags and the dataclasses say the same."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import re
import typing
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from update_config import EXAMPLE, MANUAL, ROOT, SCHEMA, updated_example, updated_manual

from branchgen.cli import build_parser
from branchgen.config import SECTIONS
from branchgen.errors import BranchgenError
from branchgen.schema import schema_text

SCHEMA_OF_CONFIG = yaml.safe_load(SCHEMA.read_text())
SETTINGS = [(name, knob.name) for name, section in SECTIONS.items() for knob in dataclasses.fields(section)]

N_CELLS = [("generate", "n_cells"), ("baseline", "n_cells")]

minimal: dict[str, Any] = {"datasets": {"lung": {"source": "lung.h5ad", "label_key": "cell_type"}}}


def knob_of(section: str, name: str) -> dataclasses.Field[Any]:
    return next(knob for knob in dataclasses.fields(SECTIONS[section]) if knob.name == name)


def refusal(config: Any) -> str:
    """What the schema says against a configuration; empty if nothing."""
    validator = jsonschema.Draft202012Validator(SCHEMA_OF_CONFIG)
    return "; ".join(error.message for error in validator.iter_errors(config))


def accepted_by_dataclass(section: str, name: str, value: Any) -> bool:
    try:
        SECTIONS[section].from_mapping({name: value})
    except BranchgenError:
        return False
    return True


def test_schema_manual_and_example_are_up_to_date() -> None:
    assert SCHEMA.read_text() == schema_text(), "run python tests/update_config.py"
    assert MANUAL.read_text() == updated_manual(MANUAL.read_text()), "run python tests/update_config.py"
    assert EXAMPLE.read_text() == updated_example(EXAMPLE.read_text()), "run python tests/update_config.py"


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA_OF_CONFIG)


def objects(schema: Any, where: str = "config") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with named properties in a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield where, schema
        for name, part in schema.items():
            yield from objects(part, f"{where}.{name}")


def test_schema_is_closed_and_describes_every_key() -> None:
    found = dict(objects(SCHEMA_OF_CONFIG))
    # The whole, a dataset, its transmutations and extensions, the benchmark, and what sharing costs.
    assert len(found) == 6 + len(SECTIONS)
    for where, schema in found.items():
        assert schema["additionalProperties"] is False or where == "config.properties.datasets", where
        for name, key in schema["properties"].items():
            assert key["description"], f"{where}.{name}"


@pytest.mark.parametrize(("section", "name"), SETTINGS)
def test_default_and_range_of_schema_and_dataclass_agree(section: str, name: str) -> None:
    knob = knob_of(section, name)
    low, high = knob.metadata["low"], knob.metadata["high"]
    whole = typing.get_type_hints(SECTIONS[section])[name] is int
    candidates = [knob.default, "nonsense", None, True, -1, 0, 0.5, 1, 7, 10**9]
    for bound, outwards in ((low, -1), (high, 1)):
        if bound is not None:
            beyond = bound + outwards if whole else math.nextafter(bound, outwards * math.inf)
            candidates += [bound, beyond]
    for value in candidates:
        if (section, name) in N_CELLS and value != knob.default:
            continue  # a text on the command line, a number or a table in the file
        by_schema = not refusal({**minimal, section: {name: value}})
        assert by_schema == accepted_by_dataclass(section, name, value), value


@pytest.mark.parametrize("section", ["generate", "baseline"])
@pytest.mark.parametrize("n_cells", [1, 500, "train", {"T cell": 10, "B": 0}])
def test_n_cells_is_a_number_the_word_train_or_a_table(section: str, n_cells: Any) -> None:
    assert not refusal({**minimal, section: {"n_cells": n_cells}})


@pytest.mark.parametrize("section", ["generate", "baseline"])
@pytest.mark.parametrize("n_cells", [0, -5, 2.5, "all", {}, {"B": -1}, {"B": "ten"}, [10], None])
def test_other_n_cells_are_refused(section: str, n_cells: Any) -> None:
    assert refusal({**minimal, section: {"n_cells": n_cells}})


def test_flags_of_every_command_have_the_defaults_and_meanings_of_the_dataclass() -> None:
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for section, name in SETTINGS:
        knob = knob_of(section, name)
        action = next(action for action in commands.choices[section]._actions if action.dest == name)
        assert action.option_strings == [f"--{name.replace('_', '-')}"]
        assert action.default == knob.default
        assert action.help == f"{knob.metadata['meaning'].replace('%', '%%')} (default: {knob.default})"


def test_example_holds_every_setting_at_its_default() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    assert not refusal(example)
    assert {name: example[name] for name in SECTIONS} == {name: cls().to_dict() for name, cls in SECTIONS.items()}
    assert set(example) == set(SCHEMA_OF_CONFIG["properties"])


@pytest.mark.parametrize("section", ["benchmark", "sharing"])
def test_sections_of_the_workflow_have_their_defaults_everywhere(section: str) -> None:
    defaults = {key: of["default"] for key, of in SCHEMA_OF_CONFIG["properties"][section]["properties"].items()}
    assert yaml.safe_load(EXAMPLE.read_text())[section] == defaults
    for key, default in defaults.items():
        said = re.search(rf"\| `{key}` \|[^|]*\| `([^|]*)` \|", MANUAL.read_text().split(f"\n## {section}\n")[1])
        assert said is not None
        assert yaml.safe_load(said[1]) == default


def test_every_key_of_the_example_has_a_comment() -> None:
    first, *lines = EXAMPLE.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=../workflow/schemas/config.schema.yaml"
    for previous, line in zip([first, *lines], lines, strict=False):
        if re.match(r" *\w+:", line) and line != "datasets:":
            assert previous.strip().startswith("#"), line


def test_every_example_is_valid() -> None:
    examples = sorted((ROOT / "config").glob("*.yaml"))
    assert len(examples) >= 2
    for example in examples:
        assert not refusal(yaml.safe_load(example.read_text())), example


def test_examples_in_the_manuals_are_valid() -> None:
    manuals = MANUAL.read_text() + (ROOT / "README.md").read_text()
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", manuals, flags=re.DOTALL)]
    assert len(examples) >= 4
    for example in examples:
        assert not refusal({**minimal, **example})
    assert yaml.safe_load((ROOT / "config" / "two_datasets.yaml").read_text()) in examples


def test_manual_names_every_key_of_a_dataset() -> None:
    dataset = SCHEMA_OF_CONFIG["properties"]["datasets"]["additionalProperties"]
    benchmark, sharing = (SCHEMA_OF_CONFIG["properties"][name] for name in ("benchmark", "sharing"))
    for key in [*dataset["properties"], *benchmark["properties"], *sharing["properties"], "seed", "device"]:
        assert f"| `{key}` |" in MANUAL.read_text()


def test_least_configuration_is_valid() -> None:
    assert not refusal(minimal)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        pytest.param((), "sede", id="top"),
        pytest.param(("datasets", "lung"), "labels", id="dataset"),
        *(pytest.param((section,), "n_stepz", id=section) for section in SECTIONS),
    ],
)
def test_a_typo_is_named_at_every_level(path: tuple[str, ...], key: str) -> None:
    config = copy.deepcopy(minimal)
    place = config
    for name in path:
        place = place.setdefault(name, {})
    place[key] = 1
    assert key in refusal(config)


@pytest.mark.parametrize(
    ("benchmark", "named"),
    [
        ({"n_seeds": 1, "baselines": ["scvi", "gauss", "flat"]}, ""),
        ({"baselines": []}, ""),
        ({"n_seeds": 0}, "0 is less than"),
        ({"n_seeds": 1.5}, "1.5"),
        ({"baselines": ["nb"]}, "'nb' is not one of"),
        ({"baselines": ["flat", "flat"]}, "non-unique"),
        ({"baselines": "flat"}, "'flat' is not of type 'array'"),
        ({"baseline": ["flat"]}, "'baseline' was unexpected"),
    ],
)
def test_benchmark(benchmark: dict[str, Any], named: str) -> None:
    found = refusal({**minimal, "benchmark": benchmark})
    assert named in found if named else not found


@pytest.mark.parametrize(
    ("sharing", "named"),
    [
        ({"costs": [0.4, 1], "n_seeds": 1}, ""),
        ({"costs": []}, "[] should be non-empty"),
        ({"costs": [0]}, "0 is less than or equal to the minimum of 0"),
        ({"costs": [1.1]}, "1.1 is greater than"),
        ({"costs": [0.5, 0.5]}, "non-unique"),
        ({"n_seeds": 0}, "0 is less than"),
        ({"cost": [0.5]}, "'cost' was unexpected"),
    ],
)
def test_sharing(sharing: dict[str, Any], named: str) -> None:
    found = refusal({**minimal, "sharing": sharing})
    assert named in found if named else not found


def with_dataset(**keys: Any) -> dict[str, Any]:
    return {"datasets": {"lung": {**minimal["datasets"]["lung"], **keys}}}


SHA256 = "0123456789abcdef" * 4
URL = "https://example.org/lung.h5ad"


@pytest.mark.parametrize(
    "config",
    [
        with_dataset(source=URL, sha256=SHA256),
        with_dataset(source="scanpy:pbmc68k_reduced"),
        with_dataset(newick="tree.nwk"),
        with_dataset(levels=["lineage", "cell_type"], split_key="donor", counts="raw"),
    ],
)
def test_datasets_that_are_accepted(config: dict[str, Any]) -> None:
    assert not refusal(config)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        pytest.param(with_dataset(source=URL), "sha256", id="URL without its hash"),
        pytest.param(with_dataset(sha256=SHA256), "sha256", id="hash without a URL"),
        pytest.param(with_dataset(source=URL, sha256=SHA256[1:]), SHA256[1:], id="short hash"),
        pytest.param(with_dataset(newick="a", levels=["b"]), "newick", id="two trees"),
        pytest.param(with_dataset(levels=[]), "[]", id="no level"),
        pytest.param({"datasets": {"lung": {"source": "lung.h5ad"}}}, "label_key", id="no label key"),
        pytest.param({"datasets": {"a/b": minimal["datasets"]["lung"]}}, "a/b", id="name with a slash"),
        pytest.param({"datasets": {}}, "{}", id="no dataset"),
        pytest.param({"seed": 1}, "datasets", id="datasets missing"),
        pytest.param({**minimal, "device": "gpu"}, "gpu", id="unknown device"),
        pytest.param({**minimal, "seed": "one"}, "one", id="seed as text"),
    ],
)
def test_datasets_that_are_refused(config: dict[str, Any], named: str) -> None:
    assert named in refusal(config)
