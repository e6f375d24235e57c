"""Writes what is made from the settings dataclasses: schema and settings of config.yaml, tables of config/README.md.

`python tests/update_config.py` after a change of branchgen/config.py; test_config.py says whether it is due.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

from branchgen.config import SECTIONS
from branchgen.schema import default_text, schema_text, settings_table

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
MANUAL = ROOT / "config" / "README.md"
EXAMPLE = ROOT / "config" / "config.yaml"


def updated_manual(manual: str) -> str:
    """The manual with the meaning and the table of every section as the dataclasses have them."""
    for name, section in SECTIONS.items():
        entry = f"### {name}\n\n{_meaning(name)}\n\n{settings_table(section)}\n"
        manual, found = re.subn(rf"### {name}\n\n.*\n\n(\|.*\n)+", lambda _, entry=entry: entry, manual)
        if found != 1:
            raise ValueError(f"{MANUAL} must have the heading '### {name}' with a sentence and a table once")
    return manual


def updated_example(example: str) -> str:
    """The embedded example, with every setting at its default and explained; datasets, seed and device stay."""
    kept = example.split(f"# {_meaning('prepare')}\n")[0]
    return kept + "\n".join(_settings(name) for name in SECTIONS)


def _settings(section: str) -> str:
    lines = [f"# {_meaning(section)}", f"{section}:"]
    for knob in dataclasses.fields(SECTIONS[section]):
        lines += [f"  # {line}" for line in textwrap.wrap(knob.metadata["meaning"], 112)]
        lines.append(f"  {knob.name}: {default_text(knob.default)}")
    return "\n".join(lines) + "\n"


def _meaning(section: str) -> str:
    return (SECTIONS[section].__doc__ or "").strip()


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    MANUAL.write_text(updated_manual(MANUAL.read_text()))
    EXAMPLE.write_text(updated_example(EXAMPLE.read_text()))
