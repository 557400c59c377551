"""The settings of limits: what may be risked where nobody has said otherwise in the table."""

from __future__ import annotations

import re
from decimal import Decimal

from botswarm.config.kinds import Kind, Setting, amount, whole_number
from botswarm.errors import Problem


def _groups(text: str) -> object:
    cure = "write majors=BTC+ETH,memes=DOGE+SHIB"
    groups: dict[str, tuple[str, ...]] = {}
    for pair in text.replace(" ", "").split(","):
        name, _, assets = pair.partition("=")
        if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name) is None or name in groups:
            return Problem(f"names the group {name!r}, which is no name, or named twice", cure)
        known = tuple(assets.upper().split("+"))
        if not all(re.fullmatch(r"[A-Z0-9]{1,20}", asset) for asset in known):
            return Problem(f"gives the group {name} assets that are none: {assets!r}", cure)
        groups[name] = known
    return groups


LIMITS: tuple[Setting, ...] = (
    Setting(
        name="limit_order_notional_max",
        kind=amount("the quote asset"),
        help="No order worth more than this is sent.",
        default=Decimal(500),
    ),
    Setting(
        name="limit_open_notional_max",
        kind=amount("the quote asset"),
        help="No order is sent that would make an account's open orders worth more than this.",
        default=Decimal(5000),
    ),
    Setting(
        name="limit_position_notional_max",
        kind=amount("the quote asset"),
        help="No order is sent that could make a bot's position in a market worth more than this.",
        default=Decimal(1000),
    ),
    Setting(
        name="limit_open_orders_max",
        kind=whole_number(0, 100_000, "orders"),
        help="How many orders of an account may be open at once.",
        default=100,
    ),
    Setting(
        name="limit_orders_per_minute_max",
        kind=whole_number(0, 100_000, "orders"),
        help="How many orders one bot may send in any minute.",
        default=60,
    ),
    Setting(
        name="limit_daily_loss_max",
        kind=amount("the quote asset"),
        help="From this loss on, realised by an account since midnight UTC, only orders that "
        "shrink a position are sent.",
        default=Decimal(500),
    ),
    Setting(
        name="limit_signal_age_max_s",
        kind=whole_number(1, 3600, "seconds"),
        help="No order is sent for a signal older than this, whatever its strategy allows.",
        default=10,
    ),
    Setting(
        name="limit_data_age_max_s",
        kind=whole_number(1, 3600, "seconds"),
        help="No bot decides on prices older than this by the exchange's own clock.",
        default=5,
    ),
    Setting(
        name="limit_price_collar_percent",
        kind=amount("percent"),
        help="No order is sent whose limit is further than this beyond the market, to the side on "
        "which it trades at once.",
        default=Decimal(10),
    ),
    Setting(
        name="limit_clock_offset_max_s",
        kind=amount("seconds"),
        help="No order that may grow a position is sent while the venue's clock is further than "
        "this from ours; beyond a second none is signed at all.",
        default=Decimal(1),
    ),
    Setting(
        name="limit_losing_streak_cooldown_s",
        kind=whole_number(0, 604_800, "seconds"),
        help="How long after its last loss a scope that lost too often in a row (a limit "
        "losing_streak) opens no position.",
        default=900,
    ),
    Setting(
        name="limit_groups",
        kind=Kind(
            read=_groups,
            schema={"type": "string"},
            words="groups of assets, such as majors=BTC+ETH,memes=DOGE+SHIB",
        ),
        help="Assets whose prices move together: the limit group_exposure holds an account's "
        "exposure in all markets of such a group.",
        default_words="none",
    ),
)
