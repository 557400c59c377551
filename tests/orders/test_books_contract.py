"""One story of orders, told by the fake books and by the real ones with the same words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from botswarm.domain.fill import Fill
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import IllegalTransition, Order, OrderState, Side
from botswarm.domain.permission import (
    Approved,
    Exposure,
    Frozen,
    Refused,
    TradingState,
    Verdict,
)
from botswarm.domain.reconciliation import Difference, Fate, Kind
from botswarm.errors import NotFound
from botswarm.exchanges.base import SignedRequest
from botswarm.ledger.halts import SWARM
from botswarm.ledger.store import Ledger
from botswarm.testing.books import FakeBooks, begin_attempt
from botswarm.trading.books import Books
from tests.orders.conftest import an_order
from tests.orders.test_venue_contract import BTC
from tests.standing import reconciled

S = OrderState
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FENCE = NOW + timedelta(seconds=14)
DIFFERENCE = Difference(
    kind=Kind.CORRECTION, subject="balance of BTC", words="is another", fate=Fate.RAISED
)


class Shelf:
    """Books, and how orders and halts come into them."""

    def __init__(
        self,
        books: Books,
        add: Callable[[Order], object],
        halt: Callable[[TradingState], object],
        differ: Callable[[], object],
        forget: Callable[[], object],
    ) -> None:
        self.books = books
        self.add = add
        self.halt = halt
        self.differ = differ
        """Let the venue say something else than the ledger."""
        self.forget = forget
        """Let it be long ago that the two were compared."""


@pytest.fixture(params=["fake", "ledger"])
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    if request.param == "fake":
        fake = FakeBooks()
        yield Shelf(
            fake,
            fake.add,
            lambda state: setattr(fake, "trading_state", state),
            lambda: setattr(fake, "difference", DIFFERENCE.subject),
            lambda: setattr(fake, "is_awaited", True),
        )
        return
    ledger: Ledger = request.getfixturevalue("sqlite_ledger")
    reconciled(ledger, NOW)
    yield Shelf(
        ledger.books,
        lambda order: ledger.orders.add(order, NOW),
        lambda state: ledger.halts.set(SWARM, state, reason="test", actor="test", now=NOW),
        lambda: reconciled(ledger, NOW, differences=(DIFFERENCE,)),
        lambda: reconciled(ledger, NOW - timedelta(minutes=11)),
    )


def order_of(shelf: Shelf, **changes: object) -> Order:
    shelf.books.save_instruments([BTC])
    order = an_order(created_at=NOW, signal_expires_at=NOW + timedelta(seconds=10), **changes)
    shelf.add(order)
    return order


def let_pass(order: Order, _: Exposure) -> Verdict:
    return Approved(order)


def request(fence_at: datetime = FENCE) -> SignedRequest:
    return SignedRequest(payload=b"POST /", signed_at=NOW, fence_at=fence_at)


def sent(shelf: Shelf, order: Order, fence_at: datetime = FENCE) -> Order:
    verdict = shelf.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    sending = begin_attempt(shelf.books, verdict.order, request(fence_at), NOW)
    assert sending is not None
    return sending


def a_fill(order: Order, trade_id: int, quantity: str) -> Fill:
    return Fill(
        venue="simulated",
        symbol="BTC-USDT",
        trade_id=trade_id,
        client_order_id=order.client_order_id,
        side=order.side,
        price=Decimal(100),
        quantity=Decimal(quantity),
        commission=Decimal(0),
        commission_asset="USDT",
        at=NOW,
    )


def test_an_order_is_judged_once(shelf: Shelf) -> None:
    order = order_of(shelf)
    verdict = shelf.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Approved)
    assert verdict.order.state is S.APPROVED
    assert shelf.books.judge(order.id, let_pass, NOW) is None
    assert shelf.books.judge("nobody", let_pass, NOW) is None
    assert [each.id for each in shelf.books.approved("simulated", "paper")] == [order.id]
    assert shelf.books.unsettled("simulated", "paper") == []


def test_an_order_waits_until_its_account_was_held_against_its_venue(shelf: Shelf) -> None:
    order = order_of(shelf)
    shelf.forget()
    assert shelf.books.judge(order.id, let_pass, NOW) is None
    assert shelf.books.approved("simulated", "paper") == []
    refused = shelf.books.judge(order.id, lambda each, _: Refused(each, "no"), NOW)
    assert isinstance(refused, Refused), "what would be refused anyway need not wait"
    other = order_of(shelf)
    stale = shelf.books.judge(other.id, let_pass, other.signal_expires_at)
    assert isinstance(stale, Refused)
    assert stale.order.state is S.STALE


def test_nothing_passes_while_ledger_and_venue_do_not_agree(shelf: Shelf) -> None:
    order = order_of(shelf)
    shelf.differ()
    verdict = shelf.books.judge(order.id, let_pass, NOW)
    assert isinstance(verdict, Refused)
    assert verdict.order.state is S.REFUSED
    assert verdict.reason.startswith("the account is not reconciled: balance of BTC")


def test_a_refusal_keeps_its_reason(shelf: Shelf) -> None:
    order = order_of(shelf)
    verdict = shelf.books.judge(order.id, lambda each, _: Refused(each, "no"), NOW)
    assert isinstance(verdict, Refused)
    assert (verdict.order.state, verdict.order.reason, verdict.reason) == (S.REFUSED, "no", "no")


def test_an_expired_signal_is_not_judged_at_all(shelf: Shelf) -> None:
    order = order_of(shelf)
    verdict = shelf.books.judge(order.id, let_pass, order.signal_expires_at)
    assert isinstance(verdict, Refused)
    assert verdict.order.state is S.STALE


def test_exposure_counts_what_may_be_live_and_not_what_is_asked(shelf: Shelf) -> None:
    first = order_of(shelf, quantity=Decimal(2), limit_price=Decimal(100))
    sent(shelf, first)
    shelf.books.book([a_fill(first, 1, "0.5")], NOW)
    seen: list[Exposure] = []
    second = order_of(shelf)

    def look(each: Order, exposure: Exposure) -> Verdict:
        seen.append(exposure)
        return Refused(each, "no")

    shelf.books.judge(second.id, look, NOW)
    assert seen == [
        Exposure(
            trading_state=TradingState.ACTIVE,
            account_open_notional=Decimal(150),
            position=Decimal("0.5"),
            open_buy_quantity=Decimal("1.5"),
            open_sell_quantity=Decimal(0),
            open_orders=1,
            orders_last_minute=1,
            loss_today=Decimal(0),
        )
    ]


def test_one_attempt_is_begun(shelf: Shelf) -> None:
    order = order_of(shelf)
    verdict = shelf.books.judge(order.id, let_pass, NOW)
    assert verdict is not None
    begun = [begin_attempt(shelf.books, verdict.order, request(), NOW) for _ in range(2)]
    assert begun[0] is not None
    assert begun[0].state is S.SENDING
    assert begun[1] is None
    assert [(each.id, fence) for each, fence in shelf.books.unsettled("simulated", "paper")] == [
        (order.id, FENCE)
    ]


def frozen(order: Order, instrument: Instrument | None) -> Frozen[SignedRequest]:
    assert instrument == BTC
    rounded = dataclasses.replace(order, quantity=Decimal("0.0005"), limit_price=Decimal(49_999))
    return Frozen(rounded, request())


def test_an_order_is_judged_frozen_and_sending_at_once(shelf: Shelf) -> None:
    order = order_of(shelf)
    begun = shelf.books.begin(order.id, let_pass, frozen, NOW)
    assert isinstance(begun, Frozen)
    assert begun.request == request()
    sending = begun.order
    assert (sending.state, sending.quantity, sending.limit_price) == (
        S.SENDING,
        Decimal("0.0005"),
        Decimal(49_999),
    )
    assert list(shelf.books.unsettled("simulated", "paper")) == [(sending, FENCE)]
    for before in (S.READY, S.APPROVED):
        assert shelf.books.begin(order.id, let_pass, frozen, NOW, before) is None


def test_what_cannot_be_frozen_now_waits_approved_and_what_can_never_be_is_refused(
    shelf: Shelf,
) -> None:
    waiting, hopeless = order_of(shelf), order_of(shelf)
    begun = shelf.books.begin(waiting.id, let_pass, lambda *_: None, NOW)
    assert isinstance(begun, Approved)
    assert begun.order.state is S.APPROVED
    again = shelf.books.begin(waiting.id, let_pass, lambda *_: None, NOW, S.APPROVED)
    assert again == begun
    refused = shelf.books.begin(hopeless.id, let_pass, lambda each, _: Refused(each, "tiny"), NOW)
    assert isinstance(refused, Refused)
    assert (refused.order.state, refused.reason) == (S.REFUSED, "tiny")
    sending = shelf.books.begin(waiting.id, let_pass, frozen, NOW, S.APPROVED)
    assert isinstance(sending, Frozen)


def test_an_approved_order_is_judged_again_and_never_counts_against_itself(shelf: Shelf) -> None:
    order = order_of(shelf, quantity=Decimal(2))
    shelf.books.judge(order.id, let_pass, NOW)
    seen: list[Exposure] = []

    def refuse(each: Order, exposure: Exposure) -> Verdict:
        seen.append(exposure)
        return Refused(each, "a person said so since")

    begun = shelf.books.begin(order.id, refuse, frozen, NOW, S.APPROVED)
    assert isinstance(begun, Refused)
    assert begun.order.state is S.REFUSED
    assert (seen[0].open_orders, seen[0].orders_last_minute) == (0, 0)
    assert shelf.books.unsettled("simulated", "paper") == []


def test_an_approved_order_ends_stale_when_its_signal_grew_old(shelf: Shelf) -> None:
    order = order_of(shelf)
    shelf.books.judge(order.id, let_pass, NOW)
    begun = shelf.books.begin(order.id, let_pass, frozen, order.signal_expires_at, S.APPROVED)
    assert isinstance(begun, Refused)
    assert begun.order.state is S.STALE


def test_an_answer_books_its_fills_and_moves_the_order_at_once(shelf: Shelf) -> None:
    order = sent(shelf, order_of(shelf, quantity=Decimal(2)))
    fills = [a_fill(order, 1, "1.5"), a_fill(order, 2, "0.5")]
    done = shelf.books.record(order.id, S.FILLED, NOW, fills=fills, venue_order_id="7")
    assert (done.state, done.filled_quantity, done.venue_order_id) == (S.FILLED, Decimal(2), "7")
    assert shelf.books.unsettled("simulated", "paper") == []
    assert shelf.books.book(fills, NOW) == 0


def test_fills_of_an_answer_that_comes_too_late_to_move_the_order_are_booked(
    shelf: Shelf,
) -> None:
    order = sent(shelf, order_of(shelf, quantity=Decimal(2)))
    shelf.books.record(order.id, S.CANCELED, NOW)
    with pytest.raises(IllegalTransition):
        shelf.books.record(order.id, S.PARTIAL, NOW, fills=[a_fill(order, 1, "0.5")])
    assert shelf.books.record(order.id, S.CANCELED, NOW).filled_quantity == Decimal("0.5")


def test_no_attempt_is_begun_while_trading_is_halted(shelf: Shelf) -> None:
    order = order_of(shelf)
    verdict = shelf.books.judge(order.id, let_pass, NOW)
    assert verdict is not None
    shelf.halt(TradingState.HALTED)
    assert begin_attempt(shelf.books, verdict.order, request(), NOW) is None
    assert [each.id for each in shelf.books.approved("simulated", "paper")] == [order.id]


def test_orders_move_along_the_table_only(shelf: Shelf) -> None:
    order = sent(shelf, order_of(shelf))
    live = shelf.books.record(order.id, S.LIVE, NOW, venue_order_id="7")
    assert (live.state, live.venue_order_id) == (S.LIVE, "7")
    assert shelf.books.record(order.id, S.LIVE, NOW).state is S.LIVE
    with pytest.raises(IllegalTransition):
        shelf.books.record(order.id, S.UNKNOWN, NOW)
    with pytest.raises(IllegalTransition):
        shelf.books.record(order.id, S.REJECTED, NOW)


def test_proof_and_refusal_hold_for_their_own_attempt_only(shelf: Shelf) -> None:
    order = sent(shelf, order_of(shelf))
    assert shelf.books.reopen(order.id, FENCE, NOW) is None  # SENDING: not asked about yet
    shelf.books.record(order.id, S.UNKNOWN, NOW, reason="timed out")
    assert shelf.books.reopen(order.id, FENCE + timedelta(seconds=1), NOW) is None
    reopened = shelf.books.reopen(order.id, FENCE, NOW)
    assert reopened is not None
    assert reopened.state is S.APPROVED
    later = FENCE + timedelta(seconds=30)
    assert begin_attempt(shelf.books, reopened, request(later), NOW) is not None
    assert shelf.books.decline(order.id, FENCE, NOW, reason="too late") is None
    declined = shelf.books.decline(order.id, later, NOW, reason="no money")
    assert declined is not None
    assert (declined.state, declined.reason) == (S.REJECTED, "no money")


def test_fills_are_booked_once(shelf: Shelf) -> None:
    order = sent(shelf, order_of(shelf, quantity=Decimal(2)))
    fills = [a_fill(order, 8, "0.5"), a_fill(order, 7, "0.25")]
    assert shelf.books.book(fills, NOW) == 2
    assert shelf.books.book(fills[::-1], NOW) == 0
    assert shelf.books.record(order.id, S.PARTIAL, NOW).filled_quantity == Decimal("0.75")


def test_a_filled_order_stays_open_until_all_its_fills_are_booked(shelf: Shelf) -> None:
    order = sent(shelf, order_of(shelf, quantity=Decimal(2)))
    shelf.books.book([a_fill(order, 1, "1.5")], NOW)
    shelf.books.record(order.id, S.FILLED, NOW)
    assert len(shelf.books.unsettled("simulated", "paper")) == 1
    shelf.books.book([a_fill(order, 2, "0.5")], NOW)
    assert shelf.books.unsettled("simulated", "paper") == []


def test_an_open_order_is_never_passed_over_by_a_later_trade(shelf: Shelf) -> None:
    resting = sent(shelf, order_of(shelf, side=Side.SELL))
    quick = sent(shelf, order_of(shelf))
    shelf.books.book([a_fill(quick, 9, "0.001")], NOW)
    shelf.books.record(quick.id, S.FILLED, NOW)
    shelf.books.record(resting.id, S.LIVE, NOW)
    after = shelf.books.last_trade_id("simulated", "paper", "BTC-USDT")
    assert after is None or after < 9


def test_an_unknown_market_is_said_to_be_unknown(shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="XRP"):
        shelf.books.instrument("simulated", "XRP-USDT")
