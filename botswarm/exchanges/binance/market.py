"""Binance's public side over REST: its markets, candles, missed trades and whole order books."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from botswarm.clock import Clock, SystemClock
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Channel, Status, Tick, Trade
from botswarm.domain.order import Side
from botswarm.errors import Malformed, NotFound, Unreachable
from botswarm.exchanges.binance import symbols
from botswarm.exchanges.binance.depth import SNAPSHOT_LEVELS
from botswarm.exchanges.binance.events import levels
from botswarm.exchanges.binance.session import (
    BOOK_LEVELS,
    CHANNELS,
    NAMES,
    RULES,
    BinanceSession,
    Resolve,
)
from botswarm.exchanges.binance.transport import Transport
from botswarm.exchanges.reading import number, positive, whole
from botswarm.exchanges.streams import Session

CANDLES_PER_REQUEST_MAX = 1000
TRADES_PER_REQUEST_MAX = 1000


class BinanceMarketData:
    """``instruments`` is asked once and kept; sessions ask nobody."""

    rules = RULES
    channels = CHANNELS

    def __init__(
        self,
        *,
        name: str,
        rest_url: str,
        stream_url: str,
        instruments: Sequence[Instrument] | None = None,
        book_levels: int = BOOK_LEVELS,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._rest = Transport(rest_url)
        self._stream_url = stream_url.rstrip("/")
        self._book_levels = book_levels
        self._clock = SystemClock() if clock is None else clock
        self._instruments: Sequence[Instrument] = ()
        self._symbols: dict[str, str] = {}
        self._reader = self._session(self._symbol)
        if instruments is not None:
            self._keep(instruments)

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            self._keep(symbols.instruments(self.name, self._ask("/api/v3/exchangeInfo")))
        return self._instruments

    def statuses(self) -> Sequence[Status]:
        """No stream tells them; this costs weight 20 and up to 2 MB."""
        described = self._ask("/api/v3/exchangeInfo")
        self._keep(symbols.instruments(self.name, described))
        now_ms = self._now_ms()
        return [
            Status(
                venue=self.name,
                symbol=f"{each['baseAsset']}-{each['quoteAsset']}",
                trading=symbols.trading(str(each.get("status"))),
                exchange_ms=now_ms,
                received_ms=now_ms,
                words=str(each.get("status")),
            )
            for each in described["symbols"]
            if each.get("isSpotTradingAllowed", True)
        ]

    def session(self) -> Session:
        return self._session(lambda theirs: None)

    def reader(self) -> Session:
        return self._session(
            lambda theirs: self._symbols.get(theirs) or symbols.split(theirs), tells_changes=True
        )

    def _session(self, resolve: Resolve, *, tells_changes: bool = False) -> BinanceSession:
        return BinanceSession(
            name=self.name,
            stream_url=self._stream_url,
            resolve=resolve,
            book_levels=self._book_levels,
            tells_changes=tells_changes,
        )

    def stream_url(self, symbols: Sequence[str], channels: Sequence[Channel]) -> str:
        """One connection for all of it; raises NotFound for a market the venue does not have."""
        streams = [f"{name}@{NAMES[channel]}" for name in map(self._stream_name, symbols)
                   for channel in channels]  # fmt: skip
        if len(streams) > RULES.streams_max:
            raise ValueError(f"one connection carries {RULES.streams_max} streams")
        return f"{self._stream_url}/stream?streams={quote('/'.join(streams), safe='/@')}"

    def parse(self, frame: str | bytes, received_ms: int) -> Sequence[Tick]:
        """Ticks of one frame of any market; raises Malformed. Whoever speaks has a session."""
        heard = self._reader.read(frame, received_ms)
        return [each for each in heard if isinstance(each, Tick)]

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        """The latest closed candles, oldest first; a pause of the venue is a flat line."""
        length_ms = TIMEFRAMES_S[timeframe] * 1000
        # One more, because the last one is still open.
        count = min(limit, CANDLES_PER_REQUEST_MAX - 1) + 1
        query = {"symbol": symbols.to_venue(symbol), "interval": timeframe, "limit": count}
        rows = self._ask(f"/api/v3/klines?{urlencode(query)}")
        now_ms = int(self._ask("/api/v3/time")["serverTime"])
        try:
            found = [_candle_of_row(self.name, symbol, timeframe, row) for row in rows]
        except (IndexError, TypeError, ValueError, KeyError, Malformed) as error:
            raise Unreachable(f"{self.name}'s candles cannot be read: {error}") from error
        closed = [candle for candle in found if candle.open_ms + length_ms <= now_ms]
        return _without_holes(closed, length_ms)[-limit:]

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        query = {
            "symbol": symbols.to_venue(symbol),
            "limit": min(limit, TRADES_PER_REQUEST_MAX),
        }
        return self._trades(symbol, self._ask(f"/api/v3/trades?{urlencode(query)}"))

    def _trades(self, symbol: str, rows: Any) -> list[Trade]:
        try:
            found = [_trade_of_row(self.name, symbol, row) for row in rows]
        except (TypeError, ValueError, KeyError, Malformed) as error:
            raise Unreachable(f"{self.name}'s trades cannot be read: {error}") from error
        return sorted(found, key=lambda trade: trade.trade_id)

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """At most a thousand; where older ones are not told, those of the latest that match."""
        wanted = range(first_id, last_id + 1)
        query = {
            "symbol": symbols.to_venue(symbol),
            "fromId": first_id,
            "limit": min(len(wanted), TRADES_PER_REQUEST_MAX),
        }
        try:
            rows = self._ask(f"/api/v3/historicalTrades?{urlencode(query)}")
            found: Sequence[Trade] = self._trades(symbol, rows)
        except Unreachable:
            found = self.latest_trades(symbol, limit=TRADES_PER_REQUEST_MAX)
        return [trade for trade in found if trade.trade_id in wanted]

    def book(self, symbol: str) -> Book:
        query = {"symbol": symbols.to_venue(symbol), "limit": SNAPSHOT_LEVELS}
        answer = self._ask(f"/api/v3/depth?{urlencode(query)}")
        now_ms = self._now_ms()
        try:
            return Book(
                venue=self.name,
                symbol=symbol,
                sequence=whole(answer["lastUpdateId"]),
                bids=levels(answer["bids"]),
                asks=levels(answer["asks"]),
                exchange_ms=now_ms,
                received_ms=now_ms,
            )
        except (TypeError, KeyError, Malformed) as error:
            raise Unreachable(f"{self.name}'s order book cannot be read: {error}") from error

    def close(self) -> None:
        self._rest.close()

    # --- what the venue has -------------------------------------------------------------------

    def _stream_name(self, symbol: str) -> str:
        theirs = symbols.to_venue(symbol)
        self.instruments()
        if self._symbols.get(theirs) != symbol:
            raise NotFound(
                f"{self.name} has no market {symbol}", cure="write it as BASE-QUOTE: BTC-USDT"
            )
        return theirs.lower()

    def _keep(self, instruments: Sequence[Instrument]) -> None:
        self._symbols = {symbols.to_venue(each.symbol): each.symbol for each in instruments}
        self._instruments = instruments

    def _symbol(self, theirs: str) -> str | None:
        return self._symbols.get(theirs)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _ask(self, target: str) -> Any:
        response = self._rest.request("GET", target, {})
        if response.status != 200:
            words = response.body[:200].decode(errors="replace")
            raise Unreachable(
                f"{self.name} answered {response.status} to {target.partition('?')[0]}: {words}",
                cure="see the venue's status; it is asked again by itself",
            )
        try:
            return json.loads(response.body)
        except ValueError as error:
            raise Unreachable(f"{self.name}'s answer is not JSON: {error}") from error


def _candle_of_row(venue: str, symbol: str, timeframe: str, row: Sequence[Any]) -> Candle:
    return Candle(
        venue=venue,
        symbol=symbol,
        timeframe=timeframe,
        open_ms=int(row[0]),
        open=positive(row[1]),
        high=positive(row[2]),
        low=positive(row[3]),
        close=positive(row[4]),
        volume=number(row[5]),
        trades=int(row[8]),
        is_closed=True,
    )


def _trade_of_row(venue: str, symbol: str, row: Mapping[str, Any]) -> Trade:
    at_ms = whole(row["time"])
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=whole(row["id"]),
        price=positive(row["price"]),
        quantity=positive(row["qty"]),
        taker_side=Side.SELL if row["isBuyerMaker"] else Side.BUY,
        exchange_ms=at_ms,
        # Nobody received it when it happened.
        received_ms=at_ms,
    )


def _without_holes(candles: Sequence[Candle], length_ms: int) -> list[Candle]:
    whole: list[Candle] = []
    for candle in candles:
        while whole and whole[-1].open_ms + length_ms < candle.open_ms:
            whole.append(_flat_after(whole[-1], length_ms))
        whole.append(candle)
    return whole


def _flat_after(candle: Candle, length_ms: int) -> Candle:
    return Candle(
        venue=candle.venue,
        symbol=candle.symbol,
        timeframe=candle.timeframe,
        open_ms=candle.open_ms + length_ms,
        open=candle.close,
        high=candle.close,
        low=candle.close,
        close=candle.close,
        volume=Decimal(0),
        trades=0,
        is_closed=True,
    )
