"""The servers that tests and benches run: really there, restartable, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from botswarm.errors import NotFound, Unreachable
from botswarm.programs import find_program
from botswarm.testing import servers
from botswarm.testing.servers import (
    EmbeddedBrokerServer,
    PostgreSQLServer,
    RabbitMQServer,
    RedisServer,
    Server,
    free_port,
    wait_until,
)

KINDS: dict[str, Callable[[], Server]] = {
    "rabbitmq": RabbitMQServer,
    "embedded": EmbeddedBrokerServer,
    "redis": RedisServer,
    "postgresql": PostgreSQLServer,
}


def _processes_in(folder: Path) -> list[str]:
    """What still runs with this folder on its command line or as its working directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            continue
        words = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_server_leaves_no_process_and_no_data(kind: str) -> None:
    with KINDS[kind]() as server:
        assert server.running
        assert _processes_in(server.data)
    assert not server.running
    wait_until(lambda: not _processes_in(server.data), "its processes to end", 5)
    assert not server.data.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_dies_with_whoever_started_it(kind: str, tmp_path: Path) -> None:
    program = f"""
import os, signal
from botswarm.testing.servers import {KINDS[kind].__name__} as Kind
server = Kind()
server.start()
print(server.data, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    owner = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    data = Path(owner.stdout.strip())
    wait_until(lambda: not _processes_in(data), "its processes to end", 10)
    wait_until(lambda: not data.exists(), "its data to go", 10)


def test_redis_keeps_what_was_written_before_a_kill() -> None:
    with RedisServer() as server:
        with redis.Redis.from_url(server.url(1)) as client:
            client.set("key", "value")
        server.kill()
        assert not server.running
        server.start()
        with redis.Redis.from_url(server.url(1)) as client:
            assert client.get("key") == b"value"


def test_postgresql_keeps_what_was_committed_before_a_kill() -> None:
    with PostgreSQLServer() as server:
        server.create_database("other")
        _execute(server, "CREATE TABLE t (n int)")
        _execute(server, "INSERT INTO t VALUES (42)")
        server.kill()
        server.start()
        connection = psycopg2.connect(server.url("other"))
        with connection.cursor() as cursor:
            cursor.execute("SELECT n FROM t")
            assert cursor.fetchall() == [(42,)]
        connection.close()


def _execute(server: PostgreSQLServer, statement: str) -> None:
    connection = psycopg2.connect(server.url("other"))
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.commit()
    connection.close()


def test_a_broker_keeps_its_vhosts_and_its_address_over_a_restart() -> None:
    with EmbeddedBrokerServer() as server:
        server.add_vhost("a/b")
        before = server.url("a/b")
        server.restart()
        assert server.url("a/b") == before
        assert server.manage("GET", "vhosts/a%2Fb")[0] == 200
        server.delete_vhost("a/b")
        assert server.manage("GET", "vhosts/a%2Fb")[0] == 404


def test_a_question_to_a_dead_rabbitmq_does_not_keep_it_from_starting() -> None:
    with RabbitMQServer() as server:
        server.kill()
        with pytest.raises(Unreachable):
            server.control("list_queues")
        server.start()
        assert server.answers


def test_a_chosen_folder_is_kept(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, redis.Redis.from_url(server.url()) as client:
        client.set("key", "value")
    with RedisServer(tmp_path / "redis") as server, redis.Redis.from_url(server.url()) as client:
        assert client.get("key") == b"value"


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(
        NotFound, match=r"no-such-server is not installed \(Debian package nowhere\)"
    ):
        find_program("no-such-server", package="nowhere")


def test_a_server_that_cannot_start_says_why() -> None:
    server = RedisServer()
    with socket.socket() as occupier:
        occupier.bind((server.host, server.port))
        occupier.listen()
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"redis ended with code 1 .*Address already in use"):
            server.start()
        assert time.monotonic() - began < 10
    server.close()


def test_ports_are_below_those_the_kernel_gives_to_clients() -> None:
    ports = {free_port() for _ in range(200)}
    assert len(ports) == 200
    assert max(ports) < 32768
    assert min(ports) >= servers.PORTS.start
