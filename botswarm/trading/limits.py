"""The gate's limits, out of the settings."""

from __future__ import annotations

from botswarm.config import Settings
from botswarm.risk.limits import Limits


def limits_of(settings: Settings) -> Limits:
    groups = settings.limit_groups or {}
    return Limits(
        order_notional_max=settings.limit_order_notional_max,
        open_notional_max=settings.limit_open_notional_max,
        position_notional_max=settings.limit_position_notional_max,
        open_orders_max=settings.limit_open_orders_max,
        orders_per_minute_max=settings.limit_orders_per_minute_max,
        daily_loss_max=settings.limit_daily_loss_max,
        signal_age_max_s=settings.limit_signal_age_max_s,
        price_collar_percent=settings.limit_price_collar_percent,
        clock_offset_max_s=settings.limit_clock_offset_max_s,
        losing_streak_cooldown_s=settings.limit_losing_streak_cooldown_s,
        groups=tuple((name, frozenset(assets)) for name, assets in groups.items()),
    )
