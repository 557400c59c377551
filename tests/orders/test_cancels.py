"""Wishes that orders end as the ledger keeps them, and what replaces what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from botswarm.clock import StoppedClock
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import Approved, Exposure, Refused, Verdict
from botswarm.exchanges.base import SignedRequest
from botswarm.ledger import migrate
from botswarm.ledger.cancels import TOGETHER_MIN, Wished
from botswarm.ledger.store import Ledger
from botswarm.messages import CancelOrder, SettleOrders
from botswarm.testing.books import begin_attempt
from botswarm.testing.servers import PostgreSQLServer
from botswarm.testing.venue import FakeVenue
from botswarm.trading import executor
from tests.orders.conftest import NO_LIMITS, an_order
from tests.orders.test_books_contract import a_fill
from tests.orders.test_venue_contract import BTC
from tests.standing import reconciled

S = OrderState
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FENCE = NOW + timedelta(seconds=14)
WHERE = ("simulated", "paper")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "sqlite":
        made: Ledger = request.getfixturevalue("sqlite_ledger")
        reconciled(made, NOW)
        yield made
        return
    server: PostgreSQLServer = request.getfixturevalue("server")
    name = f"cancels_{abs(hash(request.node.name))}"
    server.create_database(name)
    made = Ledger(server.ledger_url(name))
    migrate.migrate(made.database)
    reconciled(made, NOW)
    yield made
    made.close()


def added(ledger: Ledger, **changes: object) -> Order:
    ledger.books.save_instruments([BTC])
    order = an_order(created_at=NOW, signal_expires_at=NOW + timedelta(seconds=10), **changes)
    ledger.orders.add(order, NOW)
    return order


def let_pass(order: Order, _: Exposure) -> Verdict:
    return Approved(order)


def judged(ledger: Ledger, order: Order, now: datetime = NOW) -> Verdict | None:
    return ledger.books.judge(order.id, let_pass, now)


def sent(ledger: Ledger, order: Order) -> Order:
    verdict = judged(ledger, order)
    assert isinstance(verdict, Approved)
    request = SignedRequest(payload=b"POST /", signed_at=NOW, fence_at=FENCE)
    sending = begin_attempt(ledger.books, verdict.order, request, NOW)
    assert sending is not None
    return sending


def live(ledger: Ledger, order: Order) -> Order:
    sent(ledger, order)
    return ledger.books.record(order.id, S.LIVE, NOW)


def wish(ledger: Ledger, *orders: Order) -> Wished:
    return ledger.cancels.wish(
        [order.id for order in orders], NOW, actor="cli:ann", reason="the cat sat on it"
    )


def state(ledger: Ledger, order: Order) -> OrderState:
    return ledger.orders.get(order.id).state


def test_what_was_not_sent_ends_with_the_wish_and_says_why(ledger: Ledger) -> None:
    ready, approved = added(ledger), added(ledger)
    judged(ledger, approved)
    done = wish(ledger, ready, approved)
    assert set(done.ended) == {ready.id, approved.id}
    assert done.doorbells == ()
    for order in (ready, approved):
        kept = ledger.orders.get(order.id)
        assert kept.state is S.REFUSED
        assert kept.reason == "cancelled by cli:ann before it was sent: the cat sat on it"
        assert ledger.orders.story(order.id).events[-1].after is S.REFUSED
    assert ledger.books.to_cancel(*WHERE) == []


def test_a_wish_is_kept_with_its_doorbell_until_the_order_is_at_its_end(ledger: Ledger) -> None:
    order = live(ledger, added(ledger))
    done = wish(ledger, order)
    assert done.asked == (order.id,)
    (bell,) = done.doorbells
    assert (bell.task, bell.kwargs) == (CancelOrder.task, {"order_id": order.id})
    assert bell in ledger.outbox.pending()
    assert wish(ledger, order).known == (order.id,)
    (waiting,) = ledger.books.to_cancel(*WHERE)
    assert (waiting.id, waiting.is_ending) == (order.id, True)
    ledger.books.finish_cancels(*WHERE, NOW)
    kept = ledger.cancels.of(order.id)
    assert kept is not None
    assert (kept.actor, kept.reason, kept.done_at) == ("cli:ann", "the cat sat on it", None)
    ledger.books.record(order.id, S.CANCELED, NOW)
    ledger.books.finish_cancels(*WHERE, NOW)
    kept = ledger.cancels.of(order.id)
    assert kept is not None
    assert kept.done_at == NOW
    assert ledger.cancels.pending() == []
    assert wish(ledger, order).over == (order.id,)


def test_a_proof_that_nothing_was_placed_ends_what_is_unwanted(ledger: Ledger) -> None:
    order = sent(ledger, added(ledger))
    ledger.books.record(order.id, S.UNKNOWN, NOW)
    wish(ledger, order)
    assert ledger.books.reopen(order.id, FENCE, NOW) is None
    kept = ledger.orders.story(order.id)
    assert kept.order.state is S.REFUSED
    assert [event.after for event in kept.events][-2:] == [S.APPROVED, S.REFUSED]


def test_a_replacement_brings_the_wish_that_the_other_end(ledger: Ledger) -> None:
    before = live(ledger, added(ledger, quantity=Decimal(2)))
    after = added(ledger, quantity=Decimal(2), replaces=before.id)
    assert [order.id for order in ledger.books.to_cancel(*WHERE)] == [before.id]
    assert judged(ledger, after) is None
    assert ledger.books.freed(*WHERE) == []
    ledger.books.record(before.id, S.CANCELED, NOW)
    assert ledger.books.freed(*WHERE) == [after.id]
    verdict = judged(ledger, after)
    assert isinstance(verdict, Approved)
    assert verdict.order.quantity == Decimal(2)
    assert ledger.books.freed(*WHERE) == []


def test_a_replacement_of_an_order_that_was_not_sent_goes_at_once(ledger: Ledger) -> None:
    before = added(ledger)
    after = added(ledger, replaces=before.id)
    assert state(ledger, before) is S.REFUSED
    assert isinstance(judged(ledger, after), Approved)


def test_nobody_replaces_an_order_of_somebody_else(ledger: Ledger) -> None:
    before = live(ledger, added(ledger))
    ledger.books.record(before.id, S.CANCELED, NOW)
    for changes in ({"bot": "hare"}, {"symbol": "ETH-USDT"}):
        stranger = added(ledger, replaces=before.id, **changes)
        verdict = judged(ledger, stranger)
        assert isinstance(verdict, Refused)
        assert "another bot's" in verdict.reason


def test_a_replacement_of_nothing_is_refused(ledger: Ledger) -> None:
    verdict = judged(ledger, added(ledger, replaces="no-such-order"))
    assert isinstance(verdict, Refused)
    assert "does not know" in verdict.reason


def test_very_many_wishes_ring_once_for_their_account(ledger: Ledger) -> None:
    orders = [live(ledger, added(ledger)) for _ in range(TOGETHER_MIN)]
    (bell,) = wish(ledger, *orders).doorbells
    assert (bell.task, bell.kwargs["account"]) == (SettleOrders.task, "paper")
    assert len(ledger.books.to_cancel(*WHERE)) == TOGETHER_MIN


def test_many_wishes_are_one_audited_action(ledger: Ledger) -> None:
    orders = [live(ledger, added(ledger)) for _ in range(3)]
    done = wish(ledger, *orders)
    assert len(done.asked) == len(done.doorbells) == 3
    assert {order.id for order, _ in ledger.cancels.pending()} == {order.id for order in orders}


def test_what_the_other_filled_is_taken_off_before_the_bytes_are_frozen(ledger: Ledger) -> None:
    before = live(ledger, added(ledger, quantity=Decimal(2)))
    after = added(ledger, quantity=Decimal(2), replaces=before.id)
    ledger.books.book([a_fill(before, 7, "0.5")], NOW, account="paper")
    ledger.books.record(before.id, S.CANCELED, NOW)
    venue = FakeVenue(StoppedClock(NOW), [BTC])
    executor.place(after.id, ledger.books, venue, NO_LIMITS, StoppedClock(NOW))
    assert [order.quantity for order in venue.orders] == [Decimal("1.5")]
    kept = ledger.orders.get(after.id)
    assert (kept.state, kept.quantity) == (S.LIVE, Decimal("1.5"))


def test_nothing_is_sent_in_place_of_what_was_filled_whole(ledger: Ledger) -> None:
    before = live(ledger, added(ledger, quantity=Decimal(2)))
    after = added(ledger, quantity=Decimal(2), replaces=before.id)
    ledger.books.book([a_fill(before, 7, "2")], NOW, account="paper")
    ledger.books.record(before.id, S.FILLED, NOW)
    verdict = judged(ledger, after)
    assert isinstance(verdict, Refused)
    assert verdict.reason == "what it replaces was filled first: 2"
