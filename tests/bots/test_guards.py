"""A bot is not shown the stop that guards its position, and what it sells takes its place."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce, protective_id
from botswarm.domain.permission import Approved
from botswarm.ledger.store import Ledger
from tests.bots.test_evaluation import a_bot, a_muster, a_pass
from tests.strategies.values import NOW, SYMBOL, VENUE

BEFORE = NOW - timedelta(seconds=30)
HELD = Decimal("0.5")


def an_order(side: Side, **changes: object) -> Order:
    order = Order(
        id=str(uuid.uuid4()),
        bot="alpha",
        venue=VENUE,
        account="paper",
        symbol=SYMBOL,
        side=side,
        kind=OrderKind.MARKET,
        quantity=HELD,
        limit_price=None,
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal(100),
        state=OrderState.READY,
        created_at=BEFORE,
        signal_expires_at=NOW + timedelta(minutes=1),
    )
    return replace(order, **changes)  # type: ignore[arg-type]


def move(ledger: Ledger, order: Order, *states: OrderState, fills: tuple[Fill, ...] = ()) -> None:
    ledger.orders.add(order, BEFORE)
    ledger.books.judge(order.id, lambda each, _: Approved(each), BEFORE)
    for state in states:
        last = state is states[-1]
        ledger.books.record(order.id, state, BEFORE, fills=fills if last else ())


def guarded(ledger: Ledger) -> Order:
    a_bot(ledger, "alpha", "leave")
    bought = an_order(Side.BUY)
    fill = Fill(
        venue=VENUE,
        symbol=SYMBOL,
        trade_id=1,
        client_order_id=bought.client_order_id,
        side=Side.BUY,
        price=Decimal(100),
        quantity=HELD,
        commission=Decimal(0),
        commission_asset="USDT",
        at=BEFORE,
    )
    move(ledger, bought, OrderState.SENDING, OrderState.FILLED, fills=(fill,))
    stop = an_order(
        Side.SELL,
        id=protective_id("alpha", 1),
        kind=OrderKind.STOP,
        stop_price=Decimal(90),
        is_reduce_only=True,
    )
    move(ledger, stop, OrderState.SENDING, OrderState.LIVE)
    return stop


def test_the_stop_is_hidden_and_gives_way_to_what_the_bot_sells(ledger: Ledger) -> None:
    stop = guarded(ledger)
    member = a_muster(ledger).members["alpha"]
    assert member.subject is not None
    assert (member.subject.orders, member.subject.position) == ([], HELD)
    assert member.guards[SYMBOL].id == stop.id
    decided, _ = a_pass(ledger)
    assert len(decided.doorbells) == 2, "one for the order, one for the end of the stop"
    (sold,) = [each for each in ledger.orders.under_way(bot="alpha") if not each.is_protective]
    assert (sold.side, sold.quantity, sold.replaces) == (Side.SELL, HELD, stop.id)
    assert ledger.orders.get(stop.id).is_ending


def test_of_a_stop_that_is_ending_already_nothing_is_replaced(ledger: Ledger) -> None:
    stop = guarded(ledger)
    ledger.cancels.wish([stop.id], BEFORE, actor="test", reason="")
    assert a_muster(ledger).members["alpha"].guards == {}
