"""Kraken's public side by REST: its markets, candles and trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Status, Trade
from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges import backfill, candles
from botswarm.exchanges.allowance import Allowance
from botswarm.exchanges.kraken import limits, session, symbols
from botswarm.exchanges.kraken.session import KrakenSession
from botswarm.exchanges.reading import moment, number, positive, shown, whole
from botswarm.exchanges.rest import PublicRest

TRADES_PER_REQUEST_MAX = 1000
CANDLES_PER_REQUEST_MAX = 720
REQUESTS_PER_S = 0.8
REQUESTS_AT_ONCE = 3
"""The venue speaks of about one a second."""
LENGTHS_MIN = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
SIDES = {"b": Side.BUY, "s": Side.SELL}


class KrakenMarketData:
    """``instruments`` is asked once and kept; every answer is HTTP 200, errors stand in it."""

    rules = session.RULES
    channels = session.CHANNELS

    def __init__(
        self, *, name: str, rest_url: str, stream_url: str, allowance: Allowance | None = None
    ) -> None:
        self.name = name
        self._rest = PublicRest(
            name,
            rest_url,
            per_s=REQUESTS_PER_S,
            burst=REQUESTS_AT_ONCE,
            allowance=allowance,
            cost=lambda weight: {limits.PUBLIC: weight},
        )
        self._stream_url = stream_url
        self._instruments: Sequence[Instrument] = ()
        self._names: Mapping[str, str] = {}

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            told = self._ask("AssetPairs", {})
            with self._rest.reading("pairs"):
                found, names = [], {}
                for name, described in told.items():
                    if (symbol := symbols.of_rest(described)) is not None:
                        found.append(symbols.instrument(self.name, symbol, described))
                        names[symbol] = described.get("altname", name)
                self._instruments, self._names = found, names
        return self._instruments

    def statuses(self) -> Sequence[Status]:
        return ()

    def session(self) -> KrakenSession:
        return KrakenSession(name=self.name, stream_url=self._stream_url)

    def reader(self) -> KrakenSession:
        return KrakenSession(name=self.name, stream_url=self._stream_url, reads_all=True)

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        """At most 719: the venue tells no more, whatever is asked."""
        now_ms = self._rest.settled_ms(self.server_time_ms)
        if timeframe not in LENGTHS_MIN:
            trades = self.latest_trades(symbol, limit=TRADES_PER_REQUEST_MAX)
            return candles.of_trades(trades, timeframe, now_ms, limit)
        length_s = TIMEFRAMES_S[timeframe]
        since = now_ms // 1000 - (min(limit, CANDLES_PER_REQUEST_MAX) + 2) * length_s
        query = {"interval": LENGTHS_MIN[timeframe], "since": since}
        told = self._of_pair("OHLC", symbol, query)
        with self._rest.reading("candles"):
            found = [self._candle(symbol, timeframe, row) for row in told]
        return candles.whole(found, timeframe, now_ms, limit)

    def _candle(self, symbol: str, timeframe: str, row: Sequence[Any]) -> Candle:
        return Candle(
            venue=self.name,
            symbol=symbol,
            timeframe=timeframe,
            open_ms=whole(row[0]) * 1000,
            open=positive(row[1]),
            high=positive(row[2]),
            low=positive(row[3]),
            close=positive(row[4]),
            volume=number(row[6]),
            trades=whole(row[7]),
            is_closed=True,
        )

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        return self._trades(symbol, {"count": min(limit, TRADES_PER_REQUEST_MAX)})

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """The venue finds trades by time only, so the way back is estimated."""

        def page(since_ms: int | None) -> Sequence[Trade]:
            query = {"count": TRADES_PER_REQUEST_MAX}
            if since_ms is not None:
                query["since"] = since_ms * 1_000_000
            return self._trades(symbol, query)

        return backfill.between(first_id, last_id, page, TRADES_PER_REQUEST_MAX)

    def _trades(self, symbol: str, query: Mapping[str, int]) -> list[Trade]:
        told = self._of_pair("Trades", symbol, query)
        with self._rest.reading("trades"):
            found = [self._trade(symbol, row) for row in told]
        return sorted(found, key=lambda trade: trade.trade_id)

    def _trade(self, symbol: str, row: Sequence[Any]) -> Trade:
        price, quantity, at_s, side, _, _, trade_id = row[:7]
        at_ms = moment(int(number(str(at_s)) * 1000), 2**53)
        return Trade(
            venue=self.name,
            symbol=symbol,
            trade_id=whole(trade_id),
            price=positive(price),
            quantity=positive(quantity),
            taker_side=SIDES[side],
            exchange_ms=at_ms,
            # Nobody received it when it happened.
            received_ms=at_ms,
        )

    def book(self, symbol: str) -> Book | None:
        return None

    def server_time_ms(self) -> int:
        told = self._ask("Time", {})
        with self._rest.reading("time"):
            return whole(told["unixtime"]) * 1000

    def close(self) -> None:
        self._rest.close()

    def _of_pair(self, what: str, symbol: str, query: Mapping[str, int]) -> Sequence[Any]:
        """The rows of one pair, which stand under whichever of its names the venue likes."""
        pair = self._names.get(symbol) or symbols.to_rest(symbol)
        told = self._ask(what, {"pair": pair, **query})
        with self._rest.reading(what):
            (rows,) = [rows for name, rows in told.items() if name != "last"]
        if not isinstance(rows, list):
            raise Unreachable(f"{self.name}'s {what} are no list", cure="see its announcements")
        return rows

    def _ask(self, what: str, query: Mapping[str, Any]) -> Any:
        told = self._rest.ask(f"/0/public/{what}" + (f"?{urlencode(query)}" if query else ""))
        with self._rest.reading(what):
            errors, result = told.get("error") or [], told.get("result")
        if errors or result is None:
            raise Unreachable(
                f"{self.name} answered {what} with {shown(errors or 'nothing', 200)}",
                cure="an error of EService is the venue's, others are about what was asked",
            )
        return result
