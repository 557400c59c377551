"""What Binance allows and what its questions cost, as its documents say; it tells more itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botswarm.exchanges.allowance import Limit

WEIGHT, ORDERS, RAW = "REQUEST_WEIGHT", "ORDERS", "RAW_REQUESTS"
PERIODS_S = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}
LIMITS = (
    Limit(name=f"{WEIGHT}-1M", most=6000, period_s=60),
    Limit(name=f"{RAW}-5M", most=300_000, period_s=300),
    # Cancelling and asking cost none of these: there is nothing to keep a reserve for.
    Limit(name=f"{ORDERS}-10S", most=50, period_s=10, of_account=True, has_reserve=False),
    Limit(name=f"{ORDERS}-1D", most=160_000, period_s=86_400, of_account=True, has_reserve=False),
)
WEIGHTS: Mapping[tuple[str, str], int] = {
    ("GET", "/api/v3/time"): 1,
    ("GET", "/api/v3/exchangeInfo"): 20,
    ("POST", "/api/v3/order"): 1,
    ("DELETE", "/api/v3/order"): 1,
    ("DELETE", "/api/v3/openOrders"): 1,
    ("GET", "/api/v3/order"): 4,
    ("GET", "/api/v3/openOrders"): 80,
    ("GET", "/api/v3/allOrders"): 20,
    ("GET", "/api/v3/myTrades"): 20,
    ("GET", "/api/v3/account"): 20,
    ("GET", "/api/v3/rateLimit/order"): 40,
    ("GET", "/api/v3/myFilters"): 40,
}
CHEAPER: Mapping[tuple[str, str, str], int] = {
    ("GET", "/api/v3/openOrders", "symbol"): 6,
    ("GET", "/api/v3/myTrades", "orderId"): 5,
}
"""With this parameter."""
WEIGHT_UNKNOWN = 20
PLACING: Mapping[str, int] = {WEIGHT: 1, RAW: 1, ORDERS: 1}


def asking(weight: int) -> dict[str, int]:
    """Of a question whose weight the one who asks knows."""
    return {WEIGHT: weight, RAW: 1}


def cost(method: str, path: str, parameters: Mapping[str, str]) -> dict[str, int]:
    """Of one question; placing an order is PLACING."""
    weight = WEIGHTS.get((method, path), WEIGHT_UNKNOWN)
    for name in parameters:
        weight = CHEAPER.get((method, path, name), weight)
    return asking(weight)


def told(described: Any) -> list[Limit]:
    """Those of an exchangeInfo, as far as it can be read."""
    found = []
    for each in described.get("rateLimits") or ():
        kind, interval, number = each["rateLimitType"], each["interval"], int(each["intervalNum"])
        if interval in PERIODS_S and float(each["limit"]) > 0:
            name = f"{kind}-{number}{interval[0]}"
            period_s = float(number * PERIODS_S[interval])
            is_of_account = kind == ORDERS
            found.append(
                Limit(
                    name=name,
                    most=float(each["limit"]),
                    period_s=period_s,
                    of_account=is_of_account,
                    has_reserve=not is_of_account,
                )
            )
    return found


def used(headers: Mapping[str, str]) -> dict[str, int]:
    """What an answer's headers say is used up by now; their names are in lower case."""
    found = {}
    for name, value in headers.items():
        for start, family in (("x-mbx-used-weight-", WEIGHT), ("x-mbx-order-count-", ORDERS)):
            if name.startswith(start) and value.isdecimal():
                found[f"{family}-{name.removeprefix(start).upper()}"] = int(value)
    return found
