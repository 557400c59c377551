"""When a command has waited long enough for an order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from botswarm.cli.order_wait import is_known
from botswarm.domain.order import OrderKind, OrderState, TimeInForce
from tests.orders.conftest import a_market_order, an_order


@pytest.mark.parametrize(
    ("changes", "is_enough"),
    [
        ({}, True),
        ({"kind": OrderKind.POST_ONLY}, True),
        ({"time_in_force": TimeInForce.IOC}, False),
        ({"time_in_force": TimeInForce.FOK}, False),
        ({"kind": OrderKind.STOP, "limit_price": None, "stop_price": Decimal(1)}, True),
    ],
)
def test_an_order_in_the_book_is_known_where_it_may_rest_there(
    changes: dict[str, Any], is_enough: bool
) -> None:
    assert is_known(an_order(state=OrderState.LIVE, **changes)) is is_enough


def test_an_order_at_market_is_known_once_it_has_traded_or_ended() -> None:
    assert not is_known(a_market_order(state=OrderState.LIVE))
    assert is_known(a_market_order(state=OrderState.FILLED))
    assert is_known(a_market_order(state=OrderState.REJECTED))
