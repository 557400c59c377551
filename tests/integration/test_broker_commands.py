"""`botswarm broker run` and `status`, from the first start to the last signal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu.connection import Connection

from botswarm.broker import record
from botswarm.testing.servers import free_port

START_LIMIT_S = 20


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "botswarm", *words]


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **more}


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def broker(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A broker in this folder's .botswarm, on free ports unless the words say otherwise."""
    if "--port" not in words:
        words += ("--port", str(free_port()), "--management-port", str(free_port()))
    with subprocess.Popen(
        command("broker", "run", *words),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _until(
                lambda: (
                    process.poll() is not None or run(folder, "broker", "status").returncode == 0
                )
            )
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_status_follows_the_broker_through_its_life(tmp_path: Path) -> None:
    assert run(tmp_path, "broker", "status").returncode == 5
    with broker(tmp_path) as process:
        done = run(tmp_path, "broker", "status", "--json")
        facts = json.loads(done.stdout)["data"]
        assert facts["running"] is True
        assert facts["pid"] == process.pid
        assert re.fullmatch(r"amqp://\w+:\*\*\*@127\.0\.0\.1:\d+", facts["url"])
        assert facts["memory_mb"] > 1
        assert facts["uptime_s"] < 60
        text = run(tmp_path, "broker", "status").stdout
        assert f"process {process.pid}" in text
        process.kill()
        process.wait()
        done = run(tmp_path, "broker", "status")
        assert done.returncode == 5
        assert "is no longer running" in done.stderr


def test_scripts_get_the_whole_url_and_everyone_else_a_masked_one(tmp_path: Path) -> None:
    with broker(tmp_path):
        password = json.loads((tmp_path / ".botswarm/broker.json").read_text())["password"]
        shown = json.loads(run(tmp_path, "broker", "status", "--show-url", "--json").stdout)
        with Connection(shown["data"]["url"]) as connection:  # type: ignore[no-untyped-call]
            connection.default_channel.queue_declare("seen", durable=True, auto_delete=False)
        for words in (
            ["broker", "status"],
            ["config", "show", "--origin"],
            ["doctor"],
            ["queue", "list"],
        ):
            done = run(tmp_path, *words)
            assert done.returncode == 0
            assert password not in done.stdout + done.stderr
        assert "seen" in run(tmp_path, "queue", "list").stdout
        shown_config = run(tmp_path, "config", "show", "--origin").stdout
        assert "embedded broker (.botswarm/broker.json)" in shown_config


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_broker_in_good_order(tmp_path: Path, name: str) -> None:
    with broker(tmp_path) as process:
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=20)
        assert process.returncode in ((0,) if name == "SIGTERM" else (0, 130))
        assert "Traceback" not in out + err


def test_a_port_in_use_is_one_message_with_the_port_and_exit_5(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = str(taken.getsockname()[1])
        for flag in ("--port", "--management-port"):
            done = run(tmp_path, "broker", "run", flag, port)
            assert done.returncode == 5
            errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
            assert len(errors) == 1
            assert port in errors[0]
            assert "another port" in errors[0]
            assert "Traceback" not in done.stderr


def test_a_second_broker_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with broker(tmp_path) as first:
        done = run(tmp_path, "broker", "run", "--port", str(free_port()))
        assert done.returncode in (5, 6)
        assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1
        found = record.read(tmp_path / ".botswarm")
        assert found is not None
        assert found.pid == first.pid


def test_a_state_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    done = run(tmp_path, "broker", "run", "--state-dir", "/proc/nowhere/state")
    assert done.returncode in (5, 8)
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1
    assert "Traceback" not in done.stderr


def test_log_lines_are_json_and_hold_no_password(tmp_path: Path) -> None:
    with broker(tmp_path) as process:
        password = json.loads((tmp_path / ".botswarm/broker.json").read_text())["password"]
        process.terminate()
        _, err = process.communicate(timeout=20)
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines
    assert all({"time", "level", "message", "instance_id", "pid"} <= set(line) for line in lines)
    assert password not in err
