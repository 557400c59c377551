"""Markets to try a strategy in: walks, trends, silence, spikes, and prices of every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy

from botswarm.domain.market import TIMEFRAMES_S, Book, Quote, Trade
from botswarm.domain.order import Side
from botswarm.strategies.api import Candles, Other, Strategy, View, wanted_history
from botswarm.strategies.candles import NONE
from botswarm.strategies.indicators import Floats

SYMBOL = "BTC-USDT"
END_MS = 1_767_225_600_000
"""When the last candle of every market here closes."""
SCENES: Sequence[str] = ("walk", "trend", "crash", "flat", "silent", "spike", "tiny", "huge")
QUIET: frozenset[str] = frozenset({"flat", "silent"})
"""Scenes in which an indicator may have nothing to divide by."""
COLUMNS = ("open_ms", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    name: str
    seed: int


def closes(scene: Scene, count: int) -> Floats:
    random = numpy.random.default_rng(scene.seed)
    steps = random.normal(0, 0.01, count)
    match scene.name:
        case "trend":
            steps += 0.004
        case "crash":
            steps[count // 2 :] -= 0.01
        case "flat" | "silent":
            steps[:] = 0.0
        case "spike":
            steps[:] = 0.0
            steps[count // 3 :: 17] = 0.2
            steps[count // 3 + 1 :: 17] = -0.2
    first = {"tiny": 1e-6, "huge": 1e9}.get(scene.name, 100.0)
    walk: Floats = first * numpy.exp(numpy.cumsum(steps))
    return walk


def candles(scene: Scene, timeframe: str, count: int) -> Candles:
    """The latest of them are the same however many are asked for."""
    close = closes(Scene(name=scene.name, seed=scene.seed + len(timeframe)), 4096)[-count:]
    random = numpy.random.default_rng(scene.seed + 1)
    away = random.exponential(0.003, (2, 4096))[:, -count:]
    volume = random.gamma(2.0, 3.0, 4096)[-count:]
    if scene.name in QUIET:
        away[:] = 0.0
    if scene.name == "silent":
        volume[:] = 0.0
    before = numpy.concatenate([close[:1], close[:-1]])
    step_ms = TIMEFRAMES_S[timeframe] * 1000
    made: dict[str, Any] = {
        "open_ms": END_MS - step_ms * numpy.arange(len(close), 0, -1, dtype=numpy.int64),
        "open": before,
        "high": numpy.maximum(before, close) * (1 + away[0]),
        "low": numpy.minimum(before, close) * (1 - away[1]),
        "close": close,
        "volume": volume,
    }
    return Candles(**made)


def with_future(shown: Candles, seed: int) -> Candles:
    """The same candles, with others behind them in memory that are not shown."""
    count, ahead = len(shown), 50
    longer: dict[str, Any] = {}
    for name in COLUMNS:
        column = getattr(shown, name)
        future = numpy.random.default_rng(seed).normal(1, 0.3, ahead) * (
            column[-1] if count else 1.0
        )
        longer[name] = numpy.concatenate([column, future.astype(column.dtype)])[:count]
    return frozen(Candles(**longer))


def frozen(shown: Candles) -> Candles:
    """As the engine shows them: read-only."""
    for name in COLUMNS:
        getattr(shown, name).flags.writeable = False
    return shown


def view(
    strategy: Strategy,
    scene: Scene,
    *,
    position: Decimal = Decimal(0),
    memory: Mapping[str, Any] | None = None,
    extra: int = 0,
    future: int | None = None,
    timeframe: str | None = None,
) -> View:
    """With ``extra`` candles over what was asked for; ``future`` chooses what lies behind them."""
    own = timeframe or strategy.timeframe
    series: dict[str, Candles] = {}
    for name, wanted in wanted_history(strategy, own).items():
        count = min(wanted + extra, 4096)
        shown = candles(scene, name, count) if count else NONE
        series[name] = frozen(shown) if future is None else with_future(shown, future)
    needs = strategy.needs()
    price = _price(scene)
    return View(
        symbol=SYMBOL,
        candles=series[own],
        trade=_trade(SYMBOL, price),
        quote=_quote(SYMBOL, price),
        budget=price * 10,
        position=position,
        orders=(),
        memory=MappingProxyType(dict(memory or {})),
        now_ms=END_MS + 1500,
        series=series,
        others={
            symbol: _other(strategy, symbol, scene, own, extra)
            for symbol in needs.others
            if symbol != SYMBOL
        },
        book=_book(price) if "book" in needs.channels else None,
        average_price=price if position > 0 else None,
    )


def _price(scene: Scene) -> Decimal:
    last = float(closes(scene, 4096)[-1])
    return Decimal(f"{last:.10g}")


def _other(strategy: Strategy, symbol: str, scene: Scene, timeframe: str, extra: int) -> Other:
    scene = Scene(name=scene.name, seed=scene.seed + sum(map(ord, symbol)))
    price, count = _price(scene), strategy.history + extra
    return Other(
        symbol=symbol,
        candles=frozen(candles(scene, timeframe, count)) if count else NONE,
        trade=_trade(symbol, price),
        quote=_quote(symbol, price),
    )


def _trade(symbol: str, price: Decimal) -> Trade:
    return Trade(
        venue="check",
        symbol=symbol,
        trade_id=1,
        price=price,
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=END_MS + 1500,
        received_ms=END_MS + 1501,
    )


def _quote(symbol: str, price: Decimal) -> Quote:
    step = price / 10_000
    return Quote(
        venue="check",
        symbol=symbol,
        sequence=1,
        bid=price - step,
        bid_quantity=Decimal(1),
        ask=price + step,
        ask_quantity=Decimal(1),
        exchange_ms=END_MS + 1500,
        received_ms=END_MS + 1501,
    )


def _book(price: Decimal) -> Book:
    steps = [price / 10_000 * number for number in range(1, 6)]
    return Book(
        venue="check",
        symbol=SYMBOL,
        sequence=1,
        bids=tuple((price - step, Decimal(1)) for step in steps),
        asks=tuple((price + step, Decimal(1)) for step in steps),
        exchange_ms=END_MS + 1500,
        received_ms=END_MS + 1501,
    )
