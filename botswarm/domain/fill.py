"""A fill, and what many of them add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from botswarm.domain.order import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One trade of one of our orders. (venue, symbol, trade_id) is its identity at the venue."""

    venue: str
    symbol: str
    trade_id: int
    client_order_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str
    at: datetime

    @property
    def notional(self) -> Decimal:
        return self.price * self.quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a bot holds of a market: a fold over its fills, whatever their order."""

    quantity: Decimal = Decimal(0)
    """Positive when long. Commission paid in the base asset is already taken off."""
    cash: Decimal = Decimal(0)
    """Quote asset gained or spent, commission in it included."""

    @classmethod
    def of(cls, fills: Iterable[Fill], *, base: str, quote: str) -> Position:
        quantity = cash = Decimal(0)
        for fill in fills:
            quantity += fill.side.sign * fill.quantity
            cash -= fill.side.sign * fill.notional
            if fill.commission_asset == base:
                quantity -= fill.commission
            elif fill.commission_asset == quote:
                cash -= fill.commission
        return cls(quantity=quantity, cash=cash)
