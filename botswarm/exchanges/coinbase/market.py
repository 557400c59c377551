"""Coinbase's public sides by REST: the markets, candles and trades of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade
from botswarm.exchanges import backfill
from botswarm.exchanges.allowance import Allowance
from botswarm.exchanges.coinbase import (
    advanced_events,
    advanced_session,
    exchange_events,
    exchange_session,
    products,
)
from botswarm.exchanges.coinbase.advanced_session import AdvancedSession
from botswarm.exchanges.coinbase.exchange_session import ExchangeSession
from botswarm.exchanges.coinbase.history import TRADES_PER_REQUEST_MAX, History
from botswarm.exchanges.reading import moment_of_text, number, positive, whole, whole_text

ADVANCED = "/api/v3/brokerage"
GRANULARITIES: Mapping[str, str] = {
    "1m": "ONE_MINUTE",
    "5m": "FIVE_MINUTE",
    "15m": "FIFTEEN_MINUTE",
    "1h": "ONE_HOUR",
    "1d": "ONE_DAY",
}


class CoinbaseMarketData(History):
    """``instruments`` is asked once and kept."""

    rules = advanced_session.RULES
    candles_per_request = 350
    channels = advanced_session.CHANNELS

    def __init__(
        self, *, name: str, rest_url: str, stream_url: str, allowance: Allowance | None = None
    ) -> None:
        super().__init__(name=name, rest_url=rest_url, stream_url=stream_url, allowance=allowance)
        self._last_trades: dict[str, int] = {}

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            told = self._rest.ask(f"{ADVANCED}/market/products?product_type=SPOT")
            with self._rest.reading("products"):
                self._instruments = [
                    products.advanced_instrument(self.name, each) for each in told["products"]
                ]
        return self._instruments

    def session(self) -> AdvancedSession:
        return AdvancedSession(
            name=self.name, stream_url=self._stream_url, last_trades=self._last_trades
        )

    def reader(self) -> AdvancedSession:
        return AdvancedSession(name=self.name, stream_url=self._stream_url, reads_all=True)

    def _candles_between(
        self, symbol: str, timeframe: str, start_s: int, end_s: int
    ) -> list[Candle]:
        query = {"start": start_s, "end": end_s, "granularity": GRANULARITIES[timeframe]}
        told = self._rest.ask(f"{_advanced_path(symbol)}/candles?{urlencode(query)}")
        with self._rest.reading("candles"):
            return [self._candle(symbol, timeframe, each) for each in told["candles"]]

    def _candle(self, symbol: str, timeframe: str, told: Mapping[str, Any]) -> Candle:
        return Candle(
            venue=self.name,
            symbol=symbol,
            timeframe=timeframe,
            open_ms=whole_text(told["start"]) * 1000,
            open=positive(told["open"]),
            high=positive(told["high"]),
            low=positive(told["low"]),
            close=positive(told["close"]),
            volume=number(told["volume"]),
            # The venue tells none.
            trades=0,
            is_closed=True,
        )

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        found = self._trades(symbol, {"limit": min(limit, TRADES_PER_REQUEST_MAX)})
        return sorted(found, key=lambda trade: trade.trade_id)

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """The venue finds trades by time only, so the way back is estimated."""

        def page(since_ms: int | None) -> Sequence[Trade]:
            query = {"limit": TRADES_PER_REQUEST_MAX}
            if since_ms is not None:
                # From the oldest that is known on, the newest come first and fill the page.
                query |= {"start": since_ms // 1000, "end": until_s[0]}
            told = self._trades(symbol, query)
            if told:
                until_s[0] = min(trade.exchange_ms for trade in told) // 1000 + 1
            return told

        until_s = [0]
        return backfill.between(first_id, last_id, page, TRADES_PER_REQUEST_MAX)

    def _trades(self, symbol: str, query: Mapping[str, int]) -> list[Trade]:
        told = self._rest.ask(f"{_advanced_path(symbol)}/ticker?{urlencode(query)}")
        with self._rest.reading("trades"):
            return [self._trade(symbol, each) for each in told["trades"]]

    def _trade(self, symbol: str, told: Mapping[str, Any]) -> Trade:
        # Nobody received it when it happened.
        at_ms = moment_of_text(told["time"], 2**53)
        return Trade(
            venue=self.name,
            symbol=symbol,
            trade_id=whole_text(told["trade_id"]),
            price=positive(told["price"]),
            quantity=positive(told["size"]),
            taker_side=advanced_events.taker(told["side"]),
            exchange_ms=at_ms,
            received_ms=at_ms,
        )

    def server_time_ms(self) -> int:
        told = self._rest.ask(f"{ADVANCED}/time")
        with self._rest.reading("time"):
            return whole_text(told["epochMillis"])


class CoinbaseExchangeMarketData(History):
    """``instruments`` is asked once and kept."""

    rules = exchange_session.RULES
    candles_per_request = 300
    channels = exchange_session.CHANNELS

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            told = self._rest.ask("/products")
            with self._rest.reading("products"):
                self._instruments = [products.exchange_instrument(self.name, each) for each in told]
        return self._instruments

    def session(self) -> ExchangeSession:
        return ExchangeSession(name=self.name, stream_url=self._stream_url)

    def reader(self) -> ExchangeSession:
        return ExchangeSession(name=self.name, stream_url=self._stream_url, reads_all=True)

    def _candles_between(
        self, symbol: str, timeframe: str, start_s: int, end_s: int
    ) -> list[Candle]:
        query = {"start": start_s, "end": end_s, "granularity": TIMEFRAMES_S[timeframe]}
        told = self._rest.ask(f"{_exchange_path(symbol)}/candles?{urlencode(query)}")
        with self._rest.reading("candles"):
            return [self._candle(symbol, timeframe, row) for row in told]

    def _candle(self, symbol: str, timeframe: str, row: Sequence[Any]) -> Candle:
        """Rows are time, low, high, open, close, volume, as JSON's numbers."""
        open_s, low, high, opened, closed, volume = row
        return Candle(
            venue=self.name,
            symbol=symbol,
            timeframe=timeframe,
            open_ms=whole(open_s) * 1000,
            open=positive(_text(opened)),
            high=positive(_text(high)),
            low=positive(_text(low)),
            close=positive(_text(closed)),
            volume=number(_text(volume)),
            # The venue tells none.
            trades=0,
            is_closed=True,
        )

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        return self._trades(symbol, {"limit": min(limit, TRADES_PER_REQUEST_MAX)})

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """``after`` is the venue's word for older than; its pages begin with the newest."""
        count = min(last_id - first_id + 1, TRADES_PER_REQUEST_MAX)
        if count <= 0:
            return []
        query = {"limit": count, "after": first_id + count}
        return [
            trade for trade in self._trades(symbol, query) if first_id <= trade.trade_id <= last_id
        ]

    def _trades(self, symbol: str, query: Mapping[str, int]) -> list[Trade]:
        told = self._rest.ask(f"{_exchange_path(symbol)}/trades?{urlencode(query)}")
        with self._rest.reading("trades"):
            found = [self._trade(symbol, each) for each in told]
        return sorted(found, key=lambda trade: trade.trade_id)

    def _trade(self, symbol: str, told: Mapping[str, Any]) -> Trade:
        # Nobody received it when it happened.
        at_ms = moment_of_text(told["time"], 2**53)
        return Trade(
            venue=self.name,
            symbol=symbol,
            trade_id=whole(told["trade_id"]),
            price=positive(told["price"]),
            quantity=positive(told["size"]),
            taker_side=exchange_events.taker(told["side"]),
            exchange_ms=at_ms,
            received_ms=at_ms,
        )

    def server_time_ms(self) -> int:
        told = self._rest.ask("/time")
        with self._rest.reading("time"):
            return int(number(str(told["epoch"])) * 1000)


def _exchange_path(symbol: str) -> str:
    return f"/products/{quote(symbol, safe='')}"


def _text(value: Any) -> Any:
    """Numbers were read as Decimal, or as int where they have no point."""
    return str(value) if isinstance(value, Decimal | int) else value


def _advanced_path(symbol: str) -> str:
    product = quote(products.streamed_as(symbol), safe="")
    return f"{ADVANCED}/market/products/{product}"
