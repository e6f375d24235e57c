"""JSON schema and manual of config.yaml, made from the settings dataclasses."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal

from branchgen.config import SECTIONS
from branchgen.section import Section

COLUMNS: dict[str, Any] = {
    "label_key": {"type": "string", "minLength": 1, "description": "Column of obs with the cell types."},
    "counts": {
        "type": "string",
        "minLength": 1,
        "default": "X",
        "description": "Where the raw counts are: X, or the name of a layer.",
    },
    "split_key": {
        "type": "string",
        "minLength": 1,
        "description": "Column of obs (donor, batch) whose values are kept together in one split; "
        "without it the splits are stratified by cell type.",
    },
}
"""Where in a file of counts everything is."""

DATASET: dict[str, Any] = {
    "type": "object",
    "description": "One dataset: where its counts are, and what its columns of obs mean.",
    "additionalProperties": False,
    "required": ["source", "label_key"],
    "properties": {
        "source": {
            "type": "string",
            "minLength": 1,
            "description": "Raw counts: path to an h5ad or a zarr store (relative to the working directory), a URL of "
            "an h5ad, or scanpy:pbmc68k_reduced.",
        },
        "sha256": {
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "SHA-256 (64 hexadecimal digits) of the file behind a URL; for a URL alone, required there.",
        },
        **COLUMNS,
        "newick": {
            "type": "string",
            "minLength": 1,
            "description": "Path to a Newick file with the tree of the classes; only the times are then derived.",
        },
        "levels": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "uniqueItems": True,
            "description": "Columns of obs from coarse to fine that define the tree; only the times are then derived.",
        },
        "transmute": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["from", "to"],
                "properties": {
                    "from": {"type": "string", "minLength": 1, "description": "Class of the real cells."},
                    "to": {"type": "string", "minLength": 1, "description": "Class that they are to be of."},
                },
            },
            "uniqueItems": True,
            "description": "Pairs of classes, from and to: real cells of the one are made cells of the other.",
        },
        "extend": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["source", "label_key"],
                "properties": {
                    "source": {
                        "type": "string",
                        "minLength": 1,
                        "description": "Raw counts of the new classes: path to an h5ad or a zarr store with the "
                        "genes of the model.",
                    },
                    **COLUMNS,
                },
            },
            "description": "Cells of new classes by the name of the extension; each adds to the model of the one "
            "before.",
        },
    },
    "not": {"required": ["newick", "levels"]},
    "if": {"required": ["source"], "properties": {"source": {"pattern": "^(https?|ftp)://"}}},
    "then": {"required": ["sha256"]},
    "else": {"not": {"required": ["sha256"]}},
}

N_CELLS: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"enum": ["train", "new"]},
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer", "minimum": 0}},
    ]
}
"""The one setting that is not a scalar."""


BENCHMARK: dict[str, Any] = {
    "type": "object",
    "description": "What `snakemake benchmark` repeats and compares with.",
    "default": {},
    "additionalProperties": False,
    "properties": {
        "n_seeds": {
            "type": "integer",
            "minimum": 1,
            "default": 3,
            "description": "Runs on every dataset, each with a seed of its own: seed, seed + 1, and so on.",
        },
        "baselines": {
            "type": "array",
            "items": {"enum": ["codec", "gauss", "flat", "scvi"]},
            "uniqueItems": True,
            "default": ["codec", "gauss", "flat"],
            "description": "What branchgen is compared with, besides real cells and a negative binomial: "
            "codec (training cells through the codec and back), gauss (a Gaussian per class in the codec's latent "
            "space), flat (branchgen without a tree), "
            "scvi (a mixture per class in the latent space of scVI; needs the extra scvi).",
        },
    },
}
"""A section without a command: it belongs to the workflow."""

SHARING: dict[str, Any] = {
    "type": "object",
    "description": "What `snakemake sharing` trains, to show what sharing branches saves and costs.",
    "default": {},
    "additionalProperties": False,
    "properties": {
        "costs": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "minItems": 1,
            "uniqueItems": True,
            "default": [0.35, 0.43, 0.5, 0.65, 0.8],
            "description": "Largest costs of the models, as in derive.max_evaluations; a model is trained for each.",
        },
        "n_seeds": {
            "type": "integer",
            "minimum": 1,
            "default": 3,
            "description": "Sets of cells that are generated in every way.",
        },
    },
}
"""The other one."""


def config_schema() -> dict[str, Any]:
    """Schema of the whole of config.yaml; closed at every level."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Configuration of the branchgen workflow.",
        "type": "object",
        "additionalProperties": False,
        "required": ["datasets"],
        "properties": {
            "datasets": {
                "type": "object",
                "description": "The datasets by name; each is worked on by itself, under results/NAME.",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
                "additionalProperties": DATASET,
            },
            "seed": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "Seed of all randomness.",
            },
            "device": {
                "type": "string",
                "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$",
                "default": "auto",
                "description": "Where the model is computed: auto (a GPU where there is one), cpu, cuda, or cuda:N.",
            },
            "benchmark": BENCHMARK,
            "sharing": SHARING,
            **{name: section_schema(section) for name, section in SECTIONS.items()},
        },
    }


def section_schema(section: type[Section]) -> dict[str, Any]:
    """Schema of the settings of one command, with their defaults, ranges and meanings."""
    hints = typing.get_type_hints(section)
    return {
        "type": "object",
        "description": (section.__doc__ or "").strip(),
        "default": {},
        "additionalProperties": False,
        "properties": {knob.name: _setting(knob, hints[knob.name]) for knob in dataclasses.fields(section)},
    }


def _setting(knob: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    about = {"default": knob.default, "description": knob.metadata["meaning"]}
    if typing.get_origin(hint) is Literal:
        return {"enum": list(typing.get_args(hint)), **about}
    if hint is str:
        return {**N_CELLS, **about}
    low, high = knob.metadata["low"], knob.metadata["high"]
    bounds = {name: bound for name, bound in (("minimum", low), ("maximum", high)) if bound is not None}
    return {"type": {int: "integer", float: "number", bool: "boolean"}[hint], **bounds, **about}


def default_text(default: Any) -> str:
    """A default as YAML has it."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def settings_table(section: type[Section]) -> str:
    """Markdown table of the settings of one command: name, meaning, default and range."""
    lines = ["| setting | meaning | default | range |", "|---|---|---|---|"]
    hints = typing.get_type_hints(section)
    for knob in dataclasses.fields(section):
        default, range_ = default_text(knob.default), _range(knob, hints[knob.name])
        lines.append(f"| `{knob.name}` | {knob.metadata['meaning']} | `{default}` | {range_} |")
    return "\n".join(lines)


def _range(knob: dataclasses.Field[Any], hint: Any) -> str:
    low, high = knob.metadata["low"], knob.metadata["high"]
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
    if hint is str:
        return "integer, `train`, or table"
    kind = {int: "integer", float: "number", bool: "`true` or `false`"}[hint]
    if low is None and high is None:
        return kind
    return (
        f"{kind} ≥ {low:g}"
        if high is None
        else f"{kind} ≤ {high:g}"
        if low is None
        else f"{kind} in [{low:g}, {high:g}]"
    )


def schema_text() -> str:
    """The schema as YAML."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Repeats a mapping that occurs twice instead of pointing at it."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump(config_schema(), Dumper=Plain, sort_keys=False, width=120, allow_unicode=True))
