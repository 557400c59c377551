"""What may be risked where nobody has said otherwise: the settings, as the table of limits is."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from botswarm.domain.limits import Limit, LimitKind, default

Group = tuple[str, frozenset[str]]
"""Of assets whose prices move together, by its name."""


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
    price_collar_percent: Decimal | None = None
    """How far beyond the market a price may be, to the side on which it trades."""
    clock_offset_max_s: Decimal | None = None
    """Between the venue and this machine."""
    losing_streak_cooldown_s: int = 900
    """From its last loss on, until a streak that broke a limit is forgiven."""
    groups: tuple[Group, ...] = ()
    defaults: tuple[Limit, ...] = field(init=False, compare=False, repr=False)
    """The same as lines of the table; those of an account or bot hold for each of them."""

    def __post_init__(self) -> None:
        lines = {
            LimitKind.ORDER_VALUE: self.order_notional_max,
            LimitKind.PRICE_COLLAR: self.price_collar_percent,
            LimitKind.POSITION: self.position_notional_max,
            LimitKind.OPEN_VALUE: self.open_notional_max,
            LimitKind.OPEN_ORDERS: self.open_orders_max,
            LimitKind.ORDERS_PER_MINUTE: self.orders_per_minute_max,
            LimitKind.DAILY_LOSS: self.daily_loss_max,
            LimitKind.CLOCK_OFFSET: self.clock_offset_max_s,
        }
        table = tuple(default(kind, each) for kind, each in lines.items() if each is not None)
        object.__setattr__(self, "defaults", table)
