"""Errors reach a Sentry server and orders a collector: whole, once, and without a secret."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from botswarm import otlp
from botswarm.config import load
from botswarm.domain.order import OrderState
from botswarm.errors import Misconfigured, Unreachable
from botswarm.ledger.store import Ledger
from botswarm.sentry import SentryHandler, read_dsn
from botswarm.testing.servers import HOST, free_port, wait_until
from tests.ledger.conftest import NOW, a_fill, sent
from workers import traces

PATIENCE_S = 30.0


class Listener:
    """A server that keeps what it is sent, and answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.taken.append((self.path, dict(self.headers), body))
                self.send_response(kept.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, free_port()), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


# --- sentry ---------------------------------------------------------------------------------------

FAILING = """
import logging, os, sys
from pathlib import Path
from botswarm import logs
from botswarm.config import load
settings = load(environ=os.environ, folder=Path(os.environ["BOTSWARM_STATE_DIR"])).settings
logs.configure(settings)
logs.play("feed")
log = logging.getLogger("botswarm.test")

def fail():
    password_in_a_variable = "s3cret-" + "word"
    raise OSError(f"login with {password_in_a_variable} failed")

order = "0b7a3f8e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"
for _ in range(5):
    try:
        fail()
    except OSError:
        log.exception("order cannot be sent", extra={"order_id": order, "bot_id": "alpha"})
log.warning("no error")
for handler in logging.getLogger().handlers:
    handler.flush()  # its thread may import what it posts with: no child is forked meanwhile
if (child := os.fork()) == 0:
    log.error("said by a child")
    logging.shutdown()
    os._exit(0)
os.waitpid(child, 0)
"""


def events(listener: Listener) -> list[dict[str, Any]]:
    return [json.loads(body.split(b"\n")[2]) for _, _, body in listener.taken]


def test_an_error_reaches_the_server_once_masked_and_with_its_places(
    listener: Listener, tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "BOTSWARM_STATE_DIR": str(tmp_path),
        "INSTANCE_ID": "machine-1",
        "AMQP_URL": "amqp://bot:s3cret-word@mq.example",
        "SENTRY_DSN": f"http://abc123def@{HOST}:{listener.port}/7",
    }
    done = subprocess.run(
        [sys.executable, "-c", FAILING], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: len(listener.taken) >= 2, "two events", PATIENCE_S)
    path, headers, _ = listener.taken[0]
    assert path == "/api/7/envelope/"
    assert "sentry_key=abc123def" in headers["X-Sentry-Auth"]
    by_words = {each["logentry"]["formatted"]: each for each in events(listener)}
    assert sorted(by_words) == ["order cannot be sent", "said by a child"]
    event = by_words["order cannot be sent"]
    assert (event["level"], event["server_name"]) == ("error", "machine-1")
    assert event["tags"]["role"] == "feed"
    assert event["tags"]["order_id"].replace("-", "") == event["contexts"]["trace"]["trace_id"]
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "OSError"
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"
    assert not any(b"s3cret" in body or b"password_in" in body for _, _, body in listener.taken)
    assert "abc123def" not in done.stderr


def handler(listener_port: int) -> SentryHandler:
    from botswarm.config.secret import Secret, SecretMask
    from botswarm.logs import JsonFormatter

    made = SentryHandler(Secret(f"http://key@{HOST}:{listener_port}/1"), "production")
    made.setFormatter(JsonFormatter("machine-1", SecretMask([])))
    return made


def say(to: SentryHandler, words: str) -> None:
    to.handle(logging.makeLogRecord({"msg": words, "levelno": 40, "levelname": "ERROR"}))


def test_a_server_that_is_away_holds_nobody_up_and_what_was_lost_is_said(
    listener: Listener,
) -> None:
    away = handler(free_port())
    began = time.monotonic()
    for number in range(300):
        say(away, f"error {number}")
    assert time.monotonic() - began < 20
    wait_until(lambda: away.lost > 0, "an event to be lost", PATIENCE_S)
    busy = handler(listener.port)
    listener.status = 429
    say(busy, "too much")
    wait_until(lambda: busy.lost == 1, "it to be refused", PATIENCE_S)
    listener.status = 200
    say(busy, "again")
    wait_until(lambda: len(listener.taken) == 2, "the next event", PATIENCE_S)
    assert events(listener)[1]["extra"]["lost_before"] == 1


@pytest.mark.parametrize("dsn", ["", "https://sentry.example/1", "ftp://k@h/1", "https://k@h/"])
def test_what_is_no_dsn_is_refused(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a DSN"):
        read_dsn(dsn)
    if dsn:
        with pytest.raises(Misconfigured, match="SENTRY_DSN"):
            load(environ={"SENTRY_DSN": dsn}, folder=tmp_path)


def test_neither_key_nor_headers_are_shown(tmp_path: Path) -> None:
    environ = {
        "SENTRY_DSN": "https://abc123def@sentry.example/7",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=tellnobody,x=y",
    }
    settings = load(environ=environ, folder=tmp_path).settings
    assert settings.sentry_dsn is not None
    assert settings.sentry_dsn.masked == "https://***@sentry.example/7"
    from botswarm.config import SecretMask

    mask = SecretMask(settings.secrets)
    assert mask("abc123def tellnobody api-key") == "*** *** api-key"


# --- traces ---------------------------------------------------------------------------------------


_trades = itertools.count(1)


def filled(ledger: Ledger) -> str:
    order = sent(
        ledger, quantity=Decimal("0.1"), created_at=NOW, signal_expires_at=NOW + timedelta(hours=1)
    )
    ledger.books.book([a_fill(order, next(_trades), at=NOW + timedelta(milliseconds=80))], NOW)
    ledger.books.record(order.id, OrderState.FILLED, NOW)
    return order.id


def test_the_trace_of_an_order_goes_from_its_decision_to_its_fill(
    ledger: Ledger, listener: Listener
) -> None:
    order_id = filled(ledger)
    story = ledger.orders.story(order_id)
    trace = traces.trace_of(story)
    assert trace.id == order_id.replace("-", "")
    names = [span.name for span in trace.parts]
    assert names[0] == "gate"
    assert "attempt" in names
    assert names[-1] == "fill"
    from botswarm.config.secret import Secret

    url = f"http://{HOST}:{listener.port}"
    for _ in range(2):
        otlp.send([trace], url, Secret("api-key=tellnobody"), "machine-1")
    (path, headers, body), (_, _, again) = listener.taken
    assert path == "/v1/traces"
    assert headers["api-key"] == "tellnobody"
    assert body == again
    (scope,) = json.loads(body)["resourceSpans"][0]["scopeSpans"]
    root, *parts = scope["spans"]
    assert {span["traceId"] for span in scope["spans"]} == {trace.id}
    assert {part["parentSpanId"] for part in parts} == {root["spanId"]}
    assert len({span["spanId"] for span in scope["spans"]}) == len(scope["spans"])
    assert all(
        int(root["startTimeUnixNano"])
        <= int(part["startTimeUnixNano"])
        <= int(part["endTimeUnixNano"])
        <= int(root["endTimeUnixNano"])
        for part in parts
    )


def test_each_ended_order_is_told_and_none_while_the_collector_is_away(
    ledger: Ledger, listener: Listener
) -> None:
    filled(ledger)
    assert traces.ended(ledger)[1] == []  # what was before it was turned on is not told
    orders = [filled(ledger) for _ in range(3)]
    after, found = traces.ended(ledger)
    assert sorted(found) == sorted(orders)
    listener.status = 503
    with pytest.raises(Unreachable, match="answered 503"):
        otlp.send([traces.trace_of(ledger.orders.story(orders[0]))], _url(listener), None, "m")
    assert sorted(traces.ended(ledger)[1]) == sorted(orders)
    traces.go_on(ledger, after)
    assert traces.ended(ledger)[1] == []


def _url(listener: Listener) -> str:
    url = f"http://{HOST}:{listener.port}/v1/traces"
    assert urlsplit(url).path == "/v1/traces"
    return url
