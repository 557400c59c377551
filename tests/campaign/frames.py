"""AMQP frames as bytes: cut apart, put together, and read no further than a mutation needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEAD = struct.Struct(">BHI")

START_OK, TUNE_OK, OPEN, CLOSE, CLOSE_OK = (10, 11), (10, 31), (10, 40), (10, 50), (10, 51)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
BASIC_PUBLISH = (60, 40)

# Arguments of every method a client may send, in py-amqp's letters: o octet, B short, l long,
# L long long, s short string, S long string, F table, b one bit of a shared octet.
CLIENT_METHODS: dict[tuple[int, int], str] = {
    (10, 11): "FsSs",
    (10, 21): "S",
    (10, 31): "BlB",
    (10, 40): "ssb",
    (10, 50): "BsBB",
    (10, 51): "",
    (10, 70): "Ss",
    (20, 10): "s",
    (20, 20): "b",
    (20, 21): "b",
    (20, 40): "BsBB",
    (20, 41): "",
    (40, 10): "BssbbbbbF",
    (40, 20): "Bsbb",
    (40, 30): "BsssbF",
    (40, 40): "BsssbF",
    (50, 10): "BsbbbbbF",
    (50, 20): "BsssbF",
    (50, 30): "Bsb",
    (50, 40): "Bsbbb",
    (50, 50): "BsssF",
    (60, 10): "lBb",
    (60, 20): "BssbbbbF",
    (60, 30): "sb",
    (60, 40): "Bssbb",
    (60, 70): "Bsb",
    (60, 80): "Lb",
    (60, 90): "Lb",
    (60, 100): "b",
    (60, 110): "b",
    (60, 120): "Lbb",
    (85, 10): "b",
    (90, 10): "",
    (90, 20): "",
    (90, 30): "",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame without its size and end octet, which follow from it."""

    type: int
    channel: int
    payload: bytes

    @property
    def method(self) -> tuple[int, int] | None:
        if self.type != METHOD or len(self.payload) < 4:
            return None
        class_id, method_id = struct.unpack_from(">HH", self.payload)
        return class_id, method_id

    def __bytes__(self) -> bytes:
        head = HEAD.pack(self.type, self.channel, len(self.payload))
        return head + self.payload + bytes((FRAME_END,))


def method(channel: int, name: tuple[int, int], arguments: bytes = b"") -> Frame:
    return Frame(METHOD, channel, struct.pack(">HH", *name) + arguments)


def cut(stream: bytes) -> Iterator[Frame]:
    """The whole frames of a stream; what is left over at its end is dropped."""
    offset = 0
    while len(stream) - offset >= HEAD.size + 1:
        type_, channel, size = HEAD.unpack_from(stream, offset)
        end = offset + HEAD.size + size
        if end >= len(stream):
            return
        yield Frame(type_, channel, stream[offset + HEAD.size : end])
        offset = end + 1


def with_credentials(start_ok: Frame, user: str, password: str) -> Frame:
    """The same Connection.StartOk for somebody else: captures carry no password."""
    payload = start_ok.payload
    table_end = 8 + int.from_bytes(payload[4:8], "big")
    mechanism_end = table_end + 1 + payload[table_end]
    response_end = mechanism_end + 4 + int.from_bytes(payload[mechanism_end:][:4], "big")
    response = b"\0" + user.encode() + b"\0" + password.encode()
    mechanism = b"\x05PLAIN"
    return Frame(
        METHOD,
        0,
        payload[:table_end]
        + mechanism
        + len(response).to_bytes(4, "big")
        + response
        + payload[response_end:],
    )


def connection_open(vhost: str) -> Frame:
    name = vhost.encode()
    return method(0, OPEN, bytes((len(name),)) + name + b"\0\0")
