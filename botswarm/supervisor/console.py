"""What the processes say, on one screen: prefixed text for people, JSON lines for machines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

COLOURS: Final = (36, 33, 35, 32, 34, 96, 93, 95)
LEVEL_COLOURS: Final = {"warning": 33, "error": 31, "critical": 31}
# Of every line's fields; the others are worth showing beside the message.
USUAL: Final = frozenset(
    {
        *("time", "level", "logger", "message", "instance_id", "role", "pid", "traceback"),
        *("event", "task_id", "trace_id"),
    }
)
# What Celery says of its own doings; a person who watches a swarm trade needs it only when it is
# a warning. Machines get it all.
CHATTER: Final = "celery.worker."


class Console:
    def __init__(
        self,
        stream: TextIO,
        *,
        as_json: bool,
        coloured: bool,
        on_event: Callable[[str, Mapping[str, Any]], None] | None = None,
        mask: Callable[[str], str] = str,
        keep: Callable[[str, str], None] | None = None,
    ) -> None:
        """``mask`` hides secrets in lines that did not come through our own logging; ``keep`` is
        given each process's line as it is to be kept.
        """
        self._stream = stream
        self._as_json = as_json
        self._coloured = coloured
        self._names: list[str] = []
        self._on_event = on_event
        self._mask = mask
        self._keep = keep
        self._one_at_a_time = threading.Lock()

    def say(self, name: str, line: str) -> None:
        record = _record_of(line, self._mask)
        with self._one_at_a_time:
            self._say(name, record)
        # It may say something itself.
        if self._on_event is not None and "event" in record:
            self._on_event(str(record["event"]), record)

    def _say(self, name: str, record: Mapping[str, Any]) -> None:
        whole = json.dumps({"process": name, **record}, default=str)
        if self._keep is not None:
            self._keep(name, whole)
        if self._as_json:
            self._print(whole)
        elif not _is_chatter(record):
            self._print(self._as_text(name, record))

    def _print(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # nobody reads any more; the swarm goes on

    def _as_text(self, name: str, record: Mapping[str, Any]) -> str:
        level = str(record.get("level", "info"))
        at = str(record.get("time", ""))[11:19]
        known = USUAL if "event" not in record else record.keys()  # an event says it all in words
        beside = " ".join(f"{key}={value}" for key, value in record.items() if key not in known)
        words = str(record.get("message", ""))
        if level in LEVEL_COLOURS:
            words = self._paint(f"{level}: {words}", LEVEL_COLOURS[level])
        traceback = record.get("traceback")
        shown = f"{at} {self._label(name)} {words}{beside and self._paint('  ' + beside, 90)}"
        return f"{shown}\n{traceback}" if traceback else shown

    def _label(self, name: str) -> str:
        if name not in self._names:
            self._names.append(name)
        colour = COLOURS[self._names.index(name) % len(COLOURS)]
        return self._paint(f"{name:<9}|", colour)

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def _is_chatter(record: Mapping[str, Any]) -> bool:
    return str(record.get("logger", "")).startswith(CHATTER) and record.get("level") == "info"


def _record_of(line: str, mask: Callable[[str], str]) -> dict[str, Any]:
    """A log line's fields; a line that is none is its own message."""
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and "message" in record:
            return record
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": now, "level": "info", "message": mask(line)}
