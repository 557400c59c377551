"""One virtual host: its exchanges and queues, the way a message takes between them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

from botswarm.broker import wire
from botswarm.broker.definitions import Op, check_queue, check_same, raw_to_text
from botswarm.broker.exchanges import KINDS, Binding, Exchange
from botswarm.broker.hub import Hub
from botswarm.broker.queues import Message, Queue
from botswarm.broker.wire import AmqpError, Timestamp

_log = logging.getLogger(__name__)

REPLY_QUEUE: Final = "amq.rabbitmq.reply-to"
# The default exchange and a key of 44 bytes: the pseudo-queue, a dot and a token.
REPLY_TOKEN_SIZE: Final = 22
REPLY_ADDRESS: Final = (
    b"\x00" + bytes((len(REPLY_QUEUE) + 1 + REPLY_TOKEN_SIZE,)) + REPLY_QUEUE.encode()
)
ROUTES_MAX: Final = 10_000
PREDECLARED: Final = (
    ("", "direct"),
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.topic", "topic"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
)
SYSTEM_EXCHANGES: Final = frozenset(name for name, _ in PREDECLARED)
EXPIRATION_MAX_MS: Final = 315_360_000_000  # ten years, as in RabbitMQ
# The last argument names a queue's equivalence: what a redeclaration has to repeat.
COMPARED: Final = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-dead-letter-strategy",
)


class Route:
    """Where one address leads, worked out once."""

    __slots__ = ("durable_ids", "limited", "queues", "quorum_ids")

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        self.queues = queues
        self.durable_ids = tuple(queue.id for queue in queues if queue.durable)
        # Quorum queues keep what is not persistent, too.
        self.quorum_ids = tuple(queue.id for queue in queues if queue.traits.quorum)
        self.limited = any(queue.traits.overflow != "drop-head" for queue in queues)


class VHost:
    def __init__(self, hub: Hub, name: str, new_queue_id: Callable[[], int]) -> None:
        self.hub = hub
        self.name = name
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self._new_queue_id = new_queue_id
        # Called with each change to what is durable, once the broker has replayed its journal.
        self.on_change: Callable[[Op], None] = lambda _op: None
        self._routes: dict[bytes, Route] = {}
        for exchange_name, kind in PREDECLARED:
            self.exchanges[exchange_name] = Exchange(exchange_name, kind, True, False, False, b"")

    # --- exchanges ------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        found = self.exchanges.get(name)
        if found is None:
            raise AmqpError(404, f"no exchange '{name}' in vhost '{self.name}'")
        return found

    def _exchange_not_default(self, name: str) -> Exchange:
        if name == "":
            raise AmqpError(403, "operation not permitted on the default exchange")
        return self.exchange(name)

    def declare_exchange(
        self,
        name: str,
        kind: str,
        raw_arguments: bytes,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
    ) -> None:
        if kind not in KINDS:
            raise AmqpError(503, f"unknown exchange type '{kind}'")
        arguments = wire.read_table(raw_arguments)
        what = f"exchange '{name}' in vhost '{self.name}'"
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and not isinstance(alternate, str):
            raise AmqpError(406, f"invalid type for arg 'alternate-exchange' of {what}")
        if name == "":
            raise AmqpError(403, "operation not permitted on the default exchange")
        current = self.exchanges.get(name)
        if current is not None:
            check_same(what, "type", kind, current.kind)
            check_same(what, "durable", durable, current.durable)
            check_same(what, "auto_delete", auto_delete, current.auto_delete)
            check_same(what, "internal", internal, current.internal)
            check_same(what, "alternate-exchange", alternate, current.alternate)
            return
        if name.startswith("amq."):
            raise AmqpError(403, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        self.add_exchange(Exchange(name, kind, durable, auto_delete, internal, raw_arguments))

    def add_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self._routes.clear()
        if exchange.durable:
            self.on_change(self._exchange_op(exchange))

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        if name == "":
            raise AmqpError(403, "operation not permitted on the default exchange")
        if name in SYSTEM_EXCHANGES:
            raise AmqpError(
                403, f"deletion of system exchange '{name}' in vhost '{self.name}' not allowed"
            )
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise AmqpError(406, f"exchange '{name}' in vhost '{self.name}' in use")
        self._remove_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        if self.exchanges.pop(exchange.name, None) is None:
            return
        for binding in list(exchange.bindings):
            self._forget_binding(exchange, binding)
        if exchange.durable:
            self.on_change({**self._exchange_op(exchange), "op": "exchange-"})
        self._unbind_everywhere("exchange", exchange.name)
        self._routes.clear()

    # --- queues ---------------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        found = self.queues.get(name)
        if found is None:
            raise AmqpError(404, f"no queue '{name}' in vhost '{self.name}'")
        return found

    def accessible_queue(self, name: str, by: object) -> Queue:
        """The queue, unless it is another connection's own."""
        queue = self.queue(name)
        if queue.owner is not None and queue.owner is not by:
            raise AmqpError(
                405,
                f"cannot obtain exclusive access to locked queue '{name}' in vhost "
                f"'{self.name}'. It could be originally declared on another connection or the "
                "exclusive property value does not match that of the original declaration.",
            )
        return queue

    def declare_queue(
        self,
        name: str,
        raw_arguments: bytes,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        by: Any,
    ) -> Queue:
        arguments = wire.read_table(raw_arguments)
        what = f"queue '{name}' in vhost '{self.name}'"
        if name in self.queues:
            queue = self.accessible_queue(name, by)
            if exclusive and queue.owner is None:
                # As RabbitMQ has it: asking for a shared queue exclusively is a lock refused.
                raise AmqpError(
                    405,
                    f"cannot obtain exclusive access to locked queue '{name}' in vhost "
                    f"'{self.name}'. It could be originally declared on another connection or "
                    "the exclusive property value does not match that of the original "
                    "declaration.",
                )
            check_same(what, "durable", durable, queue.declared_durable)
            check_same(what, "auto_delete", auto_delete, queue.auto_delete)
            check_same(what, "exclusive", exclusive, queue.owner is not None)
            check_same(
                what,
                "x-queue-type",
                arguments.get("x-queue-type", "classic"),
                queue.arguments.get("x-queue-type", "classic"),
            )
            for argument in COMPARED:
                check_same(what, argument, arguments.get(argument), queue.arguments.get(argument))
            queue.touch()
            return queue
        if name.startswith("amq."):
            raise AmqpError(403, f"queue name '{name}' contains reserved prefix 'amq.*'")
        traits = check_queue(
            what, arguments, durable=durable, exclusive=exclusive, auto_delete=auto_delete
        )
        name = name or f"amq.gen-{secrets.token_urlsafe(16)}"
        queue = Queue(
            self.hub,
            self._new_queue_id(),
            name,
            traits,
            durable=durable,
            auto_delete=auto_delete,
            owner=by if exclusive else None,
            raw_arguments=raw_arguments,
            dead_letter=self.dead_letter,
            remove=self.remove_queue,
        )
        self.add_queue(queue)
        return queue

    def add_queue(self, queue: Queue) -> None:
        self.queues[queue.name] = queue
        self.hub.queues_by_id[queue.id] = queue
        self._routes.clear()
        if queue.durable:
            self.on_change(self._queue_op(queue))

    def delete_queue(self, queue: Queue, *, if_unused: bool, if_empty: bool) -> int:
        if if_unused and queue.consumer_count:
            raise AmqpError(406, f"queue '{queue.name}' in vhost '{self.name}' in use")
        if if_empty and queue.ready_count:
            raise AmqpError(406, f"queue '{queue.name}' in vhost '{self.name}' is not empty")
        count = queue.ready_count
        self.remove_queue(queue)
        return count

    def remove_queue(self, queue: Queue) -> None:
        if self.queues.pop(queue.name, None) is None:
            return
        del self.hub.queues_by_id[queue.id]
        queue.dispose()
        if queue.owner is not None:
            queue.owner.owned.discard(queue)
        if queue.durable:
            self.on_change({**self._queue_op(queue), "op": "queue-"})
        self._unbind_everywhere("queue", queue.name)
        self._routes.clear()
        for consumer in list(queue.all_consumers()):
            consumer.channel.consumer_gone(consumer)

    # --- bindings -------------------------------------------------------------------------

    def bind(self, source: str, binding: Binding) -> None:
        exchange = self._exchange_not_default(source)
        if binding.to == "exchange":
            self._exchange_not_default(binding.destination)
        if exchange.kind == "headers":
            self._check_header_match(binding)
        if exchange.add(binding):
            self._routes.clear()
            if self._binding_is_durable(exchange, binding):
                self.on_change(self._binding_op(exchange, binding))

    def _check_header_match(self, binding: Binding) -> None:
        mode = wire.read_table(binding.raw_arguments).get("x-match", "all")
        if mode not in ("all", "any", "all-with-x", "any-with-x"):
            raise AmqpError(406, f"Invalid x-match field value {mode!r}; expected all or any")

    def unbind(self, source: str, binding: Binding) -> None:
        exchange = self.exchanges.get(source)
        if source == "":
            raise AmqpError(403, "operation not permitted on the default exchange")
        if exchange is not None and binding in exchange.bindings:
            self._forget_binding(exchange, binding)
            self._delete_if_abandoned(exchange)

    def _forget_binding(self, exchange: Exchange, binding: Binding) -> None:
        durable = self._binding_is_durable(exchange, binding)
        exchange.remove(binding)
        self._routes.clear()
        if durable:
            self.on_change({**self._binding_op(exchange, binding), "op": "binding-"})

    def _unbind_everywhere(self, to: str, destination: str) -> None:
        for exchange in list(self.exchanges.values()):
            mine = [
                binding
                for binding in exchange.bindings
                if binding.to == to and binding.destination == destination
            ]
            for binding in mine:
                exchange.remove(binding)
                if exchange.durable:
                    self.on_change({**self._binding_op(exchange, binding), "op": "binding-"})
            if mine:
                self._delete_if_abandoned(exchange)

    def _delete_if_abandoned(self, exchange: Exchange) -> None:
        if exchange.auto_delete and exchange.had_binding and not exchange.bindings:
            self._remove_exchange(exchange)

    def _binding_is_durable(self, exchange: Exchange, binding: Binding) -> bool:
        if not exchange.durable:
            return False
        if binding.to == "queue":
            queue = self.queues.get(binding.destination)
            return queue is not None and queue.durable
        destination = self.exchanges.get(binding.destination)
        return destination is not None and destination.durable

    # --- publishing -----------------------------------------------------------------------

    def publish(
        self, address: bytes, head: bytes, body: bytes, user: str, *, internal: bool = False
    ) -> tuple[bool, bool]:
        """Queue one message; answers (was it routed, did every queue take it)."""
        persistent, priority, expiration, headers, user_id = wire.essentials(head)
        if user_id is not None and not internal and wire.to_text(user_id) != user:
            raise AmqpError(
                406,
                f"user_id property set to '{wire.to_text(user_id)}' but authenticated user was "
                f"'{user}'",
            )
        expiration_ms = None if expiration is None else self._expiration_ms(expiration)
        route = self._routes.get(address)
        if address.startswith(REPLY_ADDRESS):
            return self._reply(address, head, body), True
        if route is None or (headers is not None and _has_copies(headers)):
            route, head, headers = self._find_route(address, head, headers)
        return self._enqueue(route, address, head, body, persistent, priority, expiration_ms)

    def _reply(self, address: bytes, head: bytes, body: bytes) -> bool:
        """Straight to the channel that asked, if it is still there: no queue, no journal."""
        token = address[len(REPLY_ADDRESS) + 1 :].decode("latin-1")
        consumer = self.hub.reply_consumers.get(token)
        if consumer is None or consumer.vhost is not self:
            return False
        consumer.deliver_reply(address, head, body)
        return True

    def _expiration_ms(self, raw: bytes) -> int:
        if not raw.isdigit() or int(raw) > EXPIRATION_MAX_MS:
            raise AmqpError(406, f"invalid expiration '{wire.to_text(raw)}': not a number of ms")
        return int(raw)

    def _enqueue(
        self,
        route: Route,
        address: bytes,
        head: bytes,
        body: bytes,
        persistent: bool,
        priority: int,
        expiration_ms: int | None,
    ) -> tuple[bool, bool]:
        queues, taken = route.queues, True
        if route.limited:
            accepting = tuple(queue for queue in queues if queue.accepts(len(body)))
            if len(accepting) < len(queues):
                taken = False
                self._refuse_full(queues, accepting, address, head, body)
                queues, route = accepting, Route(accepting)
                if not queues:
                    return True, taken
        if not queues:
            return False, taken
        hub = self.hub
        message = Message(hub.next_id(), address, head, body, persistent, priority, hub.wall_ms())
        location = share = 0
        durable_ids = route.durable_ids if persistent else route.quorum_ids
        if durable_ids:
            location, size = hub.journal.append_publish(
                message.id,
                message.published_ms,
                True,
                priority,
                0,
                durable_ids,
                address,
                head,
                body,
            )
            share = size // len(durable_ids)
            hub.wake()
        for index, queue in enumerate(queues):
            mine = message if index == 0 else message.twin()
            if location and queue.id in durable_ids:
                mine.location, mine.share, mine.persistent = location, share, True
                hub.journal.live_bytes += share
            queue.put(mine, expiration_ms)
        return True, taken

    def _refuse_full(
        self,
        queues: tuple[Queue, ...],
        accepting: tuple[Queue, ...],
        address: bytes,
        head: bytes,
        body: bytes,
    ) -> None:
        for queue in queues:
            if queue in accepting or queue.traits.overflow != "reject-publish-dlx":
                continue
            persistent, priority, *_ = wire.essentials(head)
            refused = Message(
                self.hub.next_id(),
                address,
                head,
                body,
                persistent,
                priority,
                self.hub.wall_ms(),
            )
            self.dead_letter(queue, refused, "maxlen")

    # --- routing --------------------------------------------------------------------------

    def _find_route(
        self, address: bytes, head: bytes, raw_headers: bytes | None
    ) -> tuple[Route, bytes, bytes | None]:
        reader = wire.Reader(address)
        exchange_name, routing_key = reader.shortstr(), reader.shortstr()
        exchange = self.exchange(exchange_name)
        if exchange.internal:
            raise AmqpError(
                403,
                f"cannot publish to internal exchange '{exchange_name}' in vhost '{self.name}'",
            )
        headers = wire.read_table(raw_headers) if raw_headers else {}
        keys = [routing_key, *_copies(headers, "CC"), *_copies(headers, "BCC")]
        queues, by_headers = self.route(exchange, keys, headers)
        route = Route(queues)
        if len(keys) == 1 and not by_headers:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[address] = route
        if "BCC" in headers:
            head = without_bcc(head)
        return route, head, raw_headers

    def route(
        self, exchange: Exchange, keys: list[str], headers: dict[str, Any]
    ) -> tuple[tuple[Queue, ...], bool]:
        """The queues reached, and whether headers had a say (then the answer is for once)."""
        reached: dict[Queue, None] = {}
        seen = {exchange.name}
        ahead = [exchange]
        by_headers = False
        while ahead:
            here = ahead.pop()
            by_headers = by_headers or here.kind == "headers"
            found = False
            if here.name == "":
                for key in keys:
                    if (queue := self.queues.get(key)) is not None:
                        reached[queue] = None
                        found = True
            for key in keys:
                for binding in here.matches(key, headers):
                    found = True
                    if binding.to == "queue":
                        if (queue := self.queues.get(binding.destination)) is not None:
                            reached[queue] = None
                    elif binding.destination not in seen:
                        seen.add(binding.destination)
                        ahead.append(self.exchanges[binding.destination])
            alternate = here.alternate
            if not found and alternate is not None and alternate not in seen:
                seen.add(alternate)
                if (fallback := self.exchanges.get(alternate)) is not None:
                    ahead.append(fallback)
        return tuple(reached), by_headers

    # --- dead letters ---------------------------------------------------------------------

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Have a message buried in this turn, before anything of it is struck from the journal.

        Not at once: a full queue whose dead letters come back to it would call itself for
        every message it holds.
        """
        self.hub.to_bury.append((self, queue, message, reason))
        self.hub.wake()

    def bury(self, queue: Queue, message: Message, reason: str) -> None:
        """Publish a dead message to its queue's dead-letter exchange, with its history."""
        # The empty name is the default exchange, a choice like any other; None is no choice.
        name = queue.traits.dead_letter_exchange
        exchange = None if name is None else self.exchanges.get(name)
        if exchange is None:
            return
        reader = wire.Reader(message.address)
        from_exchange, first_key = reader.shortstr(), reader.shortstr()
        properties = wire.split_properties(message.head)
        headers, fields = wire.read_headers(properties.get("headers", b""))
        own_key = queue.traits.dead_letter_routing_key
        keys = [own_key] if own_key is not None else [first_key, *_copies(headers, "CC")]
        targets, _ = self.route(exchange, keys, headers)
        targets = tuple(
            target
            for target in targets
            if reason == "rejected"
            or not (target is queue or _goes_in_circles(headers, target.name))
        )
        if not targets:
            return
        if own_key is not None:
            fields.pop("CC", None)
        expiration = properties.pop("expiration", None)
        self._write_history(
            fields,
            headers,
            queue.name,
            reason,
            from_exchange,
            [first_key, *_copies(headers, "CC")],
            expiration,
        )
        properties["headers"] = wire.join_table(fields)
        head = wire.join_properties(len(message.body), properties)
        address = wire.shortstr(exchange.name) + wire.shortstr(keys[0])
        persistent, *_ = wire.essentials(message.head)  # by its publisher's word, not by its queue
        self._enqueue(
            Route(targets),
            address,
            head,
            message.body,
            persistent,
            message.priority,
            None,
        )

    def _write_history(
        self,
        fields: dict[str, bytes],
        headers: dict[str, Any],
        queue: str,
        reason: str,
        exchange: str,
        routing_keys: list[str],
        expiration: bytes | None,
    ) -> None:
        deaths = headers.get("x-death")
        deaths = deaths if isinstance(deaths, list) else []
        deaths = [death for death in deaths if isinstance(death, dict)]
        same = [d for d in deaths if d.get("queue") == queue and d.get("reason") == reason]
        if same:
            count = same[0].get("count")  # a publisher may have written anything there
            death = {**same[0], "count": count + 1 if isinstance(count, int) else 1}
            deaths.remove(same[0])
        else:
            death = {
                "count": 1,
                "reason": reason,
                "queue": queue,
                "time": Timestamp(self.hub.wall_ms() // 1000),
                "exchange": exchange,
                "routing-keys": routing_keys,
            }
            if expiration is not None:
                death["original-expiration"] = wire.to_text(expiration)
        # RabbitMQ turns the earlier deaths round each time; who reads more than the first place
        # sees the same here.
        fields["x-death"] = wire.write_value([death, *reversed(deaths)])
        if "x-first-death-reason" not in fields:
            fields["x-first-death-reason"] = wire.write_value(reason)
            fields["x-first-death-queue"] = wire.write_value(queue)
            fields["x-first-death-exchange"] = wire.write_value(exchange)

    # --- in the journal -------------------------------------------------------------------

    def ops(self) -> Iterator[Op]:
        """Everything durable here, as the changes that would make it anew."""
        yield {"op": "vhost+", "name": self.name}
        for exchange in self.exchanges.values():
            if exchange.durable and exchange.name not in SYSTEM_EXCHANGES:
                yield self._exchange_op(exchange)
        for queue in self.queues.values():
            if queue.durable:
                yield self._queue_op(queue)
        for exchange in self.exchanges.values():
            for binding in exchange.bindings:
                if self._binding_is_durable(exchange, binding):
                    yield self._binding_op(exchange, binding)

    def _exchange_op(self, exchange: Exchange) -> Op:
        return {
            "op": "exchange+",
            "vhost": self.name,
            "name": exchange.name,
            "kind": exchange.kind,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": raw_to_text(exchange.raw_arguments),
        }

    def _queue_op(self, queue: Queue) -> Op:
        return {
            "op": "queue+",
            "vhost": self.name,
            "id": queue.id,
            "name": queue.name,
            "auto_delete": queue.auto_delete,
            "arguments": raw_to_text(queue.raw_arguments),
        }

    def _binding_op(self, exchange: Exchange, binding: Binding) -> Op:
        return {
            "op": "binding+",
            "vhost": self.name,
            "source": exchange.name,
            "to": binding.to,
            "destination": binding.destination,
            "routing_key": binding.routing_key,
            "arguments": raw_to_text(binding.raw_arguments),
        }


def without_bcc(head: bytes) -> bytes:
    """As everybody but the publisher sees it: who else got it is nobody's business."""
    if b"BCC" not in head:
        return head
    properties = wire.split_properties(head)
    fields = wire.split_table(properties.get("headers", b""))
    if fields.pop("BCC", None) is None:
        return head
    properties["headers"] = wire.join_table(fields)
    return wire.join_properties(int.from_bytes(head[4:12], "big"), properties)


def _has_copies(raw_headers: bytes) -> bool:
    return b"CC" in raw_headers  # also finds BCC; a false hit only costs the slow way


def _copies(headers: dict[str, Any], name: str) -> list[str]:
    values = headers.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise AmqpError(406, f"invalid {name} header: an array of strings is wanted")
    return values


def _goes_in_circles(headers: dict[str, Any], target: str) -> bool:
    """It was in ``target`` before and nobody rejected it since: it would go round for ever."""
    deaths = headers.get("x-death")
    for death in reversed(deaths) if isinstance(deaths, list) else []:
        if not isinstance(death, dict) or death.get("reason") == "rejected":
            return False
        if death.get("queue") == target:
            return True
    return False
