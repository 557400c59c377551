"""One exchange for all venues, and for each of them an adapter, its market and its stream."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState
from botswarm.exchanges.base import (
    Accepted,
    AccountEvent,
    AccountStream,
    Answer,
    Report,
    TradingVenue,
)
from botswarm.testing.exchange import SimulatedExchangeServer
from tests.integration.swarm import until
from tests.orders.conftest import a_market_order, an_order
from tests.venues.doors import DOORS, Door

MARKET = "BTC-USDT"
SOON_S = 30.0


@pytest.fixture(scope="session")
def server() -> Iterator[SimulatedExchangeServer]:
    """Without limits of pace: those are held elsewhere."""
    options = ["--kraken-tier", "unlimited", "--orders-per-10s-max", "10000"]
    options += ["--coinbase-per-s", "10000"]
    with SimulatedExchangeServer(options=options) as running:
        yield running


@dataclass(slots=True)
class Bench:
    """A venue, and what a test does with it."""

    door: Door
    server: SimulatedExchangeServer
    venue: TradingVenue
    markets: dict[str, Instrument]
    folder: Path

    def order(self, **changes: Any) -> Order:
        """It rests far below the market, unless told otherwise."""
        return an_order(**{"venue": self.venue.name, "account": self.venue.account} | changes)

    def market_order(self, **changes: Any) -> Order:
        ours = {"venue": self.venue.name, "account": self.venue.account}
        return a_market_order(**ours | changes)

    def send(self, order: Order, at: datetime | None = None) -> Answer:
        instrument = self.markets[order.symbol]
        self.venue.ready()
        return self.venue.send(self.venue.sign(order, instrument, at or datetime.now(UTC)))

    def accepted(self, order: Order) -> Report:
        return report_of(self.send(order))

    def found(self, order: Order, *states: OrderState) -> Report:
        """As the venue tells it once it has come to one of these states."""

        def look() -> Report | None:
            report = self.venue.query(order)
            return report if report is not None and report.state in states else None

        return cast("Report", until(look, f"{order.client_order_id} is {states}"))

    def fault(self, kind: str, **wish: object) -> None:
        assert self.server.arm(kind, **{"venue": self.door.name} | wish).status == 200

    def journal(self, kind: str, order: Order) -> list[Any]:
        """What the exchange wrote down of an order, by its own account of it."""
        return [
            entry
            for entry in self.server.journal(kind)
            if entry["account"] == self.door.account
            and entry["client_order_id"].replace("-", "") == order.client_order_id
        ]

    def best_ask(self) -> tuple[Decimal, Decimal]:
        told = self.server.public("GET", "/api/v3/ticker/bookTicker", symbol="BTCUSDT").body
        return Decimal(told["askPrice"]), Decimal(told["askQty"])


@pytest.fixture(scope="session")
def benches(
    server: SimulatedExchangeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Bench]]:
    made = {}
    for door in DOORS:
        folder = tmp_path_factory.mktemp(door.name, numbered=True)
        venue = door.venue(server, folder)
        markets = {each.symbol: each for each in venue.instruments()}
        made[str(door)] = Bench(door, server, venue, markets, folder)
    yield made
    for bench in made.values():
        bench.venue.close()


@pytest.fixture(params=DOORS, ids=str)
def bench(request: pytest.FixtureRequest, benches: dict[str, Bench]) -> Iterator[Bench]:
    chosen = benches[str(request.param)]
    yield chosen
    chosen.server.misbehaviour("DELETE")
    chosen.server.arm("clock_offset", seconds=0)
    for symbol in sorted({MARKET, "ETH-USDT"}):
        chosen.venue.cancel_all(symbol)


@dataclass(slots=True)
class Listener:
    """What an account's stream has said so far."""

    events: queue.Queue[AccountEvent] = field(default_factory=queue.Queue)
    connected: queue.Queue[float] = field(default_factory=queue.Queue)

    def of(self, order: Order, last: Callable[[AccountEvent], bool]) -> list[AccountEvent]:
        """Those of one order, up to the first of which that is true."""
        found: list[AccountEvent] = []
        while not found or not last(found[-1]):
            event = self.events.get(timeout=SOON_S)
            if event.report.client_order_id.replace("-", "") == order.client_order_id:
                found.append(event)
        return found


@pytest.fixture
def listener(bench: Bench) -> Iterator[Listener]:
    stream: AccountStream = bench.door.stream(bench.server, bench.folder)
    heard, stop = Listener(), threading.Event()
    thread = threading.Thread(
        target=stream.run,
        args=(heard.events.put, lambda: heard.connected.put(time.monotonic()), stop),
        daemon=True,
    )
    thread.start()
    heard.connected.get(timeout=SOON_S)
    yield heard
    stop.set()
    bench.server.arm("disconnect_users")
    thread.join(SOON_S)
    assert not thread.is_alive()


def report_of(answer: Answer) -> Report:
    assert isinstance(answer, Accepted), answer
    return answer.report
