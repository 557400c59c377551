"""Opens a WebSocket to a venue: encrypted unless it is this machine, checked, and in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

import websocket

from botswarm.errors import BotswarmError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
HEADERS_BYTES_MAX = 16_384
SEND_TIMEOUT_S = 5.0
READ_BYTES = 65_536
READ_AT_ONCE_BYTES = 262_144
"""Then it is the turn of the venue's other connections."""
DAY_S = 86_400.0


class Failed(BotswarmError):
    """The connection was not made; nothing is left of it. The next attempt may succeed."""

    def __init__(self, kind: str, words: str, *, cure: str = "") -> None:
        super().__init__(words, cure=cure)
        self.kind = kind
        """The security event that it is, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a venue's answer to our call was like."""

    connect_ms: float
    tls_ms: float
    handshake_ms: float
    tls: str = ""
    certificate_days: float | None = None
    """Until it ends; None on this machine, where none is asked for."""


def context() -> ssl.SSLContext:
    """Certificates of the machine's own authorities, the host's name in them, TLS 1.2 or later."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


class Wire:
    """An open WebSocket. One thread reads and writes, and waits for neither."""

    def __init__(self, sock: socket.socket, opened: Opened) -> None:
        self._socket = sock
        self.opened = opened
        self.has_more = False
        """The last read left something that the socket alone may not show."""
        self._out: deque[memoryview] = deque()
        self._out_deadline = 0.0
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes | None:
        """What has come, up to a limit; None where nothing has, b"" where nothing ever will."""
        parts: list[bytes] = []
        size, self.has_more = 0, False
        while size < READ_AT_ONCE_BYTES:
            try:
                data = self._socket.recv(READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            if not data:
                return b"".join(parts) if parts else b""
            parts.append(data)
            size += len(data)
            if len(data) < READ_BYTES and not isinstance(self._socket, ssl.SSLSocket):
                break
        else:
            self.has_more = True
        return b"".join(parts) if parts else None

    def send(self, data: bytes, code: int = websocket.ABNF.OPCODE_TEXT) -> None:
        """Now, or with the next ``flush`` that the socket takes it of."""
        if not self._out:
            self._out_deadline = time.monotonic() + SEND_TIMEOUT_S
        self._out.append(memoryview(websocket.ABNF.create_frame(data, code).format()))
        self.flush()

    @property
    def is_held_up(self) -> bool:
        return bool(self._out)

    def flush(self) -> None:
        """Raises OSError where the venue takes nothing for so long."""
        while self._out:
            try:
                sent = self._socket.send(self._out[0])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
                if time.monotonic() > self._out_deadline:
                    raise TimeoutError("the venue takes nothing from us") from error
                return
            self._out_deadline = time.monotonic() + SEND_TIMEOUT_S
            rest = self._out[0][sent:]
            if rest:
                self._out[0] = rest
            else:
                self._out.popleft()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()


def dial(url: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> Wire:
    """Raises Failed; the whole of it takes no longer than ``timeout_s`` and the name's look-up."""
    deadline = time.monotonic() + timeout_s
    host, port, encrypted = _target(url)
    began = time.monotonic()
    sock = _connect(host, port, deadline)
    try:
        connected = time.monotonic()
        days, version = None, ""
        if encrypted:
            sock = secured = _encrypt(sock, host, tls or context(), deadline)
            days, version = _days_left(secured), secured.version() or ""
        agreed = time.monotonic()
        _handshake(sock, url, deadline)
    except BaseException:
        sock.close()
        raise
    opened = Opened(
        connect_ms=(connected - began) * 1000,
        tls_ms=(agreed - connected) * 1000,
        handshake_ms=(time.monotonic() - agreed) * 1000,
        tls=version,
        certificate_days=days,
    )
    return Wire(sock, opened)


def _target(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Failed("", f"the venue's address cannot be read: {error}") from error
    if parts.scheme not in ("ws", "wss") or not host:
        raise Failed("", "the venue's address is no WebSocket", cure="write wss://host/path")
    if parts.scheme == "ws" and host not in LOOPBACK:
        raise Failed(
            "invalid_certificate",
            f"ws:// to {host} would be neither encrypted nor checked",
            cure="use wss:// in the setting of the venue's address",
        )
    return host, port or (443 if parts.scheme == "wss" else 80), parts.scheme == "wss"


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Failed("", f"the name {host} is not known: {error}") from error
    failure = OSError("no address")
    for place, (family, kind, protocol, _, address) in enumerate(found):
        # Each further address has its share of what time is left.
        left_s = max(0.2, (deadline - time.monotonic()) / (len(found) - place))
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock
    if isinstance(failure, TimeoutError):
        raise Failed("connection_timeout_exceeded", f"{host}:{port} did not answer in time")
    raise Failed("", f"no connection to {host}:{port}: {failure.strerror or failure}")


def _encrypt(sock: socket.socket, host: str, tls: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    sock.settimeout(max(0.2, deadline - time.monotonic()))
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except TimeoutError as error:
        raise Failed("connection_timeout_exceeded", f"{host} did not agree on TLS in time") from (
            error
        )
    except (ssl.SSLError, ssl.CertificateError) as error:
        words = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        raise Failed(
            "invalid_certificate",
            f"{host} cannot be trusted: {words}",
            cure="check the machine's clock, its CA certificates and the venue's address",
        ) from error
    except OSError as error:
        raise Failed("", f"{host} ended the TLS handshake: {error}") from error


def _days_left(sock: ssl.SSLSocket) -> float | None:
    ends = (sock.getpeercert() or {}).get("notAfter")
    if not isinstance(ends, str):
        return None
    return (ssl.cert_time_to_seconds(ends) - time.time()) / DAY_S


class _Guarded:
    """A socket for the handshake only: it ends in time, and reads no more than a head."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self._head = b""

    def recv(self, size: int) -> bytes:
        if size > 1:
            # Heads are read byte by byte; this is for the body of an answer that is a refusal.
            first = self._head.split(b"\r\n")[0][:100].decode(errors="replace")
            raise Failed("", f"the venue answered {first!r}, not a WebSocket")
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        if len(self._head) >= HEADERS_BYTES_MAX:
            raise Failed(
                "message_size_exceeded", f"an answer head of over {HEADERS_BYTES_MAX} bytes"
            )
        self._socket.settimeout(left_s)
        data = self._socket.recv(1)
        self._head += data
        return data

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def gettimeout(self) -> float | None:
        return self._socket.gettimeout()

    def settimeout(self, timeout_s: float | None) -> None:
        self._socket.settimeout(timeout_s)

    def close(self) -> None:
        self._socket.close()


def _handshake(sock: socket.socket, url: str, deadline: float) -> None:
    sock.settimeout(max(0.2, deadline - time.monotonic()))
    made = websocket.WebSocket(enable_multithread=False)
    try:
        # A redirect could lead anywhere, unencrypted too: none is followed.
        made.connect(  # type: ignore[no-untyped-call]
            url, socket=_Guarded(sock, deadline), redirect_limit=0
        )
    except (TimeoutError, websocket.WebSocketTimeoutException) as error:
        raise Failed("connection_timeout_exceeded", "no answer to the handshake in time") from error
    except websocket.WebSocketBadStatusException as error:
        raise Failed("", f"the venue answered {error.status_code}, not a WebSocket") from error
    except (OSError, websocket.WebSocketException, ValueError, OverflowError) as error:
        raise Failed("", f"the handshake failed: {error}") from error
    if (made.getheaders() or {}).get("sec-websocket-extensions"):
        raise Failed("invalid_message_format", "the venue uses extensions that nobody asked for")
