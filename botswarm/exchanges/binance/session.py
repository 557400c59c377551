"""The dialogue of one connection to Binance's public streams."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from botswarm.domain.market import Book, Channel
from botswarm.exchanges.binance import events, symbols
from botswarm.exchanges.binance.depth import Change, DepthBook
from botswarm.exchanges.binance.events import Event
from botswarm.exchanges.reading import decoded, shown
from botswarm.exchanges.streams import (
    Broken,
    Changed,
    Declined,
    GoingAway,
    Heard,
    NeedsWhole,
    Stream,
    StreamRules,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

RULES = StreamRules(
    streams_max=1024,
    connects_max=300,
    connects_period_s=300.0,
    # Pongs count, and over it the connection is ended and in the end the address banned.
    sends_per_s=5.0,
    # The venue pings every 20 s.
    silence_s=60.0,
    lifetime_s=86_400.0,
)
CHANNELS: frozenset[Channel] = frozenset({"trade", "quote", "candle", "book"})
NAMES: Mapping[Channel, str] = {
    "trade": "trade",
    "quote": "bookTicker",
    "candle": "kline_1m",
    "book": "depth@100ms",
}
BOOK_LEVELS = 10
STREAMS_PER_MESSAGE_MAX = 300
"""The venue refuses messages that are too long, at about 350 names."""
SYMBOLS_KNOWN_MAX = 20_000
UNANSWERED_MAX = 1000
NOT_OURS = frozenset(
    {"24hrTicker", "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "avgPrice"}
)
"""Events the venue sends who asks for them; they say nothing that we tell."""

Resolve = Callable[[str], str | None]
_decoder = msgspec.json.Decoder(events.Frame)


def nobody(theirs: str) -> str | None:
    return None


class BinanceSession:
    """Knows the markets it was told to subscribe to, and those that ``resolve`` can name."""

    def __init__(
        self,
        *,
        name: str,
        stream_url: str,
        resolve: Resolve = nobody,
        book_levels: int = BOOK_LEVELS,
        tells_changes: bool = False,
    ) -> None:
        self._name = name
        self._url = stream_url.rstrip("/")
        self._resolve = resolve
        self._book_levels = book_levels
        self._tells_changes = tells_changes
        self._symbols: dict[str, str] = {}
        self._books: dict[str, DepthBook] = {}
        self._book_streams: set[str] = set()
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[bool, tuple[Stream, ...]]] = {}

    # --- what we say --------------------------------------------------------------------------

    def url(self, streams: Sequence[Stream]) -> str:
        """The same for all: names in the address come without an answer that they were taken."""
        for stream in streams:
            self._know(stream)
        return f"{self._url}/stream"

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        for stream in streams:
            self._know(stream)
        return self._messages("SUBSCRIBE", streams)

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        for stream in streams:
            if stream.channel == "book":
                self._books.pop(stream.symbol, None)
                self._book_streams.discard(stream.symbol)
        return self._messages("UNSUBSCRIBE", streams)

    def ping(self) -> str | None:
        return None

    def _know(self, stream: Stream) -> None:
        # Never forgotten again: a last frame may follow the end of a subscription.
        self._symbols[symbols.to_venue(stream.symbol)] = stream.symbol
        if stream.channel == "book":
            self._book_streams.add(stream.symbol)

    def _messages(self, method: str, streams: Sequence[Stream]) -> list[str]:
        carried = [stream for stream in streams if stream.channel in NAMES]
        return [
            self._message(method, tuple(carried[start : start + STREAMS_PER_MESSAGE_MAX]))
            for start in range(0, len(carried), STREAMS_PER_MESSAGE_MAX)
        ]

    def _message(self, method: str, streams: tuple[Stream, ...]) -> str:
        number = next(self._ids)
        self._asked[number] = (method == "SUBSCRIBE", streams)
        if len(self._asked) > UNANSWERED_MAX:
            del self._asked[next(iter(self._asked))]
        names = [f"{_stem(stream.symbol)}@{NAMES[stream.channel]}" for stream in streams]
        message = {"method": method, "params": names, "id": number}
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False)

    # --- what we hear -------------------------------------------------------------------------

    def read(self, frame: str | bytes, received_ms: int) -> Sequence[Heard]:
        outer = decoded(_decoder, frame)
        event = outer if outer.data is None else outer.data
        kind = event.e
        if kind == "trade":
            return (events.trade(event, self._name, self._symbol(event.s), received_ms),)
        if kind == "bookTicker" or (kind is None and event.u is not None):
            return (events.quote(event, self._name, self._symbol(event.s), received_ms),)
        if kind == "kline":
            return (events.candle(event, self._name, self._symbol(event.s), received_ms),)
        if kind == "depthUpdate":
            return self._depth(event, received_ms)
        if kind == "aggTrade":
            return (events.aggregate_trade(event, self._name, self._symbol(event.s), received_ms),)
        if kind is None:
            return self._without_name(outer, event, received_ms)
        if kind == "serverShutdown":
            return (GoingAway(reason="serverShutdown"),)
        if kind in NOT_OURS:
            return ()
        raise Unreadable("unknown_event", f"an event {shown(kind)}")

    def _without_name(self, outer: events.Frame, event: Event, received_ms: int) -> Sequence[Heard]:
        if event.lastUpdateId is not None:
            return self._partial_book(outer.stream, event, received_ms)
        if event.error is not None or event.code is not None:
            return self._declined(event)
        if event.id is not msgspec.UNSET:
            return self._taken(event)
        raise Unreadable("wrong_shape", "a frame without an event")

    def _symbol(self, theirs: str | None) -> str:
        ours = self._symbols.get(theirs or "")
        if ours is not None:
            return ours
        ours = self._resolve(theirs or "")
        if ours is None:
            raise Unreadable("unknown_market", f"a market nobody asked for: {shown(theirs)}")
        if len(self._symbols) < SYMBOLS_KNOWN_MAX:
            self._symbols[theirs or ""] = ours
        return ours

    # --- order books --------------------------------------------------------------------------

    def _depth(self, event: Event, received_ms: int) -> Sequence[Heard]:
        symbol, change = self._symbol(event.s), events.change(event, received_ms)
        stream = Stream(symbol, "book")
        if not self._tells_changes and symbol not in self._book_streams:
            return ()  # the last ones after the end of a subscription
        book = self._books.get(symbol)
        if book is None:
            book = DepthBook(stream, venue=self._name, count=self._book_levels)
            self._books[symbol] = book
        heard = book.change(change)
        return self._with_change(stream, change, heard) if self._tells_changes else heard

    def _with_change(
        self, stream: Stream, change: Change, heard: Sequence[Heard]
    ) -> Sequence[Heard]:
        """The change itself where it makes no whole book; nobody can be asked for one."""
        told = [each for each in heard if not isinstance(each, NeedsWhole)]
        if any(isinstance(each, Book) for each in told):
            return told
        changed = Changed(
            venue=self._name,
            symbol=stream.symbol,
            bids=tuple(change.bids),
            asks=tuple(change.asks),
            sequence=change.last,
            exchange_ms=change.exchange_ms,
            received_ms=change.received_ms,
        )
        return [*told, changed]

    def _partial_book(self, name: str | None, event: Event, received_ms: int) -> Sequence[Heard]:
        symbol = self._symbol_of_stream(name)
        book = events.partial_book(event, self._name, symbol, self._book_levels, received_ms)
        if book.is_crossed:
            words = f"bid {book.bids[0][0]}, ask {book.asks[0][0]} at {book.sequence}"
            return (Broken(stream=Stream(symbol, "book"), reason="crossed", words=words),)
        return (book,)

    def _symbol_of_stream(self, name: str | None) -> str:
        """A partial book names its market only in the stream's name; raw, it names none."""
        if name is not None:
            return self._symbol(name.partition("@")[0].upper())
        if len(self._book_streams) == 1:
            return next(iter(self._book_streams))
        raise Unreadable("unknown_market", "a partial book without the name of its stream")

    def resync(self, stream: Stream) -> Sequence[str]:
        return ()

    def whole(self, book: Book) -> Sequence[Heard]:
        kept = self._books.get(book.symbol)
        return () if kept is None else kept.whole(book)

    # --- answers ------------------------------------------------------------------------------

    def _taken(self, event: Event) -> Sequence[Heard]:
        if type(event.id) is not int or event.id not in self._asked:
            return ()  # an answer to nothing of ours: a recording of somebody else's
        subscribes, streams = self._asked.pop(event.id)
        return (Subscribed(streams=streams) if subscribes else Unsubscribed(streams=streams),)

    def _declined(self, event: Event) -> Sequence[Heard]:
        number = event.id if type(event.id) is int else None
        _, streams = self._asked.pop(number, (True, ())) if number is not None else (True, ())
        inner = event.error if isinstance(event.error, dict) else {}
        code, words = inner.get("code", event.code), inner.get("msg", event.msg)
        return (Declined(streams=streams, reason=f"{shown(words)} (code {shown(code)})"),)


def _stem(symbol: str) -> str:
    return symbols.to_venue(symbol).lower()
