"""The broker's answer over HTTP: the part of RabbitMQ's management API that tools ask for.

Read by Flower's broker tab, by ``botswarm queue`` and by monitors written for RabbitMQ. Written
here because a web framework would cost more memory and start-up time than the broker itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from botswarm import __version__
from botswarm.broker import wire
from botswarm.broker.connection import Connection
from botswarm.broker.exchanges import Binding, Exchange
from botswarm.broker.queues import Message, Queue
from botswarm.broker.vhost import VHost
from botswarm.errors import BotswarmError, NotFound, Refused

if TYPE_CHECKING:
    from botswarm.broker.server import Broker

_log = logging.getLogger(__name__)

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 256 * 1024
IDLE_S: Final = 60.0
GET_COUNT_MAX: Final = 10_000
PRODUCT: Final = "botswarm"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            parsed = json.loads(self.body or b"{}")
        except ValueError:
            raise BadRequest("the body is not JSON") from None
        if not isinstance(parsed, dict):
            raise BadRequest("the body is not a JSON object")
        return parsed


class BadRequest(BotswarmError):
    """The request itself is wrong: mend it before asking again."""


Answer = tuple[HTTPStatus, Any]
Handler = Callable[["Management", Request, tuple[str, ...]], Answer]


class Management:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.hub = broker.hub

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # the client went away, or speaks no HTTP: there is nobody to tell
        except Exception:
            _log.exception("management: unexpected")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(IDLE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            try:
                request, size = _parse_head(head)
            except BadRequest as error:
                await _send(writer, HTTPStatus.BAD_REQUEST, {"reason": error.cause}, keep=False)
                return False
            body = await reader.readexactly(size) if size else b""
        request = Request(request.method, request.path, request.headers, body)
        status, answer = self.answer(request)
        keep = request.headers.get("connection", "").lower() != "close"
        await _send(writer, status, answer, keep=keep)
        self.hub.wake()
        return keep

    def answer(self, request: Request) -> Answer:
        if not self._may(request.headers.get("authorization", "")):
            return HTTPStatus.UNAUTHORIZED, {
                "error": "not_authorised",
                "reason": "Login failed",
            }
        path = urlsplit(request.path).path
        for method, pattern, handler in ROUTES:
            if method == request.method and (found := pattern.fullmatch(path)):
                try:
                    return handler(self, request, tuple(map(unquote, found.groups())))
                except NotFound as error:
                    return HTTPStatus.NOT_FOUND, _refusal("Object Not Found", error)
                except (BadRequest, Refused) as error:
                    return HTTPStatus.BAD_REQUEST, _refusal("bad_request", error)
                except wire.AmqpError as error:
                    return HTTPStatus.BAD_REQUEST, {"error": "bad_request", "reason": str(error)}
        known = any(pattern.fullmatch(path) for _, pattern, _ in ROUTES)
        status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
        return status, {"error": status.phrase, "reason": status.phrase}

    def _may(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(token).partition(b":")
        except ValueError:
            return False
        right_user = hmac.compare_digest(user, self.broker.user.encode())
        right_password = hmac.compare_digest(password, self.broker.password.encode())
        return right_user and right_password

    # --- finding --------------------------------------------------------------------------

    def _vhost(self, name: str) -> VHost:
        found = self.broker.vhosts.get(name)
        if found is None:
            raise NotFound(f"there is no vhost {name!r}")
        return found

    def _queue(self, vhost: str, name: str) -> tuple[VHost, Queue]:
        home = self._vhost(vhost)
        queue = home.queues.get(name)
        if queue is None:
            raise NotFound(f"there is no queue {name!r} in vhost {vhost!r}")
        return home, queue

    def _homes(self, names: tuple[str, ...]) -> list[VHost]:
        return [self._vhost(names[0])] if names else list(self.broker.vhosts.values())

    # --- answers --------------------------------------------------------------------------

    def overview(self, _request: Request, _names: tuple[str, ...]) -> Answer:
        queues = list(self.hub.queues_by_id.values())
        journal = self.broker.journal
        ready = sum(queue.ready_count for queue in queues)
        unacked = sum(queue.unacked_count for queue in queues)
        return HTTPStatus.OK, {
            "product_name": PRODUCT,
            "product_version": __version__,
            "rabbitmq_version": "3.10.8",  # whose behaviour this broker is held to
            "management_version": __version__,
            "node": self._node,
            "queue_totals": {
                "messages": ready + unacked,
                "messages_ready": ready,
                "messages_unacknowledged": unacked,
            },
            "object_totals": {
                "connections": len(self.hub.connections),
                "channels": sum(len(c.channels) for c in self.hub.connections),
                "exchanges": sum(len(v.exchanges) for v in self.broker.vhosts.values()),
                "queues": len(queues),
                "consumers": sum(queue.consumer_count for queue in queues),
            },
            "botswarm": {
                "pid": os.getpid(),
                "started_at": self.broker.started_at.isoformat(timespec="seconds"),
                "journal_bytes": journal.total_bytes,
                "journal_live_bytes": journal.live_bytes,
                "journal_segments": len(journal.segments),
                "memory_bytes": self.hub.memory_bytes,
                "memory_high_bytes": self.hub.memory_high_bytes,
                "blocked_for": self.hub.alarm,
                "fsync": self.hub.fsync,
            },
        }

    @property
    def _node(self) -> str:
        return f"botswarm@{os.uname().nodename}"

    def vhosts(self, _request: Request, _names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [{"name": name} for name in self.broker.vhosts]

    def vhost(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, {"name": self._vhost(names[0]).name}

    def put_vhost(self, _request: Request, names: tuple[str, ...]) -> Answer:
        is_new = names[0] not in self.broker.vhosts
        self.broker.add_vhost(names[0])
        return (HTTPStatus.CREATED if is_new else HTTPStatus.NO_CONTENT), None

    def delete_vhost(self, _request: Request, names: tuple[str, ...]) -> Answer:
        self.broker.remove_vhost(names[0])
        return HTTPStatus.NO_CONTENT, None

    def put_permissions(self, _request: Request, names: tuple[str, ...]) -> Answer:
        """There is one user and it may do everything: granted already."""
        self._vhost(names[0])
        return HTTPStatus.NO_CONTENT, None

    def queues(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [
            self._queue_row(home, queue)
            for home in self._homes(names)
            for queue in home.queues.values()
        ]

    def queue(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, self._queue_row(*self._queue(*names))

    def delete_queue(self, request: Request, names: tuple[str, ...]) -> Answer:
        home, queue = self._queue(*names)
        asked = dict(parse_qsl(urlsplit(request.path).query))
        home.delete_queue(
            queue,
            if_unused=asked.get("if-unused") == "true",
            if_empty=asked.get("if-empty") == "true",
        )
        return HTTPStatus.NO_CONTENT, None

    def purge_queue(self, _request: Request, names: tuple[str, ...]) -> Answer:
        self._queue(*names)[1].purge()
        return HTTPStatus.NO_CONTENT, None

    def get_messages(self, request: Request, names: tuple[str, ...]) -> Answer:
        """Take messages and, in the modes that say so, put them back where they were."""
        _, queue = self._queue(*names)
        wanted = request.json()
        count, truncate = wanted.get("count", 1), wanted.get("truncate")
        mode = wanted.get("ackmode", "ack_requeue_true")
        if not isinstance(count, int) or not 0 < count <= GET_COUNT_MAX:
            raise BadRequest(f"count is not a whole number from 1 to {GET_COUNT_MAX}")
        if truncate is not None and (not isinstance(truncate, int) or truncate < 0):
            raise BadRequest("truncate is not a number of bytes")
        if mode not in ACK_MODES:
            raise BadRequest(f"ackmode is none of {', '.join(ACK_MODES)}")
        rows: list[dict[str, Any]] = []
        taken: list[Message] = []
        while len(taken) < count and (message := queue.take()) is not None:
            rows.append(_message_row(message, queue.ready_count, truncate))
            queue.mark_delivered(message)
            taken.append(message)
        for message in taken:
            ACK_MODES[mode](queue, message)
        return HTTPStatus.OK, rows

    def exchanges(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [
            _exchange_row(home, exchange)
            for home in self._homes(names)
            for exchange in home.exchanges.values()
        ]

    def bindings(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [row for home in self._homes(names) for row in _binding_rows(home)]

    def connections(self, _request: Request, _names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [_connection_row(c) for c in self.hub.connections if c.is_open]

    def connection(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, _connection_row(self._connection(names[0]))

    def delete_connection(self, request: Request, names: tuple[str, ...]) -> Answer:
        reason = request.headers.get("x-reason", "Closed via management plugin")
        self._connection(names[0]).close(320, f"CONNECTION_FORCED - {reason}")
        return HTTPStatus.NO_CONTENT, None

    def _connection(self, name: str) -> Connection:
        for connection in self.hub.connections:
            if connection.name == name and connection.is_open:
                return connection
        raise NotFound(f"there is no connection {name!r}")

    def consumers(self, _request: Request, names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, [
            {
                "consumer_tag": consumer.tag,
                "queue": {"name": queue.name, "vhost": home.name},
                "ack_required": not consumer.no_ack,
                "exclusive": consumer.exclusive,
                "prefetch_count": consumer.prefetch,
                "active": queue.active in (None, consumer),
                "channel_details": {
                    "connection_name": consumer.channel.connection.name,
                    "number": consumer.channel.number,
                },
            }
            for home in self._homes(names)
            for queue in home.queues.values()
            for consumer in queue.all_consumers()
        ]

    def get_limits(self, _request: Request, _names: tuple[str, ...]) -> Answer:
        return HTTPStatus.OK, {"memory_high_mb": self.hub.memory_high_bytes // 2**20}

    def put_limits(self, request: Request, _names: tuple[str, ...]) -> Answer:
        wanted = request.json().get("memory_high_mb")
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
            raise BadRequest("memory_high_mb is not a number of megabytes")
        self.hub.memory_high_bytes = wanted * 2**20
        self.hub.look_at_alarms()
        return HTTPStatus.NO_CONTENT, None

    def _queue_row(self, home: VHost, queue: Queue) -> dict[str, Any]:
        return {
            "name": queue.name,
            "vhost": home.name,
            "type": "quorum" if queue.traits.quorum else "classic",
            "durable": queue.declared_durable,
            "auto_delete": queue.auto_delete,
            "exclusive": queue.owner is not None,
            "arguments": queue.arguments,
            "node": self._node,
            "state": "running",
            "messages": queue.ready_count + queue.unacked_count,
            "messages_ready": queue.ready_count,
            "messages_unacknowledged": queue.unacked_count,
            "consumers": queue.consumer_count,
            "idle_since": f"{datetime.fromtimestamp(queue.idle_since_ms / 1000, UTC):%F %T}",
            "message_stats": {
                "publish": queue.published_count,
                "deliver_get": queue.delivered_count,
                "ack": queue.acked_count,
            },
        }


ACK_MODES: Final[dict[str, Callable[[Queue, Message], None]]] = {
    "ack_requeue_true": Queue.give_back,
    "reject_requeue_true": Queue.give_back,
    "ack_requeue_false": Queue.acked,
    "reject_requeue_false": Queue.refuse,
}


def _message_row(message: Message, left: int, truncate: int | None) -> dict[str, Any]:
    reader = wire.Reader(message.address)
    body = message.body if truncate is None else message.body[:truncate]
    try:
        payload, encoding = body.decode(), "string"
    except UnicodeDecodeError:
        payload, encoding = base64.b64encode(body).decode(), "base64"
    return {
        "exchange": reader.shortstr(),
        "routing_key": reader.shortstr(),
        "redelivered": message.deliveries > 0,
        "message_count": left,
        "payload_bytes": len(message.body),
        "payload": payload,
        "payload_encoding": encoding,
        "properties": wire.read_properties(message.head),
    }


def _exchange_row(home: VHost, exchange: Exchange) -> dict[str, Any]:
    return {
        "name": exchange.name,
        "vhost": home.name,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": exchange.arguments,
    }


def _binding_rows(home: VHost) -> Iterator[dict[str, Any]]:
    for queue in home.queues.values():
        yield _binding_row(home, "", Binding("queue", queue.name, queue.name))
    for exchange in home.exchanges.values():
        for binding in exchange.bindings:
            yield _binding_row(home, exchange.name, binding)


def _binding_row(home: VHost, source: str, binding: Binding) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": home.name,
        "destination": binding.destination,
        "destination_type": binding.to,
        "routing_key": binding.routing_key,
        "arguments": wire.read_table(binding.raw_arguments),
        "properties_key": binding.routing_key or "~",
    }


def _connection_row(connection: Connection) -> dict[str, Any]:
    peer, here = connection.name.split(" -> ")
    peer_host, _, peer_port = peer.rpartition(":")
    host, _, port = here.rpartition(":")
    return {
        "name": connection.name,
        "host": host,
        "port": int(port),
        "peer_host": peer_host,
        "peer_port": int(peer_port),
        "protocol": "AMQP 0-9-1",
        "user": connection.user,
        "vhost": connection.vhost.name,
        "channels": len(connection.channels),
        "channel_max": connection.channel_max,
        "frame_max": connection.frame_max,
        "timeout": connection.heartbeat_s,
        "state": "blocked" if connection.blocked else "running",
        "client_properties": connection.client_properties,
        "connected_at": connection.connected_at_ms,
        "recv_oct": connection.received_bytes,
        "send_oct": connection.sent_bytes,
    }


def _refusal(name: str, error: BotswarmError) -> dict[str, str]:
    return {"error": name, "reason": error.cause}


def _parse_head(head: bytes) -> tuple[Request, int]:
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _version = first.split(" ")
        headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
    except ValueError:
        raise BadRequest("this is no HTTP request") from None
    if "transfer-encoding" in headers:
        raise BadRequest("a body of unsaid length")
    if not 0 <= size <= BODY_BYTES_MAX:
        raise BadRequest(f"a body over {BODY_BYTES_MAX} bytes")
    return Request(method, path, headers, b""), size


def _plain(value: object) -> object:
    """What JSON has no form for: byte arrays and decimals of field tables."""
    return value.hex() if isinstance(value, bytes) else str(value)


async def _send(
    writer: asyncio.StreamWriter, status: HTTPStatus, answer: Any, *, keep: bool
) -> None:
    body = b"" if answer is None else json.dumps(answer, default=_plain).encode()
    head = [f"HTTP/1.1 {status.value} {status.phrase}", f"content-length: {len(body)}"]
    if body:
        head.append("content-type: application/json")
    if status is HTTPStatus.UNAUTHORIZED:
        head.append('www-authenticate: Basic realm="botswarm broker"')
    head.append(f"connection: {'keep-alive' if keep else 'close'}")
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    await writer.drain()


def _route(method: str, path: str, handler: Handler) -> tuple[str, re.Pattern[str], Handler]:
    return method, re.compile("/api/" + path.replace("*", "([^/]+)") + "/*"), handler


ROUTES: Final = (
    _route("GET", "overview", Management.overview),
    _route("GET", "vhosts", Management.vhosts),
    _route("GET", "vhosts/*", Management.vhost),
    _route("PUT", "vhosts/*", Management.put_vhost),
    _route("DELETE", "vhosts/*", Management.delete_vhost),
    _route("PUT", "permissions/*/*", Management.put_permissions),
    _route("GET", "queues", Management.queues),
    _route("GET", "queues/*", Management.queues),
    _route("GET", "queues/*/*", Management.queue),
    _route("DELETE", "queues/*/*", Management.delete_queue),
    _route("DELETE", "queues/*/*/contents", Management.purge_queue),
    _route("POST", "queues/*/*/get", Management.get_messages),
    _route("GET", "exchanges", Management.exchanges),
    _route("GET", "exchanges/*", Management.exchanges),
    _route("GET", "bindings", Management.bindings),
    _route("GET", "bindings/*", Management.bindings),
    _route("GET", "connections", Management.connections),
    _route("GET", "connections/*", Management.connection),
    _route("DELETE", "connections/*", Management.delete_connection),
    _route("GET", "consumers", Management.consumers),
    _route("GET", "consumers/*", Management.consumers),
    _route("GET", "botswarm/limits", Management.get_limits),
    _route("PUT", "botswarm/limits", Management.put_limits),
)
