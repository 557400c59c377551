"""One list of promises, kept by the fake venue and by the adapter on the simulated exchange."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from botswarm.clock import SystemClock
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.exchanges.base import Accepted, Answer, Declined, Report, TradingVenue, Unclear
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.venue import FakeVenue, Fate
from tests.orders.conftest import a_market_order, a_venue, an_order

BTC = Instrument(
    venue="simulated",
    symbol="BTC-USDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    quantity_min=Decimal("0.00001"),
    quantity_max=Decimal(1000),
    notional_min=Decimal(5),
)


@pytest.fixture(params=["fake", "simulated"])
def venue(request: pytest.FixtureRequest) -> Iterator[TradingVenue]:
    if request.param == "fake":
        yield FakeVenue(SystemClock(), [BTC])
    else:
        server: SimulatedExchangeServer = request.getfixturevalue("exchange")
        adapter = a_venue(server)
        yield adapter
        adapter.close()


def send(venue: TradingVenue, order: Order, at: datetime | None = None) -> Answer:
    if isinstance(venue, FakeVenue):
        venue.fate = Fate.RESTS if order.limit_price else Fate.FILLS
    return venue.send(venue.sign(order, BTC, at or datetime.now(UTC)))


def accepted(answer: Answer) -> Report:
    assert isinstance(answer, Accepted), answer
    return answer.report


def test_the_market_is_described_alike(venue: TradingVenue) -> None:
    assert BTC in venue.instruments()


def test_the_venues_clock_is_near(venue: TradingVenue) -> None:
    assert abs(venue.server_time() - datetime.now(UTC)) < timedelta(seconds=1)


def test_a_resting_order_is_found_by_its_client_order_id(venue: TradingVenue) -> None:
    order = an_order()
    report = accepted(send(venue, order))
    assert (report.client_order_id, report.state) == (order.client_order_id, OrderState.LIVE)
    assert venue.query(order) == report
    assert report in venue.open_orders("BTC-USDT")
    assert report in venue.open_orders()
    assert report not in venue.open_orders("ETH-USDT")


def test_the_same_order_again_while_it_is_open_is_unclear(venue: TradingVenue) -> None:
    order = an_order()
    accepted(send(venue, order))
    again = send(venue, order)
    assert isinstance(again, Unclear)
    assert "Duplicate" in again.reason


def test_an_id_is_free_again_once_its_order_is_filled(venue: TradingVenue) -> None:
    """This is why nothing is ever sent again without proof."""
    order = a_market_order()
    assert accepted(send(venue, order)).state is OrderState.FILLED
    assert accepted(send(venue, order)).state is OrderState.FILLED


def test_bytes_older_than_their_window_are_declined(venue: TradingVenue) -> None:
    late = send(venue, an_order(), at=datetime.now(UTC) - timedelta(seconds=2.5))
    assert isinstance(late, Declined)
    assert late.code == "-1021"


def test_what_was_never_there_is_not_found(venue: TradingVenue) -> None:
    assert venue.query(an_order()) is None


def test_a_cancelled_order_ends_and_cannot_be_cancelled_twice(venue: TradingVenue) -> None:
    order = an_order()
    accepted(send(venue, order))
    assert accepted(venue.cancel(order)).state is OrderState.CANCELED
    assert isinstance(venue.cancel(order), Unclear)
    found = venue.query(order)
    assert found is not None
    assert found.state is OrderState.CANCELED


def test_an_orders_fills_add_up_to_what_the_venue_counts(venue: TradingVenue) -> None:
    first, second = a_market_order(), a_market_order()
    reports = [accepted(send(venue, order)) for order in (first, second)]
    for order, report in zip((first, second), reports, strict=True):
        fills = venue.fills("BTC-USDT", venue_order_id=report.venue_order_id)
        assert sum(fill.quantity for fill in fills) == report.filled_quantity == order.quantity
        assert {fill.client_order_id for fill in fills} == {order.client_order_id}
        assert list(report.fills) == list(fills)


def test_fills_go_on_after_the_last_one_known(venue: TradingVenue) -> None:
    report = accepted(send(venue, a_market_order()))
    last = max(fill.trade_id for fill in report.fills)
    assert venue.fills("BTC-USDT", after_trade_id=last) == []
    after = accepted(send(venue, a_market_order()))
    found = venue.fills("BTC-USDT", after_trade_id=last)
    assert [fill.trade_id for fill in found] == sorted(fill.trade_id for fill in after.fills)


# --- kinds that only the adapter and its exchange know ------------------------------------------


@pytest.fixture
def adapter(exchange: SimulatedExchangeServer) -> Iterator[TradingVenue]:
    made = a_venue(exchange)
    yield made
    made.close()


def test_a_post_only_order_rests_or_is_declined(adapter: TradingVenue) -> None:
    rests = an_order(kind=OrderKind.POST_ONLY)
    assert accepted(send(adapter, rests)).state is OrderState.LIVE
    takes = send(adapter, an_order(kind=OrderKind.POST_ONLY, limit_price=Decimal(200_000)))
    assert isinstance(takes, Declined)
    assert "immediately match" in takes.reason


@pytest.mark.parametrize("limit_price", [None, Decimal(39_000)], ids=["at market", "limited"])
def test_a_stop_order_waits_until_it_is_cancelled(
    adapter: TradingVenue, limit_price: Decimal | None
) -> None:
    order = an_order(
        side=Side.SELL,
        kind=OrderKind.STOP if limit_price is None else OrderKind.STOP_LIMIT,
        limit_price=limit_price,
        stop_price=Decimal(40_000),
    )
    report = accepted(send(adapter, order))
    assert report.state is OrderState.LIVE
    assert report in adapter.open_orders("BTC-USDT")
    assert accepted(adapter.cancel(order)).state is OrderState.CANCELED


def test_a_stop_order_that_would_trigger_at_once_is_declined(adapter: TradingVenue) -> None:
    order = an_order(
        side=Side.SELL, kind=OrderKind.STOP, limit_price=None, stop_price=Decimal(500_000)
    )
    declined = send(adapter, order)
    assert isinstance(declined, Declined)
    assert "trigger immediately" in declined.reason
