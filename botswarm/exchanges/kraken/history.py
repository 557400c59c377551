"""Fills at Kraken: a history of all markets together, fifty trades at a time, newest first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from botswarm.domain.fill import Fill
from botswarm.exchanges.allowance import Purpose
from botswarm.exchanges.base import Report
from botswarm.exchanges.kraken import answers
from botswarm.exchanges.kraken.answers import Names
from botswarm.exchanges.kraken.private import PrivateRest, reading

HISTORY_PAGE = 50
TRADES_AT_ONCE = 20
ORDERS_AT_ONCE = 50
ORDER_IDS_KEPT = 10_000
ORDERS_NAMED = 1_000
ROWS_KEPT = 2_000
NAMES_FRESH_S = 1.0
"""Who was told that an order has traded asks for its trades right after, twice: one list will do.
Should one be missing from it, the order counts as open until the next look.
"""


class History:
    """Threads share it. Trades of one order are never told as one: each is booked by its number."""

    def __init__(self, venue: str, rest: PrivateRest) -> None:
        self.venue = venue
        self._rest = rest
        self._client_ids: dict[str, str] = {}
        self._latest: dict[str, tuple[int, int]] = {}
        """Of each market, the last trade seen here: its number, and the second it was made in."""
        self._named: dict[str, tuple[Sequence[str], float]] = {}
        """Of each order lately asked for, the names of its trades, and when they were told."""
        self._rows: dict[str, Mapping[str, Any]] = {}
        """Trades by their names: they never change."""
        self._lock = threading.Lock()

    def fills(
        self,
        symbol: str,
        names: Names,
        after_trade_id: int | None,
        venue_order_id: str | None,
    ) -> Sequence[Fill]:
        rows: Iterable[Mapping[str, Any]]
        if venue_order_id is not None:
            rows = self._trades_of(venue_order_id)
        elif after_trade_id is None:
            rows = self._oldest(symbol, names)
        else:
            rows = self._since(symbol, names, after_trade_id)
        first = -1 if after_trade_id is None else after_trade_id
        with reading("trades"):
            chosen = [row for row in rows if names.ours(row["pair"]) == symbol]
            client_ids = self._client_ids_of({str(row["ordertxid"]) for row in chosen})
            told = [
                answers.fill(self.venue, symbol, row, client_ids[str(row["ordertxid"])])
                for row in chosen
            ]
        found = answers.by_rising_id(each for each in told if each.trade_id > first)
        if found and venue_order_id is None:
            self._latest[symbol] = found[-1].trade_id, int(found[-1].at.timestamp())
        return found

    def order(self, venue_order_id: str, purpose: Purpose = Purpose.QUERY) -> Report:
        """By the venue's own name: one question, whatever its state. Raises VenueSaidNo."""
        parameters = {"txid": venue_order_id, "trades": "true", "consolidate_taker": "false"}
        told = self._rest.ask("QueryOrders", parameters, purpose)
        with reading("QueryOrders"):
            row = told[venue_order_id]
            names = [str(each) for each in row.get("trades") or ()]
            with self._lock:
                _make_room(self._named, ORDERS_NAMED)
                self._named[venue_order_id] = names, time.monotonic()
            return self.report(venue_order_id, row)

    def _trades_of(self, venue_order_id: str) -> Sequence[Mapping[str, Any]]:
        """Whatever the age of the order no page can hide one, and none is asked for twice."""
        names = self._names_of(venue_order_id)
        with self._lock:
            rows = {name: self._rows[name] for name in names if name in self._rows}
        missing = [name for name in names if name not in rows]
        for start in range(0, len(missing), TRADES_AT_ONCE):
            chosen = missing[start : start + TRADES_AT_ONCE]
            told = self._rest.ask("QueryTrades", {"txid": ",".join(chosen)})
            with reading("QueryTrades"):
                rows |= {name: told[name] for name in chosen}
        with self._lock:
            for name in missing:
                _make_room(self._rows, ROWS_KEPT)
                self._rows[name] = rows[name]
        return [rows[name] for name in names]

    def _names_of(self, venue_order_id: str) -> Sequence[str]:
        with self._lock:
            names, at = self._named.get(venue_order_id, ((), 0.0))
        if not at or time.monotonic() - at > NAMES_FRESH_S:
            self.order(venue_order_id)
            with self._lock:
                names, _ = self._named[venue_order_id]
        return names

    def _page(self, offset: int, after_s: int = 0) -> tuple[list[Mapping[str, Any]], int]:
        """Of all markets, newest first, and how many there are in all."""
        parameters = {"ofs": str(offset), "consolidate_taker": "false"}
        if after_s:
            parameters["start"] = str(after_s)
        told = self._rest.ask("TradesHistory", parameters)
        with reading("TradesHistory"):
            return list(told["trades"].values()), int(told["count"])

    def _since(self, symbol: str, names: Names, after_trade_id: int) -> Iterator[Mapping[str, Any]]:
        """Back from the newest until one is known. What comes meanwhile is told twice, not lost."""
        known_id, known_s = self._latest.get(symbol, (0, 0))
        # One second less: many trades may have the time of the known one.
        after_s = known_s - 1 if 0 < known_id <= after_trade_id else 0
        offset = 0
        while True:
            rows, total = self._page(offset, after_s)
            yield from rows
            offset += len(rows)
            with reading("TradesHistory"):
                known = any(
                    names.ours(row["pair"]) == symbol and row["trade_id"] <= after_trade_id
                    for row in rows
                )
            if known or not rows or offset >= total:
                return

    def _oldest(self, symbol: str, names: Names) -> Sequence[Mapping[str, Any]]:
        """The first page, from the beginning on, in which the market is spoken of."""
        rows, total = self._page(0)
        offset = total
        while offset > 0:
            offset = max(0, offset - HISTORY_PAGE)
            if offset or total > HISTORY_PAGE:
                rows, _ = self._page(offset)
            with reading("TradesHistory"):
                found = [row for row in rows if names.ours(row["pair"]) == symbol]
            if found:
                return found
        return ()

    # --- what is remembered ---------------------------------------------------------------------

    def report(self, venue_order_id: str, row: Mapping[str, Any]) -> Report:
        found = answers.report(venue_order_id, row)
        self.remember(venue_order_id, found.client_order_id)
        return found

    def remember(self, venue_order_id: str, client_order_id: str) -> None:
        with self._lock:
            _make_room(self._client_ids, ORDER_IDS_KEPT)
            self._client_ids[venue_order_id] = client_order_id

    def _client_ids_of(self, wanted: set[str]) -> Mapping[str, str]:
        """Trades name the venue's order only: what is not known from before is asked for."""
        with self._lock:
            known = {each: self._client_ids[each] for each in wanted if each in self._client_ids}
        unknown = sorted(wanted - known.keys())
        for start in range(0, len(unknown), ORDERS_AT_ONCE):
            chosen = unknown[start : start + ORDERS_AT_ONCE]
            told = self._rest.ask("QueryOrders", {"txid": ",".join(chosen)})
            with reading("QueryOrders"):
                for name in chosen:
                    known[name] = self.report(name, told[name]).client_order_id
        return known


def _make_room(kept: dict[str, Any], most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
