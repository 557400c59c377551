"""What Kraken allows and what its questions cost, for the lowest tier of verification."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.exchanges.allowance import Limit

PUBLIC, COUNTER, TRADING = "PUBLIC", "COUNTER", "TRADING"
LIMITS = (
    Limit(name=PUBLIC, most=3, decay_per_s=1.0),
    # Of a key's private questions by REST.
    Limit(name=COUNTER, most=15, decay_per_s=0.33, of_account=True),
    # Of each market by itself (TRADING:BTC-USD): placing and cancelling, by REST or WebSocket.
    Limit(name=TRADING, most=60, decay_per_s=1.0, of_account=True),
)
COUNTS: Mapping[str, int] = {
    "TradesHistory": 2,
    "Ledgers": 2,
    "QueryTrades": 2,
    "QueryLedgers": 2,
    "ClosedOrders": 2,
}
"""Of the counter, by the name of the question; all others count once."""
PLACED, CANCELLED_YOUNG = 1, 8
"""A cancellation within five seconds costs most of all; it is always counted as that."""


def asking(question: str) -> dict[str, int]:
    """Of one private question; placing and cancelling cost none of this counter."""
    return {COUNTER: COUNTS.get(question, 1)}


def placing(symbol: str) -> dict[str, int]:
    return {f"{TRADING}:{symbol}": PLACED}


def cancelling(symbol: str) -> dict[str, int]:
    return {f"{TRADING}:{symbol}": CANCELLED_YOUNG}
