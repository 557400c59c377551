"""Markets and views for the tests that authors write for their own strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy

from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Order, Side
from botswarm.strategies.api import Candles, Strategy, View
from botswarm.strategies.origins import Kind, Origin, kinds_of

SYMBOL = "BTC-USDT"
LATEST_MS = 1_767_225_600_000
MINUTE_MS = 60_000


def load_strategy(path: Path | str) -> type[Strategy]:
    """The one strategy of a file; raises Unusable where it cannot be loaded."""
    [kind] = kinds_of(Origin(Kind.FILE, str(path)))
    return kind


def candles_of(closes: Sequence[float], *, volume: float = 1.0) -> Candles:
    """Minutes that do not move within, one close after the other."""
    close = numpy.array(closes, numpy.float64)
    count = len(close)
    made = Candles(
        open_ms=LATEST_MS - MINUTE_MS * numpy.arange(count, 0, -1, dtype=numpy.int64),
        open=close,
        high=close,
        low=close,
        close=close,
        volume=numpy.full(count, volume),
    )
    for column in (made.open_ms, made.close, made.volume):
        column.flags.writeable = False
    return made


def view_of(
    closes: Sequence[float],
    *,
    price: Decimal | int | str | None = None,
    position: Decimal | int | str = 0,
    budget: Decimal | int | str = 1000,
    orders: Sequence[Order] = (),
    memory: Mapping[str, Any] | None = None,
    average_price: Decimal | int | str | None = None,
) -> View:
    """What a bot would be shown after these closes; the price is the last of them, or another."""
    shown = candles_of(closes)
    exact = Decimal(str(closes[-1])) if price is None else Decimal(price)
    now_ms = LATEST_MS + 1000
    return View(
        symbol=SYMBOL,
        candles=shown,
        trade=Trade(
            venue="test",
            symbol=SYMBOL,
            trade_id=1,
            price=exact,
            quantity=Decimal(1),
            taker_side=Side.BUY,
            exchange_ms=now_ms,
            received_ms=now_ms,
        ),
        quote=Quote(
            venue="test",
            symbol=SYMBOL,
            sequence=1,
            bid=exact - exact / 10_000,
            bid_quantity=Decimal(1),
            ask=exact + exact / 10_000,
            ask_quantity=Decimal(1),
            exchange_ms=now_ms,
            received_ms=now_ms,
        ),
        budget=Decimal(budget),
        position=Decimal(position),
        orders=tuple(orders),
        memory=dict(memory or {}),
        now_ms=now_ms,
        series={"1m": shown},
        average_price=None if average_price is None else Decimal(average_price),
    )
