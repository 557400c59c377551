"""Bots that trade by hand, and a market whose price is said: what sweeps are shown in tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.limits import Limit, LimitKind
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.standing import AtRisk, Mark
from botswarm.ledger.findings import SweepDone
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.store import Ledger
from botswarm.sweeps import positions
from botswarm.sweeps.sweep import Look, Rules, Tools, run
from tests.ledger.conftest import ACCOUNT, NOW, SYMBOL, VENUE, a_bot, a_fill, sent

SWARM = "swarm"
OF_ACCOUNT = f"account:{VENUE}:{ACCOUNT}"
OF_MARKET = f"market:{VENUE}:{SYMBOL}"

_trades = itertools.count(1)


@dataclass(slots=True)
class Stopped:
    """A clock that goes when it is told to."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass(slots=True)
class Floor:
    """A ledger, a clock, and what happens in them."""

    ledger: Ledger
    clock: Stopped = field(default_factory=Stopped)
    rules: Rules = field(default_factory=Rules)

    @property
    def tools(self) -> Tools:
        return Tools(ledger=self.ledger, clock=self.clock, rules=self.rules, pause=self.wait)

    def wait(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def bot(self, name: str, **changes: Any) -> None:
        bot = a_bot(name=name, **changes)
        self.ledger.bots.create(bot, self.clock.at, actor="test")

    def trade(
        self,
        bot: str,
        side: str,
        quantity: str,
        price: str,
        *,
        symbol: str = SYMBOL,
        parts: int = 1,
        **changes: Any,
    ) -> Order:
        """An order that is filled at once, in so many parts."""
        number = Decimal(quantity)
        at = self.clock.at
        order = sent(
            self.ledger,
            bot=bot,
            side=Side(side),
            quantity=number,
            symbol=symbol,
            created_at=at,
            signal_expires_at=at + timedelta(seconds=10),
            **changes,
        )
        quote = symbol.partition("-")[2]
        fill = a_fill(
            order, 0, price=Decimal(price), commission=Decimal(0), commission_asset=quote, at=at
        )
        fills = [
            replace(fill, trade_id=next(_trades), quantity=number / parts) for _ in range(parts)
        ]
        self.ledger.books.record(order.id, OrderState.FILLED, at, fills=fills)
        return order

    def price(self, price: str, *, symbol: str = SYMBOL, at: datetime | None = None) -> None:
        said = Mark(venue=VENUE, symbol=symbol, price=Decimal(price), at=at or self.clock.at)
        self.ledger.marks.save([said], self.clock.at)

    def limit(self, scope: str, kind: LimitKind, breach: str, warn: str | None = None) -> None:
        said = Limit(
            scope=scope,
            kind=kind,
            breach=Decimal(breach),
            warn=None if warn is None else Decimal(warn),
        )
        self.ledger.limits.set(said, actor="test", reason="test", now=self.clock.at)

    def sweep(self, look: Look = positions.sweep, name: str = "positions") -> SweepDone:
        done = run(name, look, self.tools)
        assert done.error is None, done.error
        return done

    def standing(self, scope: str, quote: str = "USDT") -> AtRisk:
        return self.ledger.risk_standings.of([scope])[scope, quote]

    def state(self, scope: str) -> str:
        halts = {each.scope: each for each in self.ledger.halts.all()}
        return halts[scope].state_at(self.clock.at).value if scope in halts else "active"

    def events(self, kind: str | None = None) -> Sequence[RiskEvent]:
        return self.ledger.findings.events(kind=kind)
