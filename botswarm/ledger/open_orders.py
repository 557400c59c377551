"""Orders that are or may be live, as far as limits look at them: read in great numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import type_coerce

from botswarm.domain.facts import Total
from botswarm.domain.order import Side, reckoned_at
from botswarm.ledger.columns import AsKept
from botswarm.ledger.fold import Assets
from botswarm.ledger.models import OrderRow

WORDS = ("venue", "account", "symbol", "bot", "side", "is_ending")
AMOUNTS = ("quantity", "filled_quantity", "limit_price", "stop_price", "reference_price")
COLUMNS = len(WORDS) + len(AMOUNTS)


class Open(NamedTuple):
    """Made within a context in which nothing is rounded."""

    venue: str
    account: str
    symbol: str
    bot: str
    strategy: str | None
    side: str
    left: Decimal
    value: Decimal
    """Of what is left, at what it is reckoned at."""
    resting_at: Decimal | None
    """The limit at which it may stand in the book; None where its end was asked for."""

    @classmethod
    def of(cls, row: Sequence[Any], strategy: str | None = None) -> Open:
        """``row`` ends with columns_of. By their places: names take as long as all the rest."""
        venue, account, symbol, bot, side, is_ending, *amounts = row[-COLUMNS:]
        quantity, filled, limit, stop, reference = map(as_amount, amounts)
        left = quantity - filled
        value = left * reckoned_at(limit, stop, reference)
        resting_at = limit if stop is None and not is_ending else None
        return cls(venue, account, symbol, bot, strategy, side, left, value, resting_at)


def columns_of(orders: Any = OrderRow) -> list[Any]:
    amounts = [type_coerce(getattr(orders, name), AsKept()).label(name) for name in AMOUNTS]
    return [*(getattr(orders, name) for name in WORDS), *amounts]


def as_amount(kept: Any) -> Any:
    """A Decimal, or None as it was."""
    return None if kept is None else Decimal(kept)


@lru_cache(maxsize=10_000)
def quote_of(symbol: str) -> str:
    return Assets.of(symbol).quote


def total(orders: Iterable[Open], quote: str) -> Total:
    """Their number, and the value of those with this quote asset."""
    sides: dict[str, Decimal] = defaultdict(Decimal)
    count = 0
    for each in orders:
        count += 1
        if quote_of(each.symbol) == quote:
            sides[each.side] += each.value
    return Total(
        open_orders=count, open_buys=sides[Side.BUY.value], open_sells=sides[Side.SELL.value]
    )
