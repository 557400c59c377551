"""A guarded position has its stop at the venue: armed, moved, armed again, and sold past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import delete

from botswarm.bots import guards as bot_guards
from botswarm.domain.order import Order, OrderKind, OrderState, Side
from botswarm.domain.permission import TradingState
from botswarm.domain.protections import Protection, ProtectionKind
from botswarm.ledger.models import InstrumentRow
from botswarm.ledger.store import Ledger
from botswarm.sweeps import guards
from botswarm.sweeps.sweep import Tools
from tests.ledger.conftest import ACCOUNT, BTC, NOW, SYMBOL, VENUE, a_fill, an_order, let_pass
from tests.ledger.sweeping import SWARM, Floor

D = Decimal
ALL = frozenset(OrderKind)


class Guarded(Floor):
    kinds: frozenset[OrderKind] | None = ALL

    @property
    def tools(self) -> Tools:
        made = super().tools
        return replace(made, kinds=lambda venue, account: self.kinds)

    def look(self, price: str | None = None) -> None:
        self.wait(5)
        if price is not None:
            self.price(price)
        self.sweep(guards.sweep, "guards")

    def stop(self) -> Order | None:
        found = [each for each in self.ledger.orders.under_way(bot="alpha") if each.is_protective]
        return next((each for each in found if not each.is_ending), None)

    def moves(self, order: Order | None, state: OrderState, **said: object) -> None:
        """As an order worker finds it."""
        assert order is not None
        if self.ledger.orders.get(order.id).state is OrderState.READY:
            self.ledger.books.judge(order.id, let_pass, self.clock.at)
            self.ledger.books.record(order.id, OrderState.SENDING, self.clock.at)
        if state is not OrderState.SENDING:
            self.ledger.books.record(order.id, state, self.clock.at, **said)  # type: ignore[arg-type]

    def protect(self, kind: str, percent: str, scope: str = SWARM) -> None:
        made = Protection.of(scope, ProtectionKind(kind), {"percent": D(percent)})
        self.ledger.protections.set(made, actor="test", reason="test", now=NOW)

    @property
    def guard(self) -> Mapping[str, object]:
        found = self.ledger.protections.guards()["alpha", VENUE, ACCOUNT, SYMBOL]
        return {name: getattr(found, name) for name in type(found).__dataclass_fields__}


@pytest.fixture
def floor(quick_ledger: Ledger) -> Guarded:
    made = Guarded(quick_ledger)
    made.ledger.books.save_instruments([BTC])
    made.bot("alpha")
    made.trade("alpha", "buy", "2", "100")
    return made


def test_a_position_gets_a_stop_below_what_it_was_paid_for(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    assert (stop.kind, stop.side, stop.quantity) == (OrderKind.STOP, Side.SELL, D(2))
    assert (stop.stop_price, stop.is_reduce_only) == (D(95), True)
    assert floor.guard["order_id"] == stop.id
    floor.moves(stop, OrderState.LIVE)
    for _ in range(3):
        floor.look("120")
    assert floor.stop() == floor.ledger.orders.get(stop.id)


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back(floor: Guarded) -> None:
    floor.protect("trailing_stop", "10")
    floor.look("100")
    first = floor.stop()
    floor.moves(first, OrderState.LIVE)
    floor.look("150")
    moved = floor.stop()
    assert first is not None
    assert moved is not None
    assert (moved.stop_price, moved.replaces) == (D(135), first.id)
    assert floor.ledger.orders.get(first.id).is_ending
    floor.ledger.books.record(first.id, OrderState.CANCELED, floor.clock.at)
    floor.moves(moved, OrderState.LIVE)
    floor.look("140")
    assert floor.stop() == floor.ledger.orders.get(moved.id)
    assert floor.guard["best_price"] == D(150)


def test_the_nearest_of_all_that_hold_is_kept(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.protect("stop_loss", "2", "bot:alpha")
    floor.protect("trailing_stop", "30")
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    assert stop.stop_price == D(98)


def test_a_stop_that_the_venue_ended_is_armed_anew(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    first = floor.stop()
    floor.moves(first, OrderState.LIVE)
    floor.ledger.books.record(first.id, OrderState.CANCELED, floor.clock.at)  # type: ignore[union-attr]
    floor.look("100")
    again = floor.stop()
    assert again is not None
    assert first is not None
    assert again.id != first.id
    assert again.quantity == D(2)


def test_its_quantity_follows_the_position(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    first = floor.stop()
    floor.moves(first, OrderState.LIVE)
    floor.trade("alpha", "buy", "1", "100")
    floor.look("100")
    moved = floor.stop()
    assert moved is not None
    assert moved.quantity == D(3)


def test_a_partly_filled_stop_is_left_to_fill(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    fill = a_fill(stop, 900, price=D(95), quantity=D(1), commission=D(0), side=Side.SELL)
    floor.moves(stop, OrderState.PARTIAL, fills=[fill])
    floor.look("94")
    assert floor.stop() == floor.ledger.orders.get(stop.id)
    rest = replace(fill, trade_id=901)
    floor.ledger.books.record(stop.id, OrderState.FILLED, floor.clock.at, fills=[rest])
    floor.look("94")
    assert floor.stop() is None
    assert floor.guard["quantity"] == 0


def test_a_new_position_begins_anew_and_with_ids_of_its_own(floor: Guarded) -> None:
    floor.protect("trailing_stop", "10")
    floor.look("200")
    first = floor.stop()
    assert first is not None
    assert floor.guard["best_price"] == D(200)
    fill = a_fill(first, 900, price=D(180), quantity=D(2), commission=D(0), side=Side.SELL)
    floor.moves(first, OrderState.FILLED, fills=[fill])
    floor.look("180")
    floor.trade("alpha", "buy", "1", "100")
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    assert stop.id != first.id
    assert stop.stop_price == D(90)


def test_where_the_price_is_beyond_the_stop_already_it_is_sold_at_market(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("90")
    order = floor.stop()
    assert order is not None
    assert (order.kind, order.stop_price, order.is_reduce_only) == (OrderKind.MARKET, None, True)


def test_a_venue_without_stops_at_market_gets_one_with_a_limit(floor: Guarded) -> None:
    floor.kinds = ALL - {OrderKind.STOP}
    floor.protect("stop_loss", "5")
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    assert (stop.kind, stop.stop_price, stop.limit_price) == (
        OrderKind.STOP_LIMIT,
        D(95),
        D("93.1"),
    )


def test_a_venue_without_stops_is_watched_here_and_said_to_be(floor: Guarded) -> None:
    floor.kinds = frozenset({OrderKind.MARKET, OrderKind.LIMIT})
    floor.protect("stop_loss", "5")
    floor.look("100")
    assert floor.stop() is None
    (event,) = floor.events("unguarded")
    assert "takes no stop orders" in event.words
    floor.look("95")
    order = floor.stop()
    assert order is not None
    assert order.kind is OrderKind.MARKET


def test_a_refused_stop_is_said_and_tried_again_later_not_at_once(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    first = floor.stop()
    floor.moves(first, OrderState.REJECTED, reason="no such thing")
    floor.look("100")
    assert floor.stop() is None
    (event,) = floor.events("unguarded")
    assert "no such thing" in event.words
    floor.wait(30)
    floor.look("100")
    assert floor.stop() is not None


def test_nothing_is_sent_while_trading_is_halted(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.ledger.halts.set(
        "bot:alpha", TradingState.HALTED, reason="!", actor="me", now=NOW, is_human=True
    )
    floor.look("90")
    assert floor.stop() is None
    assert "halted" in floor.events("unguarded")[0].words


def test_without_a_protection_any_more_the_stop_is_ended(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    floor.moves(floor.stop(), OrderState.LIVE)
    floor.ledger.protections.unset(
        SWARM, ProtectionKind.STOP_LOSS, actor="me", reason="", now=floor.clock.at
    )
    floor.look("100")
    assert floor.stop() is None


def test_what_the_bot_is_selling_itself_is_not_sold_twice(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    own = an_order(side=Side.SELL, kind=OrderKind.LIMIT, limit_price=D(120), quantity=D("0.5"))
    floor.ledger.orders.add(own, NOW)
    floor.look("100")
    stop = floor.stop()
    assert stop is not None
    assert stop.quantity == D("1.5")


def test_orders_that_the_bot_left_resting_are_taken_over_when_the_stop_is_passed(
    floor: Guarded,
) -> None:
    floor.protect("stop_loss", "5")
    own = an_order(side=Side.SELL, kind=OrderKind.LIMIT, limit_price=D(120), quantity=D(2))
    floor.ledger.orders.add(own, NOW)
    floor.moves(own, OrderState.LIVE)
    floor.look("100")
    assert (floor.stop(), floor.events("unguarded")) == (None, [])
    floor.look("94")
    taken = floor.stop()
    assert taken is not None
    assert (taken.kind, taken.quantity, taken.replaces) == (OrderKind.MARKET, D(2), own.id)
    assert floor.ledger.orders.get(own.id).is_ending
    floor.look("94")
    assert len([each for each in floor.ledger.orders.under_way() if each.is_protective]) == 1


def test_a_bot_does_not_see_its_stop_and_sells_past_it(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    floor.moves(floor.stop(), OrderState.LIVE)
    stop = floor.stop()
    assert stop is not None
    assert bot_guards.own([stop]) == []
    later = NOW + timedelta(hours=1)
    sell, buy = an_order(side=Side.SELL, quantity=D(1), signal_expires_at=later), an_order()
    sold, bought = bot_guards.past([sell, buy], bot_guards.guards_of([stop]))
    assert (sold.replaces, sold.quantity) == (stop.id, D(1))
    assert bought == buy
    floor.ledger.orders.add(sold, floor.clock.at)
    floor.look("100")
    assert floor.stop() is None, "the stop ends for the bot's order, and none is put beside it"
    floor.ledger.books.record(stop.id, OrderState.CANCELED, floor.clock.at)
    floor.moves(sold, OrderState.LIVE)
    floor.look("100")
    rest = floor.stop()
    assert rest is not None
    assert rest.quantity == D(1)


def test_stops_do_not_count_as_setbacks_of_the_bot(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    floor.look("100")
    floor.moves(floor.stop(), OrderState.REJECTED, reason="no")
    assert floor.ledger.orders.setbacks(["alpha"]) == {}


def test_a_stop_that_follows_the_price_is_no_habit_of_its_bot(floor: Guarded) -> None:
    floor.protect("trailing_stop", "10")
    for price in range(100, 140):
        floor.look(f"{price}")
        stop = floor.stop()
        assert stop is not None
        if stop.replaces is not None:
            floor.ledger.books.record(stop.replaces, OrderState.CANCELED, floor.clock.at)
        floor.moves(stop, OrderState.LIVE)
    watched, begun = floor.ledger.watched, floor.clock.at - timedelta(hours=1)
    assert len(watched.traded(begun)) == 1, "what it bought itself"
    assert watched.counted(["alpha"], begun, floor.clock.at)["alpha"][0] == 1


def test_stops_that_only_move_leave_no_position_without_one(
    floor: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "PLACED_MAX", 1)
    floor.protect("trailing_stop", "10")
    floor.look("100")
    floor.moves(floor.stop(), OrderState.LIVE)
    floor.bot("beta")
    floor.trade("beta", "buy", "2", "110")
    floor.look("120")
    assert [each.is_protective for each in floor.ledger.orders.under_way(bot="beta")] == [True]
    floor.look("120")
    stop = floor.stop()
    assert stop is not None
    assert stop.stop_price == D(108), "its turn is next"


def test_a_position_in_a_market_that_is_gone_is_told_to_have_no_stop(floor: Guarded) -> None:
    floor.protect("stop_loss", "5")
    gone = delete(InstrumentRow).where(InstrumentRow.symbol == SYMBOL)
    floor.ledger.database.write(lambda session: session.execute(gone))
    floor.look("100")
    (event,) = floor.events("unguarded")
    assert (event.bot, event.severity) == ("alpha", "warn")
    assert "lists no such market" in event.words
