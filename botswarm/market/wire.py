"""What the feed says on the ``ticks`` exchange, as values and as bytes (docs/ticks.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from botswarm.domain.market import Book, Candle, Channel, Quote, Status, Tick, Trade
from botswarm.errors import Malformed

VERSION = 1
EXCHANGE = "ticks"
CONTENT_TYPE = "application/json"


class MarketDigest(msgspec.Struct, frozen=True, kw_only=True):
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
    missed: int = 0
    """Trades since the feed started that no connection brought and the venue no longer tells."""
    status: Status | None = None
    """What the venue lets be done in it, where the venue says so."""


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """Every market of a venue that changed since the last one."""

    venue: str
    sent_ms: int
    markets: tuple[MarketDigest, ...]
    v: int = VERSION
    kind: Literal["digest"] = "digest"
    is_repeat: bool = False
    """It may have been said before: the connection it was sent on broke, and the broker forgot."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of one channel of one market, in the venue's order."""

    venue: str
    symbol: str
    kind: Channel
    ticks: tuple[Tick, ...]
    missing: int = 0
    """Ticks before these that will never come: the broker took too long, or the venue forgot."""
    is_recovered: bool = False
    """They filled a gap later: they belong before ticks that came earlier."""
    is_repeat: bool = False
    """It may have been said before: the connection it was sent on broke, and the broker forgot."""
    v: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnyBatch:
    v: int
    kind: Channel
    venue: str
    symbol: str
    missing: int = 0
    is_recovered: bool = False
    is_repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _TradeBatch(_AnyBatch):
    ticks: tuple[Trade, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _QuoteBatch(_AnyBatch):
    ticks: tuple[Quote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CandleBatch(_AnyBatch):
    ticks: tuple[Candle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _BookBatch(_AnyBatch):
    ticks: tuple[Book, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StatusBatch(_AnyBatch):
    ticks: tuple[Status, ...]


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
    "book": msgspec.json.Decoder(_BookBatch),
    "status": msgspec.json.Decoder(_StatusBatch),
}
_EXPONENT = re.compile(rb'"([0-9](?:\.[0-9]+)?E[+-][0-9]{1,3})"')
_NEW, _AGAIN = b'"is_repeat":false', b'"is_repeat":true'


def tick_key(venue: str, symbol: str, channel: str) -> str:
    return f"{venue}.{symbol}.{channel}"


def digest_key(venue: str) -> str:
    """Two words where a batch's key has three: ``*.digest`` reads those of all venues."""
    return f"{venue}.digest"


def encode(message: Digest | Batch) -> bytes:
    return plain(_encoder.encode(message))


def plain(body: bytes) -> bytes:
    """The same JSON with numbers such as "1.2E-7" written as the venue does: "0.00000012"."""
    # A single letter is looked for ten times faster than two.
    if b"E" in body and (b"E-" in body or b"E+" in body):
        return _EXPONENT.sub(_in_full, body)
    return body


def _in_full(found: re.Match[bytes]) -> bytes:
    return f'"{Decimal(found[1].decode()):f}"'.encode()


def encode_any(value: object) -> bytes:
    """For what is not read by others."""
    return _encoder.encode(value)


def as_repeat(body: bytes) -> bytes:
    """The same message, marked as one that may have been said before."""
    # Quotation marks within a venue's words are escaped, so it is found only where it belongs.
    return body.replace(_NEW, _AGAIN, 1)


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
        is_repeat=found.is_repeat,
    )
