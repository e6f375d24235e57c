"""The command line: one command per step, its settings as flags, user errors as one sentence and exit code 2."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import logging
import signal
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from branchgen import __version__
from branchgen.errors import BranchgenError, Terminated
from branchgen.interface.commands import COMMAND_SETTINGS, COMMANDS
from branchgen.section import Section
from branchgen.signals import handled, terminate


def build_parser() -> argparse.ArgumentParser:
    """Parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="branchgen", description="Branched diffusion models of single-cell data.")
    parser.add_argument("--version", action="version", version=f"branchgen {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.summary, description=command.summary)
        files = sub.add_argument_group("files")
        for flag, meaning in command.inputs.items():
            files.add_argument(f"--{flag}", type=Path, required=True, metavar="FILE", help=meaning)
        for flag, meaning in command.outputs.items():
            files.add_argument(f"--output-{flag}", type=Path, required=True, metavar="FILE", help=meaning)
        for flag, meaning in command.options.items():
            nargs = "+" if flag in command.lists else None
            sub.add_argument(f"--{flag}", required=flag in command.required, nargs=nargs, help=meaning)
        for flag, meaning in command.switches.items():
            sub.add_argument(f"--{flag}", action="store_true", help=meaning)
        if command.seed:
            sub.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
        if command.device:
            sub.add_argument(
                "--device", default="auto", help="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one"
            )
        if name in COMMAND_SETTINGS:
            add_settings(sub.add_argument_group("settings"), COMMAND_SETTINGS[name])
    return parser


def add_settings(group: argparse._ArgumentGroup, section: type[Section]) -> None:
    """One flag per setting, with its meaning and default."""
    hints = typing.get_type_hints(section)
    for knob in dataclasses.fields(section):
        hint = hints[knob.name]
        literal = typing.get_origin(hint) is Literal
        group.add_argument(
            f"--{knob.name.replace('_', '-')}",
            type=str if literal else _truth if hint is bool else hint,
            choices=typing.get_args(hint) if literal else None,
            default=knob.default,
            help=f"{knob.metadata['meaning'].replace('%', '%%')} (default: {knob.default})",
        )


def _truth(text: str) -> bool:
    """A truth value as YAML and Python write it."""
    found = {"true": True, "false": False}.get(text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"invalid bool value: {text!r}; it must be true or false")
    return found


def settings_of(arguments: argparse.Namespace) -> Section:
    """Settings of the chosen command."""
    section = COMMAND_SETTINGS[arguments.command]
    return section.from_mapping({knob.name: getattr(arguments, knob.name) for knob in dataclasses.fields(section)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        settings: Any = settings_of(arguments) if arguments.command in COMMAND_SETTINGS else None
        with handled({signal.SIGTERM: terminate}):
            command = importlib.import_module(f"branchgen.commands.{arguments.command.replace('-', '_')}")
            command.run(arguments, settings)
    except BranchgenError as error:
        print(f"branchgen {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"branchgen {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except Terminated as ended:
        print(f"branchgen {arguments.command}: ended by {signal.Signals(ended.number).name}", file=sys.stderr)
        return 128 + ended.number
    return 0
