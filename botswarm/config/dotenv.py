"""A strict reader of `.env` files: every line is understood or reported, none is guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from botswarm.errors import Problem

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?(?P<key>[^\s=]+)[ \t]*=[ \t]*(?P<value>.*)")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AFTER_QUOTE = re.compile(r"[ \t]*(#.*)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    value: str


@dataclass(frozen=True, slots=True)
class DotEnv:
    values: dict[str, Line]
    problems: tuple[Problem, ...]


def parse(text: str, name: str) -> DotEnv:
    """Read the text of the file called ``name``; no problem ever quotes a value."""
    values: dict[str, Line] = {}
    problems: list[Problem] = []
    # Not splitlines(): that also breaks at form feeds and other marks no editor counts as a line.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        assignment = _read_line(line.rstrip("\r"), f"{name}:{number}")
        if assignment is None:
            continue
        if isinstance(assignment, Problem):
            problems.append(assignment)
            continue
        key, value = assignment
        if key in values:
            first = values[key].number
            problems.append(
                Problem(
                    f"{name}:{number} sets {key} again, it is already set in line {first}",
                    "delete one of the two lines",
                )
            )
        else:
            values[key] = Line(number, value)
    return DotEnv(values, tuple(problems))


def _read_line(line: str, place: str) -> tuple[str, str] | Problem | None:
    line = line.strip(" \t")
    if not line or line.startswith("#"):
        return None
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        return Problem(f"{place} is not NAME=value", "write NAME=value, or # before a comment")
    if not _KEY.fullmatch(match["key"]):
        return Problem(
            f"{place} sets a name that is not made of letters, digits and _", "correct the name"
        )
    value = _read_value(match["value"])
    if isinstance(value, Problem):
        return Problem(f"{place} {value.cause}", value.cure)
    return match["key"], value


def _read_value(text: str) -> str | Problem:
    if text.startswith("'"):
        return _single_quoted(text)
    if text.startswith('"'):
        return _double_quoted(text)
    if text.startswith("#"):
        return ""
    # A "#" inside a word belongs to the value: URLs and passwords hold them.
    value = re.split(r"[ \t]+#", text, maxsplit=1)[0].rstrip(" \t")
    return _unexpanded(value) or value


def _single_quoted(text: str) -> str | Problem:
    value, quote, rest = text[1:].partition("'")
    if not quote:
        return _unclosed("'")
    return _after_quote(rest) or value


def _double_quoted(text: str) -> str | Problem:
    value: list[str] = []
    position = 1
    while position < len(text):
        character = text[position]
        if character == '"':
            whole = "".join(value)
            return _after_quote(text[position + 1 :]) or whole
        if character == "\\":
            position += 1
            escaped = text[position : position + 1]
            if escaped not in _ESCAPES:
                return Problem(
                    "holds a backslash that escapes nothing", "write \\\\, or use 'single quotes'"
                )
            character = _ESCAPES[escaped]
        elif text.startswith("${", position):
            return _unexpanded("${") or ""
        value.append(character)
        position += 1
    return _unclosed('"')


def _after_quote(rest: str) -> Problem | None:
    if _AFTER_QUOTE.fullmatch(rest):
        return None
    return Problem("goes on after the closing quote", "put the whole value inside the quotes")


def _unclosed(quote: str) -> Problem:
    return Problem(f"opens a {quote} that is never closed", "close it in the same line")


def _unexpanded(value: str) -> Problem | None:
    if "${" not in value:
        return None
    return Problem(
        "holds ${...}, and variables are not expanded here",
        "write the value itself, or '${...}' in single quotes if it is meant literally",
    )
