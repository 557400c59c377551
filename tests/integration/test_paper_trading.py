"""Orders on paper at the prices of venues that live: real feed, real broker, real executor."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Settings, load
from botswarm.domain.fill import Fill
from botswarm.domain.market import Book, Trade
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.exchanges.accounts import Account, accounts, trading_venue
from botswarm.exchanges.base import TradingVenue
from botswarm.exchanges.kraken.market import KrakenMarketData
from botswarm.exchanges.registry import AccountKind, account_kind, market_data
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.ledger.subscriptions import Subscriptions
from botswarm.ledger.trades import Wanted
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import EmbeddedBrokerServer
from botswarm.trading import executor
from botswarm.trading.settle import Watch, settle
from tests.integration.feed_process import FeedProcess, Reader
from tests.integration.paper_process import PaperProcess
from tests.orders.conftest import NO_LIMITS
from tests.standing import reconciled

VENUE, SYMBOL, NATIVE = "kraken", "BTC-USDT", "BTCUSDT"
WITHIN_S = 60.0
SLIPPED_MS = 3000
"""So much may lie between a tick and the fill at it, on a machine that has much to do."""


@dataclass
class Stage:
    live: SimulatedExchangeServer
    broker: EmbeddedBrokerServer
    feed: FeedProcess
    paper: PaperProcess
    ledger: Ledger
    settings: Settings
    reader: Reader
    venue: TradingVenue
    clock: SystemClock
    watch: Watch

    def order(self, **changes: Any) -> Order:
        now = datetime.now(UTC)
        values: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "bot": "turtle",
            "venue": VENUE,
            "account": "paper",
            "symbol": SYMBOL,
            "side": Side.BUY,
            "kind": OrderKind.MARKET,
            "quantity": Decimal("0.01"),
            "limit_price": None,
            "time_in_force": TimeInForce.GTC,
            "reference_price": Decimal(100_000),
            "state": OrderState.READY,
            "created_at": now,
            "signal_expires_at": now + timedelta(minutes=10),
        }
        order = Order(**values | changes)
        self.ledger.orders.add(order, self.clock.now())
        executor.place(order.id, self.ledger.books, self.venue, NO_LIMITS, self.clock)
        return self.known(order)

    def known(self, order: Order) -> Order:
        return self.ledger.orders.get(order.id)

    def fills(self, order: Order) -> list[Fill]:
        found = self.ledger.trades.latest(Wanted(venue=VENUE, account="paper"), 1000)
        return [each.fill for each in found if each.order_id == order.id]

    def settle_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not done():
            assert time.monotonic() < deadline
            settle(self.ledger.books, self.venue, self.clock, self.watch)
            time.sleep(0.2)

    def hear(self, seconds: float = 0.5) -> None:
        self.reader.read_until(lambda: False, seconds)

    def ticks(self, kind: type[Any]) -> list[Any]:
        return [
            tick
            for batch in self.reader.batches
            for tick in batch.ticks
            if isinstance(tick, kind) and tick.symbol == SYMBOL
        ]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("paper")
    state_dir, url = folder / "state", f"sqlite:///{folder / 'ledger.db'}"
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(SimulatedExchangeServer())
        broker = stack.enter_context(EmbeddedBrokerServer())
        ledger = stack.enter_context(contextlib.closing(Ledger(url)))
        migrate.migrate(ledger.database)
        Subscriptions(ledger.database).add(
            VENUE, [SYMBOL], ["book"], now=datetime.now(UTC), actor="a test"
        )
        environ = {
            "BOTSWARM_BROKER_URL": broker.url(),
            "BOTSWARM_FEED_VENUES": VENUE,
            "BOTSWARM_FEED_MARKETS": SYMBOL,
            "BOTSWARM_KRAKEN_REST_URL": live.card.kraken_rest_url,
            "BOTSWARM_KRAKEN_STREAM_URL": live.card.kraken_stream_url,
            "BOTSWARM_PAPER_STALE_S": "3",
            "BOTSWARM_PAPER_BALANCES": "USDT=1000000,BTC=50",
            "BOTSWARM_LOG_FORMAT": "json",
        }
        reader = stack.enter_context(contextlib.closing(Reader(broker.url(), f"{VENUE}.#")))
        feed = stack.enter_context(
            FeedProcess(state_dir, broker.url(), database_url=url, settings=environ)
        )
        paper = stack.enter_context(PaperProcess(VENUE, state_dir, environ))
        settings = load(
            environ=environ | {"BOTSWARM_STATE_DIR": str(state_dir), "DATABASE_URL": url},
            folder=folder,
        ).settings
        clock = SystemClock()
        venue = trading_venue(settings, clock, Account(VENUE, "paper"))
        stack.callback(venue.close)
        ledger.books.save_instruments(venue.instruments())
        reconciled(ledger, datetime.now(UTC), venue=VENUE)
        made = Stage(live, broker, feed, paper, ledger, settings, reader, venue, clock, Watch())
        wait_for_prices(made)
        yield made


def wait_for_prices(stage: Stage) -> None:
    """An order that is far too small for the filters is refused for that, once there are any."""
    deadline = time.monotonic() + WITHIN_S
    while "closed" in str(stage.paper.market_order(symbol=NATIVE, quantity="0.00000001").body):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_account_is_there_by_name_and_is_known_to_be_on_paper(stage: Stage) -> None:
    account = Account(VENUE, "paper")
    assert account in accounts(stage.settings)
    assert account_kind(stage.settings, VENUE, "paper") is AccountKind.PAPER
    assert (stage.venue.name, stage.venue.account) == (VENUE, "paper")
    assert stage.paper.journal_path.name == "paper-kraken-journal.jsonl"


def test_its_markets_are_the_venues_own(stage: Stage) -> None:
    live = market_data(stage.settings, VENUE)
    assert isinstance(live, KrakenMarketData)
    with contextlib.closing(live):
        theirs = live.instruments()
    assert {each.symbol: each for each in stage.venue.instruments()} == {
        each.symbol: each for each in theirs
    }


def test_a_taker_gets_the_levels_the_venue_showed_and_pays_the_venues_fee(stage: Stage) -> None:
    # More than any one level has, whatever the market does meanwhile.
    order = stage.order(quantity=Decimal(2))
    stage.settle_until(lambda: stage.known(order).state.is_final)
    stage.hear()
    fills = stage.fills(order)
    assert len(fills) >= 2
    shown = [
        book for book in stage.ticks(Book) if abs(book.received_ms - ms(fills[0].at)) < SLIPPED_MS
    ]
    for fill in fills:
        asks = [dict(book.asks).get(fill.price, Decimal(0)) for book in shown]
        assert max(asks) >= fill.quantity, (fill, shown)
    assert all(fill.price >= min(book.asks[0][0] for book in shown) for fill in fills)
    assert {fill.commission_asset for fill in fills} == {"USDT"}
    for fill in fills:
        assert abs(fill.commission - fill.price * fill.quantity * Decimal("0.004")) < Decimal(
            "1e-7"
        )


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def test_a_resting_order_is_filled_at_its_price_by_trades_of_the_venue(stage: Stage) -> None:
    best = stage.live.public("GET", "/api/v3/depth", symbol=NATIVE, limit=5).body
    price = Decimal(best["bids"][0][0])
    order = stage.order(
        kind=OrderKind.LIMIT, limit_price=price, quantity=Decimal("0.001"), side=Side.BUY
    )
    assert order.state in (OrderState.LIVE, OrderState.FILLED)
    # Others sell so much that what stood there before is gone.
    deadline = time.monotonic() + WITHIN_S
    while stage.known(order).state is not OrderState.FILLED:
        assert time.monotonic() < deadline
        stage.live.market_order(symbol=NATIVE, side="SELL", quantity="0.3")
        settle(stage.ledger.books, stage.venue, stage.clock, stage.watch)
        time.sleep(0.2)
    stage.hear()
    (fill,) = stage.fills(order)
    assert fill.price == price
    through = [
        trade
        for trade in stage.ticks(Trade)
        if trade.taker_side is Side.SELL and trade.price <= price
    ]
    assert any(trade.received_ms <= ms(fill.at) + SLIPPED_MS for trade in through)


def test_a_killed_process_goes_on_with_every_balance_and_order(stage: Stage) -> None:
    resting = stage.order(
        kind=OrderKind.LIMIT, limit_price=Decimal(50_000), quantity=Decimal("0.1")
    )
    assert resting.state is OrderState.LIVE
    before = stage.venue.balances()
    stage.paper.kill()
    stage.paper.start()
    assert stage.venue.balances() == before
    report = stage.venue.query(resting)
    assert report is not None
    assert report.filled_quantity == 0
    wait_for_prices(stage)
    again = stage.order(side=Side.SELL)
    assert again.state is OrderState.FILLED
    stage.venue.cancel(resting)
    stage.settle_until(lambda: stage.known(resting).state is OrderState.CANCELED)


def test_without_fresh_ticks_orders_are_refused_with_a_reason_and_cancels_pass(
    stage: Stage,
) -> None:
    resting = stage.order(
        kind=OrderKind.LIMIT, limit_price=Decimal(50_000), quantity=Decimal("0.1")
    )
    stage.feed.stop()
    time.sleep(3.5)
    refused = stage.order()
    assert refused.state is OrderState.REJECTED
    assert "Market is closed: the last price of kraken is" in str(refused.reason)
    stage.venue.cancel(resting)
    stage.settle_until(lambda: stage.known(resting).state is OrderState.CANCELED)
    stage.feed.start()
    wait_for_prices(stage)
    assert stage.order().state is OrderState.FILLED
