"""How fast the two forms of deciding are: many bots side by side, and one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy

from botswarm.bots.evaluation import Evaluator
from botswarm.bots.muster import Muster
from botswarm.bots.scene import Scene
from botswarm.bots.strategies import Strategies
from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Side
from botswarm.ledger.bot import Bot
from botswarm.ledger.bots import BotState, Stand
from botswarm.ledger.stands import News
from botswarm.strategies import registry
from botswarm.strategies.api import Candles
from botswarm.strategies.evaluate import Market

BOTS = 200
"""Of one strategy in one market."""
CANDLES = 1200
FOR_S = 1.0
PASSES_PER_CANDLE = 60
VENUE, SYMBOL = "simulated", "M0000-USDT"
MINUTE_MS = 60_000

INSTRUMENT = Instrument(
    venue=VENUE,
    symbol=SYMBOL,
    base="M0000",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.0001"),
    quantity_min=Decimal("0.0001"),
    quantity_max=Decimal(9000),
    notional_min=Decimal(5),
)


def forms(strategies: Sequence[str]) -> list[dict[str, Any]]:
    """Processor time of this process only; what is written down is not committed anywhere."""
    return [_of(name) for name in strategies]


def _of(name: str) -> dict[str, Any]:
    bench = _Bench(name)
    return {
        "strategy": name,
        "bots": BOTS,
        "ranked_per_s": round(bench.per_s(bench.ranked)),
        "scalar_per_s": round(bench.per_s(bench.scalar)),
    }


class _Bench:
    def __init__(self, name: str) -> None:
        catalog = registry.load()
        kind = catalog.get(name)
        first = kind.parameters()[0]
        self.muster = Muster(VENUE, SYMBOL, Strategies(catalog))
        self.evaluator = Evaluator(timedelta(seconds=10))
        self.now = datetime.now(UTC)
        stands = [
            _stand(name, number, {first.name: int(first.default) + number % 8})
            for number in range(BOTS)
        ]
        self.muster.take(News(revision=1, stands=stands, ended=frozenset(), is_all=True))
        self.candles = _candles(self.now)
        self.count = 0
        # Their first evaluation is written down, so that from now on they are what they were.
        made = self.evaluator.evaluate(self.muster, self._scene(), self.now)
        for member in self.muster.members.values():
            said = next(each for each in made.decisions if each.bot == member.name)
            assert said.evaluation is not None
            member.was_kept(said.evaluation)
            self.muster.changed.add(member.name)

    def per_s(self, work: Callable[[Scene], None]) -> float:
        began, done = time.process_time(), 0
        while time.process_time() - began < FOR_S:
            work(self._scene())
            done += BOTS
        return done / (time.process_time() - began)

    def ranked(self, scene: Scene) -> None:
        """As in a worker: whoever would change something would then be asked by itself."""
        self.evaluator.choose(self.muster, scene, self.now)

    def scalar(self, scene: Scene) -> None:
        self.evaluator.ask(scene, list(self.muster.members.values()), self.now)

    def _scene(self) -> Scene:
        """Prices move with every pass, and once a minute a candle closes."""
        self.count += 1
        if self.count % PASSES_PER_CANDLE == 0:
            self.candles = replace(self.candles, _known={})
        price = Decimal(100) + Decimal(self.count % 7) / 100
        at_ms = int(self.now.timestamp() * 1000)
        market = Market(
            instrument=INSTRUMENT,
            sequence=self.count,
            trade=Trade(
                venue=VENUE,
                symbol=SYMBOL,
                trade_id=self.count,
                price=price,
                quantity=Decimal(1),
                taker_side=Side.BUY,
                exchange_ms=at_ms,
                received_ms=at_ms,
            ),
            quote=Quote(
                venue=VENUE,
                symbol=SYMBOL,
                sequence=self.count,
                bid=price,
                bid_quantity=Decimal(1),
                ask=price + Decimal("0.01"),
                ask_quantity=Decimal(1),
                exchange_ms=at_ms,
                received_ms=at_ms,
            ),
            exchange_ms=at_ms,
        )
        return Scene(market=market, candles={"1m": self.candles})


def _stand(strategy: str, number: int, parameters: dict[str, object]) -> Stand:
    bot = Bot(
        name=f"b{number}",
        strategy=strategy,
        venue=VENUE,
        symbol=SYMBOL,
        account="paper",
        timeframe="1m",
        parameters={"budget": "1000", **parameters},
        state=BotState.RUNNING,
        is_shadow=True,
    )
    return Stand(bot=bot, position=Decimal(0), orders=(), revision=1)


def _candles(now: datetime) -> Candles:
    steps = numpy.random.default_rng(1).normal(0.0, 0.1, CANDLES)
    close = 100.0 + numpy.cumsum(steps)
    last_ms = int(now.timestamp() * 1000) // MINUTE_MS * MINUTE_MS - MINUTE_MS
    open_ms = last_ms - MINUTE_MS * numpy.arange(CANDLES - 1, -1, -1, dtype=numpy.int64)
    return Candles(
        open_ms=open_ms,
        open=close,
        high=close + 0.1,
        low=close - 0.1,
        close=close,
        volume=numpy.ones(CANDLES),
    )
