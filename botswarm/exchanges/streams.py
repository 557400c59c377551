"""The plugin API of a venue's public streams: what is said on one connection, without any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Book, Candle, Channel, Level, Status, Tick, Trade
from botswarm.errors import Malformed


class Stream(NamedTuple):
    """One channel of one market: what is subscribed to."""

    symbol: str
    channel: Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRules:
    """What the venue allows and does on its public connections; our settings may be stricter."""

    streams_max: int
    """Of one connection."""
    connects_max: int
    connects_period_s: float
    """At most so many attempts within any such period from one address, failed ones included."""
    sends_per_s: float
    """Messages of ours a second on one connection; pongs count too where the venue says so."""
    address_sends_per_s: float | None = None
    """The same of all connections of one address together, where the venue counts so."""
    silence_s: float
    """A connection that brought not one frame or ping for so long is dead: by what the venue
    sends by itself (pings, heartbeats), not by how busy its markets are."""
    lifetime_s: float | None = None
    """The venue ends a connection after so long."""
    subscribe_within_s: float | None = None
    """It ends one that has asked for nothing by then."""
    frame_max_bytes: int = 1_048_576
    """The largest frame it sends on the channels we read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The venue has taken these; ticks of them come from now on."""

    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed:
    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The venue will not serve these; asking again is useless until something changes."""

    streams: tuple[Stream, ...]
    """Empty where the venue does not say which."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingAway:
    """The venue will end this connection soon: another one has to take over now."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life of the venue: a heartbeat or the answer to our ping."""

    exchange_ms: int | None = None
    symbol: str | None = None
    """Of one market, where the heartbeat is one market's."""
    last_trade_id: int | None = None
    """The market's last trade by then: a larger one than we have seen means that we missed some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """By the venue's own rule (sequence, checksum) something is missing on this stream.

    The session has already dropped what it built on it; ``resync`` makes it whole again.
    """

    stream: Stream
    reason: str
    """From a small fixed set, it becomes a metric's label: "sequence", "checksum", "crossed"."""
    words: str
    """The numbers, for people."""
    first: int | None = None
    last: int | None = None
    """The numbers that are missing, where the venue's rule tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The connection's own count has a hole: any of its streams may have lost ``count`` frames."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsWhole:
    """This stream tells changes only: give ``Session.whole`` the book that REST tells now.

    Said when the first change has come, again when the book that was given is too old for the
    changes that follow, and after each Broken of such a stream. It is no gap.
    """

    stream: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Levels that changed, as the venue said it. Only sessions that are asked to tell them do:
    those that read a recording, in which there may be no whole book to change."""

    venue: str
    symbol: str
    bids: tuple[Level, ...]
    """A quantity of nothing removes the level."""
    asks: tuple[Level, ...]
    sequence: int
    exchange_ms: int
    received_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateTrade(Trade):
    """Trades of one order at one price, told as one; ``trade_id`` counts the aggregates."""

    first_id: int
    last_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedCandle(Candle):
    """A candle as a stream tells it, with the venue's clock."""

    exchange_ms: int
    received_ms: int


Notice = (
    Subscribed
    | Unsubscribed
    | Declined
    | GoingAway
    | Beat
    | Broken
    | Skipped
    | NeedsWhole
    | Changed
)
Heard = Tick | Notice


REASONS = frozenset(
    {"too_large", "too_deep", "not_text", "not_json", "wrong_shape", "bad_number", "bad_time",
     "unknown_market", "unknown_event", "refused"}
)  # fmt: skip
"""Why a frame was left out."""


class Unreadable(Malformed):
    """A frame that was left out. ``reason`` is one of REASONS and becomes a label."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class Session(Protocol):
    """The dialogue of one connection. It does no I/O: whoever holds the socket carries its words.

    Used by one thread at a time. It is made anew for each connection, and with it all that only
    holds within one: order books, numbers of frames.
    """

    def url(self, streams: Sequence[Stream]) -> str:
        """Where to connect. It may name the streams; then ``subscribe`` of them says nothing."""
        ...

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        """Messages to send, in this order; as few as the venue's rules allow."""
        ...

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]: ...

    def ping(self) -> str | None:
        """The venue's own ping message; None where a WebSocket ping is what it knows."""
        ...

    def read(self, frame: str | bytes, received_ms: int) -> Sequence[Heard]:
        """What one frame says, in order; () for what says nothing. Raises Unreadable."""
        ...

    def resync(self, stream: Stream) -> Sequence[str]:
        """Messages that begin a broken stream anew; () where NeedsWhole asks for ``whole``."""
        ...

    def whole(self, book: Book) -> Sequence[Heard]:
        """The whole order book as REST told it (``MarketData.book``), for venues whose stream
        sends changes only."""
        ...


class MarketData(Protocol):
    """One venue's public side."""

    name: str
    rules: StreamRules
    channels: frozenset[Channel]
    """Those its sessions carry. Subscribing to others is a mistake of ours: where "status" is not
    among them, ``statuses`` is asked from time to time instead."""

    def instruments(self) -> Sequence[Instrument]: ...

    def statuses(self) -> Sequence[Status]:
        """What may be done in each market, asked anew; () where a stream tells it."""
        ...

    def session(self) -> Session: ...

    def reader(self) -> Session:
        """A session for recorded frames: it takes every market that the venue's way of writing
        names, whoever subscribed to it, asks nobody, and tells Changed where it never gets a
        whole book."""
        ...

    def candles(self, symbol: str, timeframe: str, *, limit: int) -> Sequence[Candle]:
        """The latest closed candles, oldest first."""
        ...

    def latest_trades(self, symbol: str, *, limit: int) -> Sequence[Trade]:
        """By rising id, for what a stream missed; fewer where the venue tells fewer."""
        ...

    def trades_between(self, symbol: str, first_id: int, last_id: int) -> Sequence[Trade]:
        """Those of these ids that the venue still tells, by rising id; at most one page."""
        ...

    def book(self, symbol: str) -> Book | None:
        """The whole order book where ``Session.whole`` wants it; None where streams bring it."""
        ...
