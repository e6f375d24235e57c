"""What settings are made of: frozen dataclasses of scalars with defaults, meanings and ranges, checked when made."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from branchgen.errors import BranchgenError


def knob(default: Any, meaning: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A field with its default, its meaning (one sentence) and its inclusive range."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the settings of one command: scalars only, checked when made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for knob_ in dataclasses.fields(self):
            _check(type(self).__name__, knob_, hints[knob_.name], getattr(self, knob_.name))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from a mapping of names to values; BranchgenError names an unknown one and lists the known."""
        known = [knob_.name for knob_ in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise BranchgenError(f"{cls.__name__} has no setting {name!r}; it has {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping of names to values."""
        return dataclasses.asdict(self)


def _check(section: str, knob_: dataclasses.Field[Any], hint: Any, value: Any) -> None:
    where = f"{section}.{knob_.name}"
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise BranchgenError(f"{where} is {value!r}; it must be one of {', '.join(map(str, choices))}")
        return
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise BranchgenError(f"{where} is {value!r}; it must be of type {hint.__name__}")
    if hint is float and not math.isfinite(value):
        raise BranchgenError(f"{where} is {value}; it must be a finite number")
    low, high = knob_.metadata["low"], knob_.metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"in [{low}, {high}]"
        raise BranchgenError(f"{where} is {value}; it must be {bounds}")
