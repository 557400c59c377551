"""Bots in a TOML file: written so that reading it back changes nothing, read with all problems."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from botswarm.bots.spec import BUDGET, BUDGET_DEFAULT, BadSpec, BotSpec, parameters_of
from botswarm.errors import BotswarmError, Problem
from botswarm.ledger.bot import Bot
from botswarm.ledger.configurations import configuration
from botswarm.strategies.registry import Catalog

FORMAT = 1
KEYS = ("name", "strategy", "market", "account", "timeframe", BUDGET, "tags", "shadow",
        "parameters")  # fmt: skip
BARE = r"[A-Za-z0-9_-]+"
FIXED = ("strategy", "venue", "symbol", "account")
"""What a bot that exists cannot be edited to be: its orders and its memory are about it."""


class BadFile(BotswarmError):
    """A file of bots makes no sense; nothing was created and nothing changed."""

    exit_code = 2

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(
            f"{name} has {count} problem{'s'[: count != 1]}, so nothing was changed",
            cure="mend them and import it again",
        )
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where bots go that do not say it."""

    venue: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What importing would do."""

    new: Sequence[Bot]
    edited: Sequence[Bot]
    """With the version they are made from."""
    unchanged: Sequence[str]


# --- writing --------------------------------------------------------------------------------------


def written(bots: Iterable[Bot]) -> str:
    parts = [f"format = {FORMAT}\n"]
    for bot in bots:
        said: dict[str, object] = {
            "name": bot.name,
            "strategy": bot.strategy,
            "market": f"{bot.venue}:{bot.symbol}",
            "account": bot.account,
            "timeframe": bot.timeframe,
            BUDGET: bot.parameters.get(BUDGET, ""),
        }
        if bot.tags:
            said["tags"] = list(bot.tags)
        if bot.is_shadow:
            said["shadow"] = True
        lines = [f"{key} = {_value(value)}" for key, value in said.items()]
        if parameters := parameters_of(bot):
            pairs = ", ".join(f"{_key(key)} = {_value(v)}" for key, v in parameters.items())
            lines.append(f"parameters = {{ {pairs} }}")
        parts.append("[[bot]]\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case list():
            return "[" + ", ".join(_value(each) for each in value) + "]"
    # A basic string of TOML is spelled as one of JSON, but for the one character more it forbids.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(BARE, key) else _value(key)


# --- reading --------------------------------------------------------------------------------------


def read(text: str, catalog: Catalog, place: Place, *, name: str) -> Sequence[Bot]:
    """Raises BadFile with every problem there is, each with its line and its bot."""
    try:
        told = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        # Also numbers of thousands of digits, and lists in lists in lists.
        raise BadFile(name, [Problem(f"it is no TOML: {error}", "mend that line")]) from None
    problems = [
        Problem(f"{key!r} is nothing a file of bots says", "it has format, defaults and [[bot]]")
        for key in told
        if key not in ("format", "defaults", "bot")
    ]
    if told.get("format", FORMAT) != FORMAT:
        problems.append(Problem(f"its format is {told['format']!r}", f"write format = {FORMAT}"))
    defaults, entries = told.get("defaults", {}), told.get("bot", [])
    if not isinstance(defaults, dict):
        defaults = {}
        problems.append(Problem("defaults is no table", "write [defaults]"))
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        entries = []
        problems.append(Problem("bot is no list of tables", "begin each bot with [[bot]]"))
    found, more = _bots(entries, defaults, catalog, place, _lines(text, len(entries)))
    if problems or more:
        raise BadFile(name, [*problems, *more])
    return found


def _bots(
    entries: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    catalog: Catalog,
    place: Place,
    lines: Sequence[int | None],
) -> tuple[list[Bot], list[Problem]]:
    found: list[Bot] = []
    problems: list[Problem] = []
    names: set[object] = set()
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True), start=1):
        where = f"bot {entry.get('name', number)!r}"
        where = where if line is None else f"line {line}, {where}"
        if (name := str(entry.get("name", number))) in names:
            problems.append(Problem(f"{where}: it is there twice", "leave one of them out"))
        names.add(name)
        try:
            found.append(_bot({**defaults, **entry}, defaults, entry, catalog, place))
        except BotswarmError as error:
            problems.append(Problem(f"{where}: {error.cause}", error.cure))
    return found, problems


def _bot(
    told: Mapping[str, Any],
    defaults: Mapping[str, Any],
    entry: Mapping[str, Any],
    catalog: Catalog,
    place: Place,
) -> Bot:
    """Raises with all that is wrong with it, as far as it can be understood at all."""
    strange = [f"{key!r} is nothing a bot has" for key in told if key not in KEYS]
    tables = [each.get("parameters", {}) for each in (defaults, entry)]
    if unclear := _unclear(told, tables):
        raise BadSpec("; ".join([*strange, *unclear]), cure=f"a bot has {', '.join(KEYS)}")
    venue, _, symbol = told["market"].rpartition(":")
    try:
        spec = BotSpec.of(
            catalog,
            name=told["name"],
            strategy=told["strategy"],
            venue=venue or place.venue,
            symbol=symbol.upper(),
            account=told.get("account", place.account),
            timeframe=told.get("timeframe"),
            budget=_spelled(told.get(BUDGET, BUDGET_DEFAULT)),
            parameters={key: _spelled(value) for each in tables for key, value in each.items()},
            tags=told.get("tags", []),
            is_shadow=told.get("shadow", False),
        )
    except BotswarmError as error:
        raise BadSpec("; ".join([*strange, error.cause]), cure=error.cure) from None
    if strange:
        raise BadSpec("; ".join(strange), cure=f"a bot has {', '.join(KEYS)}")
    return spec.bot()


def _unclear(told: Mapping[str, Any], tables: Sequence[object]) -> list[str]:
    """What is missing, or is no value of its kind."""
    found = [f"it says no {key}" for key in ("name", "strategy", "market") if key not in told]
    for key in ("name", "strategy", "market", "account", "timeframe"):
        if key in told and not isinstance(told[key], str):
            found.append(f"its {key} is {told[key]!r}, not a word in quotes")
    if not all(isinstance(each, dict) for each in tables):
        found.append("its parameters are no table")
    tags = told.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        found.append("its tags are no list of words in quotes")
    if not isinstance(told.get("shadow", False), bool):
        found.append("shadow is neither true nor false")
    return found


def _spelled(value: object) -> object:
    """As the command line would have it: 0.5 as it was written, not as a float has it."""
    if not isinstance(value, Decimal):
        return value
    # Written out, 1e999999999 would take a gigabyte; nothing that may be meant is as large.
    return str(value) if value.is_finite() and abs(value.adjusted()) > 40 else format(value, "f")


def _lines(text: str, count: int) -> Sequence[int | None]:
    """Where each bot begins; unknown for files that spell them in another way."""
    numbers = [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if re.match(r"\s*\[\[\s*bot\s*\]\]", line)
    ]
    return numbers if len(numbers) == count else [None] * count


# --- what importing would do ----------------------------------------------------------------------


def planned(told: Sequence[Bot], there: Sequence[Bot], *, name: str) -> Plan:
    """Raises BadFile for bots that exist and were to become another one's."""
    known = {bot.name: bot for bot in there}
    new, edited, unchanged = [], [], []
    problems = []
    for bot in told:
        if (before := known.get(bot.name)) is None:
            new.append(bot)
        elif (was := configuration(before)) == (shall := configuration(bot)):
            unchanged.append(bot.name)
        elif fixed := [key for key in FIXED if was[key] != shall[key]]:
            problems.append(_cannot(bot.name, fixed, was, shall))
        else:
            edited.append(replace(bot, version=before.version))
    if problems:
        raise BadFile(name, problems)
    return Plan(new=new, edited=edited, unchanged=unchanged)


def _cannot(
    bot: str, keys: Sequence[str], was: Mapping[str, Any], shall: Mapping[str, Any]
) -> Problem:
    words = ", ".join(f"{key} is {was[key]}, not {shall[key]}" for key in keys)
    return Problem(
        f"bot {bot!r}: its {words}, and that cannot be edited",
        f"give it another name, or first: botswarm bot delete {bot}",
    )
