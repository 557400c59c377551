"""AMQP 0-9-1 on the wire: frames, method arguments, field tables and content properties.

Field tables follow RabbitMQ's type letters, not the specification's: py-amqp's reader takes
``s`` for a short string where pamqp (aio-pika) and RabbitMQ mean a 16-bit integer, so ours is
used in both directions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
FRAME_OVERHEAD: Final = 8
FRAME_MIN: Final = 4096

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

# A table nested deeper than this is an attack on the stack, not a message.
TABLE_DEPTH_MAX: Final = 64

unpack_frame_head = struct.Struct(">BHI").unpack_from
pack_frame_head = struct.Struct(">BHI").pack
unpack_ids = struct.Struct(">HH").unpack_from
unpack_tag = struct.Struct(">QB").unpack_from
pack_tag = struct.Struct(">QB").pack
_short = struct.Struct(">H")
_long = struct.Struct(">I")
_longlong = struct.Struct(">Q")

REPLY_NAMES: Final = {
    200: "OK",
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
SOFT: Final = frozenset({311, 312, 313, 403, 404, 405, 406})


class AmqpError(Exception):
    """The client did something wrong: soft codes close its channel, the others its connection."""

    def __init__(self, code: int, text: str, *, hard: bool | None = None) -> None:
        super().__init__(f"{REPLY_NAMES[code]} - {text}")
        self.code = code
        self.method = (0, 0)  # which one was at fault, where one was
        self.hard = code not in SOFT if hard is None else hard


class Malformed(AmqpError):
    """Bytes that are no AMQP: the connection ends, the others do not notice."""

    def __init__(self, text: str) -> None:
        super().__init__(502, text)


class Reader:
    """Takes typed values from the front of a payload; too few bytes is Malformed, never a crash."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise Malformed(f"{size} bytes expected, {len(self.data) - self.at} left")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def octet(self) -> int:
        return self.take(1)[0]

    def short(self) -> int:
        return int(_short.unpack(self.take(2))[0])

    def long(self) -> int:
        return int(_long.unpack(self.take(4))[0])

    def longlong(self) -> int:
        return int(_longlong.unpack(self.take(8))[0])

    def shortstr(self) -> str:
        return to_text(self.take(self.octet()))

    def longstr(self) -> bytes:
        return self.take(self.long())

    def raw_table(self) -> bytes:
        """A field table's content without its length, unread."""
        return self.take(self.long())

    def table(self) -> dict[str, Any]:
        return read_table(self.raw_table())


def to_text(raw: bytes) -> str:
    # Names need not be UTF-8; surrogates carry any byte through unchanged.
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def shortstr(text: str) -> bytes:
    raw = to_bytes(text)[:255]
    return bytes((len(raw),)) + raw


def longstr(raw: bytes) -> bytes:
    return _long.pack(len(raw)) + raw


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack_frame_head(kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return frame(FRAME_METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


# --- field tables ---------------------------------------------------------------------------

_FIXED: Final = {
    b"b": struct.Struct(">b"),
    b"B": struct.Struct(">B"),
    b"s": struct.Struct(">h"),
    b"u": struct.Struct(">H"),
    b"I": struct.Struct(">i"),
    b"i": struct.Struct(">I"),
    b"l": struct.Struct(">q"),
    b"L": struct.Struct(">Q"),
    b"f": struct.Struct(">f"),
    b"d": struct.Struct(">d"),
}


def read_value(reader: Reader, depth: int = 0) -> Any:
    kind = reader.take(1)
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed.unpack(reader.take(fixed.size))[0]
    match kind:
        case b"S":
            return to_text(reader.longstr())
        case b"t":
            return reader.octet() != 0
        case b"x":
            return reader.longstr()
        case b"V":
            return None
        case b"T":
            return Timestamp(reader.longlong())
        case b"D":
            scale = reader.octet()
            return Decimal(int.from_bytes(reader.take(4), "big", signed=True)).scaleb(-scale)
        case b"F":
            return read_table(reader.raw_table(), depth + 1)
        case b"A":
            return list(_read_array(reader.raw_table(), depth + 1))
    raise Malformed(f"unknown field type {kind!r}")


class Timestamp(int):
    """Seconds since 1970, kept apart from plain integers so that it is written back as one."""

    def __str__(self) -> str:
        try:
            return datetime.fromtimestamp(int(self), UTC).isoformat()
        except (OverflowError, ValueError, OSError):
            return str(int(self))


def _read_array(raw: bytes, depth: int) -> Iterator[Any]:
    if depth > TABLE_DEPTH_MAX:
        raise Malformed("field table nested too deep")
    reader = Reader(raw)
    while reader.at < len(raw):
        yield read_value(reader, depth)


def read_table(raw: bytes, depth: int = 0) -> dict[str, Any]:
    if depth > TABLE_DEPTH_MAX:
        raise Malformed("field table nested too deep")
    reader, table = Reader(raw), {}
    while reader.at < len(raw):
        name = reader.shortstr()
        table[name] = read_value(reader, depth)
    return table


def split_table(raw: bytes) -> dict[str, bytes]:
    """Each field's value as its own bytes, so that untouched fields survive a rewrite exactly."""
    reader, fields = Reader(raw), {}
    while reader.at < len(raw):
        name = reader.shortstr()
        start = reader.at
        read_value(reader)
        fields[name] = raw[start : reader.at]
    return fields


def read_headers(raw: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A queued message's headers, read and in bytes; none where they are no table.

    What is not needed for routing is queued unread: finding out later must cost nobody a message.
    """
    try:
        return read_table(raw), split_table(raw)
    except (Malformed, struct.error):
        return {}, {}


def join_table(fields: Mapping[str, bytes]) -> bytes:
    return b"".join(shortstr(name) + value for name, value in fields.items())


def write_value(value: Any) -> bytes:
    match value:
        case None:
            return b"V"
        case bool():
            return b"t" + bytes((value,))
        case Timestamp():
            return b"T" + _longlong.pack(value)
        case int() if -(2**63) <= value < 2**63:
            return b"l" + struct.pack(">q", value)
        case int():
            return b"L" + _longlong.pack(min(max(value, 0), 2**64 - 1))
        case Decimal():
            scale = max(-int(value.as_tuple().exponent), 0)
            return b"D" + bytes((scale,)) + int(value.scaleb(scale)).to_bytes(4, "big", signed=True)
        case float():
            return b"d" + struct.pack(">d", value)
        case str():
            return b"S" + longstr(to_bytes(value))
        case bytes():
            return b"x" + longstr(value)
        case Mapping():
            return b"F" + longstr(write_table(value))
        case Sequence():
            return b"A" + longstr(b"".join(map(write_value, value)))
    raise TypeError(f"no field type for {type(value).__name__}")


def write_table(table: Mapping[str, Any]) -> bytes:
    return b"".join(shortstr(name) + write_value(value) for name, value in table.items())


# --- content properties ---------------------------------------------------------------------

# In wire order: the flag bit, the name, and how its value is laid out.
_PROPERTIES: Final = (
    (0x8000, "content_type", "s"),
    (0x4000, "content_encoding", "s"),
    (0x2000, "headers", "F"),
    (0x1000, "delivery_mode", "o"),
    (0x0800, "priority", "o"),
    (0x0400, "correlation_id", "s"),
    (0x0200, "reply_to", "s"),
    (0x0100, "expiration", "s"),
    (0x0080, "message_id", "s"),
    (0x0040, "timestamp", "T"),
    (0x0020, "type", "s"),
    (0x0010, "user_id", "s"),
    (0x0008, "app_id", "s"),
    (0x0004, "cluster_id", "s"),
)
_WIDTH: Final = {"o": 1, "T": 8}
UNKNOWN_FLAGS: Final = 0x0003
HEAD_SIZE: Final = 12  # of a content header before its property flags: class, weight, body size
_unpack_flags = _short.unpack_from


def split_properties(head: bytes) -> dict[str, bytes]:
    """Each property's raw bytes (without its length prefix) from a content header's payload."""
    reader = Reader(head, HEAD_SIZE)
    flags = reader.short()
    if flags & UNKNOWN_FLAGS:
        raise Malformed("unknown property flags")
    found: dict[str, bytes] = {}
    for bit, name, layout in _PROPERTIES:
        if not flags & bit:
            continue
        if layout == "s":
            found[name] = reader.take(reader.octet())
        elif layout == "F":
            found[name] = reader.raw_table()
        else:
            found[name] = reader.take(_WIDTH[layout])
    if reader.at != len(head):
        raise Malformed("content header longer than its properties")
    return found


def join_properties(body_size: int, properties: Mapping[str, bytes]) -> bytes:
    """A content header's payload made of raw property values."""
    flags, pieces = 0, []
    for bit, name, layout in _PROPERTIES:
        raw = properties.get(name)
        if raw is None:
            continue
        flags |= bit
        if layout == "s":
            pieces.append(bytes((len(raw),)))
        elif layout == "F":
            pieces.append(_long.pack(len(raw)))
        pieces.append(raw)
    return struct.pack(">HHQH", 60, 0, body_size, flags) + b"".join(pieces)


def read_properties(head: bytes) -> dict[str, Any]:
    """Properties as plain values, for the management answer."""
    values: dict[str, Any] = {}
    for name, raw in split_properties(head).items():
        if name == "headers":
            values[name], _ = read_headers(raw)
        elif name in ("delivery_mode", "priority"):
            values[name] = raw[0]
        elif name == "timestamp":
            values[name] = int.from_bytes(raw, "big")
        else:
            values[name] = to_text(raw)
    return values


# What a broker must know of each message before it can be queued, read without building a
# dict: (persistent, priority, expiration or None, headers or None, user id or None).
Essentials = tuple[bool, int, bytes | None, bytes | None, bytes | None]


def essentials(head: bytes) -> Essentials:
    """The hot path's reading of a content header: bounds checked, nothing built but what counts."""
    try:
        flags = (head[12] << 8) | head[13]
        at, size = 14, len(head)
        headers = expiration = user = None
        persistent, priority = False, 0
        if flags & 0x8000:
            at += 1 + head[at]
        if flags & 0x4000:
            at += 1 + head[at]
        if flags & 0x2000:
            length = int.from_bytes(head[at : at + 4], "big")
            headers = head[at + 4 : at + 4 + length]
            at += 4 + length
        if flags & 0x1000:
            persistent = head[at] == 2
            at += 1
        if flags & 0x0800:
            priority = head[at]
            at += 1
        if flags & 0x0400:
            at += 1 + head[at]
        if flags & 0x0200:
            at += 1 + head[at]
        if flags & 0x0100:
            length = head[at]
            expiration = head[at + 1 : at + 1 + length]
            at += 1 + length
        if flags & 0x00FF:
            if flags & 0x0080:
                at += 1 + head[at]
            if flags & 0x0040:
                at += 8
            if flags & 0x0020:
                at += 1 + head[at]
            if flags & 0x0010:
                length = head[at]
                user = head[at + 1 : at + 1 + length]
                at += 1 + length
            if flags & 0x0008:
                at += 1 + head[at]
            if flags & 0x0004:
                at += 1 + head[at]
            if flags & UNKNOWN_FLAGS:
                raise Malformed("unknown property flags")
    except IndexError:
        raise Malformed("content header shorter than its properties") from None
    if at != size:
        raise Malformed("content header's properties do not fill it")
    return persistent, priority, expiration, headers, user
