"""What may be risked: the numbers the gate holds every order against."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Money is in the market's quote asset."""

    order_notional_max: Decimal
    open_notional_max: Decimal
    """Of everything of the account that is or may be live, the order itself counted."""
    position_notional_max: Decimal
    """Of a bot in one market, long or short, as if all its open orders of that side filled."""
    open_orders_max: int
    """Of the account."""
    orders_per_minute_max: int
    """Of one bot."""
    daily_loss_max: Decimal
    """Of the account: from this realised loss on, only what shrinks a position passes."""
    signal_age_max_s: int
