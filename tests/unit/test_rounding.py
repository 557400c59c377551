"""Rounding never sends more than was asked for, nor at a worse price, nor what is refused there."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import Approved, Refused
from botswarm.trading.rounding import fit

D = Decimal
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MARKET = Instrument(
    venue="simulated",
    symbol="BTC-USDT",
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.001"),
    quantity_min=D("0.001"),
    quantity_max=D(100),
    notional_min=D(5),
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
    state=OrderState.APPROVED,
    created_at=NOW,
    signal_expires_at=NOW + timedelta(seconds=10),
)
STEPS = st.sampled_from([D("1E-18"), D("1E-8"), D("0.001"), D("0.025"), D("0.5"), D(1), D(10)])
AMOUNTS = st.decimals(D("1E-18"), D(10**15), places=18) | st.decimals(D("0.001"), D(200), places=6)
MARKETS = st.builds(
    lambda tick, lot, lowest, highest, notional: dataclasses.replace(
        MARKET,
        tick_size=tick,
        lot_size=lot,
        quantity_min=lowest,
        quantity_max=highest,
        notional_min=notional,
    ),
    *(STEPS, STEPS, AMOUNTS | st.just(D(0)), AMOUNTS, AMOUNTS | st.just(D(0))),
)
ORDERS = st.builds(
    lambda side, quantity, price, reference: dataclasses.replace(
        ORDER,
        side=side,
        quantity=quantity,
        limit_price=price,
        kind=OrderKind.MARKET if price is None else OrderKind.LIMIT,
        reference_price=reference,
    ),
    *(st.sampled_from(Side), AMOUNTS, st.none() | AMOUNTS, AMOUNTS),
)


def is_on(step: Decimal, value: Decimal) -> bool:
    return (Fraction(value) / Fraction(step)).denominator == 1


@given(ORDERS, MARKETS)
def test_what_is_sent_satisfies_the_market_and_favours_who_asked(
    order: Order, market: Instrument
) -> None:
    verdict = fit(order, market)
    if isinstance(verdict, Refused):
        assert verdict.reason
        return
    sent = verdict.order
    quantity, asked = Fraction(sent.quantity), Fraction(order.quantity)
    assert is_on(market.lot_size, sent.quantity)
    assert asked - Fraction(market.lot_size) < quantity <= asked
    assert market.quantity_min <= sent.quantity <= market.quantity_max
    price = sent.limit_price if sent.limit_price is not None else sent.reference_price
    assert quantity * Fraction(price) >= Fraction(market.notional_min)
    if order.limit_price is None:
        assert sent.limit_price is None
        return
    assert sent.limit_price is not None
    assert is_on(market.tick_size, sent.limit_price)
    better = Fraction(sent.limit_price) - Fraction(order.limit_price)
    assert 0 <= -order.side.sign * better < Fraction(market.tick_size)
    kept = dataclasses.replace(sent, quantity=order.quantity, limit_price=order.limit_price)
    assert kept == order


@given(ORDERS, MARKETS)
def test_what_fits_already_is_left_as_it_is(order: Order, market: Instrument) -> None:
    verdict = fit(order, market)
    if isinstance(verdict, Approved):
        assert fit(verdict.order, market) == verdict


@pytest.mark.parametrize(
    ("order", "market", "reason"),
    [
        ({"quantity": D("0.0009")}, {}, "under the market's minimum of 0.001"),
        ({"quantity": D("0.0000001")}, {"lot_size": D("0.0000010")}, "0 is under the market's"),
        ({"quantity": D("100.001")}, {}, "over the market's maximum of 100"),
        ({"quantity": D("0.0499")}, {}, "it is worth 4.9"),
        ({"limit_price": D("0.009")}, {}, "under one step of 0.01"),
        ({}, {"is_trading": False}, "simulated:BTC-USDT is not trading"),
        ({"quantity": D("NaN")}, {}, "cannot be rounded exactly"),
        ({"quantity": D("1E+300")}, {}, "cannot be rounded exactly"),
        ({}, {"lot_size": D(0)}, "cannot be rounded exactly"),
    ],
)
def test_what_cannot_be_met_is_refused_with_the_reason(
    order: dict[str, Decimal], market: dict[str, Decimal], reason: str
) -> None:
    changed = dataclasses.replace(ORDER, **order)  # type: ignore[arg-type]
    verdict = fit(changed, dataclasses.replace(MARKET, **market))  # type: ignore[arg-type]
    assert isinstance(verdict, Refused)
    assert reason in verdict.reason


@pytest.mark.parametrize(("side", "stop"), [(Side.BUY, D("99.99")), (Side.SELL, D("100.00"))])
def test_a_stop_price_is_rounded_so_that_it_never_triggers_too_late(
    side: Side, stop: Decimal
) -> None:
    order = dataclasses.replace(
        ORDER, side=side, kind=OrderKind.STOP, limit_price=None, stop_price=D("99.995")
    )
    verdict = fit(order, MARKET)
    assert isinstance(verdict, Approved)
    assert verdict.order.stop_price == stop
