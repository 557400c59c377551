"""Answers short questions over HTTP from one thread, however many ask and however slowly."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from botswarm import forks
from botswarm.errors import Unreachable
from botswarm.health.access import Asked, Note
from botswarm.health.watchers import WATCHERS

logger = logging.getLogger(__name__)

PORT = 8080
PORTS_TRIED = 100
"""Searched upwards. From 32768 on, ports are handed to outgoing connections."""
CONNECTIONS_MAX = 64
HEAD_BYTES_MAX = 8192
PATIENCE_S = 5.0
"""For a question to come in and its answer to go out."""
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
           500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip
JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    kind: str = JSON


class Answering(Protocol):
    def __call__(self, path: str, accept: str = "", /) -> Answer | None:
        """The answer to a path, in the form that is accepted; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    path: str
    accept: str
    agent: str


@dataclass(slots=True, eq=False)
class _Caller:
    socket: socket.socket
    peer: str
    began: float
    asked: bytearray = field(default_factory=bytearray)
    question: _Question | None = None
    """None where what was asked is none, too."""
    answer: Answer | None = None
    left: memoryview | None = None
    """Of the answer, what has not been taken yet."""

    @property
    def until(self) -> float:
        return self.began + PATIENCE_S


class Server:
    """Listens from the start; answers after ``start`` and until ``close``."""

    def __init__(
        self, listener: socket.socket, answering: Answering, note: Note | None = None
    ) -> None:
        """``note`` is told of every question that was answered, afterwards."""
        self._listener = listener
        self._answering = answering
        self._note = note
        self._selector = selectors.DefaultSelector()
        self._callers: set[_Caller] = set()
        self._wakened, self._waker = socket.socketpair()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        forks.not_for_children(self)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakened, selectors.EVENT_READ)
        self._thread = WATCHERS.start("health server", self._run)

    def close(self) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        for each in (self._listener, self._wakened, self._waker):
            each.close()
        for caller in list(self._callers):
            caller.socket.close()
        self._selector.close()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select(timeout=1.0 if self._callers else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is not self._wakened:
                    self._go_on(key.data)
            self._lose_patience()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError as error:
            # Of many files open, say: those that are being answered end, and then there is room.
            logger.debug("a caller was not taken: %s", error)
            time.sleep(0.05)
            return
        if len(self._callers) >= CONNECTIONS_MAX:
            self._drop(min(self._callers, key=lambda caller: caller.until))
        connection.setblocking(False)
        caller = _Caller(connection, str(address[0]), time.monotonic())
        self._callers.add(caller)
        self._selector.register(connection, selectors.EVENT_READ, caller)

    def _go_on(self, caller: _Caller) -> None:
        if caller not in self._callers:
            return  # dropped in this very round
        try:
            if caller.left is None:
                self._hear(caller)
            else:
                self._say(caller)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(caller)

    def _hear(self, caller: _Caller) -> None:
        said = caller.socket.recv(HEAD_BYTES_MAX)
        caller.asked += said
        if not said or len(caller.asked) > HEAD_BYTES_MAX:
            self._drop(caller)
        elif b"\r\n\r\n" in caller.asked or b"\n\n" in caller.asked:
            caller.question = _question(bytes(caller.asked))
            caller.answer = self._answer(caller.question)
            caller.left = memoryview(_written(caller.answer, caller.question))
            self._selector.modify(caller.socket, selectors.EVENT_WRITE, caller)
            self._say(caller)

    def _say(self, caller: _Caller) -> None:
        assert caller.left is not None
        sent = caller.socket.send(caller.left)
        caller.left = caller.left[sent:]
        if not caller.left:
            # Closed with something unread, a connection is reset and the answer may be lost.
            with contextlib.suppress(OSError):
                caller.socket.shutdown(socket.SHUT_WR)
            self._drop(caller)

    def _drop(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(caller.socket)
        caller.socket.close()
        self._take_note(caller)

    def _take_note(self, caller: _Caller) -> None:
        if self._note is None or caller.answer is None:
            return
        question = caller.question or _Question("", "", "", "")
        self._note(
            Asked(
                peer=caller.peer,
                method=question.method,
                path=question.path,
                agent=question.agent,
                code=caller.answer.status,
                size=len(caller.answer.body),
                duration_ms=1000 * (time.monotonic() - caller.began),
            )
        )

    def _lose_patience(self) -> None:
        now = time.monotonic()
        for caller in [each for each in self._callers if each.until < now]:
            self._drop(caller)

    # --- one question ---------------------------------------------------------------------

    def _answer(self, question: _Question | None) -> Answer:
        if question is None:
            return Answer(400, b'{"error":"no HTTP request"}')
        if question.method not in ("GET", "HEAD"):
            return Answer(405, b'{"error":"only GET"}')
        return self._found(question.path, question.accept)

    def _found(self, path: str, accept: str) -> Answer:
        try:
            answer = self._answering(path, accept)
        except Exception:  # a defect in one page must not end the others
            logger.exception("the page %s could not be made", path)
            return Answer(500, b'{"error":"a defect: the log has it"}')
        return answer or Answer(404, b'{"error":"no such page"}')


def _question(asked: bytes) -> _Question | None:
    asked_for, _, headers = asked.partition(b"\r\n")
    words = asked_for.split()
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return None
    path = words[1].partition(b"?")[0].decode("ascii", "replace")
    method = words[0].decode("ascii", "replace")
    return _Question(method, path, _said(headers, b"accept"), _said(headers, b"user-agent"))


def _said(headers: bytes, wanted: bytes) -> str:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == wanted:
            said = value.strip().decode("ascii", "replace")
            # A part of what is accepted comes back in the head of our answer.
            return said if said.isprintable() else ""
    return ""


def _written(answer: Answer, question: _Question | None) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}\r\n"
        f"Content-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    is_head = question is not None and question.method == "HEAD"
    return head.encode() + (b"" if is_head else answer.body)


OTHERS = "choose others with BOTSWARM_HEALTH_PORT; BOTSWARM_HEALTH_ENABLE=off asks for none"


def listen(host: str, ports: Sequence[int], cure: str = OTHERS) -> socket.socket:
    """On the first of these that is free; raises Unreachable where none is."""
    said: OSError | None = None
    for port in ports:
        try:
            return _bound(host, port)
        except OSError as error:
            said = said or error
    raise Unreachable(
        f"health cannot be asked for on {host}, port {ports[0]} to {ports[-1]}: "
        f"{said.strerror if said else 'no port was named'}",
        cure=cure,
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Bound is not enough: two sockets may bind where neither listens yet.
        listener.listen(CONNECTIONS_MAX)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
