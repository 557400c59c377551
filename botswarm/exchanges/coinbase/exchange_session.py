"""The dialogue of one connection to Coinbase Exchange's public feed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from botswarm.domain.market import Book, Channel, Status
from botswarm.exchanges.coinbase import errors, exchange_events, products
from botswarm.exchanges.coinbase.books import Books
from botswarm.exchanges.coinbase.exchange_events import Message
from botswarm.exchanges.reading import shown
from botswarm.exchanges.streams import (
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
    connects_max=8,
    connects_period_s=1.0,
    sends_per_s=10.0,
    address_sends_per_s=100.0,
    # A heartbeat a second of every market.
    silence_s=10.0,
    subscribe_within_s=5.0,
    # The first book of a large market is the whole one, several megabytes.
    frame_max_bytes=exchange_events.FRAME_MAX_BYTES,
)
CHANNELS: frozenset[Channel] = frozenset({"trade", "quote", "book", "status"})
NAMES: Mapping[Channel, str] = {
    "trade": "matches",
    "quote": "ticker",
    "book": "level2_batch",
    "status": "status",
}
OURS: Mapping[str, Channel] = {
    **{name: channel for channel, name in NAMES.items()},
    "level2": "book",
    "level2_50": "book",
}
HEARTBEAT = "heartbeat"
BOOK_LEVELS = 10


class ExchangeSession:
    """Knows the markets it was told to subscribe to; a reader of recordings knows all."""

    def __init__(
        self,
        *,
        name: str,
        stream_url: str,
        book_levels: int = BOOK_LEVELS,
        reads_all: bool = False,
    ) -> None:
        self._name = name
        self._url = stream_url
        self._reads_all = reads_all
        self._books = Books(name, book_levels, tells_changes=reads_all)
        self._products: set[str] = set()
        """Never forgotten again: a last frame may follow the end of a subscription."""
        self._wanted: set[Stream] = set()
        self._taken: set[Stream] = set()
        self._statuses: dict[str, tuple[Any, str]] = {}

    # --- what we say --------------------------------------------------------------------------

    def url(self, streams: Sequence[Stream]) -> str:
        return self._url

    def subscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        """With the heartbeats of their markets: they tell the last trade, every second."""
        carried = [stream for stream in streams if stream.channel in NAMES]
        self._wanted.update(carried)
        self._products |= {stream.symbol for stream in carried}
        for stream in carried:
            if stream.channel == "status":
                self._statuses.pop(stream.symbol, None)  # to be told again
        return _message("subscribe", carried, {stream.symbol for stream in carried})

    def unsubscribe(self, streams: Sequence[Stream]) -> Sequence[str]:
        carried = [stream for stream in streams if stream.channel in NAMES]
        self._wanted.difference_update(carried)
        for stream in carried:
            if stream.channel == "book":
                self._books.forget(stream.symbol)
        left = {stream.symbol for stream in self._wanted}
        has_statuses = any(stream.channel == "status" for stream in self._wanted)
        # The status of all markets is one channel: it stays while anybody wants one of them.
        ending = [stream for stream in carried if stream.channel != "status" or not has_statuses]
        return _message("unsubscribe", ending, {stream.symbol for stream in carried} - left)

    def resync(self, stream: Stream) -> Sequence[str]:
        return [*_message("unsubscribe", [stream], set()), *_message("subscribe", [stream], set())]

    def ping(self) -> str | None:
        return None

    def whole(self, book: Book) -> Sequence[Heard]:
        return ()

    # --- what we hear -------------------------------------------------------------------------

    def read(self, frame: str | bytes, received_ms: int) -> Sequence[Heard]:
        told = exchange_events.message(frame)
        kind = told.type
        if kind in ("match", "last_match"):
            symbol = self._symbol(told)
            return (exchange_events.trade(told, self._name, symbol, received_ms),)
        if kind == "ticker":
            symbol = self._symbol(told)
            return (exchange_events.quote(told, self._name, symbol, received_ms),)
        if kind == "l2update":
            return self._change(told, received_ms)
        if kind == "heartbeat":
            return (exchange_events.beat(told, self._symbol(told), received_ms),)
        if kind == "snapshot":
            return self._whole_book(told, received_ms)
        if kind == "status":
            return self._changed_statuses(told, received_ms)
        if kind == "subscriptions":
            return self._subscriptions(told)
        if kind == "error":
            return (self._error(told),)
        raise Unreadable("unknown_event", f"a message of the type {shown(kind)}")

    def _symbol(self, told: Message) -> str:
        return self._named(told.product_id)

    def _named(self, product: Any) -> str:
        if type(product) is str and product in self._products:
            return product
        if self._reads_all:
            return products.checked(product)
        raise products.unknown(product)

    def _whole_book(self, told: Message, received_ms: int) -> Sequence[Heard]:
        symbol, at_ms = self._symbol(told), exchange_events.time_of(told, received_ms)
        sides = exchange_events.whole_book(told)
        return self._books.of(symbol, (symbol,)).begin(sides, at_ms, received_ms)

    def _change(self, told: Message, received_ms: int) -> Sequence[Heard]:
        symbol, at_ms = self._symbol(told), exchange_events.time_of(told, received_ms)
        bids, asks = exchange_events.changes(told)
        return self._books.of(symbol, (symbol,)).change(bids, asks, at_ms, received_ms)

    def _changed_statuses(self, told: Message, received_ms: int) -> Sequence[Heard]:
        """The venue repeats the status of all products; only what is new is told."""
        heard: list[Heard] = []
        at_ms = exchange_events.time_of(told, received_ms)
        for product in told.products or ():
            symbol = products.checked(product.get("id"))
            if not (self._reads_all or Stream(symbol, "status") in self._wanted):
                continue
            now = products.trading(product), products.words(product)
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

    def _subscriptions(self, told: Message) -> Sequence[Heard]:
        """The list is what the connection has in all, after subscribing and unsubscribing."""
        listed = set[Stream]()
        for name, product in exchange_events.subscribed(told):
            if name == "status":
                listed |= {stream for stream in self._wanted if stream.channel == "status"}
            elif name in OURS:
                listed.add(Stream(self._named(product), OURS[name]))
        # What is still wanted has not ended: it is being begun anew.
        new, gone = listed - self._taken, self._taken - listed - self._wanted
        self._taken = listed
        heard: list[Heard] = [Subscribed(streams=tuple(sorted(new)))] if new else []
        return [*heard, Unsubscribed(streams=tuple(sorted(gone)))] if gone else heard

    def _error(self, told: Message) -> Heard:
        words = " ".join(str(part)[:200] for part in (told.message, told.reason) if part)
        if (going := errors.going_away(words)) is not None:
            return going
        named = errors.named(words)
        streams = {stream for stream in self._wanted - self._taken if stream.symbol in named}
        return Declined(streams=tuple(sorted(streams)), reason=errors.reason(words))


def _message(method: str, streams: Sequence[Stream], beating: set[str]) -> list[str]:
    by_channel: dict[str, list[str]] = {}
    for stream in streams:
        by_channel.setdefault(NAMES[stream.channel], []).append(stream.symbol)
    if beating:
        by_channel[HEARTBEAT] = sorted(beating)
    if not by_channel:
        return []
    channels = [
        {"name": name} if name == "status" else {"name": name, "product_ids": listed}
        for name, listed in by_channel.items()
    ]
    message = {"type": method, "channels": channels}
    return [json.dumps(message, separators=(",", ":"), ensure_ascii=False)]
