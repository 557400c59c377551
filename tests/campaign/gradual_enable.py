"""Trading opened step by step on the simulator, with a planted burst of errors and without.

    python -m tests.campaign.gradual_enable --runs 5 --hold 10

Orders flow all the while from bots on either side of every share. Each run with a burst says how
long after the first order that failed trading was stepped back; each one without says when every
stage began.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import func, select

from botswarm.domain.enabling import Enabling
from botswarm.domain.order import OrderState
from botswarm.ledger import migrate, risk_events
from botswarm.ledger.halts import place_of
from botswarm.ledger.models import OrderEventRow, OrderRow
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.store import Ledger
from botswarm.messages import PlaceOrder, send
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.integration.swarm import Swarm, until
from tests.orders.conftest import a_market_order

STAGES = (10, 25, 50, 100)
BOTS_PER_STAGE = 5
MUCH = "1000000"
BURST = 500
WITHIN_S = 120


@dataclass
class Opening:
    """A swarm with an exchange, a worker and a beat, and orders that flow."""

    swarm: Swarm
    exchange: SimulatedExchangeServer
    ledger: Ledger
    every_s: float = 0.1

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._order, daemon=True)

    def begin(self) -> None:
        for limit in ("OPEN_NOTIONAL", "POSITION_NOTIONAL"):
            self.swarm.settings[f"BOTSWARM_LIMIT_{limit}_MAX"] = MUCH
        self.swarm.worker("orders,ops")
        self.swarm.start("beat")
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _order(self) -> None:
        for bot in itertools.cycle(bots()):
            if self._stop.wait(self.every_s):
                return
            price = self.exchange.public("GET", "/api/v3/ticker/price", symbol="BTCUSDT").body
            order = a_market_order(
                bot=bot, quantity=Decimal("0.0001"), reference_price=Decimal(price["price"])
            )
            self.ledger.orders.add(order, datetime.now(UTC))
            send(self.swarm.app, PlaceOrder(order_id=order.id), task_id=order.id)

    def enable(self, hold_s: float, stages: Sequence[int] = STAGES) -> None:
        self.swarm.command(
            *("trading", "enable", "--gradual", "--hold", f"{hold_s:g}s", "--yes"),
            *("--stages", ",".join(map(str, stages))),
        )

    def latest(self) -> Enabling:
        return self.ledger.enablings.latest(1)[0]

    def events(self, after: int = 0) -> list[RiskEvent]:
        return self.ledger.database.read(
            lambda session: list(risk_events.since(session, after, kind="enabling"))
        )

    def sent(self, since: datetime) -> int:
        """Orders that passed the gate."""
        question = select(func.count()).where(OrderRow.approved_at >= since)
        return self.ledger.database.read(lambda session: session.scalars(question).one())

    def passed(self, since: datetime, until_: datetime) -> set[str]:
        """Bots whose orders passed the gate."""
        at = OrderRow.approved_at
        question = select(OrderRow.bot).where(at > since, at < until_).distinct()
        return set(self.ledger.database.read(lambda session: session.scalars(question).all()))

    def first_error(self, since: datetime) -> datetime | None:
        question = select(func.min(OrderEventRow.at)).where(
            OrderEventRow.after == OrderState.UNKNOWN.value, OrderEventRow.at >= since
        )
        return self.ledger.database.read(lambda session: session.scalars(question).one())

    def wait_for_share(self, share: int) -> None:
        until(lambda: self.latest().share == share, f"a share of {share} %", WITHIN_S)


def bots() -> list[str]:
    """Some on either side of every share."""
    chosen: list[str] = []
    for low, high in itertools.pairwise((0, *STAGES)):
        names = (f"b{number}" for number in itertools.count())
        fitting = (name for name in names if low <= place_of(name) < high)
        chosen += itertools.islice(fitting, BOTS_PER_STAGE)
    # By turns, so that each share has orders all the time.
    return sorted(chosen, key=lambda name: (chosen.index(name) % BOTS_PER_STAGE, name))


@contextmanager
def an_opening(broker: EmbeddedBrokerServer, folder: Path) -> Iterator[Opening]:
    vhost = f"g-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(vhost)
    swarm = Swarm(broker, vhost, folder)
    options = ["--orders-per-10s-max", "1000"]
    with SimulatedExchangeServer(folder, options=options) as exchange:
        ledger = Ledger(f"sqlite:///{folder / 'state' / 'ledger.db'}")
        migrate.migrate(ledger.database)
        made = Opening(swarm, exchange, ledger)
        try:
            made.begin()
            yield made
        finally:
            made.end()
            swarm.close()
            ledger.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedBack:
    at_share: int
    """Open to so many when the burst began."""
    event: RiskEvent
    after_error: timedelta
    """From the first order that failed, by the ledger."""


def with_burst(at: Opening, hold_s: float, share: int = 25) -> SteppedBack:
    """Let it open up to ``share``, have the exchange answer no order, and wait for what it does."""
    last = max((event.id or 0 for event in at.events()), default=0)
    at.enable(hold_s)
    at.wait_for_share(share)
    began = datetime.now(UTC)
    at.exchange.arm("drop_reply", on="place", times=BURST)
    try:
        until(lambda: _breach(at, last), "it to step back", WITHIN_S)
    finally:
        at.exchange.misbehaviour("DELETE")
    event = _breach(at, last)
    error = at.first_error(began)
    assert event is not None
    assert error is not None
    return SteppedBack(at_share=share, event=event, after_error=event.at - error)


def _breach(at: Opening, after: int) -> RiskEvent | None:
    found = (event for event in at.events(after) if event.severity == "breach")
    return next(found, None)


def without_burst(at: Opening, hold_s: float, stages: Sequence[int] = STAGES) -> list[RiskEvent]:
    """Each stage as it began, and the end."""
    last = max((event.id or 0 for event in at.events()), default=0)
    at.enable(hold_s, stages)
    until(lambda: at.latest().state.is_over, "its end", WITHIN_S + 5 * hold_s)
    return at.events(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--hold", type=float, default=10.0, metavar="SECONDS")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gradual-") as folder,
        EmbeddedBrokerServer() as broker,
        an_opening(broker, Path(folder)) as at,
    ):
        for number in range(asked.runs):
            back = with_burst(at, asked.hold)
            after_s = back.after_error.total_seconds()
            print(f"{number + 1}: {back.event.words}; {after_s:.2f} s after the first error")
        began = datetime.now(UTC)
        for event in without_burst(at, asked.hold):
            print(f"   {(event.at - began).total_seconds():6.2f} s  {event.words}")
        print(f"   {at.sent(began)} orders passed the gate meanwhile")


if __name__ == "__main__":
    main()
