"""A queue: what waits in it, who consumes it, what happens to a message that cannot stay.

Only the front and the very end of a long queue are in memory. What lies between is a row of
chunks: sixteen bytes a message that say where in the journal it lies. So a backlog of a
million messages costs tens of megabytes, and putting one in or taking one out costs the same
as with ten.
"""

from __future__ import annotations

import heapq
import logging
from array import array
from asyncio import TimerHandle
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botswarm.broker import wire
from botswarm.broker.hub import Hub
from botswarm.broker.journal import Published, is_disk_trouble

if TYPE_CHECKING:
    from botswarm.broker.channel import Channel
    from botswarm.broker.connection import Connection

_log = logging.getLogger(__name__)

# A level keeps at most this much of its front in memory, and reads it back a chunk at a time.
FRONT_MESSAGES: Final = 4096
FRONT_BYTES: Final = 16 * 1024 * 1024
CHUNK_MESSAGES: Final = 2048
CHUNK_BYTES: Final = 4 * 1024 * 1024
# What a message weighs in memory besides its bytes.
MESSAGE_OVERHEAD: Final = 320
# A drain hands out so many messages, then lets the sockets and the other queues have a turn.
DRAIN_BATCH: Final = 512
# So many old messages go at once: a backlog that grew old together would fill the memory with
# dead letters, and nobody else would have a turn.
EXPIRY_BATCH: Final = 2048


class Message:
    """One message in one queue. The bytes are shared with its twins in other queues."""

    __slots__ = (
        "address",
        "body",
        "deliveries",
        "expires_at",
        "head",
        "id",
        "location",
        "persistent",
        "priority",
        "published_ms",
        "share",
    )

    def __init__(
        self,
        message_id: int,
        address: bytes,
        head: bytes,
        body: bytes,
        persistent: bool,
        priority: int,
        published_ms: int,
    ) -> None:
        self.id = message_id
        self.address = address  # exchange and routing key, as two short strings
        self.head = head  # the content header's payload
        self.body = body
        self.persistent = persistent
        self.priority = priority
        self.published_ms = published_ms
        self.expires_at = 0.0  # on the loop's clock; 0 = never
        self.deliveries = 0
        self.location = 0  # in the journal; 0 = not there
        self.share = 0  # of the journal's bytes that live because of it

    @property
    def weight(self) -> int:
        return len(self.body) + len(self.head) + len(self.address) + MESSAGE_OVERHEAD

    def twin(self) -> Message:
        return Message(
            self.id,
            self.address,
            self.head,
            self.body,
            self.persistent,
            self.priority,
            self.published_ms,
        )


class Consumer:
    """One basic.consume: where deliveries go and how many may be under way."""

    __slots__ = (
        "channel",
        "exclusive",
        "no_ack",
        "prefetch",
        "priority",
        "queue",
        "tag",
        "tag_bytes",
        "unacked",
    )

    def __init__(
        self,
        channel: Channel,
        tag: str,
        queue: Queue,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        priority: int,
    ) -> None:
        self.channel = channel
        self.tag = tag
        self.tag_bytes = wire.shortstr(tag)
        self.queue = queue
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.priority = priority
        self.unacked = 0

    @property
    def ready(self) -> bool:
        if self.prefetch and self.unacked >= self.prefetch and not self.no_ack:
            return False
        channel = self.channel
        if channel.prefetch and channel.unacked_by_consumers >= channel.prefetch:
            return self.no_ack and not channel.connection.congested
        return not channel.connection.congested


class Chunk:
    """A run of messages that are only in the journal, by rising id."""

    __slots__ = ("ids", "locations", "shares")

    def __init__(self) -> None:
        self.ids: array[int] = array("Q")
        self.locations: array[int] = array("Q")
        self.shares = 0

    def add(self, message_id: int, location: int, share: int) -> None:
        self.ids.append(message_id)
        self.locations.append(location)
        self.shares += share

    def index(self, message_id: int) -> int | None:
        at = bisect_left(self.ids, message_id)
        return at if at < len(self.ids) and self.ids[at] == message_id else None


class Level:
    """The messages of one priority, first in first out, those given back before all others."""

    __slots__ = ("bytes", "chunks", "front", "queue", "returned", "tail")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.returned: list[tuple[int, Message]] = []
        self.front: deque[Message] = deque()
        self.chunks: deque[Chunk] = deque()
        self.tail: deque[Message] = deque()  # used only behind chunks
        self.bytes = 0  # of front, or of tail where there are chunks

    def append(self, message: Message) -> None:
        self.bytes += message.weight
        if self.chunks:
            self.tail.append(message)
            if len(self.tail) >= CHUNK_MESSAGES or self.bytes >= CHUNK_BYTES:
                self._page_out(self.tail, 0, 0)
        else:
            self.front.append(message)
            if len(self.front) > FRONT_MESSAGES or self.bytes > FRONT_BYTES:
                self._page_out(self.front, CHUNK_MESSAGES, CHUNK_BYTES)

    def _page_out(self, source: deque[Message], keep: int, keep_bytes: int) -> None:
        """Move the later part of ``source`` to the journal, all but what is to be kept."""
        moved: list[Message] = []
        while source and (len(source) > keep or self.bytes > keep_bytes):
            if len(source) == 1 and keep:
                break
            message = source.pop()
            self.bytes -= message.weight
            moved.append(message)
        if not moved:
            return
        chunk = Chunk()
        for message in reversed(moved):
            self.queue.page_out(message)
            chunk.add(message.id, message.location, message.share)
        self.chunks.append(chunk)
        self.bytes = 0

    def first(self) -> Message | None:
        if self.returned:
            return self.returned[0][1]
        if not self.front:
            self._page_in()
        return self.front[0] if self.front else None

    def pop(self) -> Message:
        """Take what ``first`` showed."""
        if self.returned:
            return heapq.heappop(self.returned)[1]
        message = self.front.popleft()
        if not self.chunks:
            self.bytes -= message.weight
        return message

    def give_back(self, message: Message) -> None:
        heapq.heappush(self.returned, (message.id, message))

    def _page_in(self) -> None:
        while self.chunks and not self.front:
            try:
                messages = list(self.queue.page_in(self.chunks[0]))
            except OSError as error:
                if not is_disk_trouble(error):
                    raise
                # A full disk keeps the journal's last records from being read, too.
                self.queue.hub.flush_journal()
                return
            self.chunks.popleft()
            self.queue.forget_chunks()
            self.front.extend(messages)
        if not self.chunks:
            self.front.extend(self.tail)
            self.tail.clear()
            self.bytes = sum(message.weight for message in self.front)

    def in_memory(self) -> Iterator[Message]:
        for _, message in self.returned:
            yield message
        yield from self.front
        yield from self.tail

    def clear(self) -> None:
        self.returned.clear()
        self.front.clear()
        self.chunks.clear()
        self.tail.clear()
        self.bytes = 0
        self.queue.forget_chunks()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTraits:
    """What a queue's arguments mean, read once when it is declared."""

    quorum: bool = False
    max_priority: int = 0
    ttl_ms: int | None = None
    expires_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    single_active_consumer: bool = False


class Queue:
    """One queue of one vhost."""

    def __init__(
        self,
        hub: Hub,
        queue_id: int,
        name: str,
        traits: QueueTraits,
        *,
        durable: bool,
        auto_delete: bool,
        owner: Connection | None,
        raw_arguments: bytes,
        dead_letter: Callable[[Queue, Message, str], None],
        remove: Callable[[Queue], None],
    ) -> None:
        self.hub = hub
        self.id = queue_id
        self.name = name
        self.traits = traits
        self.declared_durable = durable
        # What belongs to one connection ends with it: nothing of it is worth the journal.
        self.durable = durable and owner is None
        self.auto_delete = auto_delete
        self.owner = owner
        self.raw_arguments = raw_arguments
        self.arguments: dict[str, Any] = wire.read_table(raw_arguments)
        self._dead_letter = dead_letter
        self._remove = remove
        self.levels = [Level(self) for _ in range(traits.max_priority + 1)]
        self.ready_count = 0
        self.ready_bytes = 0
        self.unacked_count = 0
        self.published_count = self.delivered_count = self.acked_count = 0
        self.consumers: list[deque[Consumer]] = []  # by falling priority, each in turn
        self.waiting: list[Consumer] = []  # behind a single active or before any: in order
        self.active: Consumer | None = None
        self.deleted = False
        # What the journal holds of this queue and is in memory, by id.
        self.live: dict[int, Message] = {}
        self.delivered: list[int] = []  # marks for the next journal write
        self.gone: list[int] = []
        self.in_to_log = False
        self._chunk_asked_last: Chunk | None = None
        self._in_to_drain = False
        self._may_expire = traits.ttl_ms is not None
        self._expiry_timer: TimerHandle | None = None
        self._expiry_at = 0.0
        self._idle_timer: TimerHandle | None = None
        self.idle_since_ms = hub.wall_ms()
        self.touch()

    # --- coming in ----------------------------------------------------------------------

    def accepts(self, body_bytes: int) -> bool:
        """Whether a publish is taken in; only ``reject-publish`` queues ever say no."""
        if self.traits.overflow == "drop-head" or not self._is_full(1, body_bytes):
            return True
        self.drain()
        return not self._is_full(1, body_bytes)

    def _is_full(self, more: int = 0, more_bytes: int = 0) -> bool:
        traits = self.traits
        if traits.max_length is not None and self.ready_count + more > traits.max_length:
            return True
        return (
            traits.max_length_bytes is not None
            and self.ready_bytes + more_bytes > traits.max_length_bytes
        )

    def put(self, message: Message, expiration_ms: int | None) -> None:
        """Take a message that was routed here and, if durable, journaled."""
        traits = self.traits
        if traits.ttl_ms is not None or expiration_ms is not None:
            self._set_expiry(message, expiration_ms, 0)
        if message.location:
            self.live[message.id] = message
        self.hub.memory_bytes += message.weight
        self.published_count += 1
        if message.expires_at and self._hand_over_at_once(message):
            return
        self.levels[min(message.priority, traits.max_priority)].append(message)
        self.ready_count += 1
        self.ready_bytes += len(message.body)
        if self._may_expire:
            self._watch_expiry()
        if traits.max_length is not None or traits.max_length_bytes is not None:
            self._drop_what_is_too_much()
        if self.consumers:
            self.kick()

    def _hand_over_at_once(self, message: Message) -> bool:
        """A message with no time to live at all is for a consumer that is ready now, or none."""
        if message.expires_at > self.hub.loop.time() or not self.consumers:
            return False
        self.drain()
        consumer = None if self.ready_count else self._next_consumer()
        if consumer is None:
            return False
        self.delivered_count += 1
        consumer.channel.deliver(consumer, self, message)
        return True

    def _set_expiry(self, message: Message, expiration_ms: int | None, age_ms: int) -> None:
        limits = [limit for limit in (self.traits.ttl_ms, expiration_ms) if limit is not None]
        if limits:
            remaining = max(min(limits) - age_ms, 0)
            message.expires_at = self.hub.loop.time() + remaining / 1000
            self._may_expire = True

    def _drop_what_is_too_much(self, *, drain_first: bool = True) -> None:
        if not self._is_full():
            return
        if drain_first:
            self.drain()  # a consumer that is ready gets it before anything is dropped
        if self.traits.overflow != "drop-head":
            return
        while self.ready_count and self._is_full():
            level = self._top_level()
            if level is None:
                return
            self.die(self._pop(level), "maxlen")

    def _top_level(self) -> Level | None:
        """The one the next message comes from: also the one whose head is dropped or expires."""
        for level in reversed(self.levels):
            if level.first() is not None:
                return level
        return None

    def _pop(self, level: Level) -> Message:
        message = level.pop()
        self.ready_count -= 1
        self.ready_bytes -= len(message.body)
        return message

    def restore(self, chunk: Chunk, priority: int) -> None:
        """Take back what a replay found, without reading it yet."""
        self.levels[priority].chunks.append(chunk)
        self.ready_count += len(chunk.ids)
        self.hub.journal.live_bytes += chunk.shares
        self._may_expire = True  # who knows: the first turn looks

    def restore_delivered(self, published: Published, location: int, deliveries: int) -> None:
        """Take back a message that a consumer may have seen before the crash."""
        message = self._from_journal(published, location)
        self.hub.journal.live_bytes += message.share
        message.deliveries = deliveries
        self.live[message.id] = message
        self.hub.memory_bytes += message.weight
        self.unacked_count += 1
        self.give_back(message)

    def recovered(self) -> None:
        """All of it is back: look at expiry and limits as if it had just come in."""
        self._watch_expiry()
        self._drop_what_is_too_much()

    # --- going out ----------------------------------------------------------------------

    def kick(self) -> None:
        if not self._in_to_drain:
            self._in_to_drain = True
            self.hub.to_drain.append(self)
            self.hub.wake()

    def drain(self) -> None:
        """Hand out what there is to those who can take it."""
        self._in_to_drain = False
        if self.deleted or (self._may_expire and not self._watch_expiry()):
            return
        handed = 0
        while self.ready_count:
            consumer = self._next_consumer()
            if consumer is None:
                break
            message = self._next_message()
            if message is None:
                break
            consumer.channel.deliver(consumer, self, message)
            handed += 1
            if handed >= DRAIN_BATCH:
                self.kick()
                break
        if self._may_expire:
            self._watch_expiry()

    def _next_consumer(self) -> Consumer | None:
        if self.traits.single_active_consumer:
            active = self.active
            return active if active is not None and active.ready else None
        for group in self.consumers:
            for _ in range(len(group)):
                consumer = group[0]
                group.rotate(-1)
                if consumer.ready:
                    return consumer
        return None

    def take(self) -> Message | None:
        """The next message, no longer ready and not yet anyone's."""
        message = self._next_message()
        if self._may_expire:
            self._watch_expiry()
        return message

    def _next_message(self) -> Message | None:
        while (level := self._top_level()) is not None:
            message = self._pop(level)
            if message.expires_at and message.expires_at <= self.hub.loop.time():
                self.die(message, "expired")
                continue
            self.delivered_count += 1
            return message
        return None

    def mark_delivered(self, message: Message) -> None:
        """It is a consumer's now; the journal remembers that, in case we die before its ack."""
        message.deliveries += 1
        self.unacked_count += 1
        if message.location and message.persistent:
            self.delivered.append(message.id)
            self._note()

    def settle(self, message: Message) -> None:
        """Nobody will ever want it again."""
        self.hub.memory_bytes -= message.weight
        if message.location:
            self.live.pop(message.id, None)
            self.hub.journal.live_bytes -= message.share
            if message.persistent and not self.deleted:
                self.gone.append(message.id)
                self._note()

    def acked(self, message: Message) -> None:
        self.unacked_count -= 1
        self.acked_count += 1
        self.settle(message)

    def die(self, message: Message, reason: str) -> None:
        """It leaves against its will: to the dead-letter exchange, or for good."""
        if self.traits.dead_letter_exchange is not None and not self.deleted:
            self._dead_letter(self, message, reason)
        self.settle(message)

    def refuse(self, message: Message) -> None:
        """A consumer rejected it without wanting it back."""
        self.unacked_count -= 1
        self.die(message, "rejected")

    def give_back(self, message: Message) -> None:
        """A consumer did not finish with it: back to its old place, or dead if too often."""
        self.unacked_count -= 1
        if self.deleted:
            self.settle(message)
            return
        limit = self.traits.delivery_limit
        if limit is not None and message.deliveries > limit:
            self.die(message, "delivery_limit")
            return
        self.levels[min(message.priority, self.traits.max_priority)].give_back(message)
        self.ready_count += 1
        self.ready_bytes += len(message.body)
        if message.expires_at:
            self._watch_expiry()
        self._drop_what_is_too_much(drain_first=False)
        if self.consumers:
            self.kick()

    def _note(self) -> None:
        if not self.in_to_log:
            self.in_to_log = True
            self.hub.to_log.append(self)
            self.hub.wake()

    # --- expiry -------------------------------------------------------------------------

    def _watch_expiry(self) -> bool:
        """Drop what is too old at the front and wait for what will be.

        False where there is more of it than goes at once: the rest has its own turn.
        """
        if self.deleted:
            return True
        now = self.hub.loop.time()
        for _ in range(EXPIRY_BATCH):
            level = self._top_level()
            message = None if level is None else level.first()
            if level is None or message is None or not message.expires_at:
                return True
            if message.expires_at > now:
                self._wake_at(message.expires_at)
                return True
            self._pop(level)
            self.die(message, "expired")
        self._wake_at(now)
        return False

    def _wake_at(self, moment: float) -> None:
        if self._expiry_timer is not None:
            if self._expiry_at <= moment:
                return
            self._expiry_timer.cancel()
        self._expiry_at = moment
        self._expiry_timer = self.hub.loop.call_at(moment, self._expiry_due)

    def _expiry_due(self) -> None:
        self._expiry_timer = None
        if self._watch_expiry() and self.consumers:
            self.kick()  # it may have waited for the old ones to go
        self.hub.wake()

    def touch(self) -> None:
        """The queue was used: an ``x-expires`` clock starts again."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.traits.expires_ms is not None and not self.consumer_count:
            self._idle_timer = self.hub.loop.call_later(
                self.traits.expires_ms / 1000, self._idle_too_long
            )

    def _idle_too_long(self) -> None:
        if not self.consumer_count and not self.deleted:
            self._remove(self)
            self.hub.wake()

    # --- consumers ----------------------------------------------------------------------

    @property
    def consumer_count(self) -> int:
        return sum(map(len, self.consumers))

    def all_consumers(self) -> Iterator[Consumer]:
        for group in self.consumers:
            yield from group

    def add_consumer(self, consumer: Consumer) -> None:
        for at, group in enumerate(self.consumers):
            if group[0].priority == consumer.priority:
                group.append(consumer)
                break
            if group[0].priority < consumer.priority:
                self.consumers.insert(at, deque((consumer,)))
                break
        else:
            self.consumers.append(deque((consumer,)))
        if self.traits.single_active_consumer:
            self.waiting.append(consumer)
            if self.active is None:
                self.active = consumer
        self.touch()
        self.kick()

    def remove_consumer(self, consumer: Consumer) -> None:
        for group in self.consumers:
            if consumer in group:
                group.remove(consumer)
                break
        self.consumers = [group for group in self.consumers if group]
        if consumer in self.waiting:
            self.waiting.remove(consumer)
        if self.active is consumer:
            self.active = self.waiting[0] if self.waiting else None
        self.idle_since_ms = self.hub.wall_ms()
        self.touch()
        if self.deleted:
            return
        if self.auto_delete and not self.consumers:
            self._remove(self)
        else:
            self.kick()

    # --- emptying -----------------------------------------------------------------------

    def purge(self) -> int:
        """Drop all that is ready; what consumers hold stays theirs."""
        count = self.ready_count
        for level in self.levels:
            for message in level.in_memory():
                self.settle(message)
            for chunk in level.chunks:
                self.hub.journal.live_bytes -= chunk.shares
                if self.durable:
                    self.gone.extend(chunk.ids)
                    self._note()
            level.clear()
        self.ready_count = self.ready_bytes = 0
        return count

    def dispose(self) -> None:
        """The queue is deleted: nothing of it lives on in the journal or on a timer."""
        self.deleted = True
        for timer in (self._expiry_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        for level in self.levels:
            for message in level.in_memory():
                self.hub.memory_bytes -= message.weight
                self.hub.journal.live_bytes -= message.share
                self.live.pop(message.id, None)
            for chunk in level.chunks:
                self.hub.journal.live_bytes -= chunk.shares
            level.clear()
        self.ready_count = self.ready_bytes = 0
        self.delivered, self.gone = [], []

    # --- the journal's questions ----------------------------------------------------------

    def page_out(self, message: Message) -> None:
        """It will live in the journal only, whether or not it may survive a restart."""
        self.hub.memory_bytes -= message.weight
        if message.location:
            del self.live[message.id]
            return
        message.location, message.share = self.hub.journal.append_publish(
            message.id,
            message.published_ms,
            False,
            message.priority,
            message.deliveries,
            (self.id,),
            message.address,
            message.head,
            message.body,
        )
        self.hub.journal.live_bytes += message.share
        self.hub.wake()

    def page_in(self, chunk: Chunk) -> Iterator[Message]:
        lost = 0
        for at, published in enumerate(list(self.hub.journal.read(chunk.locations))):
            if published is None:
                lost += 1
                continue
            message = self._from_journal(published, chunk.locations[at])
            if published.persistent:
                self.live[message.id] = message
            else:
                self.hub.journal.live_bytes -= message.share
                message.location = message.share = 0
            self.hub.memory_bytes += message.weight
            yield message
        if lost:
            self.ready_count -= lost
            _log.error("queue %s: %d messages could not be read back", self.name, lost)

    def _from_journal(self, published: Published, location: int) -> Message:
        message = Message(
            published.id,
            published.address,
            published.head,
            published.body,
            published.persistent,
            published.priority,
            published.published_ms,
        )
        message.location = location
        message.share = published.size // len(published.queue_ids)
        raw_expiration = wire.essentials(published.head)[2]
        self._set_expiry(
            message,
            int(raw_expiration) if raw_expiration else None,
            self.hub.wall_ms() - published.published_ms,
        )
        return message

    def forget_chunks(self) -> None:
        self._chunk_asked_last = None

    def _chunk_of(self, message_id: int) -> tuple[Chunk, int] | None:
        # The cleaner asks in the order of publishing: it is nearly always the same chunk again.
        chunk = self._chunk_asked_last
        if chunk is not None and (at := chunk.index(message_id)) is not None:
            return chunk, at
        for level in self.levels:
            for chunk in level.chunks:
                if chunk.ids[0] <= message_id <= chunk.ids[-1]:
                    at = chunk.index(message_id)
                    if at is not None:
                        self._chunk_asked_last = chunk
                        return chunk, at
        return None

    def segment_of(self, message_id: int) -> int | None:
        """The segment of the journal a message of this queue is read from; None: not held."""
        message = self.live.get(message_id)
        if message is not None:
            return message.location >> 32
        if (found := self._chunk_of(message_id)) is not None:
            chunk, at = found
            return chunk.locations[at] >> 32
        return None

    def deliveries_of(self, message_id: int) -> int:
        message = self.live.get(message_id)
        return message.deliveries if message is not None else 0

    def relocated(self, message_id: int, location: int, share: int, old_share: int) -> None:
        """The cleaner copied it: it lies elsewhere in the journal now."""
        self.hub.journal.live_bytes += share - old_share
        message = self.live.get(message_id)
        if message is not None:
            message.location, message.share = location, share
        elif (found := self._chunk_of(message_id)) is not None:
            chunk, at = found
            chunk.locations[at] = location
            chunk.shares += share - old_share
