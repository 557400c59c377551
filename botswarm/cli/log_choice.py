"""Which log files are read, and which of their lines fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.errors import NotFound

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.logfiles import Line

Callback = Callable[..., Any]
LEVELS = ("debug", "info", "warning", "error", "critical")


def choosing(command: Callback) -> Callback:
    """The options that say which lines fit."""
    for option in (
        click.option(
            "--file",
            "files",
            multiple=True,
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Read this file only; default: BOTSWARM_LOG_FILE and the state folder's logs.",
        ),
        click.option("--regex", metavar="PATTERN", help="The whole line fits this."),
        click.option("--order", metavar="ID", help="About this order."),
        click.option("--bot", metavar="NAME", help="About this bot."),
        click.option("--process", metavar="NAME", help="Of this process, such as feed or orders."),
        click.option("--level", type=click.Choice(LEVELS), help="At least so important."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class Choice:
    level: str | None = None
    process: str | None = None
    bot: str | None = None
    order: str | None = None
    regex: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        # Where no line is held to it, nothing else would find out that it is none.
        _ = self._pattern

    @cached_property
    def _pattern(self) -> re.Pattern[bytes] | None:
        if self.regex is None:
            return None
        try:
            return re.compile(self.regex.encode())
        except re.error as error:
            raise click.UsageError(f"--regex {self.regex!r} is no pattern: {error}") from error

    @cached_property
    def _needles(self) -> list[bytes]:
        """What must stand in the bytes of a line that fits; other letters than ASCII's are written
        in more than one way, so they are looked for in what was read.
        """
        exact = (each for each in (self.bot, self.order) if each is not None and each.isascii())
        return [json.dumps(each).encode() for each in exact]

    @cached_property
    def _text(self) -> bytes | None:
        if self.text is None or not self.text.isascii():
            return None
        return json.dumps(self.text)[1:-1].lower().encode()

    def is_worth_it(self, raw: bytes) -> bool:
        if self._text is not None and self._text not in raw.lower():
            return False
        if self._pattern is not None and self._pattern.search(raw) is None:
            return False
        return all(needle in raw for needle in self._needles)

    def _has_text(self, record: Mapping[str, Any]) -> bool:
        if self.text is None or self.text.isascii():
            return True
        return self.text.lower() in json.dumps(record, ensure_ascii=False, default=str).lower()

    def fits(self, record: Mapping[str, Any]) -> bool:
        if self.level is not None and _rank(record) < LEVELS.index(self.level):
            return False
        if self.bot is not None and record.get("bot_id") != self.bot:
            return False
        if self.order is not None and record.get("order_id") != self.order:
            return False
        if self.process is not None and self.process not in _names(record):
            return False
        return self._has_text(record)


def _rank(record: Mapping[str, Any]) -> int:
    level = str(record.get("level", "info"))
    return LEVELS.index(level) if level in LEVELS else 1


def _names(record: Mapping[str, Any]) -> set[str]:
    return {str(record[name]) for name in ("process", "role") if name in record}


def name_of(line: Line) -> str:
    return str(line.record.get("process") or line.record.get("role") or line.source)


def log_files(settings: Settings, named: Sequence[Path] = ()) -> list[Path]:
    """Raises NotFound where nothing is written on this machine."""
    found = list(named) or known_files(settings)
    if not found:
        raise NotFound(
            f"no log file is written here: neither in {settings.state_dir / 'logs'} nor by "
            "BOTSWARM_LOG_FILE",
            cure="run the swarm with botswarm up, or give each process BOTSWARM_LOG_FILE",
        )
    return found


def known_files(settings: Settings) -> list[Path]:
    from botswarm.logfiles import files_of

    own = [settings.log_file] if settings.log_file is not None else []
    return files_of(settings.state_dir / "logs", *own)
