"""What the feed says on the ``ticks`` exchange, as values and as bytes (docs/ticks.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from botswarm.domain.market import Candle, Quote, Tick, Trade
from botswarm.errors import Malformed

VERSION = 1
EXCHANGE = "ticks"
CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDigest:
    """Where one market stands."""

    symbol: str
    sequence: int
    """Rises with every digest the market is in, also when another feed takes over."""
    trade: Trade | None
    quote: Quote | None
    candles: tuple[Candle, ...] = ()
    """Closed since the last digest, or found out since then; of any timeframe, in any order."""
    gaps: int = 0
    """How often trades were missed since the feed started."""
    is_gapped: bool = False
    """Closed candles are missing, and the feed is still asking the venue for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Every market of a venue that changed since the last one."""

    venue: str
    sent_ms: int
    markets: tuple[MarketDigest, ...]
    v: int = VERSION
    kind: Literal["digest"] = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Ticks of one channel of one market, in the venue's order."""

    venue: str
    symbol: str
    kind: Literal["trade", "quote", "candle"]
    ticks: tuple[Tick, ...]
    missing: int = 0
    """Ticks before these that will never come: the broker took too long, or the venue forgot."""
    is_recovered: bool = False
    """Asked of the venue after a gap: they belong before ticks that came earlier."""
    v: int = VERSION


@dataclass(frozen=True, slots=True)
class _TradeBatch:
    v: int
    kind: Literal["trade"]
    venue: str
    symbol: str
    missing: int
    ticks: tuple[Trade, ...]
    is_recovered: bool = False


@dataclass(frozen=True, slots=True)
class _QuoteBatch:
    v: int
    kind: Literal["quote"]
    venue: str
    symbol: str
    missing: int
    ticks: tuple[Quote, ...]
    is_recovered: bool = False


@dataclass(frozen=True, slots=True)
class _CandleBatch:
    v: int
    kind: Literal["candle"]
    venue: str
    symbol: str
    missing: int
    ticks: tuple[Candle, ...]
    is_recovered: bool = False


@dataclass(frozen=True, slots=True)
class _Head:
    v: int
    kind: str


_encoder = msgspec.json.Encoder(decimal_format="string")
_head = msgspec.json.Decoder(_Head)
_digest = msgspec.json.Decoder(Digest)
_batches: dict[str, msgspec.json.Decoder[Any]] = {
    "trade": msgspec.json.Decoder(_TradeBatch),
    "quote": msgspec.json.Decoder(_QuoteBatch),
    "candle": msgspec.json.Decoder(_CandleBatch),
}


def tick_key(venue: str, symbol: str, channel: str) -> str:
    return f"{venue}.{symbol}.{channel}"


def digest_key(venue: str) -> str:
    """Two words where a batch's key has three: ``*.digest`` reads those of all venues."""
    return f"{venue}.digest"


def encode(message: Digest | Batch) -> bytes:
    return _encoder.encode(message)


def decode(body: bytes | str) -> Digest | Batch:
    """Raises Malformed for anything that is not of this version."""
    try:
        head = _head.decode(body)
        if head.v != VERSION:
            raise Malformed(f"the message is of version {head.v}, this reader knows {VERSION}")
        if head.kind == "digest":
            return _digest.decode(body)
        if head.kind not in _batches:
            raise Malformed(f"there is no message of the kind {head.kind[:20]!r}")
        found = _batches[head.kind].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not a message of the feed: {error}") from error
    ticks: Sequence[Tick] = found.ticks
    return Batch(
        venue=found.venue,
        symbol=found.symbol,
        kind=found.kind,
        ticks=tuple(ticks),
        missing=found.missing,
        is_recovered=found.is_recovered,
    )
