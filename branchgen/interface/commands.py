"""All commands, of which the command line is made."""

from __future__ import annotations

from branchgen.interface import benchmarks, steps

COMMANDS = {**steps.STEPS, **benchmarks.BENCHMARKS}
"""Every command with its files and options."""
COMMAND_SETTINGS = {**steps.SETTINGS, **benchmarks.SETTINGS}
"""Settings class of every command that has settings."""
