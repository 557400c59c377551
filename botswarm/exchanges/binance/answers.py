"""Binance's answers read: states, amounts, moments and errors in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.order import OrderState
from botswarm.exchanges.answers import said, unreadable
from botswarm.exchanges.base import Permissions
from botswarm.exchanges.transport import Response

UNREADABLE = (KeyError, AttributeError, TypeError, ValueError, ArithmeticError)
"""What comes of reading an answer that has another shape than it should."""

STATES: Mapping[str, OrderState] = {
    "NEW": OrderState.LIVE,
    "PENDING_NEW": OrderState.LIVE,
    "PENDING_CANCEL": OrderState.LIVE,
    "PARTIALLY_FILLED": OrderState.PARTIAL,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
}


def ms_of(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def to_ms(at: datetime) -> datetime:
    """Cut to the millisecond that is signed, so that what is recorded is what was said."""
    return moment(ms_of(at))


def number(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text} is not an amount")
    return value


def error_of(response: Response) -> tuple[int | None, str]:
    try:
        told = said(response)
        return int(told["code"]), str(told["msg"])
    except UNREADABLE:
        return None, ""


def a_list(answer: Any, what: str) -> list[Any]:
    if isinstance(answer, list):
        return answer
    raise unreadable(what, TypeError("not a list"))


def read_permissions(answer: Mapping[str, Any]) -> Permissions:
    return Permissions(
        can_trade=answer["enableSpotAndMarginTrading"] is True,
        can_withdraw=answer["enableWithdrawals"] is not False,
        is_address_bound=bool(answer["ipRestrict"]),
    )
