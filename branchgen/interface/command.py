"""What is said of a command: the files it reads and writes, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Command:
    """Files and options of one command; every option takes one text unless it is named in `lists`.

    Switches take nothing.
    """

    summary: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    options: dict[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    switches: dict[str, str] = field(default_factory=dict)
    seed: bool = True
    device: bool = False
