"""In a flash crash losses stop within the limit and one sweep, and the halt explains itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from botswarm.domain.instrument import Instrument
from botswarm.domain.limits import LimitKind
from botswarm.domain.order import OrderState
from botswarm.exchanges.simulated.prices import CRASH_FIRST_MS, PriceLine
from botswarm.ledger.many import insert_all
from botswarm.ledger.models import PositionRow
from botswarm.ledger.store import Ledger
from botswarm.sweeps.sweep import Rules
from tests.ledger.conftest import ACCOUNT, BTC, NOW, VENUE, a_bot, a_fill, let_pass
from tests.ledger.sweeping import OF_ACCOUNT, Floor

D = Decimal
BOTS = 30
EACH = D(20)
LIMIT = D(15)
SWEEP_S = 5
PRICES: Mapping[str, D] = {"BTC-USDT": D(60_000), "ETH-USDT": D(3_000), "SOL-USDT": D(150)}


def market(symbol: str) -> Instrument:
    values = {name: getattr(BTC, name) for name in Instrument.__dataclass_fields__}
    return Instrument(**{**values, "symbol": symbol, "base": symbol.partition("-")[0]})


class Crash(Floor):
    """The market as the simulated exchange's scenario has it, on a clock of its own."""

    trades = itertools.count(1)

    def begin(self) -> None:
        epoch_ms = int(NOW.timestamp() * 1000)
        self.lines = {
            symbol: PriceLine(
                symbol=symbol,
                seed=1,
                around=price,
                tick_size=D("0.01"),
                scenario="flash-crash",
                epoch_ms=epoch_ms,
            )
            for symbol, price in PRICES.items()
        }
        self.ledger.books.save_instruments([market(symbol) for symbol in PRICES])
        symbols = list(PRICES)
        bots = [a_bot(name=f"b{n}", symbol=symbols[n % len(symbols)]) for n in range(BOTS)]
        self.ledger.changes.save(NOW, new=bots, actor="test", reason="created")
        rows = list(self.rows([(bot.name, bot.symbol) for bot in bots]))
        self.ledger.database.write(lambda session: insert_all(session, PositionRow, rows))

    def rows(self, bots: list[tuple[str, str]]) -> Iterator[dict[str, object]]:
        for name, symbol in bots:
            price = self.now(symbol)
            quantity = (EACH / price).quantize(D("0.00001"))
            yield {
                "bot": name,
                "venue": VENUE,
                "account": ACCOUNT,
                "symbol": symbol,
                "quantity": quantity,
                "cash": -quantity * price,
                "cost": quantity * price,
                "realised": D(0),
                "last_trade_id": -1,
                "updated_at": NOW,
            }

    def now(self, symbol: str) -> D:
        return self.lines[symbol].at(int(self.clock.at.timestamp() * 1000))

    def loss(self) -> D:
        found = self.ledger.orders.positions()
        worth = sum((each.quantity * self.now(each.symbol) - each.cost for each in found), D(0))
        return -worth - sum((each.realised for each in found), D(0))

    def fill_what_waits(self) -> int:
        """As order workers and the venue would, at the price of this moment."""
        waiting = self.ledger.orders.under_way(venue=VENUE)
        for order in waiting:
            self.ledger.books.judge(order.id, let_pass, self.clock.at)
            self.ledger.books.record(order.id, OrderState.SENDING, self.clock.at)
            fill = a_fill(
                order,
                0,
                price=self.now(order.symbol),
                quantity=order.quantity,
                commission=D(0),
                at=self.clock.at,
            )
            fill = replace(fill, trade_id=next(self.trades))
            self.ledger.books.record(order.id, OrderState.FILLED, self.clock.at, fills=[fill])
        return len(waiting)


@pytest.fixture
def crash(quick_ledger: Ledger) -> Crash:
    made = Crash(quick_ledger, rules=Rules(closes_on_breach=True))
    made.begin()
    return made


def test_losses_stop_within_the_limit_and_one_sweep_and_the_halt_says_why(crash: Crash) -> None:
    crash.limit(OF_ACCOUNT, LimitKind.DAILY_LOSS, str(LIMIT))
    crash.clock.at += timedelta(milliseconds=CRASH_FIRST_MS - 4_000)
    losses: list[D] = []
    for second in range(40):
        crash.wait(1)
        for symbol in PRICES:
            crash.price(str(crash.now(symbol)), symbol=symbol)
        losses.append(crash.loss())
        crash.fill_what_waits()
        if second % SWEEP_S == 0:
            crash.sweep()
    beyond = next(second for second, loss in enumerate(losses) if loss >= LIMIT)
    allowed = max(losses[beyond : beyond + SWEEP_S + 2])
    assert max(losses) > 2 * LIMIT, "the fall went far beyond the limit"
    assert LIMIT <= crash.loss() <= allowed
    assert all(not each.quantity for each in crash.ledger.orders.positions())
    assert losses[-1] == losses[-10], "nothing is lost, or won, any more"
    assert crash.state(OF_ACCOUNT) == "reducing"
    (event,) = [each for each in crash.events("daily_loss") if each.severity == "breach"]
    assert event.scope == OF_ACCOUNT
    assert event.value is not None
    assert event.value >= LIMIT
    assert event.numbers is not None
    assert D(event.numbers["unrealised"]) <= -LIMIT
