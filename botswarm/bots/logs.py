"""What was said and done about one bot: log lines, audit and orders, merged by time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from botswarm.ledger.audit import Entry
from botswarm.ledger.orders import BotEvent
from botswarm.ledger.store import Ledger

BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, order=True)
class Line:
    at: datetime
    source: str
    """``log``, ``audit`` or ``order``."""
    words: str
    level: str = "info"


def latest(ledger: Ledger, files: Sequence[Path], bot: str, count: int) -> list[Line]:
    """The last so many, oldest first."""
    found = [
        *said_by(ledger, bot, None, count),
        *(line for file in files for line in _last_of(file, bot, count)),
    ]
    return sorted(found)[-count:]


def said_by(ledger: Ledger, bot: str, after: datetime | None, limit: int) -> list[Line]:
    """What the ledger knows."""
    entries = ledger.audit.of_bot(bot, after=after, limit=limit)
    events = ledger.orders.events_of(bot, after=after, limit=limit)
    return sorted([*map(_of_entry, entries), *map(_of_event, events)])


def _of_entry(entry: Entry) -> Line:
    after = entry.after or {}
    state = f" -> {after['state']}" if "state" in after else ""
    many = f" (with {after['bots']} bots)" if "bots" in after else ""
    words = f"{entry.action}{state}{many} by {entry.actor}: {entry.reason}"
    return Line(entry.at, "audit", words)


def _of_event(event: BotEvent) -> Line:
    reason = f": {event.reason}" if event.reason else ""
    words = f"{event.side} {event.quantity:f} {event.symbol} is {event.after}{reason}"
    return Line(event.at, "order", f"{words} [{event.order_id}]")


# --- files ----------------------------------------------------------------------------------------


class Tail:
    """Reads on where a log file was left, also when it was rotated meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity, self._offset = self._end()

    def new(self, bot: str) -> list[Line]:
        identity, end = self._end()
        if identity != self._identity or end < self._offset:
            self._identity, self._offset = identity, 0
        if end == self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            block = file.read(end - self._offset)
        # The last line may not be whole yet.
        whole = block.rfind(b"\n") + 1
        self._offset += whole
        return list(_lines(block[:whole].splitlines(), bot))

    def _end(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size


def _last_of(path: Path, bot: str, count: int) -> list[Line]:
    """From the end backwards, so that a file of a hundred megabytes takes no longer."""
    found: list[Line] = []
    for block in _blocks_backwards(path):
        found = [*_lines(block, bot), *found]
        if len(found) >= count:
            break
    return found[-count:]


def _blocks_backwards(path: Path) -> Iterator[list[bytes]]:
    """Whole lines of the file, the last block first."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        end, rest = file.seek(0, 2), b""
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            lines = (file.read(end - start) + rest).splitlines(keepends=True)
            rest = lines.pop(0) if start > 0 and lines else b""
            yield lines
            end = start


def _lines(raw: Sequence[bytes], bot: str) -> Iterator[Line]:
    quoted = json.dumps(bot).encode()
    for each in raw:
        # Most lines are about others: they are not even parsed.
        if quoted not in each:
            continue
        try:
            told = json.loads(each)
            at = datetime.fromisoformat(told["time"]).astimezone(UTC)
        except (ValueError, KeyError, TypeError):
            continue
        if told.get("bot_id") == bot:
            words = str(told.get("message", ""))
            if told.get("error"):
                words += f" | {told['error']}"
            yield Line(at, "log", words, str(told.get("level", "info")))
