"""The broker's memory across crashes: a segmented log of checksummed records.

Everything durable is a record: what exists (definitions), what was published, delivered and
settled. Replaying the records in order gives the state back. Segments are deleted oldest
first only, after what still lives in them was copied to the end; so a record that settles a
message can never disappear before the message itself.

What one flush writes is taken back whole or not at all: ``kill -9`` can cut a write at any
page, and a dead letter must not come back beside the message it was made of. So each flush
ends with a COMMIT, and what follows a segment's last one is dropped; the file is kept. A
record whose checksum is wrong before that is skipped and counted, the ones after it are read.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from botswarm.errors import Unreachable

SNAPSHOT: Final = 1  # every definition, as JSON; each segment opens with one
DEFINE: Final = 2  # one change to the definitions, as JSON
PUBLISH: Final = 3  # a message and the queues that hold it
DELIVERED: Final = 4  # a queue and the ids that left it towards a consumer
GONE: Final = 5  # a queue and the ids that will never be delivered again
COMMIT: Final = 7  # all before it belongs together and is complete

SEGMENT_BYTES: Final = 16 * 1024 * 1024
# Cleaning keeps the log below 1.5 x what lives in it plus two segments.
LIVE_FACTOR: Final = 1.5
SLACK_SEGMENTS: Final = 2
SEGMENTS_FEW: Final = 8
# Open at once for reading: a long backlog has more segments than a process may have files.
READERS_MAX: Final = 16

_MAGIC: Final = b"botswarm-journal-2-" + sys.byteorder.encode() + b"\n"
_head = struct.Struct(">IIB")  # crc32 of kind and payload, payload length, kind
_publish = struct.Struct(">QQBBHHIH")
_queue_id = struct.Struct(">I")
_commit: Final = _head.pack(zlib.crc32(b"", COMMIT), 0, COMMIT)
PERSISTENT: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A message as the journal keeps it."""

    id: int
    published_ms: int
    persistent: bool
    priority: int
    deliveries: int
    queue_ids: tuple[int, ...]
    address: bytes
    head: bytes
    body: bytes
    size: int
    """Of the whole record."""


def decode_publish(data: bytes, start: int, end: int) -> Published:
    """Read the payload of a PUBLISH record that lies at data[start:end]."""
    (message_id, published_ms, flags, priority, deliveries, address_size, head_size, count) = (
        _publish.unpack_from(data, start)
    )
    at = start + _publish.size
    queue_ids = struct.unpack_from(f">{count}I", data, at)
    at += 4 * count
    address_end = at + address_size
    head_end = address_end + head_size
    return Published(
        message_id,
        published_ms,
        bool(flags & PERSISTENT),
        priority,
        deliveries,
        queue_ids,
        data[at:address_end],
        data[address_end:head_end],
        data[head_end:end],
        end - start + _head.size,
    )


@dataclass(slots=True)
class Recovered:
    """One queue's messages after a replay, by id."""

    # What each takes of the journal's bytes, shifted by 64, and where it lies: one integer,
    # because there may be millions.
    locations: dict[int, int] = field(default_factory=dict)
    deliveries: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Replay:
    """What a replay found, besides the definitions it handed on as it met them."""

    queues: dict[int, Recovered] = field(default_factory=dict)
    last_id: int = 0
    records: int = 0
    skipped: int = 0
    torn_bytes: int = 0

    def queue(self, queue_id: int) -> Recovered:
        found = self.queues.get(queue_id)
        if found is None:
            found = self.queues[queue_id] = Recovered()
        return found


class Journal:
    """Append-only, single writer. Nothing is written before ``flush``; locations are known at once.

    ``snapshot`` returns all definitions as JSON bytes: every new segment begins with them, so
    the oldest segment can go without taking a definition along.
    """

    def __init__(
        self,
        folder: Path,
        snapshot: Callable[[], bytes],
        *,
        fsync: bool = True,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.folder = folder
        self.fsync = fsync
        self.segment_bytes = segment_bytes
        self.live_bytes = 0
        self.segments: dict[int, int] = {}  # number -> bytes, oldest first
        self._snapshot = snapshot
        self._current = 0
        self._size = 0  # of the current segment, what is still pending included
        self._pending: list[bytes] = []
        self._descriptor = -1
        self._readers: dict[int, int] = {}
        self._unsynced = False
        self._uncommitted = False

    # --- opening ------------------------------------------------------------------------

    def open(self, define: Callable[[int, bytes], None]) -> Replay:
        """Replay every segment, handing definitions to ``define``, then start a new one."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replay = Replay()
        names = (path.stem.removeprefix("journal-") for path in self.folder.glob("journal-*.log"))
        numbers = sorted(int(name) for name in names if name.isdecimal())
        for number in numbers:
            self._replay_segment(number, replay, define)
        self._current = numbers[-1] if numbers else 0
        return replay

    def start(self) -> None:
        """Open the segment that is written from now on: never one that an earlier run wrote."""
        self._start_segment()

    def _path(self, number: int) -> Path:
        return self.folder / f"journal-{number:08d}.log"

    def _replay_segment(
        self, number: int, replay: Replay, define: Callable[[int, bytes], None]
    ) -> None:
        data = self._path(number).read_bytes()
        self.segments[number] = len(data)
        if not data.startswith(_MAGIC):
            if len(data) >= len(_MAGIC) or not _MAGIC.startswith(data):
                raise Unreachable(
                    f"{self._path(number)} is not a journal of this broker",
                    cure="it was written by another version or machine: move it away to start anew",
                )
            replay.torn_bytes += len(data)  # killed while the segment was being born
            return
        at, end, base = len(_MAGIC), _committed_end(data), number << 32
        view, unpack, crc32 = memoryview(data), _head.unpack_from, zlib.crc32
        unpack_publish, unpack_queue = _publish.unpack_from, _queue_id.unpack_from
        publish_size, head_size = _publish.size, _head.size
        queues, last_id = replay.queues, replay.last_id
        while at < end:
            start = at + head_size
            if start > end:
                break
            crc, length, kind = unpack(data, at)
            stop = start + length
            if stop > end or crc32(view[start:stop], kind) != crc:
                replay.skipped += 1
                at = _after_damage(data, start, stop, end)
                continue
            place, at = base | at, stop
            replay.records += 1
            if kind == PUBLISH:
                message_id, _, flags, _, deliveries, _, _, count = unpack_publish(data, start)
                if message_id > last_id:
                    last_id = message_id
                if not flags & PERSISTENT:
                    continue  # paged out, not kept: gone with the process that wrote it
                share = (length + head_size) // count
                for n in range(count):
                    (queue_id,) = unpack_queue(data, start + publish_size + 4 * n)
                    recovered = queues.get(queue_id)
                    if recovered is None:
                        recovered = replay.queue(queue_id)
                    recovered.locations[message_id] = share << 64 | place
                    if deliveries:
                        recovered.deliveries[message_id] = deliveries
            elif kind in (GONE, DELIVERED):
                recovered = replay.queue(unpack_queue(data, start)[0])
                ids = array("Q", data[start + 4 : stop])
                if kind == GONE:
                    for message_id in ids:
                        recovered.locations.pop(message_id, None)
                        recovered.deliveries.pop(message_id, None)
                else:
                    for message_id in ids:
                        if message_id in recovered.locations:
                            recovered.deliveries[message_id] = (
                                recovered.deliveries.get(message_id, 0) + 1
                            )
            elif kind in (DEFINE, SNAPSHOT):
                define(kind, data[start:stop])
        replay.torn_bytes += len(data) - end
        replay.last_id = last_id

    # --- writing ------------------------------------------------------------------------

    def append(self, kind: int, payload: bytes) -> int:
        """Add a record to what the next flush writes; returns where it will lie."""
        location = (self._current << 32) | self._size
        self._pending.append(_head.pack(zlib.crc32(payload, kind), len(payload), kind))
        self._pending.append(payload)
        self._size += _head.size + len(payload)
        self._uncommitted = True
        return location

    def append_publish(
        self,
        message_id: int,
        published_ms: int,
        persistent: bool,
        priority: int,
        deliveries: int,
        queue_ids: tuple[int, ...],
        address: bytes,
        head: bytes,
        body: bytes,
    ) -> tuple[int, int]:
        """Add a message; returns its location and the record's size."""
        payload = b"".join(
            (
                _publish.pack(
                    message_id,
                    published_ms,
                    PERSISTENT if persistent else 0,
                    priority,
                    min(deliveries, 0xFFFF),
                    len(address),
                    len(head),
                    len(queue_ids),
                ),
                struct.pack(f">{len(queue_ids)}I", *queue_ids),
                address,
                head,
                body,
            )
        )
        return self.append(PUBLISH, payload), _head.size + len(payload)

    def append_ids(self, kind: int, queue_id: int, ids: list[int]) -> None:
        self.append(kind, _queue_id.pack(queue_id) + array("Q", ids).tobytes())

    @property
    def dirty(self) -> bool:
        return self._uncommitted

    def flush(self) -> None:
        """Hand all records to the operating system, as one: from here ``kill -9`` loses none.

        Raises OSError with everything unwritten still pending, so that a full disk delays
        records and loses none.
        """
        if not self._uncommitted:
            return
        self._pending.append(_commit)
        self._size += len(_commit)
        self._write_pending()
        self._uncommitted = False
        if self._size >= self.segment_bytes:
            self._start_segment()

    def _write_pending(self) -> None:
        """Write what is pending so far, without saying that it is complete."""
        if self._pending:
            data = memoryview(b"".join(self._pending))
            written = 0
            self._unsynced = True
            try:
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            finally:
                self._pending = [] if written == len(data) else [bytes(data[written:])]
                self.segments[self._current] += written

    def sync(self) -> None:
        """Force what was flushed to the disk itself, now."""
        if self._unsynced:
            os.fsync(self._descriptor)
            self._unsynced = False

    def unsynced_descriptor(self) -> int | None:
        """A descriptor of its own to fsync and close elsewhere; None when all is on the disk."""
        if not self._unsynced:
            return None
        self._unsynced = False
        return os.dup(self._descriptor)

    def _start_segment(self) -> None:
        if self._descriptor >= 0 and self.fsync:
            # Before the new file is there: where this fails, the next attempt finds no file.
            os.fsync(self._descriptor)
        descriptor = os.open(
            self._path(self._current + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
        )
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._current += 1
        self._pending = [_MAGIC]
        self._size = len(_MAGIC)
        self.segments[self._current] = 0
        self.append(SNAPSHOT, self._snapshot())
        self.flush()

    def close(self) -> None:
        if self._descriptor >= 0:
            self.flush()
            if self.fsync:
                self.sync()
            os.close(self._descriptor)
            self._descriptor = -1
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()

    # --- reading back -------------------------------------------------------------------

    def _reader(self, number: int) -> int:
        descriptor = self._readers.pop(number, None)
        if descriptor is None:
            if len(self._readers) >= READERS_MAX:
                os.close(self._readers.pop(next(iter(self._readers))))
            descriptor = os.open(self._path(number), os.O_RDONLY)
        self._readers[number] = descriptor  # the last used is closed last
        return descriptor

    def read(self, locations: array[int]) -> Iterator[Published | None]:
        """The messages at these locations, in order; None for one whose bytes have rotted."""
        if any(
            location & 0xFFFFFFFF >= self.segments[self._current]
            for location in locations
            if location >> 32 == self._current
        ):
            self._write_pending()  # in the middle of a turn: not complete yet
        index = 0
        while index < len(locations):
            number = locations[index] >> 32
            offset = locations[index] & 0xFFFFFFFF
            # Neighbours in a queue are nearly always neighbours on disk: fetch a stretch.
            last = index
            while (
                last + 1 < len(locations)
                and locations[last + 1] >> 32 == number
                and offset <= locations[last + 1] & 0xFFFFFFFF < offset + 1_048_576
            ):
                last += 1
            if number not in self.segments:  # too rotten to be copied when its segment went
                yield from (None for _ in range(index, last + 1))
                index = last + 1
                continue
            descriptor = self._reader(number)
            stretch = (locations[last] & 0xFFFFFFFF) - offset
            data = os.pread(descriptor, stretch + 65_536, offset)
            for location in locations[index : last + 1]:
                at = (location & 0xFFFFFFFF) - offset
                yield self._read_one(descriptor, data, at, location & 0xFFFFFFFF)
            index = last + 1

    def _read_one(self, descriptor: int, data: bytes, at: int, offset: int) -> Published | None:
        if at + _head.size > len(data):
            return None
        crc, length, kind = _head.unpack_from(data, at)
        start, stop = at + _head.size, at + _head.size + length
        if stop > len(data):  # longer than the stretch that was fetched
            data = os.pread(descriptor, _head.size + length, offset)
            start, stop = _head.size, _head.size + length
        if stop > len(data) or kind != PUBLISH or zlib.crc32(data[start:stop], kind) != crc:
            _log.error("journal: a message at byte %d cannot be read back", offset)
            return None
        return decode_publish(data, start, stop)

    # --- cleaning -----------------------------------------------------------------------

    @property
    def total_bytes(self) -> int:
        return sum(self.segments.values()) + sum(map(len, self._pending))

    def wants_cleaning(self) -> bool:
        if len(self.segments) < 2:
            return False
        if len(self.segments) > SEGMENTS_FEW + 2 * self.total_bytes // self.segment_bytes:
            return True  # every start opens a segment: many restarts must not leave many files
        return self.total_bytes > (
            LIVE_FACTOR * self.live_bytes + SLACK_SEGMENTS * self.segment_bytes
        )

    @property
    def oldest(self) -> int:
        """The segment that is cleaned next."""
        return next(iter(self.segments))

    def oldest_messages(self) -> Iterator[Published]:
        """Every message in the oldest segment: whoever iterates copies the living to the end."""
        data = self._path(self.oldest).read_bytes()
        at, end = len(_MAGIC), len(data)
        while at + _head.size <= end:
            crc, length, kind = _head.unpack_from(data, at)
            start, stop = at + _head.size, at + _head.size + length
            if stop > end:
                at = _after_damage(data, start, stop, end)
                continue
            if zlib.crc32(memoryview(data)[start:stop], kind) != crc:
                at = _after_damage(data, start, stop, end)
                continue
            if kind == PUBLISH:
                yield decode_publish(data, start, stop)
            at = stop

    def drop_oldest(self) -> None:
        """Delete the oldest segment, once all that lived in it is safely further on."""
        self.flush()
        if self.fsync:
            self.sync()
        number = self.oldest
        descriptor = self._readers.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)
        self._path(number).unlink(missing_ok=True)
        del self.segments[number]


def _after_damage(data: bytes, start: int, stop: int, end: int) -> int:
    """Where reading goes on after a damaged record that seems to lie at data[start:stop].

    Behind it, if a sound record begins there; else its very length is wrong, and the next
    COMMIT is the first place that is certain.
    """
    if stop == end or (stop + _head.size <= end and _is_sound(data, stop, end)):
        return stop
    found = data.find(_commit, start, end)
    return end if found < 0 else found + len(_commit)


def _is_sound(data: bytes, at: int, end: int) -> bool:
    crc, length, kind = _head.unpack_from(data, at)
    start, stop = at + _head.size, at + _head.size + length
    return stop <= end and bool(zlib.crc32(memoryview(data)[start:stop], kind) == crc)


def _committed_end(data: bytes) -> int:
    """Where the last complete flush of a segment ends."""
    if data.endswith(_commit):
        return len(data)
    at = committed = len(_MAGIC)
    while at + _head.size <= len(data):
        _, length, kind = _head.unpack_from(data, at)
        at += _head.size + length
        if kind == COMMIT and at <= len(data):
            committed = at
    return committed


def is_disk_trouble(error: OSError) -> bool:
    """Trouble that goes away by itself or by the operator's hand: keep the records and wait."""
    return error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EROFS,
    )
