"""One channel of one connection: publishing, consuming, acknowledging, declaring."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from botswarm.broker import wire
from botswarm.broker.exchanges import Binding
from botswarm.broker.queues import Consumer, Message, Queue
from botswarm.broker.vhost import REPLY_QUEUE, without_bcc
from botswarm.broker.wire import AmqpError, Reader

if TYPE_CHECKING:
    from botswarm.broker.connection import Connection

# What RabbitMQ allows by default too.
MESSAGE_BYTES_MAX: Final = 128 * 1024 * 1024

_DELIVER: Final = struct.pack(">HH", 60, 60)
_GET_OK: Final = struct.pack(">HH", 60, 71)
_RETURN: Final = struct.pack(">HH", 60, 50)
_pack_settled = struct.Struct(">BHIHHQBB").pack
_pack_deliver_tag = struct.Struct(">QB").pack

_REPLY_TO_ME: Final = bytes((len(REPLY_QUEUE),)) + REPLY_QUEUE.encode()

Unacked = tuple[Consumer | None, Queue, Message, float]


class Channel:
    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.hub = connection.hub
        self.vhost = connection.vhost
        self.closing = False
        # The publish whose content is still coming in.
        self.awaiting_header = False
        self.publishing: tuple[bytes, int] | None = None  # address, flag bits
        self._head = b""
        self._missing = 0
        self._pieces: list[bytes] = []
        # Confirms.
        self.confirming = False
        self._sequence = 0
        self._outcomes: list[int] = []  # sequence numbers, negative where refused
        # Consuming.
        self.prefetch = 0  # of the whole channel
        self._consumer_prefetch = 0  # of each later consumer
        self.unacked: dict[int, Unacked] = {}
        self.unacked_by_consumers = 0
        self.consumers: dict[str, Consumer] = {}
        self._delivery_tag = 0
        self._last_queue = ""
        self._reply_tag = b""  # of the consumer that gets direct replies, and where they go
        self._reply_token = ""

    # --- content coming in ----------------------------------------------------------------

    def begin_publish(self, payload: bytes) -> None:
        flags = payload[-1]
        if flags & 2:
            raise AmqpError(540, "immediate=true")
        address = payload[6:-1]
        reader = Reader(address)
        reader.take(reader.octet())
        reader.take(reader.octet())
        if reader.at != len(address):
            raise wire.Malformed("basic.publish with bytes left over")
        self.publishing = (address, flags)
        self.awaiting_header = True

    def header(self, payload: bytes) -> None:
        if not self.awaiting_header:
            raise AmqpError(505, "expected no content header frame", hard=True)
        if len(payload) < wire.HEAD_SIZE + 2 or payload[:2] != b"\x00\x3c":
            raise AmqpError(505, "expected a content header of class 60")
        self.awaiting_header = False
        size = int.from_bytes(payload[4:12], "big")
        if size > MESSAGE_BYTES_MAX:
            self.publishing = None
            raise AmqpError(
                406,
                f"message size {size} is larger than configured max size {MESSAGE_BYTES_MAX}",
            )
        self._head = payload
        if size:
            self._missing = size
        else:
            self._publish(b"")

    def body(self, payload: bytes) -> None:
        if self.publishing is None or self.awaiting_header:
            raise AmqpError(505, "expected no content body frame", hard=True)
        self._missing -= len(payload)
        if self._missing < 0:
            raise AmqpError(501, "content larger than its header said")
        if not self._pieces:
            if not self._missing:
                self._publish(payload)
                return
            self._pieces = [payload]
            return
        self._pieces.append(payload)
        if not self._missing:
            whole = b"".join(self._pieces)
            self._pieces = []
            self._publish(whole)

    def _publish(self, body: bytes) -> None:
        assert self.publishing is not None
        address, flags = self.publishing
        self.publishing = None
        if _REPLY_TO_ME in self._head:
            self._head = self._with_reply_address(self._head)
        routed, taken = self.vhost.publish(address, self._head, body, self.connection.user)
        if not routed and flags & 1:
            self.send_content(
                _RETURN + b"\x01\x38\x08NO_ROUTE" + address,
                without_bcc(self._head),
                body,
            )
        if self.confirming:
            self._sequence += 1
            if not self._outcomes:
                self.hub.to_confirm.append(self)
                self.hub.wake()
            self._outcomes.append(self._sequence if taken else -self._sequence)
        self.connection.has_published()

    # --- direct replies -------------------------------------------------------------------

    def _with_reply_address(self, head: bytes) -> bytes:
        """A request whose answer is to come straight to this channel says so in full."""
        properties = wire.split_properties(head)
        if properties.get("reply_to") != REPLY_QUEUE.encode():
            return head
        if not self._reply_token:
            raise AmqpError(406, "fast reply consumer does not exist")
        properties["reply_to"] = f"{REPLY_QUEUE}.{self._reply_token}".encode()
        return wire.join_properties(int.from_bytes(head[4:12], "big"), properties)

    def _consume_replies(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise AmqpError(406, "reply consumer cannot acknowledge")
        if self._reply_token:
            raise AmqpError(406, "reply consumer already set")
        self._reply_token = self.connection.new_name()
        self._reply_tag = wire.shortstr(tag)
        self.hub.reply_consumers[self._reply_token] = self

    def _stop_replies(self) -> None:
        self.hub.reply_consumers.pop(self._reply_token, None)
        self._reply_token, self._reply_tag = "", b""

    def deliver_reply(self, address: bytes, head: bytes, body: bytes) -> None:
        self._delivery_tag = tag = self._delivery_tag + 1
        self.send_content(
            _DELIVER + self._reply_tag + _pack_deliver_tag(tag, False) + address, head, body
        )

    # --- confirms -------------------------------------------------------------------------

    def confirm(self) -> None:
        self.send_outcomes(self.take_outcomes())

    def take_outcomes(self) -> list[int]:
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def send_outcomes(self, outcomes: list[int]) -> None:
        """One frame for each run of confirms; what lies before a run was answered before."""
        if self.closing:
            return
        run = last = 0
        for outcome in outcomes:
            if outcome > 0:
                run, last = run + 1, outcome
                continue
            if run:
                self._send_settled(80, last, run > 1)
            self._send_settled(120, -outcome, False)
            run = 0
        if run:
            self._send_settled(80, last, run > 1)

    def _send_settled(self, method_id: int, tag: int, multiple: bool) -> None:
        self.connection.send(
            _pack_settled(wire.FRAME_METHOD, self.number, 13, 60, method_id, tag, multiple, 0xCE)
        )

    # --- deliveries going out -------------------------------------------------------------

    def deliver(self, consumer: Consumer, queue: Queue, message: Message) -> None:
        self._delivery_tag = tag = self._delivery_tag + 1
        redelivered = message.deliveries > 0
        head = message.head
        if redelivered and queue.traits.quorum:
            head = with_delivery_count(head, message.deliveries)
        if consumer.no_ack:
            queue.settle(message)
        else:
            self.unacked[tag] = (consumer, queue, message, self.hub.loop.time())
            consumer.unacked += 1
            self.unacked_by_consumers += 1
            queue.mark_delivered(message)
        self.send_content(
            _DELIVER + consumer.tag_bytes + _pack_deliver_tag(tag, redelivered) + message.address,
            head,
            message.body,
        )

    def send_content(self, arguments: bytes, head: bytes, body: bytes) -> None:
        """A method with content, in as few pieces as the frame size allows."""
        number, pack, size = self.number, wire.pack_frame_head, len(body)
        room = self.connection.frame_max - wire.FRAME_OVERHEAD
        front = (
            pack(1, number, len(arguments))
            + arguments
            + b"\xce"
            + pack(2, number, len(head))
            + head
        )
        if size == 0:
            self.connection.send(front + b"\xce")
        elif size <= room:
            self.connection.send(b"".join((front, b"\xce", pack(3, number, size), body, b"\xce")))
        else:
            pieces = [front, b"\xce"]
            for at in range(0, size, room):
                piece = body[at : at + room]
                pieces += (pack(3, number, len(piece)), piece, b"\xce")
            self.connection.send(b"".join(pieces))

    # --- settling -------------------------------------------------------------------------

    def _take_unacked(self, tag: int, multiple: bool) -> list[Unacked]:
        if not multiple:
            entry = self.unacked.pop(tag, None)
            if entry is None:
                raise AmqpError(406, f"unknown delivery tag {tag}")
            entries = [entry]
        elif tag == 0:
            entries = list(self.unacked.values())
            self.unacked.clear()
        else:
            if tag not in self.unacked:
                raise AmqpError(406, f"unknown delivery tag {tag}")
            tags = []
            for key in self.unacked:
                tags.append(key)
                if key == tag:
                    break
            entries = [self.unacked.pop(key) for key in tags]
        for consumer, _, _, _ in entries:
            if consumer is not None:
                consumer.unacked -= 1
                self.unacked_by_consumers -= 1
        return entries

    def _room_again(self, entries: Iterable[Unacked]) -> None:
        """Consumers that were at their limit may take more."""
        if self.prefetch:
            for consumer in self.consumers.values():
                if consumer.queue.ready_count:
                    consumer.queue.kick()
        else:
            for _, queue, _, _ in entries:
                if queue.ready_count:
                    queue.kick()

    def ack(self, payload: bytes) -> None:
        tag, bits = wire.unpack_tag(payload, 4)
        entries = self._take_unacked(tag, bool(bits & 1))
        for _, queue, message, _ in entries:
            queue.acked(message)
        self._room_again(entries)

    def _turn_down(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        entries = self._take_unacked(tag, multiple)
        for _, queue, message, _ in entries:
            if requeue:
                queue.give_back(message)
            else:
                queue.refuse(message)
        self._room_again(entries)

    def _give_back_all(self) -> None:
        entries = self._take_unacked(0, True)
        for _, queue, message, _ in entries:
            queue.give_back(message)
        self._room_again(entries)

    def oldest_unacked_at(self) -> float | None:
        for _, _, _, delivered_at in self.unacked.values():
            return delivered_at
        return None

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        """Consumers end and what they held goes back, as if the client had never had it."""
        self.closing = True
        self.publishing = None
        self._stop_replies()
        self._pieces = []
        consumers, self.consumers = list(self.consumers.values()), {}
        entries = self._take_unacked(0, True)
        # First the consumers, or what is given back would be delivered to them again.
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
        for _, queue, message, _ in entries:
            queue.give_back(message)

    def consumer_gone(self, consumer: Consumer) -> None:
        """Its queue was deleted under it."""
        self.consumers.pop(consumer.tag, None)
        if self.connection.capable("consumer_cancel_notify"):
            self.reply(60, 30, consumer.tag_bytes + b"\x01")

    # --- methods --------------------------------------------------------------------------

    def reply(self, class_id: int, method_id: int, arguments: bytes = b"") -> None:
        self.connection.send(wire.method(self.number, class_id, method_id, arguments))

    def on_method(self, class_id: int, method_id: int, payload: bytes) -> None:
        """Everything but the hot three; unknown methods end the connection."""
        handler = METHODS.get((class_id, method_id))
        if handler is None:
            raise AmqpError(540, f"method {class_id}.{method_id} is not implemented")
        handler(self, Reader(payload, 4))

    def _flow(self, reader: Reader) -> None:
        if not reader.octet() & 1:
            raise AmqpError(540, "active=false")
        self.reply(20, 21, b"\x01")

    def _access_request(self, reader: Reader) -> None:
        reader.shortstr()
        self.reply(30, 11, b"\x00\x01")

    # exchange

    def _exchange_declare(self, reader: Reader) -> None:
        reader.short()
        name, kind, bits = reader.shortstr(), reader.shortstr(), reader.octet()
        raw_arguments = reader.raw_table()
        name = name.replace("\r", "").replace("\n", "")
        if bits & 1:
            self.vhost.exchange(name)
        else:
            self.vhost.declare_exchange(
                name,
                kind,
                raw_arguments,
                durable=bool(bits & 2),
                auto_delete=bool(bits & 4),
                internal=bool(bits & 8),
            )
        if not bits & 16:
            self.reply(40, 11)

    def _exchange_delete(self, reader: Reader) -> None:
        reader.short()
        name, bits = reader.shortstr(), reader.octet()
        self.vhost.delete_exchange(name, if_unused=bool(bits & 1))
        if not bits & 2:
            self.reply(40, 21)

    def _exchange_bind(self, reader: Reader, *, unbind: bool = False) -> None:
        reader.short()
        destination, source, key = reader.shortstr(), reader.shortstr(), reader.shortstr()
        bits, raw_arguments = reader.octet(), reader.raw_table()
        wire.read_table(raw_arguments)
        binding = Binding("exchange", destination, key, raw_arguments)
        if unbind:
            self.vhost.unbind(source, binding)
        else:
            self.vhost.bind(source, binding)
        if not bits & 1:
            self.reply(40, 51 if unbind else 31)

    def _exchange_unbind(self, reader: Reader) -> None:
        self._exchange_bind(reader, unbind=True)

    # queue

    def _named(self, name: str) -> str:
        """An empty name stands for the queue this channel declared last."""
        if name:
            return name
        if not self._last_queue:
            raise AmqpError(404, "no previously declared queue")
        return self._last_queue

    def _queue_declare(self, reader: Reader) -> None:
        reader.short()
        name, bits, raw_arguments = reader.shortstr(), reader.octet(), reader.raw_table()
        name = name.replace("\r", "").replace("\n", "")
        passive, nowait = bits & 1, bits & 16
        if passive:
            queue = self.vhost.accessible_queue(self._named(name), self.connection)
        else:
            queue = self.vhost.declare_queue(
                name,
                raw_arguments,
                durable=bool(bits & 2),
                exclusive=bool(bits & 4),
                auto_delete=bool(bits & 8),
                by=self.connection,
            )
        self._last_queue = queue.name
        if queue.owner is self.connection:
            self.connection.owned.add(queue)
        if not nowait:
            counts = struct.pack(">II", queue.ready_count, queue.consumer_count)
            self.reply(50, 11, wire.shortstr(queue.name) + counts)

    def _queue_bind(self, reader: Reader) -> None:
        reader.short()
        name, exchange, key = reader.shortstr(), reader.shortstr(), reader.shortstr()
        bits, raw_arguments = reader.octet(), reader.raw_table()
        wire.read_table(raw_arguments)
        if not name and not key:
            key = self._last_queue
        queue = self.vhost.accessible_queue(self._named(name), self.connection)
        self.vhost.bind(exchange, Binding("queue", queue.name, key, raw_arguments))
        if not bits & 1:
            self.reply(50, 21)

    def _queue_unbind(self, reader: Reader) -> None:
        reader.short()
        name, exchange, key = reader.shortstr(), reader.shortstr(), reader.shortstr()
        raw_arguments = reader.raw_table()
        wire.read_table(raw_arguments)
        name = self._named(name)
        if name in self.vhost.queues:
            self.vhost.accessible_queue(name, self.connection)
        self.vhost.unbind(exchange, Binding("queue", name, key, raw_arguments))
        self.reply(50, 51)

    def _queue_purge(self, reader: Reader) -> None:
        reader.short()
        name, bits = reader.shortstr(), reader.octet()
        count = self.vhost.accessible_queue(self._named(name), self.connection).purge()
        if not bits & 1:
            self.reply(50, 31, struct.pack(">I", count))

    def _queue_delete(self, reader: Reader) -> None:
        reader.short()
        name, bits = self._named(reader.shortstr()), reader.octet()
        count = 0
        if name in self.vhost.queues:
            queue = self.vhost.accessible_queue(name, self.connection)
            count = self.vhost.delete_queue(
                queue, if_unused=bool(bits & 1), if_empty=bool(bits & 2)
            )
        if not bits & 4:
            self.reply(50, 41, struct.pack(">I", count))

    # basic

    def _qos(self, reader: Reader) -> None:
        size, count, bits = reader.long(), reader.short(), reader.octet()
        if size:
            raise AmqpError(540, f"prefetch_size!=0 ({size})")
        if bits & 1:
            self.prefetch = count
        else:
            self._consumer_prefetch = count
            self.prefetch = 0  # one kind of limit lifts the other, in this direction only
        for consumer in self.consumers.values():
            consumer.queue.kick()
        self.reply(60, 11)

    def _consume(self, reader: Reader) -> None:
        reader.short()
        name, tag, bits = self._named(reader.shortstr()), reader.shortstr(), reader.octet()
        arguments = reader.table()
        if name == REPLY_QUEUE:
            tag = tag or f"amq.ctag-{self.connection.new_name()}"
            self._consume_replies(tag, no_ack=bool(bits & 2))
            if not bits & 8:
                self.reply(60, 21, wire.shortstr(tag))
            return
        queue = self.vhost.accessible_queue(name, self.connection)
        exclusive = bool(bits & 4)
        if tag in self.consumers:
            raise AmqpError(530, f"attempt to reuse consumer tag '{tag}'")
        self._check_may_consume(queue, exclusive, arguments.get("x-priority", 0))
        tag = tag or f"amq.ctag-{self.connection.new_name()}"
        consumer = Consumer(
            self,
            tag,
            queue,
            no_ack=bool(bits & 2),
            exclusive=exclusive,
            prefetch=self._consumer_prefetch,
            priority=arguments.get("x-priority", 0),
        )
        self.consumers[tag] = consumer
        if not bits & 8:
            self.reply(60, 21, consumer.tag_bytes)
        queue.add_consumer(consumer)

    def _check_may_consume(self, queue: Queue, exclusive: bool, priority: object) -> None:
        what = f"queue '{queue.name}' in vhost '{self.vhost.name}'"
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise AmqpError(406, f"invalid arg 'x-priority' for {what}: not an integer")
        if queue.traits.quorum and self.prefetch:
            raise AmqpError(540, f"{what} does not support global qos")
        if queue.traits.single_active_consumer:
            if exclusive:
                raise AmqpError(403, f"{what} in exclusive use: it has a single active consumer")
            return
        consumers = list(queue.all_consumers())
        if (exclusive and consumers) or any(other.exclusive for other in consumers):
            raise AmqpError(403, f"{what} in exclusive use")

    def _cancel(self, reader: Reader) -> None:
        tag, bits = reader.shortstr(), reader.octet()
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        elif self._reply_tag == wire.shortstr(tag):
            self._stop_replies()
        if not bits & 1:
            self.reply(60, 31, wire.shortstr(tag))

    def _get(self, reader: Reader) -> None:
        reader.short()
        name, bits = self._named(reader.shortstr()), reader.octet()
        queue = self.vhost.accessible_queue(name, self.connection)
        queue.touch()
        message = queue.take()
        if message is None:
            self.reply(60, 72, b"\x00")
            return
        self._delivery_tag = tag = self._delivery_tag + 1
        redelivered = message.deliveries > 0
        head = message.head
        if queue.traits.quorum:
            head = with_delivery_count(head, message.deliveries)
        if bits & 1:
            queue.settle(message)
        else:
            self.unacked[tag] = (None, queue, message, self.hub.loop.time())
            queue.mark_delivered(message)
        self.send_content(
            _GET_OK
            + _pack_deliver_tag(tag, redelivered)
            + message.address
            + struct.pack(">I", queue.ready_count),
            head,
            message.body,
        )

    def _reject(self, reader: Reader) -> None:
        tag, bits = reader.longlong(), reader.octet()
        self._turn_down(tag, multiple=False, requeue=bool(bits & 1))

    def _nack(self, reader: Reader) -> None:
        tag, bits = reader.longlong(), reader.octet()
        self._turn_down(tag, multiple=bool(bits & 1), requeue=bool(bits & 2))

    def _recover(self, reader: Reader) -> None:
        self._recover_async(reader)
        self.reply(60, 111)

    def _recover_async(self, reader: Reader) -> None:
        if not reader.octet() & 1:
            raise AmqpError(540, "requeue=false")
        self._give_back_all()

    # confirm and tx

    def _confirm_select(self, reader: Reader) -> None:
        self.confirming = True
        if not reader.octet() & 1:
            self.reply(85, 11)

    def _tx(self, _reader: Reader) -> None:
        raise AmqpError(
            540,
            "the embedded broker has no transactions: use publisher confirms, or RabbitMQ",
        )


def with_delivery_count(head: bytes, count: int) -> bytes:
    """What quorum queues add: how often the message was handed out before."""
    properties = wire.split_properties(head)
    _, fields = wire.read_headers(properties.get("headers", b""))
    fields["x-delivery-count"] = wire.write_value(count)
    properties["headers"] = wire.join_table(fields)
    return wire.join_properties(int.from_bytes(head[4:12], "big"), properties)


Handler = Callable[[Channel, Reader], None]
METHODS: Final[dict[tuple[int, int], Handler]] = {
    (20, 20): Channel._flow,
    (30, 10): Channel._access_request,
    (40, 10): Channel._exchange_declare,
    (40, 20): Channel._exchange_delete,
    (40, 30): Channel._exchange_bind,
    (40, 40): Channel._exchange_unbind,
    (50, 10): Channel._queue_declare,
    (50, 20): Channel._queue_bind,
    (50, 30): Channel._queue_purge,
    (50, 40): Channel._queue_delete,
    (50, 50): Channel._queue_unbind,
    (60, 10): Channel._qos,
    (60, 20): Channel._consume,
    (60, 30): Channel._cancel,
    (60, 70): Channel._get,
    (60, 90): Channel._reject,
    (60, 100): Channel._recover_async,
    (60, 110): Channel._recover,
    (60, 120): Channel._nack,
    (85, 10): Channel._confirm_select,
    (90, 10): Channel._tx,
    (90, 20): Channel._tx,
    (90, 30): Channel._tx,
}
