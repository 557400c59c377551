"""Live prices into Redis and out of it again; each call is short, however Redis is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from botswarm.config import Secret
from botswarm.errors import Malformed, Unreachable
from botswarm.live.price import (
    BYTES_MAX,
    TTL_S,
    LivePrice,
    contents_key,
    decode,
    decode_contents,
    encode,
    price_key,
)

TIMEOUT_S = 0.5
CONTENTS_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    prices: tuple[LivePrice, ...]
    missing: tuple[str, ...]
    """Markets that should have a price there and have none that can be believed."""
    unreadable: int
    """How many values were there and were garbage."""


class LiveStore:
    """One Redis, one environment: staging and production may share a server."""

    def __init__(self, url: Secret, environment: str, *, ttl_s: float = TTL_S) -> None:
        self._url = url
        self._environment = environment
        self._ttl_ms = int(ttl_s * 1000)
        self._made: Redis | None = None

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def _client(self) -> Redis:
        if self._made is None:
            # Not repeated here: the next price is more worth than this one again.
            self._made = Redis.from_url(
                self._url.reveal(),
                socket_connect_timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        return self._made

    def _unusable(self, error: Exception) -> Unreachable:
        words = str(error) or type(error).__name__
        return Unreachable(
            f"cannot use Redis at {self._url.masked} ({words})",
            cure="the swarm trades without it; look at it with: botswarm doctor --only redis",
        )

    def write(self, prices: Sequence[LivePrice], contents: Collection[str]) -> None:
        """``contents`` are all markets of the venue that have a price; raises Unreachable."""
        if not prices:
            return
        venue = prices[0].venue
        values = {price_key(self._environment, venue, each.symbol): encode(each) for each in prices}
        values[contents_key(self._environment, venue)] = encode(sorted(contents))
        try:
            with self._client().pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    # Whatever stood there, of whatever type, is replaced.
                    pipeline.set(key, value, px=self._ttl_ms)
                pipeline.execute()
        except (RedisError, OSError, ValueError) as error:
            raise self._unusable(error) from error

    def read(self, venue: str, now_ms: int, wanted: Collection[str] = ()) -> Found:
        """What can be believed of these markets and of all others there; raises Unreachable."""
        key = contents_key(self._environment, venue)
        body = self._get([key], CONTENTS_BYTES_MAX)[0]
        symbols, unreadable = set(wanted), 0
        try:
            symbols |= set(decode_contents(body)) if body else set()
        except Malformed:
            unreadable += 1
        ordered, prices, missing = sorted(symbols), [], []
        keys = [price_key(self._environment, venue, symbol) for symbol in ordered]
        bodies = self._get(keys, BYTES_MAX)
        for symbol, body in zip(ordered, bodies, strict=True):
            try:
                prices.append(decode(body or b"", venue, symbol, now_ms))
            except Malformed:
                missing.append(symbol)
                unreadable += body != b""
        return Found(prices=tuple(prices), missing=tuple(missing), unreadable=unreadable)

    def _get(self, keys: Sequence[str], bytes_max: int) -> list[bytes | None]:
        """The first bytes of each, b"" where there are none, None where no text stands there."""
        if not keys:
            return []
        try:
            with self._client().pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.getrange(key, 0, bytes_max)
                answers: list[Any] = pipeline.execute(raise_on_error=False)
        except Exception as error:
            # What listens there may not even be Redis: its client then raises anything.
            raise self._unusable(error) from error
        return [answer if isinstance(answer, bytes) else None for answer in answers]
