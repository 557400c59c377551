"""Counts what the ledger has written since the last look: orders on their way, fills, breaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from botswarm import metrics
from botswarm.ledger.plain import Ask, moment

ROWS_MAX = 5000
"""Of one look; what is left is counted by the next."""
OVERLAP = 500
"""A number may become visible after a higher one: so many are looked at again."""

Row = Sequence[Any]
ACCEPTED = ("live", "partial", "filled")
ASKED = ("sending", "unknown")

EVENTS = """
SELECT e.id, e.before, e.after, e.at, o.venue, o.account, o.created_at, o.approved_at, o.sent_at
FROM order_events e JOIN orders o ON o.id = e.order_id WHERE e.id > ? ORDER BY e.id LIMIT ?
"""
FILLS = """
SELECT f.id, f.venue, f.account, f.symbol, f.side, f.price, f.quantity, o.reference_price
FROM fills f LEFT JOIN orders o ON o.id = f.order_id WHERE f.id > ? ORDER BY f.id LIMIT ?
"""
BREACHES = "SELECT id, kind, severity FROM risk_events WHERE id > ? ORDER BY id LIMIT ?"


class Cursor:
    """Reads each row of a table once, by its number, from where it stood when it was made."""

    def __init__(self, table: str, question: str, count: Callable[[Row], None]) -> None:
        self._table, self._question, self._count = table, question, count
        self._last: int | None = None
        self._seen: set[int] = set()

    def look(self, ask: Ask) -> list[Row]:
        """Rows that are new; they are counted once the snapshot is over."""
        if self._last is None:
            newest = ask(f"SELECT max(id) FROM {self._table}", ())[0][0]  # noqa: S608 - our own name
            self._last = int(newest or 0)
            before = self._last - OVERLAP
            known = f"SELECT id FROM {self._table} WHERE id > ?"  # noqa: S608 - our own name
            self._seen = {int(row[0]) for row in ask(known, (before,))}
            return []
        rows = ask(self._question, (self._last - OVERLAP, ROWS_MAX + OVERLAP))
        new = [row for row in rows if int(row[0]) not in self._seen]
        if new:
            self._last = max(self._last, max(int(row[0]) for row in new))
            self._seen |= {int(row[0]) for row in new}
            self._seen = {each for each in self._seen if each > self._last - OVERLAP}
        return new

    def count(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._count(row)


class Tail:
    def __init__(self) -> None:
        self._cursors = (
            Cursor("order_events", EVENTS, _event),
            Cursor("fills", FILLS, _fill),
            Cursor("risk_events", BREACHES, _breach),
        )
        self._entries: int | None = None

    def look(self, ask: Ask) -> Callable[[], None]:
        """What was read; call it to have it counted."""
        found = [(cursor, cursor.look(ask)) for cursor in self._cursors]
        head = ask("SELECT sequence FROM chain_head", ())
        entries = int(head[0][0]) if head else 0

        def count() -> None:
            for cursor, rows in found:
                cursor.count(rows)
            if self._entries is not None and entries > self._entries:
                metrics.LEDGER_ENTRIES.inc(entries - self._entries)
            self._entries = entries

        return count


def _event(row: Row) -> None:
    _, before, after, at, venue, account, created_at, approved_at, sent_at = row
    metrics.ORDERS.labels(venue, account, after).inc()
    if after == "approved" and before == "ready":
        _stage("decided to approved", created_at, at)
    elif after == "sending":
        _stage("approved to sent", approved_at, at)
    elif before in ASKED and after in ACCEPTED:
        _stage("sent to accepted", sent_at, at)
        _stage("total", created_at, at)
    if after == "filled":
        _stage("sent to filled", sent_at, at)


def _stage(stage: str, began: datetime | str | None, ended: datetime | str) -> None:
    if began is not None:
        took_s = (moment(ended) - moment(began)).total_seconds()
        metrics.ORDER_STAGE_SECONDS.labels(stage).observe(max(0.0, took_s))


def _fill(row: Row) -> None:
    _, venue, account, symbol, side, price, quantity, reference = row
    metrics.FILLS.labels(venue, account, side).inc()
    value = Decimal(price) * Decimal(quantity)
    metrics.FILLED_VALUE.labels(venue, account, quote_of(symbol)).inc(float(value))
    if reference is None or not Decimal(reference):
        return
    worse = Decimal(price) / Decimal(reference) - 1
    metrics.SLIPPAGE.labels(venue).observe(float(worse if side == "buy" else -worse) * 10_000)


def _breach(row: Row) -> None:
    metrics.RISK_EVENTS.labels(row[1], row[2]).inc()


def quote_of(symbol: str) -> str:
    return symbol.rpartition("-")[2]
