"""What a person may choose for a bot: numbers and words with their bounds, read from text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from botswarm.errors import Problem

Value = int | bool | Decimal | str
"""What a parameter may be. Decimal, not float: what a person wrote stays what they wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number or word that a person chooses for a bot."""

    name: str
    words: str
    default: Value
    at_least: int | Decimal | None
    at_most: int | Decimal | None
    choices: tuple[str, ...]

    @property
    def span(self) -> str:
        """What it may be, for people."""
        if self.choices:
            return " | ".join(self.choices)
        if isinstance(self.default, bool):
            return "true | false"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if isinstance(self.default, str):
            return "a word"
        low, high = self.at_least, self.at_most
        return (
            kind
            + {
                (True, True): f" from {low} to {high}",
                (True, False): f", {low} or more",
                (False, True): f", at most {high}",
                (False, False): "",
            }[low is not None, high is not None]
        )

    def read(self, given: object) -> Value | Problem:
        """From text, or from a plain value as the ledger keeps it."""
        value = self._typed(given)
        if value is None or not self._is_within(value):
            return Problem(f"{self.name} is {given!r}, not {self.span}", f"{self.words}")
        return value

    def _typed(self, given: object) -> Value | None:
        text = str(given).strip()
        if isinstance(self.default, bool):
            return {"true": True, "false": False}.get(text.lower())
        if isinstance(self.default, str):
            return text or None
        if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,18})?", text, re.ASCII):
            return None
        if isinstance(self.default, int):
            return int(text) if "." not in text else None
        try:
            return Decimal(text)
        except InvalidOperation:  # pragma: no cover - the pattern lets only numbers through
            return None

    def _is_within(self, value: Value) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return True
        is_low = self.at_least is not None and value < self.at_least
        return not is_low and not (self.at_most is not None and value > self.at_most)


def parameter(
    *,
    default: Any,
    words: str,
    at_least: int | Decimal | None = None,
    at_most: int | Decimal | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a strategy: its default says its type, ``words`` what it is, for people."""
    told = Parameter(
        name="",
        words=words,
        default=default,
        at_least=at_least,
        at_most=at_most,
        choices=tuple(choices),
    )
    return field(default=default, metadata={"parameter": told})
