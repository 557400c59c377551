"""What people read of an order is what the ledger keeps."""

from __future__ import annotations

from decimal import Decimal

from botswarm.cli.order_words import in_a_line, listed
from tests.orders.conftest import an_order


def test_an_amount_is_shown_to_its_last_digit() -> None:
    longest = Decimal("12345678901234567890.123456789012345678")
    order = an_order(quantity=longest, limit_price=longest, filled_quantity=Decimal("-0.000"))
    assert in_a_line(order) == f"buy {longest} simulated:BTC-USDT at {longest} for turtle"
    assert f"  0/{longest}  {longest}  " in listed([order])
