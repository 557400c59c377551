"""Coinbase Exchange's public side: its markets, candles and trades by REST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Status, Trade
from botswarm.exchanges.coinbase import exchange_events, exchange_session, products
from botswarm.exchanges.coinbase.exchange_session import ExchangeSession
from botswarm.exchanges.coinbase.history import TRADES_PER_REQUEST_MAX, History
from botswarm.exchanges.reading import moment_of_text, number, positive, whole
from botswarm.exchanges.rest import PublicRest


class ExchangeMarketData(History):
    """``instruments`` is asked once and kept."""

    rules = exchange_session.RULES
    candles_per_request = 300
    channels = exchange_session.CHANNELS

    def __init__(self, *, name: str, rest_url: str, stream_url: str) -> None:
        self.name = name
        self._rest = PublicRest(name, rest_url)
        self._stream_url = stream_url
        self._instruments: Sequence[Instrument] = ()

    def instruments(self) -> Sequence[Instrument]:
        if not self._instruments:
            told = self._rest.ask("/products")
            with self._rest.reading("products"):
                self._instruments = [products.exchange_instrument(self.name, each) for each in told]
        return self._instruments

    def statuses(self) -> Sequence[Status]:
        return ()

    def session(self) -> ExchangeSession:
        return ExchangeSession(
            name=self.name,
            stream_url=self._stream_url,
            known=frozenset(each.symbol for each in self._instruments),
        )

    def _candles_between(
        self, symbol: str, timeframe: str, start_s: int, end_s: int
    ) -> list[Candle]:
        query = {"start": start_s, "end": end_s, "granularity": TIMEFRAMES_S[timeframe]}
        told = self._rest.ask(f"{_path(symbol)}/candles?{urlencode(query)}")
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
        query = {"limit": count, "after": first_id + count}
        return [
            trade for trade in self._trades(symbol, query) if first_id <= trade.trade_id <= last_id
        ]

    def _trades(self, symbol: str, query: Mapping[str, int]) -> list[Trade]:
        told = self._rest.ask(f"{_path(symbol)}/trades?{urlencode(query)}")
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

    def book(self, symbol: str) -> Book | None:
        return None

    def server_time_ms(self) -> int:
        told = self._rest.ask("/time")
        with self._rest.reading("time"):
            return int(Decimal(told["epoch"]) * 1000)

    def close(self) -> None:
        self._rest.close()


def _path(symbol: str) -> str:
    return f"/products/{quote(symbol, safe='')}"


def _text(value: Any) -> Any:
    """Numbers were read as Decimal, or as int where they have no point."""
    return str(value) if isinstance(value, Decimal | int) else value
