"""Signed requests: whose they are, whether they are genuine and whether they come in time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from botswarm.exchanges.simulated import refusal
from botswarm.exchanges.simulated.refusal import Refusal

RECEIVE_WINDOW_MS: Final = Decimal(5_000)
RECEIVE_WINDOW_MAX_MS: Final = Decimal(60_000)
AHEAD_MAX_MS: Final = 1_000
MICROSECONDS_FROM: Final = 10**14


def sign(secret: str, payload: str) -> str:
    """HMAC-SHA256, in hex; ``payload`` is percent-encoded already."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def unsigned(text: str) -> str:
    """A query string or body without its signature, otherwise as it was sent."""
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When a request may be executed; asked on arrival and once more before the engine."""

    timestamp_ms: int
    receive_window_ms: Decimal

    @classmethod
    def read(cls, take: Callable[[str], str | None]) -> Window:
        timestamp, window = take("timestamp"), take("recvWindow")
        if timestamp is None:
            raise refusal.missing("timestamp")
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 20):
            raise refusal.illegal("timestamp", "^[0-9]{1,20}$")
        at = int(timestamp)
        length = RECEIVE_WINDOW_MS
        if window is not None:
            try:
                length = Decimal(window)
            except InvalidOperation:
                raise refusal.illegal("recvWindow", "^[0-9]{1,20}$") from None
            if not length.is_finite() or not 0 <= length <= RECEIVE_WINDOW_MAX_MS:
                raise Refusal(-1131, "recvWindow must be less than 60000.")
        if at >= MICROSECONDS_FROM:
            at //= 1000
        return cls(timestamp_ms=at, receive_window_ms=length)

    def check(self, now_ms: int) -> None:
        if self.timestamp_ms >= now_ms + AHEAD_MAX_MS:
            raise Refusal(
                -1021,
                "Timestamp for this request was 1000ms ahead of the server's time.",
            )
        if now_ms - self.timestamp_ms > self.receive_window_ms:
            raise Refusal(-1021, "Timestamp for this request is outside of the recvWindow.")


@dataclass(frozen=True, slots=True)
class Credentials:
    key: str
    secret: str
    account: str

    def __repr__(self) -> str:
        return f"Credentials({self.account})"

    def check_key(self, key: str | None) -> None:
        if not key:
            raise Refusal(-2014, "API-key format invalid.", status=401)
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            raise Refusal(-2015, "Invalid API-key, IP, or permissions for action.", status=401)

    def check_signature(self, payload: str, signature: str | None) -> None:
        if not signature:
            raise refusal.missing("signature")
        expected = sign(self.secret, payload)
        if not hmac.compare_digest(signature.lower().encode(), expected.encode()):
            raise Refusal(-1022, "Signature for this request is not valid.")
