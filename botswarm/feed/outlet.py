"""Publishes to the ticks exchange with confirms: many messages in one write, never in a hurry.

The client library writes a message at a time and waits in each write. Here frames are put
together by hand and sent as the socket takes them, while what the broker says is read meanwhile.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple

from botswarm import metrics
from botswarm.errors import Unreachable
from botswarm.market.wire import CONTENT_TYPE, EXCHANGE

UNCONFIRMED_MAX = 1500
UNCONFIRMED_BYTES_MAX = 12 * 1024 * 1024
"""Messages on their way; beyond it ticks wait, and are conflated if they must."""
STUCK_S = 10.0
"""A broker that takes nothing for so long, and does not say why, is gone."""
KNOWN_MAX = 50_000
BUCKETS_MS = metrics.EVENT_LATENCY_MS.buckets

_TRANSIENT = 1
_PROPERTIES = (
    struct.pack(">H", 0x8000 | 0x4000 | 0x1000)
    + bytes((len(CONTENT_TYPE),))
    + CONTENT_TYPE.encode()
    + b"\x05utf-8"
    + bytes((_TRANSIENT,))
)
_pack_head = struct.Struct(">BHI").pack
_pack_size = struct.Struct(">Q").pack
_PROPERTIES_END = _PROPERTIES + b"\xce"
_unpack_head = struct.Struct(">BHI").unpack_from
_unpack_settled = struct.Struct(">IQB").unpack_from
_ACK, _NACK = 60 << 16 | 80, 60 << 16 | 120


class Sent(NamedTuple):
    """A message on its way."""

    exchange: str
    key: str
    kind: str
    body: bytes
    since: float
    """When the oldest of what it says came in."""


class _Front(NamedTuple):
    """What is the same in all messages of one key."""

    frames: bytes
    kind: str


class Tally:
    """What was published, by kind: how many messages, and how long they took to be confirmed."""

    def __init__(self) -> None:
        self.published: dict[str, int] = {}
        self.waits: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}
        self.confirmed = 0
        self.refused = 0
        self.unroutable = 0
        self.repeats = 0
        """Sent again because the broker forgot whether it had them."""

    def note(self, kind: str, wait_s: float) -> None:
        buckets = self.waits.get(kind)
        if buckets is None:
            buckets = self.waits[kind] = [0] * (len(BUCKETS_MS) + 1)
            self.seconds[kind] = 0.0
        buckets[bisect_left(BUCKETS_MS, wait_s * 1000)] += 1
        self.seconds[kind] += wait_s


class Outlet:
    """Over one connection of the client library, from its channel's confirms on."""

    def __init__(
        self, connection: Any, tally: Tally, *, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._connection = connection
        self._tally = tally
        self._should_stop = should_stop
        self._channel = channel = connection.channel()
        self._socket: socket.socket = connection.transport.sock
        self._room = connection.frame_max - 8
        self._fronts: dict[tuple[str, str, bool], _Front] = {}
        self._waiting: list[bytes] = []
        self._tag = 0
        self._bytes = 0
        self.unconfirmed: dict[int, Sent] = {}
        self._heard = b""
        self.is_blocked = False
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._returned)
        channel.confirm_select()

    def fileno(self) -> int:
        return self._socket.fileno()

    # --- publishing ---------------------------------------------------------------------------

    def put(
        self, key: str, body: bytes, since: float, *, exchange: str = EXCHANGE, must: bool = False
    ) -> None:
        """Sent by the next ``flush``. ``must``: a message that nobody reads is counted."""
        front = self._fronts.get((exchange, key, must)) or self._front(exchange, key, must)
        size = len(body)
        self._tag += 1
        self._bytes += size
        self.unconfirmed[self._tag] = Sent(exchange, key, front.kind, body, since)
        published = self._tally.published
        published[front.kind] = published.get(front.kind, 0) + 1
        waiting = self._waiting
        waiting.append(front.frames + _pack_size(size) + _PROPERTIES_END)
        channel = self._channel.channel_id
        for at in range(0, size, self._room):
            piece = body[at : at + self._room] if size > self._room else body
            waiting += (_pack_head(3, channel, len(piece)), piece, b"\xce")

    def _front(self, exchange: str, key: str, must: bool) -> _Front:
        channel = self._channel.channel_id
        method = (
            struct.pack(">HHH", 60, 40, 0) + _short(exchange) + _short(key) + bytes((int(must),))
        )
        frames = (
            _pack_head(1, channel, len(method))
            + method
            + b"\xce"
            + _pack_head(2, channel, 12 + len(_PROPERTIES))
            + struct.pack(">HH", 60, 0)
        )
        if len(self._fronts) >= KNOWN_MAX:
            self._fronts.clear()
        front = _Front(frames, kind_of(key) if exchange else "note")
        self._fronts[exchange, key, must] = front
        return front

    @property
    def is_full(self) -> bool:
        return len(self.unconfirmed) >= UNCONFIRMED_MAX or self._bytes >= UNCONFIRMED_BYTES_MAX

    def flush(self) -> None:
        """Return when the socket has taken everything; raises Unreachable where it never does."""
        if not self._waiting:
            return
        frames, self._waiting = memoryview(b"".join(self._waiting)), []
        if isinstance(self._socket, ssl.SSLSocket):
            with self._connection.transport.having_timeout(STUCK_S):
                self._connection.transport.write(frames)
        else:
            self._send(frames)
        # The library sends a heartbeat when it believes that nothing else was sent.
        self._connection.bytes_sent += 1

    def _send(self, frames: memoryview) -> None:
        stuck_since = time.monotonic()
        while frames:
            try:
                sent = self._socket.send(frames, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            if sent:
                frames, stuck_since = frames[sent:], time.monotonic()
                continue
            heard, _, _ = select.select((self._socket,), (self._socket,), (), 0.5)
            if heard:
                self.read()
                stuck_since = time.monotonic()
            if self._should_stop():
                raise Unreachable("told to stop while the broker takes nothing")
            limit = 3 * STUCK_S if self.is_blocked else STUCK_S
            if time.monotonic() - stuck_since > limit:
                raise Unreachable("the broker takes nothing, and does not say why")

    # --- what the broker says -----------------------------------------------------------------

    def read(self, timeout_s: float = 0.0) -> None:
        """Take in what the broker said, waiting at most so long for the first of it."""
        if isinstance(self._socket, ssl.SSLSocket):
            self._read_by_library(timeout_s)
            return
        if timeout_s > 0:
            select.select((self._socket,), (), (), timeout_s)
        while True:
            try:
                heard = self._socket.recv(65_536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not heard:
                raise Unreachable("the broker hung up")
            self._take_in(self._heard + heard)
            if len(heard) < 65_536:
                return

    def _take_in(self, heard: bytes) -> None:
        """Confirms are most of it, and read here; the library reads all else, a frame at a time."""
        at, size = 0, len(heard)
        while size - at >= 8:
            kind, channel, length = _unpack_head(heard, at)
            end = at + length + 8
            if end > size:
                break
            if kind == 1 and channel == self._channel.channel_id and length == 13:
                method, tag, multiple = _unpack_settled(heard, at + 7)
                if method in (_ACK, _NACK):
                    (self._confirmed if method == _ACK else self._refused)(tag, bool(multiple))
                    self._connection.bytes_recv += 1
                    at = end
                    continue
            self._heard = heard[end:]
            self._connection.transport._read_buffer = heard[at:end]
            self._connection.blocking_read(STUCK_S)
            at = end
        self._heard = heard[at:]

    def detach(self) -> None:
        """The library reads on: what has come of a frame belongs to it."""
        if self._heard:
            self._connection.transport._read_buffer += self._heard
            self._heard = b""

    def _read_by_library(self, timeout_s: float) -> None:
        try:
            while True:
                self._connection.drain_events(timeout=timeout_s or 0.001)
                timeout_s = 0.0
        except (TimeoutError, BlockingIOError):
            return

    def _confirmed(self, tag: int, multiple: bool) -> None:
        now = time.monotonic()
        for sent in self._settled(tag, multiple):
            self._tally.confirmed += 1
            if sent.exchange:
                self._tally.note(sent.kind, now - sent.since)

    def _refused(self, tag: int, multiple: bool) -> None:
        # A reader's queue is full and says no. The other readers got it: it is not sent again.
        self._tally.refused += len(self._settled(tag, multiple))

    def _settled(self, tag: int, multiple: bool) -> list[Sent]:
        unconfirmed = self.unconfirmed
        if not multiple:
            found = unconfirmed.pop(tag, None)
            if found is None:
                return []
            self._bytes -= len(found.body)
            return [found]
        settled = []
        # They were put in by rising numbers, and a dictionary keeps that.
        for number in list(takewhile(lambda number: number <= tag, unconfirmed)):
            sent = unconfirmed.pop(number)
            self._bytes -= len(sent.body)
            settled.append(sent)
        return settled

    def _returned(self, *_: Any) -> None:
        self._tally.unroutable += 1


def kind_of(key: str) -> str:
    return key.rpartition(".")[2]


def _short(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw
