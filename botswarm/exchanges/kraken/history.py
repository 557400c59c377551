"""Fills at Kraken: a history of all markets together, fifty trades at a time, newest first."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from botswarm.domain.fill import Fill
from botswarm.exchanges.base import Report
from botswarm.exchanges.kraken import answers
from botswarm.exchanges.kraken.answers import Names
from botswarm.exchanges.kraken.private import PrivateRest, reading

HISTORY_PAGE = 50
TRADES_AT_ONCE = 20
ORDERS_AT_ONCE = 50
ORDER_IDS_KEPT = 10_000


class History:
    """Threads share it. Trades of one order are never told as one: each is booked by its number."""

    def __init__(self, venue: str, rest: PrivateRest) -> None:
        self.venue = venue
        self._rest = rest
        self._client_ids: dict[str, str] = {}
        self._latest: dict[str, tuple[int, int]] = {}
        """Of each market, the last trade seen here: its number, and the second it was made in."""
        self._lock = threading.Lock()

    def fills(
        self,
        symbol: str,
        names: Names,
        after_trade_id: int | None,
        venue_order_id: str | None,
    ) -> Sequence[Fill]:
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

    def _trades_of(self, venue_order_id: str) -> Iterable[Mapping[str, Any]]:
        """Two questions, whatever the age of the order: no page can hide one."""
        parameters = {"txid": venue_order_id, "trades": "true", "consolidate_taker": "false"}
        told = self._rest.ask("QueryOrders", parameters)
        with reading("QueryOrders"):
            row = told[venue_order_id]
            self.report(venue_order_id, row)
            wanted = [str(each) for each in row.get("trades") or ()]
        for start in range(0, len(wanted), TRADES_AT_ONCE):
            chosen = ",".join(wanted[start : start + TRADES_AT_ONCE])
            trades = self._rest.ask("QueryTrades", {"txid": chosen})
            with reading("QueryTrades"):
                yield from trades.values()

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
            if len(self._client_ids) >= ORDER_IDS_KEPT:
                self._client_ids.pop(next(iter(self._client_ids)))
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
