"""A log line has its fields, fits on one line and never holds a secret."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from botswarm import logs
from botswarm.config import Settings, load

BROKER = "amqp://bot:s3cr%40et-word@mq.example:5672"
log = logging.getLogger("botswarm.tests")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("botswarm")
    before = (list(root.handlers), root.level, ours.level, sys.excepthook, threading.excepthook)
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])
    ours.setLevel(before[2])
    sys.excepthook, threading.excepthook = before[3], before[4]
    logging.captureWarnings(False)


def settings(tmp_path: Path, **environ: str) -> Settings:
    common = {"INSTANCE_ID": "machine-1", "AMQP_URL": BROKER}
    return load(environ={**common, **environ}, folder=tmp_path).settings


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_where_nobody_watches(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    log.info("feed of %s is up", "kraken", extra={"sockets": 3})
    (line,) = lines(stream)
    assert line["message"] == "feed of kraken is up"
    assert (line["level"], line["logger"]) == ("info", "botswarm.tests")
    assert (line["instance_id"], line["sockets"]) == ("machine-1", 3)
    assert line["time"].endswith("Z")


def test_a_line_is_text_at_a_terminal(tmp_path: Path) -> None:
    stream = Terminal()
    logs.configure(settings(tmp_path), stream=stream)
    log.warning("late", extra={"lag_ms": 80})
    assert stream.getvalue().endswith("warning late lag_ms=80\n")


@pytest.mark.parametrize(("value", "first"), [("text", "0123456789"), ("json", "{")])
def test_the_format_can_be_chosen(tmp_path: Path, value: str, first: str) -> None:
    for stream in (io.StringIO(), Terminal()):
        logs.configure(settings(tmp_path, LOG_FORMAT=value), stream=stream)
        log.error("x")
        assert stream.getvalue()[0] in first


def test_bound_fields_are_on_every_line_inside_and_on_none_outside(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    with logs.bound(bot_id="b7"):
        with logs.bound(order_id="b7-1"):
            log.info("inner")
        log.info("outer")
    log.info("outside")
    inner, outer, outside = lines(stream)
    assert (inner["bot_id"], inner["order_id"]) == ("b7", "b7-1")
    assert outer["bot_id"] == "b7"
    assert "order_id" not in outer
    assert "bot_id" not in outside


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "text"])
def test_no_line_holds_a_secret_however_it_came_there(tmp_path: Path, stream: io.StringIO) -> None:
    logs.configure(settings(tmp_path), stream=stream)
    log.info("connecting to %s", BROKER, extra={"password": "s3cr@et-word"})
    log.info("redis://:s3cr-other@h and s3cr%40et-word")
    with logs.bound(url="http://u:s3cr-third@h"):
        try:
            raise OSError(f"login with s3cr@et-word at {BROKER} failed")
        except OSError:
            log.exception("no")
    assert "***" in stream.getvalue()
    assert "s3cr" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 3


def test_an_exception_is_one_line_with_its_cause_and_place(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")
    (line,) = lines(stream)
    assert line["error"].startswith("ValueError: two\\nlines [test_logs.py:")
    assert "Traceback" in line["traceback"]


def test_the_level_holds_for_us_and_libraries_stay_quiet_at_debug(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path, LOG_LEVEL="debug"), stream=stream)
    log.debug("ours")
    logging.getLogger("amqp").debug("theirs")
    logging.getLogger("amqp").info("theirs too")
    assert [line["message"] for line in lines(stream)] == ["ours", "theirs too"]
    stream = io.StringIO()
    logs.configure(settings(tmp_path, LOG_LEVEL="warn"), stream=stream)
    log.info("not this")
    log.warning("this")
    assert [line["message"] for line in lines(stream)] == ["this"]


def test_configuring_again_replaces_and_does_not_double(tmp_path: Path) -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure(settings(tmp_path), stream=first)
    logs.configure(settings(tmp_path), stream=second)
    log.info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_warnings_of_python_are_log_lines(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in lines(stream)[0]["message"]


def test_a_log_call_with_wrong_arguments_is_still_a_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    log.info("%d of %d", "x")
    assert "%d of %d" in lines(stream)[0]["message"]


def test_the_log_file_rotates_and_keeps_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MEGABYTE", 500)
    file = tmp_path / "app.log"
    limits = {"BOTSWARM_LOG_MAX_MB": "1", "LOG_MAX_FILES": "4"}
    logs.configure(settings(tmp_path, LOG_FILE=str(file), **limits), stream=Terminal())
    for number in range(60):
        log.info("line %d of amqp://u:s3cr-word@h", number)
    kept = sorted(path.name for path in tmp_path.glob("app.log*"))
    assert kept == ["app.log", "app.log.1", "app.log.2", "app.log.3", "app.log.4", "app.log.lock"]
    assert json.loads(file.read_text().splitlines()[-1])["message"] == "line 59 of amqp://u:***@h"
    assert all(path.stat().st_size < 900 for path in tmp_path.glob("app.log*"))


def test_a_line_says_what_the_process_is_and_which_trace_it_belongs_to(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(settings(tmp_path), stream=stream)
    logs.play("feed")
    order = "0b7a3f8e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"
    with logs.bound(task_id="11111111-2222-3333-4444-555555555555"):
        log.info("of a task")
        log.info("of an order", extra={"order_id": order})
    log.info("of nothing")
    logs.play("")
    task, of_order, nothing = lines(stream)
    assert task["role"] == "feed"
    assert task["trace_id"] == "11111111222233334444555555555555"
    assert of_order["trace_id"] == order.replace("-", "")
    assert "trace_id" not in nothing


@pytest.mark.parametrize("where", ["main", "thread"])
def test_an_uncaught_exception_is_one_log_line(tmp_path: Path, where: str) -> None:
    failing = f"""
import threading
from pathlib import Path
from botswarm import logs
from botswarm.config import load
logs.configure(load(environ={{"AMQP_URL": {BROKER!r}}}, folder=Path({str(tmp_path)!r})).settings)
def fail():
    raise RuntimeError("lost {BROKER}")
if {where!r} == "main":
    fail()
thread = threading.Thread(target=fail, name="feeder")
thread.start()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", failing], capture_output=True, text=True, timeout=30, check=False
    )
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "critical"
    assert "RuntimeError: lost amqp://bot:***@mq.example:5672" in line["error"]
    assert "s3cr" not in done.stderr
