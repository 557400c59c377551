"""The dialogue of one connection to Kraken's public streams (WebSocket v2)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botswarm.domain.market import TIMEFRAMES_S, Book, Channel, Status, Trading
from botswarm.exchanges.candles import ClosedByNext
from botswarm.exchanges.kraken import events, symbols
from botswarm.exchanges.kraken.book import PairBook, depth_of
from botswarm.exchanges.kraken.events import Head
from botswarm.exchanges.numbering import Numbering
from botswarm.exchanges.reading import moment_of_text, shown
from botswarm.exchanges.streams import (
    Beat,
    Declined,
    Heard,
    Stream,
    StreamRules,
    Subscribed,
    Unreadable,
    Unsubscribed,
)

RULES = StreamRules(
    # The venue names no number; this many keep one connection's loss bearable.
    streams_max=200,
    # Its proxy allows 150 within ten minutes; the venue's own tool keeps to 120.
    connects_max=120,
    connects_period_s=600.0,
    sends_per_s=5.0,
    # Heartbeats come every second.
    silence_s=10.0,
    frame_max_bytes=events.FRAME_MAX_BYTES,
)
CHANNELS: frozenset[Channel] = frozenset({"trade", "quote", "candle", "book", "status"})
NAMES: Mapping[Channel, str] = {
    "trade": "trade",
    "quote": "ticker",
    "candle": "ohlc",
    "book": "book",
    "status": "instrument",
}
OURS: Mapping[str, Channel] = {name: channel for channel, name in NAMES.items()}
BOOK_LEVELS = 10
TIMEFRAME = "1m"
SYMBOLS_PER_MESSAGE_MAX = 100
UNANSWERED_MAX = 1000
SYMBOLS_KNOWN_MAX = 20_000
WORDS_SHOWN_MAX = 200


class KrakenSession:
    """Knows the markets it was told to subscribe to; a reader of recordings knows all."""

    def __init__(
        self,
        *,
        name: str,
        stream_url: str,
        book_levels: int = BOOK_LEVELS,
        timeframe: str = TIMEFRAME,
        reads_all: bool = False,
    ) -> None:
        self._name = name
        self._url = stream_url
        self._book_levels = book_levels
        self._depth = depth_of(book_levels)
        self._minutes = TIMEFRAMES_S[timeframe] // 60
        self._reads_all = reads_all
        self._symbols: dict[str, str] = {}
        """By their name. Never forgotten: a last frame may follow the end of a subscription."""
        self._wanted: set[Stream] = set()
        self._books: dict[str, PairBook] = {}
        self._candles = ClosedByNext()
        self._numbering = Numbering()
        self._pairs: dict[str, tuple[Trading, str]] = {}
        self._system = Trading.OPEN, ""
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[Stream, ...]] = {}
        self._readers: Mapping[str, Callable[[Head, int], Sequence[Heard]]] = {
            "trade": self._trades,
            "ticker": self._quotes,
            "book": self._levels,
            "ohlc": self._changed_candles,
            "instrument": self._changed_pairs,
            "status": self._changed_system,
            "heartbeat": lambda head, received_ms: (Beat(),),
        }

    # --- what we say --------------------------------------------------------------------------

    def url(self, streams: Sequence[Stream]) -> str:
        return self._url

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        carried = [stream for stream in streams if stream.channel in NAMES]
        for stream in carried:
            self._symbols[symbols.to_stream(stream.symbol)] = stream.symbol
            self._wanted.add(stream)
            if stream.channel == "book":
                self._book(stream.symbol).depth = self._depth
        return self._messages("subscribe", carried)

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        carried = [stream for stream in streams if stream.channel in NAMES]
        self._wanted.difference_update(carried)
        for stream in carried:
            if stream.channel == "book":
                self._books.pop(stream.symbol, None)
            elif stream.channel == "candle":
                self._candles.forget(stream.symbol)
        # The status of all markets is one channel: it stays while anybody wants one of them.
        has_statuses = any(stream.channel == "status" for stream in self._wanted)
        return self._messages(
            "unsubscribe",
            [stream for stream in carried if stream.channel != "status" or not has_statuses],
        )

    def resync(self, stream: Stream) -> Sequence[str]:
        return [*self._messages("unsubscribe", [stream]), *self._messages("subscribe", [stream])]

    def ping(self) -> str | None:
        return _dump({"method": "ping", "req_id": next(self._ids)})

    def whole(self, book: Book) -> Sequence[Heard]:
        return ()

    def _messages(self, method: str, streams: Sequence[Stream]) -> list[str]:
        by_channel: dict[Channel, list[Stream]] = {}
        for stream in streams:
            by_channel.setdefault(stream.channel, []).append(stream)
        return [
            self._message(method, channel, tuple(listed[start : start + SYMBOLS_PER_MESSAGE_MAX]))
            for channel, listed in by_channel.items()
            for start in range(0, len(listed), SYMBOLS_PER_MESSAGE_MAX)
        ]

    def _message(self, method: str, channel: Channel, streams: tuple[Stream, ...]) -> str:
        number = next(self._ids)
        self._asked[number] = streams
        if len(self._asked) > UNANSWERED_MAX:
            del self._asked[next(iter(self._asked))]
        parameters: dict[str, Any] = {"channel": NAMES[channel]}
        if channel != "status":
            parameters["symbol"] = [symbols.to_stream(stream.symbol) for stream in streams]
        if channel == "book":
            parameters["depth"] = self._depth
        elif channel == "candle":
            parameters["interval"] = self._minutes
        if method == "subscribe":
            if channel == "quote":
                parameters["event_trigger"] = "bbo"
            # Trades and candles of before we know from REST.
            parameters["snapshot"] = channel not in ("trade", "candle")
        return _dump({"method": method, "params": parameters, "req_id": number})

    # --- what we hear -------------------------------------------------------------------------

    def read(self, frame: str | bytes, received_ms: int) -> Sequence[Heard]:
        head = events.head(frame)
        if head.channel is not None:
            read = self._readers.get(head.channel)
            if read is None:
                words = f"a frame of the channel {shown(head.channel)}"
                raise Unreadable("unknown_event", words)
            return read(head, received_ms)
        if head.method is not None:
            return self._answer(head, received_ms)
        if head.Error is not None or head.error is not None:
            reason = shown(head.Error or head.error, WORDS_SHOWN_MAX)
            return (Declined(streams=(), reason=reason),)
        raise Unreadable("wrong_shape", "a frame of no channel that answers nothing")

    def _symbol(self, pair: Any) -> str:
        ours = self._symbols.get(pair) if type(pair) is str else None
        if ours is not None:
            return ours
        if not self._reads_all:
            raise symbols.unknown(pair)
        ours = symbols.of_stream(pair)
        if len(self._symbols) < SYMBOLS_KNOWN_MAX:
            self._symbols[pair] = ours
        return ours

    def _trades(self, head: Head, received_ms: int) -> Sequence[Heard]:
        return [
            events.trade(told, self._name, self._symbol(told.symbol), received_ms)
            for told in events.trades(head.data)
        ]

    def _quotes(self, head: Head, received_ms: int) -> Sequence[Heard]:
        heard = []
        for told in events.tickers(head.data):
            symbol, at_ms = self._symbol(told.symbol), received_ms
            if told.timestamp is not None:
                at_ms = moment_of_text(told.timestamp, received_ms)
            content = [bytes(raw) for raw in (told.bid, told.bid_qty, told.ask, told.ask_qty)]
            number = self._numbering.number(symbol, at_ms, content)
            heard.append(events.quote(told, self._name, symbol, number, (at_ms, received_ms)))
        return heard

    def _changed_candles(self, head: Head, received_ms: int) -> Sequence[Heard]:
        at_ms = received_ms
        if head.timestamp is not None:
            at_ms = moment_of_text(head.timestamp, received_ms)
        changed = [
            events.candle(told, self._name, self._symbol(told.symbol), at_ms, received_ms)
            for told in events.candles(head.data)
        ]
        return self._candles.put(changed)

    # --- order books --------------------------------------------------------------------------

    def _book(self, symbol: str) -> PairBook:
        book = self._books.get(symbol)
        if book is None:
            stream = Stream(symbol, "book")
            book = PairBook(stream, self._name, self._book_levels, tells_changes=self._reads_all)
            self._books[symbol] = book
        return book

    def _levels(self, head: Head, received_ms: int) -> Sequence[Heard]:
        """A frame is applied whole or not at all."""
        changes = [
            (self._symbol(told.symbol), events.book(told, received_ms))
            for told in events.books(head.data)
        ]
        heard: list[Heard] = []
        for symbol, told in changes:
            if Stream(symbol, "book") not in self._wanted and not self._reads_all:
                continue  # the last ones after the end of a subscription
            book = self._book(symbol)
            heard += book.begin(told) if head.type == "snapshot" else book.change(told)
        return heard

    # --- what may be done ---------------------------------------------------------------------

    def _changed_pairs(self, head: Head, received_ms: int) -> Sequence[Heard]:
        changed = []
        for told in events.pairs(head.data):
            symbol = symbols.of_stream(told.symbol)
            now = symbols.trading(told.status), told.status[:WORDS_SHOWN_MAX]
            if self._pairs.get(symbol) == now:
                continue
            if symbol in self._pairs or len(self._pairs) < SYMBOLS_KNOWN_MAX:
                self._pairs[symbol] = now
            if self._reads_all or Stream(symbol, "status") in self._wanted:
                changed.append(self._status(symbol, received_ms))
        return changed

    def _changed_system(self, head: Head, received_ms: int) -> Sequence[Heard]:
        """The whole venue's state is that of every market whose status is followed here.

        Of the others we would not know what they return to.
        """
        words = events.system(head.data)
        if words is None:
            return ()
        before, now = self._system, (symbols.trading(words), words[:WORDS_SHOWN_MAX])
        self._system = now
        if before[0] is now[0]:
            return ()
        followed = {stream.symbol for stream in self._wanted if stream.channel == "status"}
        if self._reads_all:
            followed |= {*self._symbols.values(), *self._pairs}
        return [self._status(symbol, received_ms) for symbol in sorted(followed)]

    def _status(self, symbol: str, received_ms: int) -> Status:
        trading, words = self._pairs.get(symbol, (Trading.OPEN, "online"))
        if self._system[0] is not Trading.OPEN:
            words = f"{words}, the whole venue: {self._system[1]}"
        return Status(
            venue=self._name,
            symbol=symbol,
            trading=symbols.strictest(trading, self._system[0]),
            words=words,
            # The venue says no time here.
            exchange_ms=received_ms,
            received_ms=received_ms,
        )

    # --- answers ------------------------------------------------------------------------------

    def _answer(self, head: Head, received_ms: int) -> Sequence[Heard]:
        if head.method == "pong":
            time = head.time_out
            return (Beat(exchange_ms=None if time is None else moment_of_text(time, received_ms)),)
        if head.method not in ("subscribe", "unsubscribe"):
            raise Unreadable("unknown_event", f"an answer to {shown(head.method)}")
        words = shown(head.error, WORDS_SHOWN_MAX)
        is_so = head.success is True or any(
            sign in words.lower() for sign in ("already subscribed", "subscription not found")
        )
        streams = self._meant(head, words, has_failed=not is_so)
        if not is_so:
            return (Declined(streams=streams, reason=words),)
        if head.method == "subscribe":
            return self._taken(head, streams, received_ms)
        # What is still wanted has not ended: it is being begun anew.
        gone = tuple(stream for stream in streams if stream not in self._wanted)
        return (Unsubscribed(streams=gone),) if gone else ()

    def _taken(self, head: Head, streams: tuple[Stream, ...], received_ms: int) -> Sequence[Heard]:
        heard: list[Heard] = [Subscribed(streams=streams)] if streams else []
        for symbol, channel in streams:
            if channel == "book" and type(depth := _result(head, "depth")) is int and depth > 0:
                self._book(symbol).depth = depth
            is_known = symbol in self._pairs or self._system[0] is not Trading.OPEN
            if channel == "status" and is_known:
                # From before: it is not repeated to who asks now.
                heard.append(self._status(symbol, received_ms))
        return heard

    def _meant(self, head: Head, words: str, *, has_failed: bool) -> tuple[Stream, ...]:
        """Each symbol of a request is answered by itself, and the request is named beside it."""
        number = head.req_id if type(head.req_id) is int else -1
        asked = self._asked.get(number, ())
        told = _result(head, "channel")
        channel = told if type(told) is str else ""
        if channel == NAMES["status"]:
            return asked or tuple(s for s in sorted(self._wanted) if s.channel == "status")
        pair = _result(head, "symbol") or head.symbol
        if type(pair) is str:
            ours = asked[0].channel if asked else OURS.get(channel)
            return (Stream(self._symbol(pair), ours),) if ours is not None else ()
        if has_failed:
            named = tuple(s for s in asked if symbols.to_stream(s.symbol) in words)
            return named or asked
        return asked


def _result(head: Head, field: str) -> Any:
    return head.result.get(field) if isinstance(head.result, dict) else None


def _dump(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
