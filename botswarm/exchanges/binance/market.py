"""Binance's public streams in our own words: trades, best prices and candles, exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Candle, Channel, Quote, Tick, Trade
from botswarm.domain.order import Side
from botswarm.errors import Malformed, NotFound, Unreachable
from botswarm.exchanges.binance import symbols
from botswarm.exchanges.binance.transport import Transport

STREAMS_PER_CONNECTION_MAX = 1024
CANDLES_PER_REQUEST_MAX = 1000
TRADES_PER_REQUEST_MAX = 1000
CANDLE_STREAM = "kline_1m"
STREAMS: Mapping[Channel, str] = {
    "trade": "trade",
    "quote": "bookTicker",
    "candle": CANDLE_STREAM,
}
# Longer numbers are somebody's mistake, and arithmetic with them would take for ever.
DIGITS_MAX = 40
AHEAD_MAX_MS = 3_600_000
"""A venue's clock further ahead of ours is a garbled number: candles up to it would be closed."""

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Kline(msgspec.Struct):
    t: Whole
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - Binance's name for it
    c: str
    v: str
    n: Whole
    x: bool


class _Event(msgspec.Struct):
    """The fields of the events we read; those with two meanings are looked at when they are used.

    Whatever else an event carries, now or after Binance's next change, does not matter.
    """

    e: str | None = None
    E: Whole | None = None
    s: str | None = None
    t: Any = None
    a: Any = None
    p: Any = None
    q: Any = None
    T: Any = None
    m: Any = None
    u: Any = None
    b: Any = None
    B: Any = None
    A: Any = None
    k: _Kline | None = None
    lastUpdateId: Any = None  # noqa: N815 - Binance's name for it
    id: Any = msgspec.UNSET
    code: Any = None
    msg: Any = None
    error: Any = None


class _Frame(_Event):
    stream: str | None = None
    data: _Event | None = None


class BinanceMarketData:
    """``instruments`` is asked once and kept; parsing asks nobody."""

    def __init__(
        self,
        *,
        name: str,
        rest_url: str,
        stream_url: str,
        instruments: Sequence[Instrument] | None = None,
    ) -> None:
        self.name = name
        self._rest = Transport(rest_url)
        self._stream_url = stream_url.rstrip("/")
        self._decoder = msgspec.json.Decoder(_Frame)
        self._instruments: Sequence[Instrument] = ()
        self._symbols: dict[str, str] = {}
        if instruments is not None:
            self._keep(instruments)

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            self._keep(symbols.instruments(self.name, self._ask("/api/v3/exchangeInfo")))
        return self._instruments

    def stream_url(self, symbols: Sequence[str], channels: Sequence[Channel]) -> str:
        """One connection for all of it; raises NotFound for a market the venue does not have."""
        streams = [f"{name}@{STREAMS[channel]}" for name in map(self._stream_name, symbols)
                   for channel in channels]  # fmt: skip
        if len(streams) > STREAMS_PER_CONNECTION_MAX:
            raise ValueError(f"one connection carries {STREAMS_PER_CONNECTION_MAX} streams")
        return f"{self._stream_url}/stream?streams={quote('/'.join(streams), safe='/@')}"

    def parse(self, frame: str | bytes, received_ms: int) -> Sequence[Tick]:
        """Ticks of one frame; none for answers and events that carry none. Raises Malformed."""
        try:
            outer = self._decoder.decode(frame)
            return self._ticks(outer if outer.data is None else outer.data, received_ms)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Malformed(f"not a frame of Binance: {error}") from error

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
        rows = self._ask(f"/api/v3/trades?{urlencode(query)}")
        try:
            found = [_trade_of_row(self.name, symbol, row) for row in rows]
        except (TypeError, ValueError, KeyError, Malformed) as error:
            raise Unreachable(f"{self.name}'s trades cannot be read: {error}") from error
        return sorted(found, key=lambda trade: trade.trade_id)

    def close(self) -> None:
        self._rest.close()

    # --- frames -------------------------------------------------------------------------------

    def _ticks(self, event: _Event, received_ms: int) -> Sequence[Tick]:
        if event.e == "trade":
            return (self._trade(event, received_ms),)
        if event.e == "bookTicker" or (event.e is None and event.u is not None):
            return (self._quote(event, received_ms),)
        if event.e == "kline":
            return (self._candle(event),)
        if event.error is not None or event.code is not None:
            raise Malformed(f"Binance refused a request: {event.msg or event.error!r}")
        if event.e is None and event.lastUpdateId is None and event.id is msgspec.UNSET:
            raise Malformed("a frame without an event")
        return ()

    def _trade(self, event: _Event, received_ms: int) -> Trade:
        if not isinstance(event.m, bool):
            raise Malformed("a trade without a side")
        return Trade(
            venue=self.name,
            symbol=self._symbol(event.s),
            trade_id=_whole(event.t),
            price=_positive(event.p),
            quantity=_positive(event.q),
            # The buyer was waiting in the book, so the seller came and took.
            taker_side=Side.SELL if event.m else Side.BUY,
            exchange_ms=_moment(event.T, received_ms),
            received_ms=received_ms,
        )

    def _quote(self, event: _Event, received_ms: int) -> Quote:
        at = event.T or event.E
        return Quote(
            venue=self.name,
            symbol=self._symbol(event.s),
            sequence=_whole(event.u),
            bid=_positive(event.b),
            bid_quantity=_positive(event.B),
            ask=_positive(event.a),
            ask_quantity=_positive(event.A),
            exchange_ms=_moment(at, received_ms) if at else received_ms,
            received_ms=received_ms,
        )

    def _candle(self, event: _Event) -> Candle:
        line = event.k
        if line is None or line.i not in TIMEFRAMES_S:
            raise Malformed("a kline without a candle of a timeframe that is known")
        return Candle(
            venue=self.name,
            symbol=self._symbol(event.s),
            timeframe=line.i,
            open_ms=line.t,
            open=_positive(line.o),
            high=_positive(line.h),
            low=_positive(line.l),
            close=_positive(line.c),
            volume=_not_negative(line.v),
            trades=line.n,
            is_closed=line.x,
        )

    def _symbol(self, theirs: str | None) -> str:
        ours = self._symbols.get(theirs or "")
        if ours is None:
            raise Malformed(f"a market nobody asked for: {theirs!r}")
        return ours

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


def _whole(value: Any) -> int:
    if type(value) is int and 0 <= value <= 2**53:
        return value
    raise Malformed(f"not an id or a time: {str(value)[:50]!r}")


def _moment(value: Any, received_ms: int) -> int:
    at_ms = _whole(value)
    if at_ms > received_ms + AHEAD_MAX_MS:
        raise Malformed(f"a time that has not come yet: {at_ms}")
    return at_ms


def _number(text: Any, accepts: Callable[[Decimal], bool]) -> Decimal:
    if not isinstance(text, str) or len(text) > DIGITS_MAX:
        raise Malformed("a number is missing or is not a text")
    try:
        value = Decimal(text)
        if value.is_finite() and abs(value.adjusted()) < DIGITS_MAX and accepts(value):
            return value
    except InvalidOperation:
        pass
    raise Malformed(f"not a price or quantity: {text!r}")


def _positive(text: Any) -> Decimal:
    return _number(text, lambda value: value > 0)


def _not_negative(text: Any) -> Decimal:
    return _number(text, lambda value: value >= 0)


def _candle_of_row(venue: str, symbol: str, timeframe: str, row: Sequence[Any]) -> Candle:
    return Candle(
        venue=venue,
        symbol=symbol,
        timeframe=timeframe,
        open_ms=int(row[0]),
        open=_positive(row[1]),
        high=_positive(row[2]),
        low=_positive(row[3]),
        close=_positive(row[4]),
        volume=_not_negative(row[5]),
        trades=int(row[8]),
        is_closed=True,
    )


def _trade_of_row(venue: str, symbol: str, row: Mapping[str, Any]) -> Trade:
    at_ms = _whole(row["time"])
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=_whole(row["id"]),
        price=_positive(row["price"]),
        quantity=_positive(row["qty"]),
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
