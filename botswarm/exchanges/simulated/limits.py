"""How much a client may ask for: request weight, orders, connections and messages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from botswarm.exchanges.simulated.refusal import Refusal

MINUTE_MS: Final = 60_000
TEN_SECONDS_MS: Final = 10_000
DAY_MS: Final = 86_400_000
REFUSED_BEFORE_BAN: Final = 20
"""Requests that go on after the limit was hit, until the address is banned."""
BAN_FIRST_MS: Final = 120_000
BAN_MAX_MS: Final = 3 * DAY_MS
STREAMS_PER_CONNECTION: Final = 1024
MESSAGES_PER_SECOND: Final = 5
CONNECTIONS_PER_WINDOW: Final = 300
CONNECTION_WINDOW_MS: Final = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    weight_per_minute: int = 6_000
    orders_per_10s: int = 100
    orders_per_day: int = 200_000

    def described(self) -> list[dict[str, object]]:
        return [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, self.weight_per_minute),
            _limit("ORDERS", "SECOND", 10, self.orders_per_10s),
            _limit("ORDERS", "DAY", 1, self.orders_per_day),
            _limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
    }


class Counter:
    """Counts within fixed windows that begin at round times, as Binance's do."""

    def __init__(self, length_ms: int) -> None:
        self.length_ms = length_ms
        self._window = -1
        self._count = 0

    def count(self, now_ms: int) -> int:
        window = now_ms // self.length_ms
        if window != self._window:
            self._window, self._count = window, 0
        return self._count

    def add(self, now_ms: int, amount: int = 1) -> int:
        self._count = max(0, self.count(now_ms) + amount)
        return self._count

    def left_s(self, now_ms: int) -> int:
        """Seconds until the window ends, at least one."""
        return max(1, -(-(self.length_ms - now_ms % self.length_ms) // 1000))


class AddressLimits:
    """Of one client address: request weight, 429, and 418 for those who do not listen."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self.weight = Counter(MINUTE_MS)
        self.banned_until_ms = 0
        self._bans = 0
        self._refused = 0

    def spend(self, weight: int, now_ms: int) -> None:
        if now_ms < self.banned_until_ms:
            raise self._ban_refusal(now_ms)
        limit = self.limits.weight_per_minute
        if self.weight.add(now_ms, weight) <= limit:
            self._refused = 0
            return
        self._refused += 1
        if self._refused > REFUSED_BEFORE_BAN:
            self.banned_until_ms = now_ms + min(BAN_FIRST_MS * 2**self._bans, BAN_MAX_MS)
            self._bans += 1
            self._refused = 0
            raise self._ban_refusal(now_ms)
        raise Refusal(
            -1003,
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API.",
            status=429,
            headers={"Retry-After": str(self.weight.left_s(now_ms))},
        )

    def give_back(self, weight: int, now_ms: int) -> None:
        self.weight.add(now_ms, -weight)

    def headers(self, now_ms: int) -> dict[str, str]:
        used = str(self.weight.count(now_ms))
        return {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}

    def _ban_refusal(self, now_ms: int) -> Refusal:
        return Refusal(
            -1003,
            f"Way too much request weight used; IP banned until {self.banned_until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans.",
            status=418,
            headers={"Retry-After": str(-(-(self.banned_until_ms - now_ms) // 1000))},
        )


@dataclass(slots=True)
class Storm:
    """As ordered: until then everybody is sent away, and who comes all the same is counted."""

    is_ban: bool
    at_ms: int
    until_ms: int
    asked: int = 0

    def refuse(self, now_ms: int) -> None:
        if now_ms >= self.until_ms:
            return
        self.asked += 1
        raise Refusal(
            -1003,
            f"Way too much request weight used; IP banned until {self.until_ms}."
            if self.is_ban
            else "Too much request weight used; please use WebSocket Streams for live updates.",
            status=418 if self.is_ban else 429,
            headers={"Retry-After": str(-(-(self.until_ms - now_ms) // 1000))},
        )


class OrderLimits:
    """Of one account: orders sent and not yet filled in part; a first fill gives one back."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self.short = Counter(TEN_SECONDS_MS)
        self.day = Counter(DAY_MS)

    def count(self, now_ms: int) -> None:
        for counter, limit, words in (
            (self.short, self.limits.orders_per_10s, "10 SECOND"),
            (self.day, self.limits.orders_per_day, "1 DAY"),
        ):
            if counter.count(now_ms) >= limit:
                raise Refusal(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {words}.",
                    status=429,
                    headers={"Retry-After": str(counter.left_s(now_ms))},
                )
        self.short.add(now_ms)
        self.day.add(now_ms)

    def first_fill(self, now_ms: int) -> None:
        self.short.add(now_ms, -1)
        self.day.add(now_ms, -1)

    def headers(self, now_ms: int) -> dict[str, str]:
        return {
            "X-MBX-ORDER-COUNT-10S": str(self.short.count(now_ms)),
            "X-MBX-ORDER-COUNT-1D": str(self.day.count(now_ms)),
        }

    def described(self, now_ms: int) -> list[dict[str, object]]:
        return [
            {
                **_limit("ORDERS", "SECOND", 10, self.limits.orders_per_10s),
                "count": self.short.count(now_ms),
            },
            {
                **_limit("ORDERS", "DAY", 1, self.limits.orders_per_day),
                "count": self.day.count(now_ms),
            },
        ]


class Recent:
    """At most so many within any stretch of so long."""

    def __init__(self, most: int, length_ms: int) -> None:
        self.most = most
        self.length_ms = length_ms
        self._times: deque[int] = deque()

    def admits(self, now_ms: int) -> bool:
        while self._times and self._times[0] <= now_ms - self.length_ms:
            self._times.popleft()
        self._times.append(now_ms)
        return len(self._times) <= self.most
