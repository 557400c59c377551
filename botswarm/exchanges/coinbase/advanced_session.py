"""The dialogue of one connection to Coinbase Advanced Trade's public streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

from botswarm.domain.market import Book, Channel, Status
from botswarm.exchanges.candles import ClosedByNext
from botswarm.exchanges.coinbase import advanced_events, errors, products
from botswarm.exchanges.coinbase.books import Books, begun, levels_of
from botswarm.exchanges.numbering import Numbering
from botswarm.exchanges.reading import decoded, moment_of_text, shown, whole
from botswarm.exchanges.streams import (
    Beat,
    Declined,
    Heard,
    Skipped,
    Stream,
    StreamRules,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

RULES = StreamRules(
    # The venue names no number; this many keep one connection's frames small and its loss bearable.
    streams_max=200,
    connects_max=8,
    connects_period_s=1.0,
    sends_per_s=4.0,
    address_sends_per_s=8.0,
    # Heartbeats come every second.
    silence_s=10.0,
    subscribe_within_s=5.0,
    # The first book of a large market is the whole one.
    frame_max_bytes=advanced_events.FRAME_MAX_BYTES,
)
CHANNELS: frozenset[Channel] = frozenset({"trade", "quote", "candle", "book", "status"})
NAMES: Mapping[Channel, str] = {
    "trade": "market_trades",
    "quote": "ticker",
    "candle": "candles",
    "book": "level2",
    "status": "status",
}
OURS: Mapping[str, Channel] = {name: channel for channel, name in NAMES.items()}
HEARTBEATS = "heartbeats"
BOOK_LEVELS = 10
REPEATS_MAX = 20
"""After so many frames with old numbers the venue counts from there."""
RECENT_MAX = 200
SKIPPED_MAX = 100_000
"""A number further ahead is garbled."""


class AdvancedSession:
    """Knows the markets it was told to subscribe to; a reader of recordings knows all."""

    def __init__(
        self,
        *,
        name: str,
        stream_url: str,
        book_levels: int = BOOK_LEVELS,
        reads_all: bool = False,
        last_trades: dict[str, int] | None = None,
    ) -> None:
        """``last_trades`` are the last ids told by product, on earlier connections too."""
        self._name = name
        self._url = stream_url
        self._reads_all = reads_all
        self._books = Books(name, book_levels, tells_changes=reads_all)
        self._last_trades = {} if last_trades is None else last_trades
        self._candles = ClosedByNext()
        self._numbering = Numbering()
        self._wanted: dict[tuple[str, str], list[str]] = {}
        """Our symbols by channel and product: BTC-USD and BTC-USDC are one product."""
        self._products: set[str] = set()
        """Never forgotten again: a last frame may follow the end of a subscription."""
        self._taken: set[Stream] = set()
        self._ending: set[Stream] = set()
        self._statuses: dict[str, tuple[Any, str]] = {}
        self._expected: int | None = None
        self._recent: dict[int, int] = {}
        """What frames held: the same number again need not be the same frame again."""
        self._repeats = 0
        self._is_repeat = False
        self._owed: list[Heard] = []
        """What was found out from a frame that then could not be read."""
        self._readers: Mapping[str | None, Callable[[bytes, int, int], list[Heard]]] = {
            "market_trades": self._trades,
            "ticker": self._quotes,
            "candles": self._changed_candles,
            "l2_data": self._levels,
            "heartbeats": self._beat,
            "status": self._changed_statuses,
            "subscriptions": self._subscriptions,
        }

    # --- what we say --------------------------------------------------------------------------

    def url(self, streams: Sequence[Stream]) -> str:
        return self._url

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        """One message per channel is the venue's rule; heartbeats keep quiet channels open."""
        is_first = not self._wanted
        for stream in streams:
            if stream.channel in NAMES:
                symbols = self._wanted.setdefault(_place(stream), [])
                self._products.add(_place(stream)[1])
                if stream.symbol not in symbols:
                    symbols.append(stream.symbol)
                self._ending.discard(stream)
            if stream.channel == "status":
                self._statuses.pop(stream.symbol, None)  # to be told again
        messages = _messages("subscribe", {_place(stream) for stream in streams})
        return [_message("subscribe", HEARTBEATS, ()), *messages] if is_first else messages

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        gone = set()
        for stream in streams:
            place = _place(stream)
            symbols = self._wanted.get(place, [])
            if stream.symbol not in symbols:
                continue
            symbols.remove(stream.symbol)
            self._ending.add(stream)
            if not symbols:
                gone.add(place)
                if stream.channel == "book":
                    self._books.forget(place[1])
        return _messages("unsubscribe", gone)

    def resync(self, stream: Stream) -> Sequence[str]:
        channel, product = _place(stream)
        for symbol in self._wanted.get((channel, product), ()):
            self._taken.discard(Stream(symbol, stream.channel))
        return [
            _message("unsubscribe", channel, (product,)),
            _message("subscribe", channel, (product,)),
        ]

    def ping(self) -> str | None:
        return None

    def whole(self, book: Book) -> Sequence[Heard]:
        return ()

    # --- what we hear -------------------------------------------------------------------------

    def read(self, frame: str | bytes, received_ms: int) -> Sequence[Heard]:
        outer = decoded(advanced_events.envelope, frame)
        if outer.type == "error":
            return self._error(outer)
        read = self._readers.get(outer.channel)
        if read is None and outer.channel is None:
            raise Unreadable("wrong_shape", "a frame of no channel")
        self._is_repeat = self._count(outer.sequence_num, crc32(outer.events))
        if read is None:
            raise Unreadable("unknown_event", f"a frame of the channel {shown(outer.channel)}")
        if outer.timestamp is None:
            at_ms = received_ms
        else:
            at_ms = moment_of_text(outer.timestamp, received_ms)
        heard = read(bytes(outer.events), at_ms, received_ms)
        return heard if not self._owed else self._with_owed(heard)

    def _with_owed(self, heard: list[Heard]) -> list[Heard]:
        owed, self._owed = self._owed, []
        return owed + heard

    def _count(self, number: Any, content: int) -> bool:
        """Whether the frame is one we have had; one that was skipped breaks every book."""
        sequence, expected = whole(number), self._expected
        if expected is not None and sequence > expected + SKIPPED_MAX:
            raise Unreadable("bad_number", f"frame {sequence} instead of {expected}")
        is_known = self._recent.get(sequence) == content
        self._recent[sequence] = content
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        if expected is not None and sequence < expected and self._repeats < REPEATS_MAX:
            self._repeats += 1
            return is_known
        if expected is not None and sequence != expected:
            broken = self._books.broken(f"frame {sequence} came instead of {expected}")
            # Skipped says of all streams that they may be broken; saying it twice would be
            # answered twice.
            self._owed += [Skipped(count=sequence - expected)] if sequence > expected else broken
            self._candles.forget()
        self._expected, self._repeats = sequence + 1, 0
        return False

    def _symbols(self, channel: str, product: str) -> Sequence[str]:
        symbols = self._wanted.get((channel, product))
        if symbols:
            return symbols
        if product in self._products:
            return (product,)
        if self._reads_all:
            return (products.checked(product),)
        raise products.unknown(product)

    def _trades(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        """A subscription begins with trades of before: those that were told are left out."""
        heard: list[Heard] = []
        last: dict[str, int] = {}
        for told, is_past in advanced_events.trades(frame):
            for symbol in self._symbols("market_trades", told.product_id):
                trade = advanced_events.trade(told, self._name, symbol, received_ms)
                last[told.product_id] = trade.trade_id
                is_new = trade.trade_id > self._last_trades.get(told.product_id, -1)
                if is_new or not is_past or self._reads_all:
                    heard.append(trade)
        self._last_trades.update(last)
        return heard

    def _quotes(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        heard: list[Heard] = []
        for told in advanced_events.tickers(frame):
            for symbol in self._symbols("ticker", told.product_id):
                number = self._numbering.number(("quote", symbol), at_ms, told)
                times = at_ms, received_ms
                heard.append(advanced_events.quote(told, self._name, symbol, number, times))
        return heard

    def _changed_candles(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        changed = [
            advanced_events.candle(told, self._name, symbol, at_ms, received_ms)
            for told in advanced_events.candles(frame)
            for symbol in self._symbols("candles", told.product_id)
        ]
        return [*self._candles.put(changed)]

    def _levels(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        """A frame is applied whole or not at all."""
        steps = [
            self._step(told, self._symbols("level2", told.product_id), at_ms, received_ms)
            for told in advanced_events.books(frame)
        ]
        return [heard for step in steps for heard in step()]

    def _step(
        self, told: advanced_events.ToldBook, symbols: Sequence[str], at_ms: int, received_ms: int
    ) -> Callable[[], list[Heard]]:
        """What is left to do once all of a frame could be read."""
        bids, asks = advanced_events.levels(told.updates)
        book = self._books.of(told.product_id, symbols)
        if self._is_repeat:
            # What came since would be undone; whoever counts repetitions counts the book.
            return book.again
        if told.type == "snapshot":
            sides = begun(bids, asks)
            return lambda: book.begin(sides, at_ms, received_ms)
        changes = levels_of(bids), levels_of(asks)
        return lambda: book.change(*changes, at_ms, received_ms)

    def _beat(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        return [Beat(exchange_ms=at_ms)]

    def _changed_statuses(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        """The venue repeats the status of all products; only what is new is told."""
        heard: list[Heard] = []
        for told in advanced_events.statuses(frame):
            product = products.checked(told.get("id"))
            every = (product,) if self._reads_all else ()
            now = products.trading(told), products.words(told)
            for symbol in self._wanted.get(("status", product)) or every:
                if self._statuses.get(symbol) != now:
                    self._statuses[symbol] = now
                    heard.append(
                        Status(
                            venue=self._name,
                            symbol=symbol,
                            trading=now[0],
                            words=now[1],
                            exchange_ms=at_ms,
                            received_ms=received_ms,
                        )
                    )
        return heard

    def _subscriptions(self, frame: bytes, at_ms: int, received_ms: int) -> list[Heard]:
        listed = {
            Stream(symbol, OURS[channel])
            for channel, listed in advanced_events.subscriptions(frame)
            if channel in OURS
            for product in listed
            for symbol in self._listed(channel, product)
        }
        new, gone = listed - self._taken, self._ending - listed
        self._taken = (self._taken | listed) - gone
        self._ending -= gone
        heard: list[Heard] = [Subscribed(streams=tuple(sorted(new)))] if new else []
        return [*heard, Unsubscribed(streams=tuple(sorted(gone)))] if gone else heard

    def _listed(self, channel: str, product: str) -> Sequence[str]:
        """The status of all markets is one subscription, and may be listed without their names."""
        if channel == "status":
            if self._reads_all:
                return ()  # nobody asked, and no market is named
            return [each for (name, _), all_ in self._wanted.items() if name == channel
                    for each in all_]  # fmt: skip
        return self._symbols(channel, product)

    def _error(self, outer: advanced_events.Envelope) -> Sequence[Heard]:
        words = f"{outer.message or ''} {outer.reason or ''}".strip()
        if (going := errors.going_away(words)) is not None:
            return (going,)
        named = errors.named(words)
        streams = tuple(
            Stream(symbol, OURS[channel])
            for (channel, product), symbols in self._wanted.items()
            if product in named
            for symbol in symbols
            if Stream(symbol, OURS[channel]) not in self._taken
        )
        return (Declined(streams=streams, reason=errors.reason(words)),)


def _place(stream: Stream) -> tuple[str, str]:
    return NAMES[stream.channel], products.streamed_as(stream.symbol)


def _messages(method: str, places: set[tuple[str, str]]) -> list[str]:
    by_channel: dict[str, list[str]] = {}
    for channel, product in sorted(places):
        by_channel.setdefault(channel, []).append(product)
    return [_message(method, channel, listed) for channel, listed in by_channel.items()]


def _message(method: str, channel: str, listed: Sequence[str]) -> str:
    message: dict[str, Any] = {"type": method, "channel": channel}
    if listed:
        message["product_ids"] = list(listed)
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
