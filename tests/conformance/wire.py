"""AMQP 0-9-1 spoken frame by frame, so that a test sees what client libraries hide.

One socket, no threads: whoever waits for an answer reads the socket and files what belongs to
other channels. Nothing is validated on the way out: a test may say what no library would.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
PATIENCE_S = 10.0

# name class method arguments: o octet, h short, l long, q long long, s short string,
# S long string, F table, b bit.
SPECIFICATION = """
connection.start     10 10 o:major o:minor F:server_properties S:mechanisms S:locales
connection.start-ok  10 11 F:client_properties s:mechanism S:response s:locale
connection.secure    10 20 S:challenge
connection.tune      10 30 h:channel_max l:frame_max h:heartbeat
connection.tune-ok   10 31 h:channel_max l:frame_max h:heartbeat
connection.open      10 40 s:vhost s:reserved1 b:reserved2
connection.open-ok   10 41 s:reserved1
connection.close     10 50 h:code s:text h:class_id h:method_id
connection.close-ok  10 51
connection.blocked   10 60 s:reason
connection.unblocked 10 61
connection.update-secret    10 70 S:new_secret s:reason
connection.update-secret-ok 10 71
channel.open         20 10 s:reserved1
channel.open-ok      20 11 S:reserved1
channel.flow         20 20 b:active
channel.flow-ok      20 21 b:active
channel.close        20 40 h:code s:text h:class_id h:method_id
channel.close-ok     20 41
exchange.declare     40 10 h:ticket s:exchange s:type b:passive b:durable b:auto_delete b:internal \
b:nowait F:arguments
exchange.declare-ok  40 11
exchange.delete      40 20 h:ticket s:exchange b:if_unused b:nowait
exchange.delete-ok   40 21
exchange.bind        40 30 h:ticket s:destination s:source s:routing_key b:nowait F:arguments
exchange.bind-ok     40 31
exchange.unbind      40 40 h:ticket s:destination s:source s:routing_key b:nowait F:arguments
exchange.unbind-ok   40 51
queue.declare        50 10 h:ticket s:queue b:passive b:durable b:exclusive b:auto_delete b:nowait \
F:arguments
queue.declare-ok     50 11 s:queue l:messages l:consumers
queue.bind           50 20 h:ticket s:queue s:exchange s:routing_key b:nowait F:arguments
queue.bind-ok        50 21
queue.purge          50 30 h:ticket s:queue b:nowait
queue.purge-ok       50 31 l:messages
queue.delete         50 40 h:ticket s:queue b:if_unused b:if_empty b:nowait
queue.delete-ok      50 41 l:messages
queue.unbind         50 50 h:ticket s:queue s:exchange s:routing_key F:arguments
queue.unbind-ok      50 51
basic.qos            60 10 l:prefetch_size h:prefetch_count b:is_global
basic.qos-ok         60 11
basic.consume        60 20 h:ticket s:queue s:consumer_tag b:no_local b:no_ack b:exclusive \
b:nowait F:arguments
basic.consume-ok     60 21 s:consumer_tag
basic.cancel         60 30 s:consumer_tag b:nowait
basic.cancel-ok      60 31 s:consumer_tag
basic.publish        60 40 h:ticket s:exchange s:routing_key b:mandatory b:immediate
basic.return         60 50 h:code s:text s:exchange s:routing_key
basic.deliver        60 60 s:consumer_tag q:delivery_tag b:redelivered s:exchange s:routing_key
basic.get            60 70 h:ticket s:queue b:no_ack
basic.get-ok         60 71 q:delivery_tag b:redelivered s:exchange s:routing_key l:messages
basic.get-empty      60 72 s:reserved1
basic.ack            60 80 q:delivery_tag b:multiple
basic.reject         60 90 q:delivery_tag b:requeue
basic.recover-async  60 100 b:requeue
basic.recover        60 110 b:requeue
basic.recover-ok     60 111
basic.nack           60 120 q:delivery_tag b:multiple b:requeue
confirm.select       85 10 b:nowait
confirm.select-ok    85 11
tx.select            90 10
tx.select-ok         90 11
tx.commit            90 20
tx.commit-ok         90 21
tx.rollback          90 30
tx.rollback-ok       90 31
"""

PROPERTIES = (
    ("content_type", "s"),
    ("content_encoding", "s"),
    ("headers", "F"),
    ("delivery_mode", "o"),
    ("priority", "o"),
    ("correlation_id", "s"),
    ("reply_to", "s"),
    ("expiration", "s"),
    ("message_id", "s"),
    ("timestamp", "T"),
    ("type", "s"),
    ("user_id", "s"),
    ("app_id", "s"),
    ("cluster_id", "s"),
)

CARRIES_CONTENT = ("basic.publish", "basic.return", "basic.deliver", "basic.get-ok")


def _read_specification() -> tuple[
    dict[str, tuple[int, int, list[tuple[str, str]]]], dict[tuple[int, int], str]
]:
    methods: dict[str, tuple[int, int, list[tuple[str, str]]]] = {}
    names: dict[tuple[int, int], str] = {}
    for line in SPECIFICATION.strip().splitlines():
        name, class_id, method_id, *arguments = line.split()
        kinds = [(argument[0], argument[2:]) for argument in arguments]
        methods[name] = (int(class_id), int(method_id), kinds)
        names[int(class_id), int(method_id)] = name
    return methods, names


METHODS, NAMES = _read_specification()


class Ended(Exception):
    """The broker closed the socket."""


class Closed(Exception):
    """The broker closed the channel or the connection and said why."""

    def __init__(self, scope: str, code: int, text: str, class_id: int, method_id: int) -> None:
        super().__init__(f"{scope} closed: {code} {text} ({class_id}, {method_id})")
        self.scope = scope
        self.code = code
        self.text = text
        self.method = NAMES.get((class_id, method_id), "")


@dataclass(frozen=True, slots=True)
class Typed:
    """A table value with the type letter it travels under, and its bytes."""

    letter: str
    payload: bytes


@dataclass(slots=True)
class Method:
    """One method with, where it carries content, the message."""

    name: str
    channel: int
    arguments: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    raw_properties: bytes = b""
    body: bytes = b""
    body_frames: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.arguments[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def headers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.properties.get("headers", {})
        return found

    @property
    def key(self) -> str:
        found: str = self.arguments["routing_key"]
        return found

    @property
    def tag(self) -> int:
        found: int = self.arguments["delivery_tag"]
        return found


# Encoding


def short_string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return bytes([len(data)]) + data


def long_string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def table(values: Mapping[str, Any]) -> bytes:
    return long_string(b"".join(short_string(key) + item(value) for key, value in values.items()))


def item(value: Any) -> bytes:
    match value:
        case Typed():
            return value.letter.encode() + value.payload
        case None:
            return b"V"
        case bool():
            return b"t" + bytes([value])
        case int() if -(2**31) <= value < 2**31:
            return b"I" + struct.pack(">i", value)
        case int():
            return b"l" + struct.pack(">q", value)
        case float():
            return b"d" + struct.pack(">d", value)
        case str():
            return b"S" + long_string(value)
        case bytes():
            return b"x" + long_string(value)
        case Decimal():
            exponent = int(value.as_tuple().exponent)
            return b"D" + struct.pack(">Bi", -exponent, int(value.scaleb(-exponent)))
        case datetime():
            return b"T" + struct.pack(">Q", int(value.timestamp()))
        case dict():
            return b"F" + table(value)
        case list():
            return b"A" + long_string(b"".join(map(item, value)))
        case _:
            raise TypeError(f"no table type for {value!r}")


def encode_method(name: str, arguments: Mapping[str, Any]) -> bytes:
    class_id, method_id, kinds = METHODS[name]
    if unknown := set(arguments) - {argument for _, argument in kinds}:
        raise TypeError(f"{name} has no argument {unknown}")
    parts = [struct.pack(">HH", class_id, method_id)]
    bits: list[bool] = []
    for kind, argument in kinds:
        value = arguments.get(argument)
        if kind == "b":
            bits.append(bool(value))
            continue
        parts.append(_pack_bits(bits))
        parts.append(_encode(kind, value))
    parts.append(_pack_bits(bits))
    return b"".join(parts)


def _pack_bits(bits: list[bool]) -> bytes:
    if not bits:
        return b""
    packed = sum(bit << position for position, bit in enumerate(bits))
    bits.clear()
    return bytes([packed])


def _encode(kind: str, value: Any) -> bytes:
    match kind:
        case "o":
            return struct.pack(">B", value or 0)
        case "h":
            return struct.pack(">H", value or 0)
        case "l":
            return struct.pack(">I", value or 0)
        case "q" | "T":
            return struct.pack(">Q", value or 0)
        case "s":
            return short_string(value or "")
        case "S":
            return long_string(value or "")
        case _:
            return long_string(value) if isinstance(value, bytes) else table(value or {})


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    if unknown := set(properties) - {name for name, _ in PROPERTIES}:
        raise TypeError(f"no such property {unknown}")
    flags = 0
    parts = []
    for position, (name, kind) in enumerate(PROPERTIES):
        if name in properties:
            flags |= 1 << (15 - position)
            parts.append(_encode(kind, properties[name]))
    return struct.pack(">H", flags) + b"".join(parts)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


# Decoding


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ValueError("the broker sent a short payload")
        self.at += count
        return taken

    def unpack(self, layout: str) -> Any:
        return struct.unpack(">" + layout, self.take(struct.calcsize(">" + layout)))[0]

    def short_string(self) -> str:
        return self.take(self.unpack("B")).decode()

    def long_string(self) -> bytes:
        return self.take(self.unpack("I"))

    def table(self) -> dict[str, Any]:
        inner = _Reader(self.long_string())
        values = {}
        while inner.at < len(inner.data):
            key = inner.short_string()
            values[key] = inner.item()
        return values

    def array(self) -> list[Any]:
        inner = _Reader(self.long_string())
        values = []
        while inner.at < len(inner.data):
            values.append(inner.item())
        return values

    def item(self) -> Any:
        letter = chr(self.unpack("B"))
        layouts = {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q"}
        layouts |= {"f": "f", "d": "d"}
        if letter in layouts:
            return self.unpack(layouts[letter])
        match letter:
            case "t":
                return bool(self.unpack("B"))
            case "D":
                scale = self.unpack("B")
                return Decimal(self.unpack("i")).scaleb(-scale)
            case "S":
                data = self.long_string()
                try:
                    return data.decode()
                except UnicodeDecodeError:
                    return data
            case "x":
                return self.long_string()
            case "T":
                return datetime.fromtimestamp(self.unpack("Q"), UTC)
            case "F":
                return self.table()
            case "A":
                return self.array()
            case "V":
                return None
            case _:
                raise ValueError(f"the broker sent a table value of type {letter!r}")

    def value(self, kind: str) -> Any:
        match kind:
            case "o":
                return self.unpack("B")
            case "h":
                return self.unpack("H")
            case "l":
                return self.unpack("I")
            case "q" | "T":
                return self.unpack("Q")
            case "s":
                return self.short_string()
            case "S":
                return self.long_string()
            case _:
                return self.table()


def decode_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    reader = _Reader(payload)
    class_id, method_id = reader.unpack("H"), reader.unpack("H")
    name = NAMES[class_id, method_id]
    arguments: dict[str, Any] = {}
    position = 8
    bits = 0
    for kind, argument in METHODS[name][2]:
        if kind == "b":
            if position == 8:
                bits, position = reader.unpack("B"), 0
            arguments[argument] = bool(bits >> position & 1)
            position += 1
        else:
            position = 8
            arguments[argument] = reader.value(kind)
    if reader.at != len(payload):
        raise ValueError(f"the broker sent {name} with {len(payload) - reader.at} bytes too many")
    return name, arguments


def decode_properties(data: bytes) -> dict[str, Any]:
    reader = _Reader(data)
    flags = reader.unpack("H")
    return {
        name: reader.value(kind)
        for position, (name, kind) in enumerate(PROPERTIES)
        if flags >> (15 - position) & 1
    }


# Talking


class Client:
    """One connection."""

    def __init__(self, host: str, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.frame_max = 131072
        self.channel_max = 2047
        self.start: Method
        self.tuned: Method
        self.inbox: deque[Method] = deque()
        """What arrived for channel 0 and was not asked for."""
        self.channels: dict[int, Channel] = {}
        self._partial: dict[int, tuple[Method, int]] = {}
        self.heartbeats = 0
        self.closed = False
        """Whether the broker closed the connection with a reason."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def open(
        self,
        user: str,
        password: str,
        vhost: str = "/",
        *,
        heartbeat: int = 0,
        frame_max: int | None = None,
        channel_max: int | None = None,
        mechanism: str = "PLAIN",
        capabilities: Mapping[str, Any] | None = None,
    ) -> Self:
        """The whole handshake; raises Closed or Ended where the broker ends it."""
        self.greet()
        self.authenticate(user, password, mechanism=mechanism, capabilities=capabilities)
        self.tuned = self.expect("connection.tune")
        self.frame_max = self.tuned.frame_max if frame_max is None else frame_max
        self.channel_max = self.tuned.channel_max if channel_max is None else channel_max
        self.tune_ok(heartbeat)
        self.send(0, "connection.open", vhost=vhost)
        self.expect("connection.open-ok")
        return self

    def greet(self) -> Method:
        self.socket.sendall(HEADER)
        self.start = self.expect("connection.start")
        return self.start

    def authenticate(
        self,
        user: str,
        password: str,
        *,
        mechanism: str = "PLAIN",
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        response = f"\0{user}\0{password}".encode()
        if mechanism == "AMQPLAIN":
            response = table({"LOGIN": user, "PASSWORD": password})[4:]
        if capabilities is None:
            capabilities = {
                "authentication_failure_close": True,
                "basic.nack": True,
                "connection.blocked": True,
                "consumer_cancel_notify": True,
                "publisher_confirms": True,
            }
        self.send(
            0,
            "connection.start-ok",
            client_properties={"product": "wire", "capabilities": dict(capabilities)},
            mechanism=mechanism,
            response=response,
            locale="en_US",
        )

    def tune_ok(self, heartbeat: int = 0) -> None:
        self.send(
            0,
            "connection.tune-ok",
            channel_max=self.channel_max,
            frame_max=self.frame_max,
            heartbeat=heartbeat,
        )

    def channel(self, number: int | None = None) -> Channel:
        if number is None:
            number = next(n for n in range(1, 65536) if n not in self.channels)
        opened = Channel(self, number)
        self.channels[number] = opened
        opened.call("channel.open")
        return opened

    def close(self) -> None:
        """Say goodbye and wait for the answer."""
        self.send(0, "connection.close", code=200, text="bye")
        self.expect("connection.close-ok")
        self.drop()

    def drop(self) -> None:
        """Close the socket without a word."""
        self.closed = True
        self.socket.close()

    # Sending

    def send(self, channel: int, name: str, **arguments: Any) -> None:
        self.send_frame(METHOD, channel, encode_method(name, arguments))

    def send_frame(self, kind: int, channel: int, payload: bytes) -> None:
        self.socket.sendall(frame(kind, channel, payload))

    # Receiving

    def expect(self, name: str, timeout_s: float = PATIENCE_S) -> Method:
        """The next method on channel 0 that was asked for, which must be this one."""
        deadline = time.monotonic() + timeout_s
        while True:
            for method in list(self.inbox):
                self.inbox.remove(method)
                if method.name == name:
                    return method
                if method.name not in ("connection.blocked", "connection.unblocked"):
                    raise AssertionError(f"expected {name}, got {method}")
            self.pump(deadline)

    def expect_close(self, timeout_s: float = PATIENCE_S) -> Closed:
        """Wait until the broker closes the connection with a reason."""
        try:
            deadline = time.monotonic() + timeout_s
            while True:
                self.pump(deadline)
        except Closed as closed:
            if closed.scope != "connection":
                raise
            return closed

    def expect_end(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the broker closes the socket."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self.pump(deadline)
        except Ended:
            return

    def pump(self, deadline: float) -> None:
        """Read one frame and file it; raises TimeoutError, Ended or Closed."""
        kind, number, payload = self.read_frame(deadline)
        if kind == HEARTBEAT:
            self.heartbeats += 1
            return
        method = self._assemble(kind, number, payload)
        if method is None:
            return
        if method.name in ("connection.close", "channel.close"):
            self._closed(method)
        if number == 0:
            self.inbox.append(method)
        elif number in self.channels:
            self.channels[number].file(method)
        else:
            raise AssertionError(f"the broker spoke on channel {number}, which is not open")

    def read_frame(self, deadline: float) -> tuple[int, int, bytes]:
        head = self._read(7, deadline)
        kind, number, size = struct.unpack(">BHI", head)
        if head[:4] == b"AMQP":
            raise Ended(f"the broker answered with a protocol header: {head!r}")
        payload = self._read(7 + size + 1, deadline)
        self.buffer = self.buffer[7 + size + 1 :]
        assert payload[-1:] == END
        return kind, number, payload[7:-1]

    def _read(self, count: int, deadline: float) -> bytes:
        while len(self.buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the broker sent nothing more")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(262144)
            except TimeoutError:
                raise TimeoutError("the broker sent nothing more") from None
            except OSError as error:
                raise Ended(str(error)) from None
            finally:
                self.socket.settimeout(PATIENCE_S)
            if not data:
                raise Ended("the broker closed the socket")
            self.buffer += data
        return self.buffer[:count]

    def _assemble(self, kind: int, number: int, payload: bytes) -> Method | None:
        if kind == METHOD:
            name, arguments = decode_method(payload)
            method = Method(name, number, arguments)
            if name in CARRIES_CONTENT:
                self._partial[number] = (method, -1)
                return None
            return method
        method, left = self._partial[number]
        if kind == CONTENT:
            left = struct.unpack(">Q", payload[4:12])[0]
            method.raw_properties = payload[12:]
            method.properties = decode_properties(payload[12:])
        else:
            method.body += payload
            method.body_frames.append(len(payload))
            left -= len(payload)
        if left == 0:
            del self._partial[number]
            return method
        self._partial[number] = (method, left)
        return None

    def _closed(self, method: Method) -> None:
        scope = method.name.split(".")[0]
        if scope == "channel":
            self.send(method.channel, "channel.close-ok")
            self.channels.pop(method.channel).closed = True
        else:
            self.closed = True
            with contextlib.suppress(OSError):  # the broker may be in a hurry
                self.send(0, "connection.close-ok")
        raise Closed(scope, method.code, method.text, method.class_id, method.method_id)


class Channel:
    """One channel; every call waits for its answer."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number
        self.closed = False
        self.answers: deque[Method] = deque()
        self.deliveries: deque[Method] = deque()
        self.returns: deque[Method] = deque()
        self.confirms: deque[Method] = deque()
        self.cancels: deque[Method] = deque()

    def file(self, method: Method) -> None:
        boxes = {
            "basic.deliver": self.deliveries,
            "basic.return": self.returns,
            "basic.ack": self.confirms,
            "basic.nack": self.confirms,
            "basic.cancel": self.cancels,
        }
        boxes.get(method.name, self.answers).append(method)

    def send(self, name: str, **arguments: Any) -> None:
        self.client.send(self.number, name, **arguments)

    def call(self, name: str, **arguments: Any) -> Method:
        self.send(name, **arguments)
        return self._next(self.answers, PATIENCE_S, f"the answer to {name}")

    def _next(self, box: deque[Method], timeout_s: float, what: str) -> Method:
        deadline = time.monotonic() + timeout_s
        while not box:
            try:
                self.client.pump(deadline)
            except TimeoutError:
                raise TimeoutError(f"waited {timeout_s} s for {what}") from None
        return box.popleft()

    def close(self) -> None:
        self.call("channel.close", code=200, text="done")
        del self.client.channels[self.number]
        self.closed = True

    def expect_close(self, timeout_s: float = PATIENCE_S) -> Closed:
        """Wait until the broker closes this channel with a reason."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self.client.pump(deadline)
        except Closed as closed:
            if closed.scope != "channel":
                raise
            return closed

    # What tests say most often

    def exchange(self, exchange: str, type: str = "direct", **options: Any) -> str:
        self.call("exchange.declare", exchange=exchange, type=type, **options)
        return exchange

    def queue(self, queue: str = "", **options: Any) -> str:
        return str(self.declare(queue, **options).queue)

    def declare(self, queue: str = "", **options: Any) -> Method:
        return self.call("queue.declare", queue=queue, **options)

    def count(self, queue: str) -> int:
        """Messages ready, by passive declare."""
        return int(self.declare(queue, passive=True).messages)

    def wait_count(self, queue: str, messages: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many are ready: RabbitMQ counts ahead of what is still on its way."""
        deadline = time.monotonic() + timeout_s
        while (found := self.count(queue)) != messages:
            assert time.monotonic() < deadline, f"{found} messages in {queue}, not {messages}"
            time.sleep(0.01)

    def bind(self, queue: str, exchange: str, routing_key: str = "", **arguments: Any) -> None:
        self.call(
            "queue.bind",
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            arguments=arguments.get("arguments"),
        )

    def unbind(self, queue: str, exchange: str, routing_key: str = "", **arguments: Any) -> None:
        self.call(
            "queue.unbind",
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            arguments=arguments.get("arguments"),
        )

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes | str = b"",
        *,
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send(
            "basic.publish",
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            immediate=immediate,
        )
        self.send_content(len(data), encode_properties(properties))
        room = self.client.frame_max - 8
        for start in range(0, len(data), room):
            self.client.send_frame(BODY, self.number, data[start : start + room])

    def send_content(self, size: int, properties: bytes, class_id: int = 60) -> None:
        payload = struct.pack(">HHQ", class_id, 0, size) + properties
        self.client.send_frame(CONTENT, self.number, payload)

    def confirm(self) -> None:
        self.call("confirm.select")

    def confirmed(self, timeout_s: float = PATIENCE_S) -> Method:
        return self._next(self.confirms, timeout_s, "a confirm")

    def publish_confirmed(self, exchange: str, routing_key: str, *body: Any, **options: Any) -> str:
        """Publish and wait; "ack" or "nack". Only for channels with one message under way."""
        self.publish(exchange, routing_key, *body, **options)
        return str(self.confirmed().name).removeprefix("basic.")

    def returned(self, timeout_s: float = PATIENCE_S) -> Method:
        return self._next(self.returns, timeout_s, "a returned message")

    def cancelled(self, timeout_s: float = PATIENCE_S) -> Method:
        return self._next(self.cancels, timeout_s, "a cancellation notice")

    def get(self, queue: str, *, no_ack: bool = True) -> Method | None:
        answer = self.call("basic.get", queue=queue, no_ack=no_ack)
        return None if answer.name == "basic.get-empty" else answer

    def take(self, queue: str, *, no_ack: bool = True, timeout_s: float = PATIENCE_S) -> Method:
        """The first message, asking until there is one."""
        deadline = time.monotonic() + timeout_s
        while (message := self.get(queue, no_ack=no_ack)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no message in {queue} after {timeout_s} s")
            time.sleep(0.01)
        return message

    def drain(self, queue: str) -> list[bytes]:
        """The bodies of all messages that are ready, taken out."""
        bodies = []
        while (message := self.get(queue)) is not None:
            bodies.append(message.body)
        return bodies

    def consume(self, queue: str, tag: str = "", **options: Any) -> str:
        answer = self.call("basic.consume", queue=queue, consumer_tag=tag, **options)
        return str(answer.consumer_tag)

    def cancel(self, tag: str) -> None:
        self.call("basic.cancel", consumer_tag=tag)

    def delivery(self, timeout_s: float = PATIENCE_S) -> Method:
        return self._next(self.deliveries, timeout_s, "a delivery")

    def take_deliveries(self, count: int) -> list[Method]:
        return [self.delivery() for _ in range(count)]

    def silence(self, for_s: float = 0.15) -> bool:
        """Whether no delivery arrives; an empty box at once would prove nothing."""
        try:
            self.delivery(for_s)
        except TimeoutError:
            return True
        return False

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self.send("basic.ack", delivery_tag=tag, multiple=multiple)

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        self.send("basic.nack", delivery_tag=tag, multiple=multiple, requeue=requeue)

    def reject(self, tag: int, *, requeue: bool) -> None:
        self.send("basic.reject", delivery_tag=tag, requeue=requeue)

    def qos(self, count: int, *, is_global: bool = False, size: int = 0) -> None:
        self.call("basic.qos", prefetch_count=count, is_global=is_global, prefetch_size=size)

    def sync(self) -> None:
        """Everything sent before has been looked at when this returns."""
        self.call("exchange.declare", exchange="amq.direct", passive=True)


@contextlib.contextmanager
def refused(
    code: int, text: str, *, method: str | None = None, scope: str = "channel"
) -> Iterator[None]:
    """The block must end in the broker closing ``scope`` with this code and leading text."""
    caught: Closed | None = None
    try:
        yield
    except Closed as closed:
        caught = closed
    assert caught is not None, f"the broker accepted what it should refuse with {code}"
    assert (caught.code, caught.scope) == (code, scope), str(caught)
    assert caught.text.startswith(text), str(caught)
    assert method in (None, caught.method), str(caught)
