"""Markets, views and orders for tests of strategies."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.strategies.api import Candles, View
from botswarm.strategies.evaluate import Market

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
VENUE, SYMBOL = "simulated", "BTC-USDT"

BTC = Instrument(
    venue=VENUE,
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.001"),
    quantity_min=Decimal("0.001"),
    quantity_max=Decimal(9000),
    notional_min=Decimal(5),
)


def some_candles(closes: Sequence[float]) -> Candles:
    close = numpy.array(closes, dtype=numpy.float64)
    close.flags.writeable = False
    open_ms = NOW_MS - 60_000 * numpy.arange(len(closes), 0, -1, dtype=numpy.int64)
    return Candles(open_ms=open_ms, open=close, high=close, low=close, close=close, volume=close)


def a_trade(price: Decimal | int | str = 100, at_ms: int = NOW_MS) -> Trade:
    return Trade(
        venue=VENUE,
        symbol=SYMBOL,
        trade_id=1,
        price=Decimal(price),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=at_ms,
        received_ms=at_ms,
    )


def a_quote(
    bid: Decimal | int | str = 100, ask: Decimal | int | str = 100, at_ms: int = NOW_MS
) -> Quote:
    return Quote(
        venue=VENUE,
        symbol=SYMBOL,
        sequence=1,
        bid=Decimal(bid),
        bid_quantity=Decimal(1),
        ask=Decimal(ask),
        ask_quantity=Decimal(1),
        exchange_ms=at_ms,
        received_ms=at_ms,
    )


def a_market(**changes: Any) -> Market:
    values: dict[str, Any] = {
        "instrument": BTC,
        "sequence": 7,
        "trade": a_trade(),
        "quote": a_quote("99.99", 100),
        "exchange_ms": NOW_MS,
    }
    return Market(**values | changes)


def a_view(
    closes: Sequence[float] = (),
    *,
    price: Decimal | int | str = 100,
    position: Decimal | int | str = 0,
    orders: Sequence[Order] = (),
    memory: Mapping[str, Any] | None = None,
    budget: int = 1000,
) -> View:
    exact = Decimal(price)
    return View(
        symbol=SYMBOL,
        candles=some_candles(closes or [float(exact)]),
        trade=a_trade(exact),
        quote=a_quote(exact - Decimal("0.01"), exact + Decimal("0.01")),
        budget=Decimal(budget),
        position=Decimal(position),
        orders=tuple(orders),
        memory=memory or {},
    )


def an_open_order(
    side: Side,
    quantity: Decimal | int | str,
    limit_price: Decimal | int | str | None = None,
    *,
    filled: Decimal | int | str = 0,
    bot: str = "alpha",
) -> Order:
    return Order(
        id=str(uuid.uuid4()),
        bot=bot,
        venue=VENUE,
        account="paper",
        symbol=SYMBOL,
        side=side,
        kind=OrderKind.MARKET if limit_price is None else OrderKind.LIMIT,
        quantity=Decimal(quantity),
        limit_price=None if limit_price is None else Decimal(limit_price),
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal(100),
        state=OrderState.LIVE,
        created_at=NOW,
        signal_expires_at=NOW + timedelta(seconds=10),
        filled_quantity=Decimal(filled),
    )
