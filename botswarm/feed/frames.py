"""WebSocket frames out of a stream of bytes, each held to its limits before room is made for it."""

from __future__ import annotations

import struct
from typing import NamedTuple

from botswarm.errors import BotswarmError

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset((CONTINUED, TEXT, BINARY, CLOSE, PING, PONG))
CONTROL_BYTES_MAX = 125
FRAGMENTS_MAX = 4096
"""Of one message: each costs us more than it costs the sender."""


class Frame(NamedTuple):
    code: int
    """TEXT, BINARY, CLOSE, PING or PONG; a message of several frames comes as one."""
    data: bytes


class Broke(BotswarmError):
    """The other side left the protocol, or its limits: the connection cannot go on."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        """The security event that it is: message_size_exceeded or invalid_message_format."""


class FrameReader:
    """Takes what a socket gave, gives the whole frames in it, and keeps the rest."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = bytearray()
        self._needed = 2
        """So many bytes before it is worth looking again: pieces of one byte cost one look each."""
        self._parts: list[bytes] = []
        self._parts_code = 0
        self._parts_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        return len(self._rest) + self._parts_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """Raises Broke for what no server may send; frames before it in ``data`` are lost too,
        for the stream of a server that breaks the rules is not to be believed.
        """
        if self._rest or len(data) < self._needed:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data, self._rest = bytes(self._rest), bytearray()
        frames: list[Frame] = []
        start, size, needed = 0, len(data), 2
        while size - start >= 2:
            first, length = data[start], data[start + 1]
            body = start + 2
            if length == 126:
                if size - start < 4:
                    needed = 4
                    break
                length = data[start + 2] << 8 | data[start + 3]
                body = start + 4
            elif length == 127:
                if size - start < 10:
                    needed = 10
                    break
                length = struct.unpack_from("!Q", data, start + 2)[0]
                body = start + 10
            elif length > 127:
                raise Broke("invalid_message_format", "a masked frame, which no server sends")
            if length > self._bytes_max:
                raise Broke(
                    "message_size_exceeded",
                    f"a frame of {length} bytes, over {self._bytes_max}",
                )
            if first != 0x81:
                self._check(first, length)
            if size - body < length:
                needed = body + length - start
                break
            start = body + length
            if first == 0x81 and not self._parts:
                frames.append(Frame(TEXT, data[body:start]))
            else:
                self._take(first, data[body:start], frames)
        self._rest += data[start:]
        self._needed = needed
        return frames

    def _check(self, first: int, length: int) -> None:
        if first & 0x70:
            # Compression was not agreed on: what looks small could be anything when unpacked.
            raise Broke("invalid_message_format", "a compressed frame, or one of an extension")
        code = first & 0x0F
        if code not in _KNOWN:
            raise Broke("invalid_message_format", f"a frame of the unknown kind {code}")
        if code >= CLOSE and (length > CONTROL_BYTES_MAX or not first & 0x80):
            raise Broke("invalid_message_format", "a control frame that is too long or in parts")

    def _take(self, first: int, data: bytes, frames: list[Frame]) -> None:
        code, is_last = first & 0x0F, bool(first & 0x80)
        if code >= CLOSE:
            frames.append(Frame(code, data))
            return
        if (code == CONTINUED) != bool(self._parts):
            raise Broke("invalid_message_format", "parts of messages in the wrong order")
        self._parts_code = code or self._parts_code
        self._parts.append(data)
        self._parts_bytes += len(data)
        if self._parts_bytes > self._bytes_max or len(self._parts) > FRAGMENTS_MAX:
            raise Broke(
                "message_size_exceeded",
                f"a message of {len(self._parts)} parts and {self._parts_bytes} bytes so far",
            )
        if is_last:
            frames.append(Frame(self._parts_code, b"".join(self._parts)))
            self._parts, self._parts_bytes = [], 0
