"""What Coinbase allows: buckets that fill again with tokens, for the address and for the key."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.exchanges.allowance import Limit

PUBLIC, PRIVATE, HOURLY = "PUBLIC", "PRIVATE", "HOURLY"
LIMITS = (
    Limit(name=PUBLIC, most=10, decay_per_s=10.0),
    Limit(name=PRIVATE, most=30, decay_per_s=30.0, of_account=True),
    Limit(name=f"{HOURLY}-1H", most=10_000, period_s=3600, of_account=True),
)
ASKING: Mapping[str, int] = {PRIVATE: 1, HOURLY: 1}
"""Every question about an account, placing and cancelling too."""
