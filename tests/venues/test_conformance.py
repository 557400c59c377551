"""What every adapter that moves money promises, tried on the exchange that speaks its protocol."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Refused
from botswarm.exchanges.base import Accepted, Declined, Unclear
from tests.integration.swarm import until
from tests.venues.conftest import MARKET, SOON_S, Bench, Listener, report_of

D = Decimal
BELOW = D(40_000)
"""Far away from the market, where nothing trades."""
ENDED_UNFILLED = (OrderState.CANCELED, OrderState.EXPIRED)
ROUNDED = D("0.00000001")

# --- what is told without an order ---------------------------------------------------------------


def test_markets_come_with_the_steps_that_orders_are_held_to(bench: Bench) -> None:
    market = bench.markets[MARKET]
    assert (market.base, market.quote, market.is_trading) == ("BTC", "USDT", True)
    assert (market.tick_size, market.lot_size) == (D("0.01"), D("0.00001"))
    assert market.quantity_min == D("0.00001")
    assert market.notional_min == 5


def test_the_venues_clock_is_read_to_better_than_the_limit_that_stops_trading(
    bench: Bench,
) -> None:
    # A machine that stalls makes the sample late, never early.
    assert bench.venue.server_time() - datetime.now(UTC) < timedelta(seconds=0.5)


def test_the_key_may_trade_and_may_not_withdraw(bench: Bench) -> None:
    if not bench.door.tells_permissions:
        with pytest.raises(Refused, match="what a key may do"):
            bench.venue.permissions()
        return
    found = bench.venue.permissions()
    assert (found.can_trade, found.can_withdraw) == (True, False)


def test_a_venue_says_what_it_takes_and_what_an_unknown_outcome_is_resolved_by(
    bench: Bench,
) -> None:
    rules = bench.venue.rules
    assert {OrderKind.MARKET, OrderKind.LIMIT} <= rules.kinds
    assert TimeInForce.GTC in rules.times_in_force
    assert rules.guarantees


# --- each kind of order --------------------------------------------------------------------------


def test_a_limit_order_rests_and_is_found_by_its_client_order_id(bench: Bench) -> None:
    order = bench.order()
    report = bench.accepted(order)
    assert (report.client_order_id, report.state) == (order.client_order_id, OrderState.LIVE)
    assert bench.venue.query(order) == report
    assert report in bench.venue.open_orders(MARKET)
    assert report in bench.venue.open_orders()
    assert report not in bench.venue.open_orders("ETH-USDT")


@pytest.mark.parametrize("force", [TimeInForce.IOC, TimeInForce.FOK])
def test_now_or_never_leaves_nothing_behind(bench: Bench, force: TimeInForce) -> None:
    order = bench.order(time_in_force=force)
    bench.accepted(order)
    assert bench.found(order, *ENDED_UNFILLED).filled_quantity == 0
    assert order.client_order_id not in open_names(bench)


def test_all_or_nothing_takes_nothing_of_a_book_that_has_less(bench: Bench) -> None:
    """For most of what the account can pay for, and more than the best level has."""
    price, _ = bench.best_ask()
    order = bench.order(
        time_in_force=TimeInForce.FOK, limit_price=price, quantity=D("0.8"), side=Side.BUY
    )
    report = bench.accepted(order)
    ended = bench.found(order, *ENDED_UNFILLED, OrderState.FILLED)
    assert ended.filled_quantity in (0, order.quantity)
    if ended.filled_quantity:  # the market moved meanwhile: all of it, then
        give_back(bench, report.venue_order_id)


def test_at_market_an_order_is_filled_and_its_fills_are_all_of_it(bench: Bench) -> None:
    order = bench.market_order(quantity=D("0.004"))
    answer = bench.accepted(order)
    report = bench.found(order, OrderState.FILLED)
    fills = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    assert sum(fill.quantity for fill in fills) == report.filled_quantity == order.quantity
    assert {fill.client_order_id for fill in fills} == {order.client_order_id}
    assert {fill.side for fill in fills} == {Side.BUY}
    if bench.door.answers_with_fills:
        assert (answer.state, list(answer.fills)) == (OrderState.FILLED, list(fills))


def test_a_post_only_order_rests_or_is_declined(bench: Bench) -> None:
    rests = bench.order(kind=OrderKind.POST_ONLY)
    bench.accepted(rests)
    assert bench.found(rests, OrderState.LIVE)
    takes = bench.order(kind=OrderKind.POST_ONLY, limit_price=D(150_000))
    answer = bench.send(takes)
    if isinstance(answer, Accepted):  # some venues take it first, and end it then
        assert bench.found(takes, OrderState.REJECTED, *ENDED_UNFILLED).filled_quantity == 0
    else:
        assert isinstance(answer, Declined), answer


@pytest.mark.parametrize("limit_price", [None, D(39_000)], ids=["at market", "limited"])
def test_a_stop_order_waits_until_it_is_cancelled(
    bench: Bench, limit_price: Decimal | None
) -> None:
    kind = OrderKind.STOP if limit_price is None else OrderKind.STOP_LIMIT
    if kind not in bench.venue.rules.kinds:
        pytest.skip(f"{bench.door} has none")
    order = bench.order(side=Side.SELL, kind=kind, limit_price=limit_price, stop_price=D(40_000))
    bench.accepted(order)
    assert bench.found(order, OrderState.LIVE).filled_quantity == 0
    assert order.client_order_id in open_names(bench)
    bench.venue.cancel(order)
    assert bench.found(order, OrderState.CANCELED)


def test_a_part_is_filled_and_the_rest_stays_in_the_book(bench: Bench) -> None:
    """At the best price, for more than anybody offers there."""
    price, offered = bench.best_ask()
    order = bench.order(limit_price=price, quantity=min(offered, D("0.7")) + D("0.1"))
    bench.accepted(order)
    states = OrderState.PARTIAL, OrderState.FILLED, OrderState.LIVE
    report = bench.found(order, *states)
    fills = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    told = bench.found(order, *states)
    assert sum(fill.quantity for fill in fills) <= told.filled_quantity <= order.quantity
    if told.state is OrderState.PARTIAL:
        assert 0 < told.filled_quantity < order.quantity
    bench.venue.cancel(order)
    ended = bench.found(order, OrderState.CANCELED, OrderState.FILLED)
    fills = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    assert sum(fill.quantity for fill in fills) == ended.filled_quantity
    if fills:
        give_back(bench, report.venue_order_id)


def test_of_two_own_orders_that_would_trade_the_resting_one_ends(bench: Bench) -> None:
    """It is alone at its price, below everybody else's."""
    best, _ = bench.best_ask()
    price = best - bench.markets[MARKET].tick_size
    rests = bench.order(side=Side.SELL, limit_price=price, quantity=D("0.001"))
    bench.accepted(rests)
    bench.accepted(bench.order(limit_price=price, time_in_force=TimeInForce.IOC))
    # Somebody else may have bought it first.
    assert bench.found(rests, *ENDED_UNFILLED, OrderState.FILLED)
    assert not traded_with_itself(bench)


# --- what is declined ----------------------------------------------------------------------------


def test_what_cannot_be_paid_for_is_declined_with_the_venues_word(bench: Bench) -> None:
    declined = bench.send(bench.order(quantity=D(9)))
    assert isinstance(declined, Declined), declined
    assert "insufficient" in f"{declined.code} {declined.reason}".lower()


def test_what_breaks_a_rule_of_the_market_is_declined(bench: Bench) -> None:
    for wrong in (
        bench.order(limit_price=D("50000.001")),
        bench.order(quantity=D("0.00001"), limit_price=BELOW),
    ):
        declined = bench.send(wrong)
        assert isinstance(declined, Declined), declined
        assert not bench.journal("order", wrong)


# --- ending --------------------------------------------------------------------------------------


def test_a_cancelled_order_ends_and_cannot_be_cancelled_twice(bench: Bench) -> None:
    order = bench.order()
    bench.accepted(order)
    answer = bench.venue.cancel(order)
    assert not isinstance(answer, Declined), answer
    assert bench.found(order, OrderState.CANCELED).filled_quantity == 0
    assert not isinstance(bench.venue.cancel(order), Accepted)
    assert bench.found(order, OrderState.CANCELED)


def test_what_was_never_there_is_not_found_and_not_cancelled(bench: Bench) -> None:
    order = bench.order()
    assert bench.venue.query(order) is None
    assert not isinstance(bench.venue.cancel(order), Accepted)


def test_cancelling_a_market_ends_its_orders_and_no_others(bench: Bench) -> None:
    here = [bench.order() for _ in range(3)]
    there = bench.order(symbol="ETH-USDT", quantity=D("0.01"), limit_price=D(2_000))
    for order in (*here, there):
        bench.accepted(order)
    bench.venue.cancel_all(MARKET)
    for order in here:
        assert bench.found(order, OrderState.CANCELED)
    assert bench.found(there, OrderState.LIVE)
    assert open_names(bench) == set()
    bench.venue.cancel_all(MARKET)


def test_a_fill_that_comes_before_the_cancellation_is_kept(bench: Bench) -> None:
    order = bench.market_order(quantity=D("0.001"))
    bench.accepted(order)
    assert not isinstance(bench.venue.cancel(order), Declined)
    report = bench.found(order, OrderState.FILLED)
    fills = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    assert sum(fill.quantity for fill in fills) == order.quantity


def test_the_dead_mans_switch_ends_everything_unless_it_is_held(bench: Bench) -> None:
    venue = bench.venue
    if venue.rules.dead_man_max_s is None:
        with pytest.raises(Refused, match="switch"):
            venue.hold_dead_man(60)
        return
    order = bench.order()
    bench.accepted(order)
    venue.hold_dead_man(1)
    venue.hold_dead_man(0)
    venue.hold_dead_man(3600)
    assert bench.found(order, OrderState.LIVE)
    venue.hold_dead_man(1)
    assert bench.found(order, OrderState.CANCELED)


# --- what comes too late, twice, or not at all ---------------------------------------------------


def test_an_order_of_a_process_that_was_frozen_for_a_minute_never_executes(bench: Bench) -> None:
    """The bytes are those that were committed then; the venue refuses them now."""
    order = bench.order()
    late = bench.send(order, datetime.now(UTC) - timedelta(seconds=60))
    assert isinstance(late, Declined if bench.door.is_late_declined else Unclear), late
    assert bench.venue.query(order) is None
    assert not bench.journal("order", order)


def test_a_request_that_the_network_holds_beyond_its_window_never_executes(bench: Bench) -> None:
    if not bench.door.has_fence:
        pytest.skip(f"{bench.door} executes it: {bench.venue.rules.guarantees}")
    order = bench.order()
    window_s = bench.door.window.total_seconds()
    # Signed most of the window ago, and held for the rest of it and more.
    bench.fault("hold", on="place", seconds=1.2)
    held = bench.send(order, datetime.now(UTC) - timedelta(seconds=window_s - 0.7))
    assert not isinstance(held, Accepted), held
    assert bench.venue.query(order) is None
    assert not bench.journal("order", order)


def test_the_same_bytes_delivered_twice_make_one_open_order(bench: Bench) -> None:
    order = bench.order()
    bench.fault("twice", on="place")
    bench.send(order)
    assert bench.found(order, OrderState.LIVE)
    assert len(bench.journal("order", order)) == 1
    assert [each.client_order_id for each in bench.venue.open_orders(MARKET)].count(
        order.client_order_id
    ) == 1


def test_the_same_order_again_while_it_is_open_is_never_a_second_one(bench: Bench) -> None:
    order = bench.order()
    first = bench.accepted(order)
    again = bench.send(order)
    if isinstance(again, Accepted):
        assert bench.venue.rules.is_resend_safe
        assert again.report.venue_order_id == first.venue_order_id
    else:
        assert isinstance(again, Unclear), again
    assert len(bench.journal("order", order)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        *("drop_reply", "truncate_reply", "garbage_reply", "timeout_executed", "error_executed"),
        "slow",
    ],
)
def test_an_order_whose_answer_was_lost_is_found_by_its_name(bench: Bench, kind: str) -> None:
    order = bench.order()
    bench.fault(kind, on="place", seconds=0.2)
    answer = bench.send(order)
    assert isinstance(answer, Accepted if kind == "slow" else Unclear), answer
    assert bench.found(order, OrderState.LIVE)
    assert len(bench.journal("order", order)) == 1


@pytest.mark.parametrize("kind", ["drop_request", "timeout_not_executed", "error_not_executed"])
def test_where_nobody_knows_whether_it_was_placed_the_outcome_is_unclear(
    bench: Bench, kind: str
) -> None:
    order = bench.order()
    bench.fault(kind, on="place")
    answer = bench.send(order)
    assert isinstance(answer, Unclear), answer
    assert bench.venue.query(order) is None
    assert not bench.journal("order", order)
    # The next one goes through as if nothing had been.
    assert isinstance(bench.send(bench.order()), Accepted)


def test_a_cancellation_whose_answer_was_lost_proves_nothing_and_did_it(bench: Bench) -> None:
    order = bench.order()
    bench.accepted(order)
    bench.fault("drop_reply", on="cancel")
    assert isinstance(bench.venue.cancel(order), Unclear)
    assert bench.found(order, OrderState.CANCELED)


def test_an_order_that_queries_do_not_see_yet_is_not_found_and_then_it_is(bench: Bench) -> None:
    order = bench.order()
    bench.fault("query_lag", seconds=3)
    bench.accepted(order)
    assert bench.venue.query(order) is None
    bench.found(order, OrderState.LIVE)


# --- fills and balances --------------------------------------------------------------------------


def test_fills_go_on_after_the_last_one_known_until_there_are_none(bench: Bench) -> None:
    orders = [bench.market_order(quantity=D("0.001")) for _ in range(3)]
    for order in orders:
        bench.accepted(order)
        bench.found(order, OrderState.FILLED)
    known = all_fills(bench)
    ids = [fill.trade_id for fill in known]
    assert ids == sorted(set(ids))
    ours = {order.client_order_id for order in orders}
    assert sum(f.quantity for f in known if f.client_order_id in ours) == D("0.003")
    assert bench.venue.fills(MARKET, after_trade_id=ids[-1]) == []
    last = bench.market_order(quantity=D("0.002"), side=Side.SELL)
    bench.accepted(last)
    bench.found(last, OrderState.FILLED)
    after = bench.venue.fills(MARKET, after_trade_id=ids[-1])
    assert {fill.client_order_id for fill in after} == {last.client_order_id}
    # Whoever begins anew and knows none of the names finds the same.
    fresh = bench.door.venue(bench.server, bench.folder)
    try:
        assert list(fresh.fills(MARKET, after_trade_id=ids[-1])) == list(after)
    finally:
        fresh.close()


def test_fills_are_those_of_the_exchanges_own_journal(bench: Bench) -> None:
    order = bench.market_order(symbol="ETH-USDT", quantity=D("0.5"), side=Side.SELL)
    report = bench.accepted(order)
    bench.found(order, OrderState.FILLED)
    fills = bench.venue.fills("ETH-USDT", venue_order_id=report.venue_order_id)
    written = bench.journal("fill", order)
    assert [
        (f.price, f.quantity, f.commission, f.commission_asset, f.side.value) for f in fills
    ] == [
        (
            D(each["price"]),
            D(each["quantity"]),
            D(each["commission"]),
            each["commission_asset"],
            each["side"],
        )
        for each in written
    ]


def test_balances_change_by_the_fills_to_the_last_digit(bench: Bench) -> None:
    before = bench.venue.balances()
    fills: list[Fill] = []
    for side in (Side.BUY, Side.SELL):
        order = bench.market_order(quantity=D("0.003"), side=side)
        report = bench.accepted(order)
        bench.found(order, OrderState.FILLED)
        fills += bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    rests = bench.order()
    bench.accepted(rests)
    after = bench.venue.balances()
    for asset, sign, amount in (("BTC", 1, "quantity"), ("USDT", -1, "notional")):
        change = sum(sign * fill.side.sign * getattr(fill, amount) for fill in fills)
        change -= sum(fill.commission for fill in fills if fill.commission_asset == asset)
        # What an open order holds is still owned.
        assert (after[asset] - before[asset]).quantize(ROUNDED) == change.quantize(ROUNDED)


# --- clocks --------------------------------------------------------------------------------------


def test_orders_are_stamped_by_the_venues_clock(bench: Bench) -> None:
    if not bench.door.has_fence:
        pytest.skip(f"{bench.door} looks at no stamp of ours")
    venue = bench.door.venue(bench.server, bench.folder)
    try:
        bench.server.arm("clock_offset", seconds=0.8)
        order = bench.order()
        request = venue.sign(order, bench.markets[MARKET], datetime.now(UTC))
        assert request.signed_at > datetime.now(UTC) + timedelta(seconds=0.3)
        assert report_of(venue.send(request)).client_order_id == order.client_order_id
    finally:
        venue.close()


@pytest.mark.parametrize("seconds", [-5, 5])
def test_no_order_is_signed_while_the_clocks_are_far_apart(bench: Bench, seconds: int) -> None:
    venue = bench.door.venue(bench.server, bench.folder)
    try:
        bench.server.arm("clock_offset", seconds=seconds)
        with pytest.raises(Refused, match="clock"):
            venue.sign(bench.order(), bench.markets[MARKET], datetime.now(UTC))
        # Questions go on: what was sent before must be asked about.
        assert venue.query(bench.order()) is None
    finally:
        venue.close()


# --- the stream ----------------------------------------------------------------------------------


def test_the_stream_tells_what_becomes_of_an_order(bench: Bench, listener: Listener) -> None:
    order = bench.order()
    bench.accepted(order)
    bench.venue.cancel(order)
    events = listener.of(order, lambda event: event.report.state.is_final)
    assert events[-1].report.state is OrderState.CANCELED
    assert events[-1].is_news
    assert not events[0].is_news


def test_the_stream_tells_of_a_fill_and_how_much_it_was(bench: Bench, listener: Listener) -> None:
    order = bench.market_order(quantity=D("0.002"))
    bench.accepted(order)
    events = listener.of(order, lambda event: event.report.state is OrderState.FILLED)
    assert events[-1].report.filled_quantity == order.quantity
    if not bench.door.answers_with_fills:
        assert any(event.is_news for event in events)


def test_an_event_told_twice_does_no_harm(bench: Bench, listener: Listener) -> None:
    bench.fault("repeat_event", times=3)
    order = bench.order()
    bench.accepted(order)
    bench.venue.cancel(order)
    events = listener.of(order, lambda event: event.report.state.is_final)
    assert events[-1].report.state is OrderState.CANCELED


def test_after_a_cut_connection_everything_is_to_be_looked_at(
    bench: Bench, listener: Listener
) -> None:
    bench.server.arm("disconnect_users")
    assert listener.connected.get(timeout=SOON_S)
    order = bench.order()
    bench.accepted(order)
    bench.venue.cancel(order)
    assert listener.of(order, lambda event: event.report.state is OrderState.CANCELED)


# --- connections ---------------------------------------------------------------------------------


def test_what_was_closed_opens_again_by_itself(bench: Bench) -> None:
    bench.venue.close()
    order = bench.order()
    assert bench.accepted(order).state is OrderState.LIVE
    bench.venue.close()
    assert bench.found(order, OrderState.LIVE)


def test_orders_go_on_after_every_connection_was_cut(bench: Bench) -> None:
    bench.accepted(bench.order())
    bench.server.arm("disconnect_users")

    def placed() -> bool:
        return isinstance(bench.send(bench.order()), Accepted)

    until(placed, "an order is placed again")


# --- helpers -------------------------------------------------------------------------------------


def open_names(bench: Bench) -> set[str]:
    return {report.client_order_id for report in bench.venue.open_orders(MARKET)}


def all_fills(bench: Bench) -> list[Fill]:
    found: list[Fill] = []
    while page := bench.venue.fills(MARKET, after_trade_id=found[-1].trade_id if found else None):
        found += page
    return found


def give_back(bench: Bench, venue_order_id: str) -> None:
    """Sell what a test has bought much of, so that the next can pay."""
    bought = sum(fill.quantity for fill in bench.venue.fills(MARKET, venue_order_id=venue_order_id))
    order = bench.market_order(side=Side.SELL, quantity=D(bought) * D("0.99"))
    lots = bench.markets[MARKET].round_quantity(order.quantity)
    bench.send(bench.market_order(side=Side.SELL, quantity=lots))


def traded_with_itself(bench: Bench) -> set[int]:
    ids = [
        entry["trade_id"]
        for entry in bench.server.journal("fill")
        if entry["account"] == bench.door.account and entry["symbol"] == "BTCUSDT"
    ]
    return {each for each in ids if ids.count(each) > 1}
