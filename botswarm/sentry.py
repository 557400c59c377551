"""Errors on their way to a Sentry server: what the log says of them, masked as there, and no more.

Sentry's own library would send the variables of every frame, and with them whatever secret one of
them holds. Here an event is made of the masked log line; of the frames only their places are sent.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
import traceback
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from botswarm import __version__
from botswarm.config import Secret
from botswarm.errors import BotswarmError
from botswarm.posting import post

WAITING_MAX = 100
AGAIN_AFTER_S = 60.0
"""The same line within this time is counted, and not sent."""
FLUSH_S = 2.0
CLIENT = f"botswarm/{__version__}"
TAGS = ("role", "process", "task", "task_id", "bot_id", "order_id", "instance_id", "trace_id")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class SentryHandler(logging.Handler):
    """From errors up. Its formatter has to be the one that makes the masked JSON line."""

    def __init__(self, dsn: Secret, environment: str) -> None:
        super().__init__(logging.ERROR)
        self._url, self._key, self._path = read_dsn(dsn.reveal())
        self._environment = environment
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING_MAX)
        self._pid = 0
        self._rests_until = 0.0
        self.lost = 0
        """Events that could not be handed over; the next one says how many."""

    def emit(self, record: logging.LogRecord) -> None:
        repeated = self._repeated(record)
        if repeated is None:
            return
        try:
            event = event_of(json.loads(self.format(record)), _exc_info(record))
        except (ValueError, TypeError):
            self.handleError(record)
            return
        event["environment"] = self._environment
        event["extra"] |= {"repeated": repeated, "lost_before": self.lost}
        self._begin_here()
        try:
            self._waiting.put_nowait(envelope(event))
            self.lost = 0
        except queue.Full:
            self.lost += 1

    def flush(self) -> None:
        """Wait a moment for what waits: a process that ends because of it should have said so."""
        deadline = time.monotonic() + FLUSH_S
        while self._pid == os.getpid() and self._waiting.unfinished_tasks:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def _repeated(self, record: logging.LogRecord) -> int | None:
        """How often it was said since it was sent last; None where it is not to be sent now."""
        what, now = (record.name, str(record.msg)), time.monotonic()
        at, count = self._seen.get(what, (-AGAIN_AFTER_S, 0))
        if now - at < AGAIN_AFTER_S:
            self._seen[what] = at, count + 1
            return None
        if len(self._seen) > 1_000:
            self._seen.clear()
        self._seen[what] = now, 0
        return count

    def _begin_here(self) -> None:
        """The thread of the process that forked us is not ours."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._waiting = queue.Queue(WAITING_MAX)
        threading.Thread(target=self._send, name="sentry", daemon=True).start()

    def _send(self) -> None:
        mine = self._waiting
        while True:
            body = mine.get()
            try:
                self._post(body)
            except BotswarmError:
                self.lost += 1
            finally:
                mine.task_done()

    def _post(self, body: bytes) -> None:
        if time.monotonic() < self._rests_until:
            self.lost += 1
            return
        headers = {
            "Content-Type": "application/x-sentry-envelope",
            "User-Agent": CLIENT,
            "X-Sentry-Auth": f"Sentry sentry_version=7, sentry_client={CLIENT}, "
            f"sentry_key={self._key}",
        }
        answer = post(self._url, self._path, body, headers)
        if not answer.is_taken:
            self.lost += 1
            self._rests_until = time.monotonic() + answer.retry_after_s


def read_dsn(dsn: str) -> tuple[SplitResult, str, str]:
    """The server, the key and the path events are posted to; raises ValueError for what is none."""
    url = urlsplit(dsn)
    before, _, project = url.path.rpartition("/")
    if url.scheme not in ("http", "https") or not (url.hostname and url.username and project):
        raise ValueError("not a DSN")
    return url, url.username, f"{before}/api/{project}/envelope/"


def event_of(line: Mapping[str, Any], exc_info: ExcInfo | None) -> dict[str, Any]:
    """``line`` is the log line, masked; of the exception only types and places are looked at."""
    event: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "timestamp": line["time"],
        "platform": "python",
        "level": "fatal" if line["level"] == "critical" else line["level"],
        "logger": line["logger"],
        "server_name": line["instance_id"],
        "release": f"botswarm@{__version__}",
        "logentry": {"formatted": line["message"]},
        "tags": {name: str(line[name]) for name in TAGS if name in line},
        "extra": {"pid": line["pid"]},
    }
    if (trace_id := line.get("trace_id")) is not None:
        contexts = {"trace": {"trace_id": trace_id, "span_id": trace_id[:16]}}
        event["contexts"] = contexts
    if exc_info is not None:
        value = {
            "type": exc_info[0].__name__,
            "module": exc_info[0].__module__,
            "value": line.get("error", ""),
            "stacktrace": {"frames": _frames(exc_info[2])},
        }
        event["exception"] = {"values": [value]}
    return event


def _exc_info(record: logging.LogRecord) -> ExcInfo | None:
    found = record.exc_info
    return None if not isinstance(found, tuple) or found[1] is None else found


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    return [
        {
            "filename": frame.filename,
            "function": frame.name,
            "lineno": frame.lineno,
            "in_app": "botswarm" in frame.filename or "workers" in frame.filename,
        }
        for frame in traceback.extract_tb(trace)
    ]


def envelope(event: Mapping[str, Any]) -> bytes:
    payload = json.dumps(event, default=str).encode()
    head = json.dumps({"event_id": event["event_id"]}).encode()
    item = json.dumps({"type": "event", "length": len(payload)}).encode()
    return b"\n".join([head, item, payload, b""])
