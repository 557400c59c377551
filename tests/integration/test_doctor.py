"""`botswarm doctor` against real servers: up, stopped in between, and up again."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from botswarm.cli import checks
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    PostgreSQLServer,
    RabbitMQServer,
    RedisServer,
    Server,
    free_port,
)
from tests.command_line import run_botswarm

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Run it in an empty folder; its exit code and its rows by name."""

    def run(*words: str, **environ: str) -> tuple[int, dict[str, dict[str, Any]]]:
        done = run_botswarm("doctor", "--json", *words, folder=tmp_path, environ=environ)
        assert done.stderr == ""
        answer = json.loads(done.stdout)
        assert answer["ok"] is (done.returncode == 0)
        return done.returncode, {row["name"]: row for row in answer["data"]["checks"]}

    return run


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(
    scope="module", params=[EmbeddedBrokerServer, RabbitMQServer], ids=["embedded", "rabbitmq"]
)
def broker(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as server:
        yield server


def test_an_empty_folder_needs_no_server(doctor: Doctor) -> None:
    code, rows = doctor()
    assert code == 0
    assert list(rows) == list(checks.CHECKS)
    assert {rows[name]["status"] for name in ("broker", "redis")} == {"skip"}
    assert rows["database"]["status"] == "ok"


def test_only_the_checks_asked_for_are_run(doctor: Doctor) -> None:
    _, rows = doctor("--only", "python", "--only", "disk")
    assert list(rows) == ["python", "disk"]


def test_a_broker_that_answers_is_ok_and_one_that_stopped_is_not(
    doctor: Doctor, broker: AmqpServer
) -> None:
    url = broker.url()
    _up_down_up(doctor, broker, "broker", AMQP_URL=url)


def test_a_redis_that_answers_is_ok_and_one_that_stopped_is_not(
    doctor: Doctor, redis: RedisServer
) -> None:
    _up_down_up(doctor, redis, "redis", REDIS_URL=redis.url())


def test_a_database_that_answers_is_ok_and_one_that_stopped_is_not(
    doctor: Doctor, postgresql: PostgreSQLServer
) -> None:
    _up_down_up(doctor, postgresql, "database", DATABASE_URL=postgresql.url())


def _up_down_up(doctor: Doctor, server: Server, name: str, **environ: str) -> None:
    code, rows = doctor("--only", name, **environ)
    assert (code, rows[name]["status"]) == (0, "ok"), rows
    assert " ms" in rows[name]["detail"]
    server.stop()
    try:
        code, rows = doctor("--only", name, **environ)
        assert (code, rows[name]["status"]) == (5, "fail")
        assert rows[name]["cure"]
        assert "Error:" not in rows[name]["detail"]
    finally:
        server.start()
    code, rows = doctor("--only", name, **environ)
    assert (code, rows[name]["status"]) == (0, "ok"), rows


def test_a_wrong_password_is_said_and_never_shown(
    doctor: Doctor, broker: AmqpServer, postgresql: PostgreSQLServer
) -> None:
    host, port = broker.host, broker.port
    code, rows = doctor("--only", "broker", AMQP_URL=f"amqp://nobody:s3cr3t-word@{host}:{port}")
    assert code == 5
    assert "refuses this user" in rows["broker"]["detail"]
    assert "s3cr3t" not in json.dumps(rows)


def test_an_unknown_vhost_is_said(doctor: Doctor, broker: AmqpServer) -> None:
    code, rows = doctor("--only", "broker", AMQP_URL=broker.url("no-such-vhost"))
    assert code == 5
    assert "no-such-vhost" in rows["broker"]["detail"]


def test_a_database_that_does_not_exist_is_said(
    doctor: Doctor, postgresql: PostgreSQLServer
) -> None:
    code, rows = doctor("--only", "database", DATABASE_URL=postgresql.url("no_such_database"))
    assert code == 5
    assert "no_such_database" in rows["database"]["detail"]


def test_a_broker_that_blocks_publishers_is_reported_in_time(
    doctor: Doctor, broker: AmqpServer
) -> None:
    broker.raise_memory_alarm()
    try:
        code, rows = doctor("--only", "broker", AMQP_URL=broker.url())
    finally:
        broker.clear_memory_alarm()
    assert (code, rows["broker"]["status"]) == (5, "fail")
    assert "did not answer" in rows["broker"]["detail"]
    assert "memory or disk alarm" in rows["broker"]["cure"]


def test_the_embedded_broker_of_the_folder_is_found_without_any_setting(
    doctor: Doctor, tmp_path: Path
) -> None:
    with EmbeddedBrokerServer() as server:
        code, rows = doctor(
            "--only",
            "broker",
            "--only",
            "ports",
            BOTSWARM_STATE_DIR=str(server.state_dir),
            BOTSWARM_BROKER_PORT=str(server.port),
        )
        assert code == 0
        assert rows["broker"]["status"] == "ok"
        assert "used by our broker" in rows["ports"]["detail"]
        server.kill()
        code, rows = doctor("--only", "broker", BOTSWARM_STATE_DIR=str(server.state_dir))
        assert code == 5
        assert "botswarm broker run" in rows["broker"]["cure"]


def test_a_server_that_accepts_and_never_answers_costs_limited_time(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        code, rows = doctor(
            *("--only", "broker", "--only", "redis", "--only", "database"),
            AMQP_URL=f"amqp://u:pw12@127.0.0.1:{port}",
            REDIS_URL=f"redis://127.0.0.1:{port}",
            DATABASE_URL=f"postgres://u:pw12@127.0.0.1:{port}/d",
        )
        took_s = time.monotonic() - started
    assert code == 5
    assert {row["status"] for row in rows.values()} == {"fail"}
    assert took_s < checks.LIMIT_S + 5


def test_a_port_that_is_taken_is_a_failed_check(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        code, rows = doctor("--only", "ports", BOTSWARM_BROKER_PORT=str(port))
    assert (code, rows["ports"]["status"]) == (3, "fail")
    assert str(port) in rows["ports"]["detail"]


def test_an_invalid_configuration_is_a_row_and_the_rest_is_still_checked(doctor: Doctor) -> None:
    code, rows = doctor(BOTSWARM_BROKER_URL="mq", BOTSWARM_LOG_LEVEL="loud")
    assert (code, rows["config"]["status"]) == (3, "fail")
    assert "BOTSWARM_BROKER_URL is not a URL" in rows["config"]["detail"]
    assert "BOTSWARM_LOG_LEVEL is 'loud'" in rows["config"]["detail"]
    assert {rows[name]["status"] for name in ("broker", "database", "redis", "state")} == {"skip"}
    assert {rows[name]["status"] for name in ("python", "packages")} == {"ok"}


def test_a_state_folder_open_to_others_is_a_warning(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / ".botswarm").mkdir(mode=0o755)
    (tmp_path / ".botswarm").chmod(0o755)
    code, rows = doctor("--only", "state")
    assert (code, rows["state"]["status"]) == (0, "warn")
    assert rows["state"]["cure"] == "chmod 700 .botswarm"


def test_a_sqlite_file_that_is_none_is_a_failed_check(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is not a database, whatever its name may say " * 20)
    code, rows = doctor("--only", "database", DATABASE_URL="sqlite:///ledger.db")
    assert (code, rows["database"]["status"]) == (5, "fail")
    assert "not a database" in rows["database"]["detail"]
