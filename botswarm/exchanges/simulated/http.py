"""HTTP/1.1 as far as the exchange's clients speak it, and the step up to a WebSocket.

Written here because the exchange must be able to misbehave in bytes: half an answer, none,
a closed connection in the place of one. No framework lets its answers be cut short.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_plus

HEAD_BYTES_MAX: Final = 32 * 1024
BODY_BYTES_MAX: Final = 1024 * 1024
IDLE_S: Final = 75.0


class BadRequest(Exception):
    """It is not HTTP as we know it; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str
    """As sent, percent-encoded: signatures are made over it."""
    headers: Mapping[str, str]
    body: str
    peer: str

    @property
    def wants_websocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def keeps_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json;charset=UTF-8"

    @classmethod
    def json(
        cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(status, body, dict(headers or {}))

    def encode(self, *, keep_alive: bool) -> bytes:
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Content-Length: {len(self.body)}")
        lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


async def read_request(reader: asyncio.StreamReader, peer: str) -> Request | None:
    """The next request of a connection; None when the client has closed it."""
    try:
        async with asyncio.timeout(IDLE_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("this is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    path, _, query = words[1].partition("?")
    body = await _read_body(reader, headers)
    return Request(words[0].upper(), path, query, headers, body, peer)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> str:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        raise BadRequest("chunked bodies are not understood; send Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or int(length) > BODY_BYTES_MAX:
        raise BadRequest("Content-Length is not a number up to a megabyte")
    if length == "0":
        return ""
    async with asyncio.timeout(IDLE_S):
        return (await reader.readexactly(int(length))).decode("utf-8", "replace")


def split_parameters(text: str) -> list[tuple[str, str]]:
    """Names and decoded values of a query string or form body, in order."""
    pairs = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs
