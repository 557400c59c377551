"""What a setting is, and the ways in which values are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from botswarm.errors import Problem

Read = Callable[[str], object]
"""Text in, value out; a Problem whose cause goes on after the place: "X.env:3 is not …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a value is written: ``schema`` says it to editors, ``words`` to people."""

    read: Read
    schema: Mapping[str, object]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    name: str
    kind: Kind
    help: str
    default: object = None
    """A value, or a function of the settings above it in the table."""
    default_words: str = ""
    """How the reference describes a default that is computed."""
    profile_defaults: Mapping[str, object] = field(default_factory=dict)
    conventional: tuple[str, ...] = ()
    """Names that platforms and other tools use for the same thing, first one first."""
    agree: Callable[[str, str], bool] = str.__eq__
    """Whether two of those names may stand side by side with these values."""
    secret: bool = False

    @property
    def variable(self) -> str:
        return f"BOTSWARM_{self.name.upper()}"


def choice(*values: str, aliases: Mapping[str, str] | None = None) -> Kind:
    known = {value: value for value in values} | dict(aliases or {})

    def read(text: str) -> object:
        if (value := known.get(text.lower())) is not None:
            return value
        return Problem(
            f"is {text!r}, not one of {', '.join(values)}", f"choose {' or '.join(values)}"
        )

    return Kind(read=read, schema={"enum": list(values)}, words=" | ".join(values))


def whole_number(lowest: int, highest: int, unit: str) -> Kind:
    span = f"a whole number from {lowest} to {highest}"

    def read(text: str) -> object:
        # isdecimal() alone also accepts other alphabets' digits, and int() underscores.
        if text.isascii() and text.isdecimal() and len(text) <= 12:
            number = int(text)
            if lowest <= number <= highest:
                return number
        return Problem(f"is {text!r}, not {span}", f"write {span}{unit and f', in {unit}'}")

    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Kind(read=read, schema=schema, words=f"{span}{unit and f' ({unit})'}")


def amount(unit: str) -> Kind:
    """Money, exact: a float would already be another number than the one that was written."""
    span = "an amount of 0 or more, such as 500 or 0.25"

    def read(text: str) -> object:
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,18})?", text, re.ASCII):
            return Decimal(text)
        return Problem(f"is {text!r}, not {span}", f"write {span}, in {unit}")

    return Kind(read=read, schema={"type": "number", "minimum": 0}, words=f"an amount ({unit})")


def share(lowest: float = 0.0) -> Kind:
    """A part of a whole; nothing is reckoned with it but scores and pauses."""
    span = f"a number from {lowest:g} to 1, such as 0.25"

    def read(text: str) -> object:
        if re.fullmatch(r"[01](\.[0-9]{1,6})?", text, re.ASCII) and lowest <= float(text) <= 1:
            return float(text)
        return Problem(f"is {text!r}, not {span}", f"write {span}")

    schema = {"type": "number", "minimum": lowest, "maximum": 1}
    return Kind(read=read, schema=schema, words=span)


def switch() -> Kind:
    def read(text: str) -> object:
        if text.lower() in ("on", "true", "yes", "1"):
            return True
        if text.lower() in ("off", "false", "no", "0"):
            return False
        return Problem(f"is {text!r}, neither on nor off", "write on or off")

    return Kind(read=read, schema={"enum": ["on", "off"]}, words="on | off")
