"""The server's end of a WebSocket (RFC 6455): frames in and out, nothing of what they mean."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import Callable
from typing import Final

from botswarm.exchanges.simulated.http import Request

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
MESSAGE_BYTES_MAX: Final = 256 * 1024
BEHIND_BYTES_MAX: Final = 16 * 1024 * 1024
"""A reader this far behind is cut off, as every exchange does."""

TRICKLE_S: Final = 0.1

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def encode_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Whole and unmasked; made once for however many connections it goes to."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def handshake(request: Request) -> bytes | None:
    """The answer that makes the connection a WebSocket; None where the request cannot be one."""
    key = request.headers.get("sec-websocket-key")
    if request.method != "GET" or not key or request.headers.get("sec-websocket-version") != "13":
        return None
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


class Closed(Exception):
    """The client has gone, or broke the protocol and was sent away."""


class WebSocket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_closing = False
        self.on_pong: Callable[[bytes], None] = lambda payload: None
        self.on_frame: Callable[[], None] = lambda: None
        """Called for every frame that comes in, of whatever kind."""
        self.is_mute = False
        """Half open: nothing leaves and what comes is not looked at, but the line stands."""
        self.answers_pings = True
        self._slow: bytearray | None = None

    @property
    def is_closing(self) -> bool:
        return self._is_closing or self._writer.is_closing()

    @property
    def can_send(self) -> bool:
        return not self.is_closing and not self.is_mute

    def send(self, frames: bytes) -> None:
        """Frames, encoded already; never waits."""
        if not self.can_send:
            return
        if self._slow is not None:
            self._slow += frames
            return
        if self._writer.transport.get_write_buffer_size() > BEHIND_BYTES_MAX:
            self.abort()
            return
        self._writer.write(frames)

    async def trickle(self, bytes_per_s: int, seconds: float) -> None:
        """Send a few bytes at a time for so long, then all that has gathered."""
        if self._slow is not None:
            return
        self._slow, left = bytearray(), seconds
        while left > 0 and not self.is_closing:
            count = max(1, int(bytes_per_s * TRICKLE_S))
            self._writer.write(bytes(self._slow[:count]))
            del self._slow[:count]
            await asyncio.sleep(TRICKLE_S)
            left -= TRICKLE_S
        rest, self._slow = bytes(self._slow), None
        self.send(rest)

    def send_text(self, text: str) -> None:
        self.send(encode_frame(text.encode()))

    def ping(self, payload: bytes) -> None:
        self.send(encode_frame(payload, PING))

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and hang up; an answer to it is not waited for."""
        if self.is_mute:
            return
        self.send(encode_frame(struct.pack("!H", code) + reason.encode()[:120], CLOSE))
        self._is_closing = True
        self._writer.close()

    def abort(self) -> None:
        """Cut the line without a word."""
        self._is_closing = True
        self._writer.transport.abort()

    async def receive(self) -> str:
        """The next text message; control frames are dealt with on the way."""
        parts: list[bytes] = []
        while True:
            final, opcode, payload = await self._frame()
            if self.is_mute:
                continue
            self.on_frame()
            if opcode == PING:
                if self.answers_pings:
                    self.send(encode_frame(payload, PONG))
            elif opcode == PONG:
                self.on_pong(payload)
            elif opcode == CLOSE:
                self.close(NORMAL)
                raise Closed
            else:
                if (opcode == 0) is not bool(parts):
                    self._refuse(PROTOCOL_ERROR, "unexpected continuation")
                parts.append(payload)
                if sum(map(len, parts)) > MESSAGE_BYTES_MAX:
                    self._refuse(TOO_BIG, "message too big")
                if final:
                    return b"".join(parts).decode("utf-8", "replace")

    async def _frame(self) -> tuple[bool, int, bytes]:
        try:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
            opcode = first & 0x0F
            if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
                self._refuse(PROTOCOL_ERROR, "a client's frames are masked and unextended")
            if opcode >= CLOSE and (size > 125 or not first & 0x80):
                self._refuse(PROTOCOL_ERROR, "control frames are short and whole")
            if size > MESSAGE_BYTES_MAX:
                self._refuse(TOO_BIG, "message too big")
            mask = await self._reader.readexactly(4)
            payload = await self._reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._is_closing = True
            raise Closed from error
        return bool(first & 0x80), opcode, _unmask(payload, mask)

    def _refuse(self, code: int, reason: str) -> None:
        self.close(code, reason)
        raise Closed


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    if not size:
        return payload
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
