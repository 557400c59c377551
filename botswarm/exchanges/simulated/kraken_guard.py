"""Who may enter Kraken's private side: signatures, nonces, session tokens and rate counters."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from botswarm.exchanges.simulated.feeds import Wrong

TOKEN_USED_WITHIN_MS: Final = 900_000
"""A token is for a connection that is made within so long; there it holds while that lives."""
TOKENS_KEPT: Final = 10_000
CALLS_PER_S: Final = {"starter": 0.33, "intermediate": 0.5, "pro": 1.0, "unlimited": 1e9}
CALLS_MAX: Final = {"starter": 15, "intermediate": 20, "pro": 20, "unlimited": 10**9}
ORDERS_PER_S: Final = {"starter": 1.0, "intermediate": 2.34, "pro": 3.75, "unlimited": 1e9}
ORDERS_MAX: Final = {"starter": 60, "intermediate": 125, "pro": 180, "unlimited": 10**9}
CANCEL_COSTS: Final = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))
"""What cancelling costs that was placed less than so many seconds ago."""


def signature(secret: str, path: str, nonce: str, body: str) -> str:
    message = path.encode() + hashlib.sha256((nonce + body).encode()).digest()
    digest = hmac.new(base64.b64decode(secret), message, hashlib.sha512).digest()
    return base64.b64encode(digest).decode()


@dataclass(slots=True)
class Level:
    """A counter that decays."""

    used: float = 0.0
    at_ms: int = 0

    def add(self, cost: float, most: float, per_s: float, now_ms: int, error: str) -> None:
        self.used = max(0.0, self.used - max(0, now_ms - self.at_ms) / 1000 * per_s)
        self.at_ms = now_ms
        if self.used + cost > most:
            raise Wrong(error)
        self.used += cost


class Guard:
    def __init__(self, key: str, secret: str, tier: str) -> None:
        self.key = key
        self.tier = tier
        self.last_nonce = 0
        self._secret = secret
        self._tokens: dict[str, int] = {}
        self._calls = Level()
        self._orders: dict[str, Level] = {}

    def __repr__(self) -> str:
        return f"Guard({self.tier})"

    # --- requests -------------------------------------------------------------------------

    def admit(
        self, path: str, headers: Mapping[str, str], body: str, values: Mapping[str, str]
    ) -> None:
        if not hmac.compare_digest(headers.get("api-key", "").encode(), self.key.encode()):
            raise Wrong("EAPI:Invalid key")
        nonce = values.get("nonce", "")
        expected = signature(self._secret, path, nonce, body)
        if not hmac.compare_digest(headers.get("api-sign", "").encode(), expected.encode()):
            raise Wrong("EAPI:Invalid signature")
        if not (nonce.isascii() and nonce.isdecimal()) or int(nonce) <= self.last_nonce:
            raise Wrong("EAPI:Invalid nonce")
        self.last_nonce = int(nonce)

    # --- sessions -------------------------------------------------------------------------

    def token(self, now_ms: int) -> str:
        made = secrets.token_urlsafe(32)
        if len(self._tokens) >= TOKENS_KEPT:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[made] = now_ms
        return made

    def check_token(self, token: object, known: set[str], now_ms: int) -> None:
        """``known`` are those that this connection has shown before."""
        if not isinstance(token, str) or token not in self._tokens:
            raise Wrong("ESession:Invalid session")
        if token not in known and now_ms - self._tokens[token] > TOKEN_USED_WITHIN_MS:
            raise Wrong("ESession:Invalid session")
        known.add(token)

    # --- counters -------------------------------------------------------------------------

    def count_call(self, cost: int, now_ms: int) -> None:
        most, per_s = CALLS_MAX[self.tier], CALLS_PER_S[self.tier]
        self._calls.add(cost, most, per_s, now_ms, "EAPI:Rate limit exceeded")

    def count_order(self, symbol: str, cost: int, now_ms: int) -> None:
        level = self._orders.setdefault(symbol, Level())
        most, per_s = ORDERS_MAX[self.tier], ORDERS_PER_S[self.tier]
        level.add(cost, most, per_s, now_ms, "EOrder:Rate limit exceeded")


def cost_of_cancelling(age_ms: int) -> int:
    return next((cost for seconds, cost in CANCEL_COSTS if age_ms < seconds * 1000), 0)
