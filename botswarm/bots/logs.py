"""What was said and done about one bot: log lines, audit and orders, merged by time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from botswarm import logfiles
from botswarm.ledger.audit import Entry
from botswarm.ledger.orders import BotEvent
from botswarm.ledger.store import Ledger


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
    """Reads on where a log file was left, for the lines about one bot."""

    def __init__(self, path: Path) -> None:
        self._follower = logfiles.Follower(path)

    def new(self, bot: str) -> list[Line]:
        return list(_lines(self._follower.new(), bot))


def _last_of(path: Path, bot: str, count: int) -> list[Line]:
    """From the end backwards, so that a file of a hundred megabytes takes no longer."""
    found: list[Line] = []
    for block in logfiles.read_backwards(path):
        found = [*_lines(block, bot), *found]
        if len(found) >= count:
            break
    return found[-count:]


def _lines(raw: Sequence[bytes], bot: str) -> Iterator[Line]:
    quoted = json.dumps(bot).encode()
    for each in raw:
        # Most lines are about others: they are not even parsed.
        if quoted not in each:
            continue
        told = logfiles.parsed(each)
        at = None if told is None else logfiles.moment_of(told)
        if told is not None and at is not None and told.get("bot_id") == bot:
            words = str(told.get("message", ""))
            if told.get("error"):
                words += f" | {told['error']}"
            yield Line(at, "log", words, str(told.get("level", "info")))
