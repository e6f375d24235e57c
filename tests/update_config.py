"""Writes what is made from the settings dataclasses: the schema of config.yaml and the tables of config/README.md.

`python tests/update_config.py` after a change of branchgen/config.py; test_config.py says whether it is due.
"""

from __future__ import annotations

import re
from pathlib import Path

from branchgen.config import SECTIONS
from branchgen.schema import schema_text, settings_table

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
MANUAL = ROOT / "config" / "README.md"


def updated_manual(manual: str) -> str:
    """The manual with the meaning and the table of every section as the dataclasses have them."""
    for name, section in SECTIONS.items():
        entry = f"### {name}\n\n{(section.__doc__ or '').strip()}\n\n{settings_table(section)}\n"
        manual, found = re.subn(rf"### {name}\n\n.*\n\n(\|.*\n)+", lambda _, entry=entry: entry, manual)
        if found != 1:
            raise ValueError(f"{MANUAL} must have the heading '### {name}' with a sentence and a table once")
    return manual


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    MANUAL.write_text(updated_manual(MANUAL.read_text()))
