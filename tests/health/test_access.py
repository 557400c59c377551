"""Who asked for a page, and what came of it, is a line of the log where that is wanted."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from botswarm import logs
from botswarm.config import SecretMask
from botswarm.health import access, server
from botswarm.health.access import LINES_PER_MINUTE_MAX, AccessLog, Asked, access_log
from botswarm.health.process import Health
from botswarm.testing.servers import free_port
from tests.settings import settings_of

SECRET = "token-that-was-meant-for-others"


def page(path: str, accept: str = "") -> server.Answer | None:
    return {
        "/metrics": server.Answer(200, b"up 1\n"),
        "/readyz": server.Answer(503, b"{}"),
    }.get(path)


def ask(port: int, said: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(said.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def questions(port: int) -> None:
    ask(port, f"GET /metrics?key={SECRET} HTTP/1.1\r\nUser-Agent: Prometheus/2.55\r\n\r\n")
    ask(port, "GET /readyz HTTP/1.1\r\n\r\n")
    ask(port, "GET /etc/\x1b[31mpasswd HTTP/1.1\r\nUser-Agent: evil\x1b[0m\r\n\r\n")
    ask(port, "DELETE /metrics HTTP/1.1\r\n\r\n")
    ask(port, "hello\r\n\r\n")


Lines = Callable[[str], list[Mapping[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What the questions leave in a log of JSON, by the value of the setting."""

    def asked(wanted: str) -> list[Mapping[str, Any]]:
        listener = server.listen("127.0.0.1", [free_port()])
        made = server.Server(listener, page, access_log(wanted))
        with caplog.at_level(logging.INFO, logger="botswarm"):
            made.start()
            questions(made.port)
            made.close()
        written = logs.JsonFormatter("machine-1", SecretMask(()))
        ours = [each for each in caplog.records if each.name == access.__name__]
        return [json.loads(written.format(each)) for each in ours]

    return asked


@pytest.mark.parametrize(
    ("wanted", "codes"),
    [("off", []), ("refused", [404, 405, 400]), ("all", [200, 503, 404, 405, 400])],
)
def test_the_setting_says_which_questions_are_lines(
    lines: Lines, wanted: str, codes: list[int]
) -> None:
    assert [line["code"] for line in lines(wanted)] == codes


def test_a_line_says_who_asked_for_what_with_which_code_and_how_long_it_took(
    lines: Lines,
) -> None:
    first, *_, last = lines("all")
    told = {name: first[name] for name in ("event", "peer", "method", "path", "agent", "bytes")}
    assert told == {
        "event": "access",
        "peer": "127.0.0.1",
        "method": "GET",
        "path": "/metrics",
        "agent": "Prometheus/2.55",
        "bytes": 5,
    }
    assert 0 <= first["duration_ms"] < 10_000
    assert (first["level"], first["logger"]) == ("info", "botswarm.health.access")
    assert first["message"].startswith("GET /metrics: 200 to 127.0.0.1 in ")
    assert (last["code"], last["method"], last["path"]) == (400, "", "")
    assert last["message"].startswith("no question: 400 to ")


def test_neither_a_token_in_an_address_nor_a_stranger_s_control_characters_are_written(
    lines: Lines,
) -> None:
    text = json.dumps(lines("all"), ensure_ascii=False)
    assert SECRET not in text
    assert "\x1b" not in text
    assert "\\u001b" not in text
    assert "/etc/?[31mpasswd" in text


def test_one_who_asks_without_an_end_is_counted_and_fills_no_disk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    note = AccessLog(is_all=True, monotonic=lambda: now[0])
    asked = Asked(
        peer="127.0.0.1", method="GET", path="/x", agent="", code=404, size=1, duration_ms=0.1
    )
    with caplog.at_level(logging.INFO, logger="botswarm"):
        for _ in range(LINES_PER_MINUTE_MAX + 50):
            note(asked)
        assert len(caplog.records) == LINES_PER_MINUTE_MAX
        now[0] = 60.0
        note(asked)
        note(asked)
    last, after = caplog.records[-2:]
    assert vars(last)["left_out_before"] == 50
    assert "left_out_before" not in vars(after)


def test_a_process_writes_what_its_setting_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(
        tmp_path, BOTSWARM_HEALTH_PORT=str(free_port()), BOTSWARM_HEALTH_ACCESS_LOG="all"
    )
    with caplog.at_level(logging.INFO, logger="botswarm"), Health(settings, "feed") as health:
        ask(health.card.port, "GET /livez HTTP/1.1\r\n\r\n")
    asked = [vars(each)["path"] for each in caplog.records if hasattr(each, "agent")]
    assert asked == ["/livez"]
