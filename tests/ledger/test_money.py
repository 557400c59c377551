"""Amounts and moments are the same after the database as before it, or are refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botswarm.domain.amount import plain
from botswarm.ledger.columns import NotExact, exact, to_json
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW, an_order

amounts = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(-(10**19), 10**19),
    st.integers(0, 18),
)


@given(amount=amounts)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_amount_comes_back_to_the_last_digit(ledger: Ledger, amount: Decimal) -> None:
    order = an_order(reference_price=amount)
    ledger.orders.add(order, NOW)
    kept = ledger.orders.get(order.id).reference_price
    assert kept == amount
    # Not only equal: the same digits, whichever database kept it.
    assert kept.as_tuple() == Decimal(plain(amount)).as_tuple()


@given(amount=amounts, digits=st.integers(1, 40))
def test_no_context_rounds_what_is_kept(amount: Decimal, digits: int) -> None:
    with localcontext() as context:
        context.prec = digits
        assert Decimal(exact(amount)).compare(amount) == 0


@pytest.mark.parametrize(
    "amount",
    [
        *(1.5, 1, "1", None, True),
        *(Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN")),
        *(Decimal("1e-19"), Decimal("0.1234567890123456789"), Decimal(10) ** 20),
    ],
    ids=repr,
)
def test_what_would_lose_a_digit_is_refused(amount: object) -> None:
    with pytest.raises(NotExact):
        exact(amount)


@pytest.mark.parametrize(
    ("amount", "written"),
    [("1E+3", "1000"), ("1.50", "1.5"), ("-0.000", "0"), ("0E-20", "0"), ("1E-18", f"0.{0:017}1")],
)
def test_an_amount_has_one_spelling(amount: str, written: str) -> None:
    assert exact(Decimal(amount)) == written


def test_an_amount_that_is_refused_leaves_nothing_behind(ledger: Ledger) -> None:
    order = an_order(reference_price=Decimal("1e-19"))
    with pytest.raises(Exception, match="more than 18 decimals"):
        ledger.orders.add(order, NOW)
    assert ledger.orders.list() == []


def test_a_moment_comes_back_aware_and_in_utc(ledger: Ledger) -> None:
    here = timezone(timedelta(hours=-7))
    order = an_order(created_at=datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=here))
    ledger.orders.add(order, NOW)
    kept = ledger.orders.get(order.id).created_at
    assert kept == order.created_at
    assert kept.utcoffset() == timedelta(0)


def test_a_moment_without_a_time_zone_is_refused(ledger: Ledger) -> None:
    naive = datetime(2026, 3, 4)  # noqa: DTZ001 - that is the point
    with pytest.raises(Exception, match="no time zone"):
        ledger.orders.add(an_order(created_at=naive), NOW)


def test_json_has_no_nan_and_spells_amounts_out() -> None:
    assert to_json({"price": Decimal("1E+2"), "at": NOW}) == (
        '{"price":"100","at":"2026-03-04T12:00:00+00:00"}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"rsi": float("nan")})
