"""Each limit fires, nothing else does, and the gate is total and closed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState
from botswarm.risk.gate import judge, shrinks
from botswarm.risk.limits import Limits

D = Decimal
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMITS = Limits(
    order_notional_max=D(200),
    open_notional_max=D(1000),
    position_notional_max=D(500),
    open_orders_max=20,
    orders_per_minute_max=10,
    daily_loss_max=D(500),
    signal_age_max_s=10,
)
ORDER = Order(
    id="01234567-89ab-cdef-0123-456789abcdef",
    bot="turtle",
    venue="simulated",
    account="paper",
    symbol="BTC-USDT",
    side=Side.BUY,
    kind=OrderKind.LIMIT,
    quantity=D(1),
    limit_price=D(100),
    time_in_force=TimeInForce.GTC,
    reference_price=D(100),
    state=OrderState.READY,
    created_at=NOW - timedelta(seconds=1),
    signal_expires_at=NOW + timedelta(seconds=9),
)
NOTHING = Exposure(
    trading_state=TradingState.ACTIVE,
    account_open_notional=D(0),
    position=D(0),
    open_buy_quantity=D(0),
    open_sell_quantity=D(0),
    open_orders=0,
    orders_last_minute=0,
    loss_today=D(0),
)


def order(**changes: object) -> Order:
    return dataclasses.replace(ORDER, **changes)  # type: ignore[arg-type]


def exposure(**changes: object) -> Exposure:
    return dataclasses.replace(NOTHING, **changes)  # type: ignore[arg-type]


def refusal(asked: Order, exposed: Exposure | None = NOTHING) -> str | None:
    verdict = judge(asked, exposed, LIMITS, NOW)
    return verdict.reason if isinstance(verdict, Refused) else None


@pytest.mark.parametrize(
    "asked",
    [
        ORDER,
        order(kind=OrderKind.MARKET, limit_price=None, time_in_force=TimeInForce.IOC),
        order(kind=OrderKind.POST_ONLY),
        order(kind=OrderKind.STOP, limit_price=None, stop_price=D(120)),
        order(kind=OrderKind.STOP_LIMIT, stop_price=D(120)),
    ],
    ids=lambda asked: asked.kind,
)
def test_an_order_within_every_limit_passes(asked: Order) -> None:
    assert judge(asked, NOTHING, LIMITS, NOW) == Approved(asked)


@pytest.mark.parametrize(
    ("asked", "exposed", "reason"),
    [
        (order(quantity=D("2.000001")), NOTHING, "order notional would be"),
        (order(), exposure(account_open_notional=D("900.01")), "open notional would be"),
        (order(), exposure(position=D("4.01")), "position would be"),
        (order(), exposure(position=D(2), open_buy_quantity=D("2.01")), "position would be"),
        (order(side=Side.SELL), exposure(position=D("-4.01")), "position would be"),
        (order(side=Side.SELL), exposure(open_sell_quantity=D("4.01")), "position would be"),
        (order(), exposure(open_orders=20), "open orders would be 21"),
        (order(), exposure(orders_last_minute=10), "orders of the last minute would be 11"),
        (order(), exposure(loss_today=D(500)), "today's loss is 500"),
        (order(signal_expires_at=NOW), NOTHING, "its signal expired"),
        (order(created_at=NOW - timedelta(seconds=10.1)), NOTHING, "its signal is 10.1 s old"),
        (order(created_at=NOW + timedelta(seconds=1.1)), NOTHING, "in the future"),
        (order(), exposure(trading_state=TradingState.HALTED), "trading is halted"),
        (order(), exposure(trading_state=TradingState.REDUCING), "trading is reducing"),
        (order(), None, "exposure is unknown"),
        (order(quantity=D(0)), NOTHING, "its quantity is 0"),
        (order(quantity=D("NaN")), NOTHING, "its quantity is NaN"),
        (order(quantity=D("sNaN")), NOTHING, "its quantity is sNaN"),
        (order(limit_price=D("-1")), NOTHING, "its limit price is -1"),
        (order(limit_price=None), NOTHING, "lacks a limit price"),
        (order(kind=OrderKind.MARKET), NOTHING, "has a limit price"),
        (order(kind=OrderKind.STOP, limit_price=None), NOTHING, "lacks a stop price"),
        (order(stop_price=D(90)), NOTHING, "has a stop price"),
        (
            order(kind=OrderKind.STOP, limit_price=None, stop_price=D("NaN")),
            NOTHING,
            "its stop price is NaN",
        ),
        (
            order(kind=OrderKind.STOP, limit_price=None, stop_price=D("200.1")),
            NOTHING,
            "order notional would be",
        ),
        (
            order(kind=OrderKind.POST_ONLY, time_in_force=TimeInForce.IOC),
            NOTHING,
            "cannot be ioc",
        ),
        (order(reference_price=D("Infinity")), NOTHING, "its reference price is Infinity"),
        (order(), exposure(account_open_notional=D(-1)), "makes no sense"),
        (order(), exposure(position=D("NaN")), "makes no sense"),
        (order(), exposure(open_orders=-1), "makes no sense"),
    ],
)
def test_a_limit_fires_just_past_its_edge(
    asked: Order, exposed: Exposure | None, reason: str
) -> None:
    assert reason in (refusal(asked, exposed) or "approved")


@pytest.mark.parametrize(
    ("asked", "exposed"),
    [
        (order(quantity=D(2)), NOTHING),
        (order(), exposure(account_open_notional=D(900))),
        (order(), exposure(position=D(4))),
        (order(), exposure(open_orders=19)),
        (order(), exposure(orders_last_minute=9)),
        (order(), exposure(loss_today=D("499.99"))),
        (order(created_at=NOW - timedelta(seconds=10)), NOTHING),
    ],
)
def test_an_order_at_the_edge_of_a_limit_passes(asked: Order, exposed: Exposure) -> None:
    assert refusal(asked, exposed) is None


OVER_EVERY_LIMIT = exposure(
    position=D(50),
    account_open_notional=D(5000),
    open_orders=99,
    orders_last_minute=99,
    loss_today=D(5000),
)


@pytest.mark.parametrize("state", [TradingState.ACTIVE, TradingState.REDUCING])
def test_no_limit_blocks_an_order_that_only_shrinks_a_position(state: TradingState) -> None:
    exposed = dataclasses.replace(OVER_EVERY_LIMIT, trading_state=state)
    assert refusal(order(side=Side.SELL, quantity=D(50)), exposed) is None


def test_a_halt_blocks_shrinking_orders_too() -> None:
    halted = dataclasses.replace(OVER_EVERY_LIMIT, trading_state=TradingState.HALTED)
    assert refusal(order(side=Side.SELL), halted) == "trading is halted"


def test_shrinking_orders_that_would_flip_the_position_together_do_not_count_as_shrinking() -> None:
    sell = order(side=Side.SELL, quantity=D(2))
    assert shrinks(sell, exposure(position=D(3), open_sell_quantity=D(1)))
    assert not shrinks(sell, exposure(position=D(3), open_sell_quantity=D("1.1")))
    assert shrinks(order(quantity=D(2)), exposure(position=D(-2)))
    assert not shrinks(order(quantity=D(2)), exposure(position=D(0)))


def test_a_cheap_limit_does_not_make_an_order_look_small() -> None:
    # A seller's limit far below the market is filled at the market's price.
    asked = order(side=Side.SELL, limit_price=D(1), quantity=D("2.1"))
    assert "order notional would be 210" in (refusal(asked) or "")


ANY = st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(
    min_value=-2000, max_value=2000, places=8
)
SMALL = st.decimals(min_value=0, max_value=600, places=18)
ANY_EXPOSURE = st.builds(
    Exposure,
    trading_state=st.sampled_from(TradingState),
    account_open_notional=ANY | SMALL,
    position=ANY | SMALL,
    open_buy_quantity=ANY | SMALL,
    open_sell_quantity=ANY | SMALL,
    open_orders=st.integers(-1, 25),
    orders_last_minute=st.integers(-1, 15),
    loss_today=ANY | SMALL,
)
ANY_ORDER = st.builds(
    order,
    side=st.sampled_from(Side),
    kind=st.sampled_from(OrderKind),
    quantity=ANY | SMALL,
    limit_price=st.none() | ANY | SMALL,
    reference_price=ANY | SMALL,
    created_at=st.datetimes(timezones=st.just(UTC)) | st.just(ORDER.created_at),
    signal_expires_at=st.datetimes(timezones=st.just(UTC)) | st.just(ORDER.signal_expires_at),
)


def violated(asked: Order, exposed: Exposure) -> str | None:
    """The limits once more, in exact fractions and without a line of the gate's own."""
    if exposed.trading_state is TradingState.HALTED:
        return "halted"
    if asked.signal_expires_at <= NOW or NOW - asked.created_at > timedelta(seconds=10):
        return "stale"
    sign = asked.side.sign
    quantity, position = Fraction(asked.quantity), Fraction(exposed.position)
    open_same = Fraction(exposed.open_buy_quantity if sign > 0 else exposed.open_sell_quantity)
    held = sign * position
    if held + open_same + quantity <= 0:
        return None
    if exposed.trading_state is TradingState.REDUCING:
        return "reducing"
    price = max(Fraction(asked.reference_price), Fraction(asked.limit_price or 0))
    sums: dict[str, tuple[Fraction | int, Decimal | int]] = {
        "order": (quantity * price, LIMITS.order_notional_max),
        "open": (
            Fraction(exposed.account_open_notional) + quantity * price,
            LIMITS.open_notional_max,
        ),
        "position": ((held + open_same + quantity) * price, LIMITS.position_notional_max),
        "count": (exposed.open_orders + 1, LIMITS.open_orders_max),
        "rate": (exposed.orders_last_minute + 1, LIMITS.orders_per_minute_max),
    }
    for name, (after, highest) in sums.items():
        if after > Fraction(highest):
            return name
    return "loss" if Fraction(exposed.loss_today) >= LIMITS.daily_loss_max else None


@settings(max_examples=500, deadline=None)
@given(ANY_ORDER, st.none() | ANY_EXPOSURE)
def test_the_gate_answers_everything_and_approves_nothing_that_violates_a_limit(
    asked: Order, exposed: Exposure | None
) -> None:
    verdict = judge(asked, exposed, LIMITS, NOW)
    if isinstance(verdict, Approved):
        assert exposed is not None
        assert violated(asked, exposed) is None
    else:
        assert verdict.reason


PLAIN_EXPOSURE = st.builds(
    exposure,
    account_open_notional=st.decimals(0, 1100, places=18),
    position=st.decimals(-6, 6, places=18),
    open_buy_quantity=st.decimals(0, 3, places=18),
    open_sell_quantity=st.decimals(0, 3, places=18),
    open_orders=st.integers(0, 21),
    orders_last_minute=st.integers(0, 11),
    loss_today=st.decimals(-600, 600, places=18),
    trading_state=st.sampled_from(TradingState),
)
PLAIN_ORDER = st.builds(
    order,
    side=st.sampled_from(Side),
    quantity=st.decimals(D("0.000000000000000001"), 3, places=18),
    limit_price=st.decimals(1, 120, places=18),
)


@settings(max_examples=500, deadline=None)
@given(PLAIN_ORDER, PLAIN_EXPOSURE)
def test_the_gate_refuses_exactly_what_violates_a_limit(asked: Order, exposed: Exposure) -> None:
    assert (refusal(asked, exposed) is None) == (violated(asked, exposed) is None)


@pytest.mark.parametrize(
    ("side", "position", "is_passed"),
    [(Side.SELL, "2", True), (Side.SELL, "1.9", False), (Side.BUY, "2", False)],
)
def test_an_order_that_may_only_reduce_is_refused_where_it_would_not(
    side: Side, position: str, is_passed: bool
) -> None:
    asked = order(is_reduce_only=True, side=side, quantity=D(2))
    reason = refusal(asked, exposure(position=D(position)))
    assert (reason is None) is is_passed
    assert is_passed or "may only reduce" in (reason or "")


def test_what_is_held_is_said_without_an_exponent() -> None:
    asked = order(is_reduce_only=True, side=Side.SELL, quantity=D(2))
    assert ": 0 is held" in (refusal(asked, exposure(position=D("0E-8"))) or "")
