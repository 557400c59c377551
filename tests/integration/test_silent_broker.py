"""Who asks a broker that has fallen silent behind an open connection is not held for ever."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from botswarm.queueing import App, app, make_app
from botswarm.testing.proxy import FaultProxy, Toxics
from botswarm.testing.servers import EmbeddedBrokerServer, RabbitMQServer
from tests.integration.swarm import Swarm, until
from tests.settings import settings_of

SILENT = Toxics(is_black_hole=True)


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server: RabbitMQServer) -> Iterator[tuple[FaultProxy, str]]:
    with FaultProxy(server.port) as between:
        yield between, server.url().replace(f":{server.port}", f":{between.port}")


@pytest.fixture
def asking(
    proxy: tuple[FaultProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    monkeypatch.setattr(app, "ANSWER_S", 0.5, raising=False)
    yield make_app(settings_of(tmp_path, BOTSWARM_BROKER_URL=proxy[1]), set_as_current=False)
    proxy[0].heal()


def test_a_question_to_a_silent_broker_ends_as_a_broken_link_does(
    asking: App, proxy: tuple[FaultProxy, str]
) -> None:
    raised: list[BaseException] = []
    connection = asking.connection_for_write()
    connection.connect()
    proxy[0].set(down=SILENT)

    def ask() -> None:
        try:
            connection.channel()
        except OSError as error:
            raised.append(error)

    asks = threading.Thread(target=ask, daemon=True)
    asks.start()
    asks.join(5)
    is_held = asks.is_alive()
    connection.collect()
    assert not is_held
    assert raised


def test_a_worker_ends_in_time_though_its_broker_answers_no_more(
    server: RabbitMQServer, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    between, url = proxy
    swarm = Swarm(server, "/", tmp_path, settings={"BOTSWARM_BROKER_URL": url})
    try:
        worker = swarm.worker("orders")
        between.set(down=SILENT)
        worker.popen.terminate()
        assert worker.popen.wait(28) == 0, worker.text
        assert "the broker is silent" in worker.text
    finally:
        between.heal()
        swarm.close()


def test_a_worker_held_by_whatever_it_is_ends_in_time(tmp_path: Path) -> None:
    with EmbeddedBrokerServer() as broker:
        swarm = Swarm(broker, "/", tmp_path)
        try:
            worker = swarm.worker("orders")
            swarm.app.control.broadcast("hold_loop")
            worker.popen.terminate()
            assert worker.popen.wait(40) == 0, worker.text
            assert "ending without what is waited for" in worker.text
        finally:
            swarm.close()


def test_a_heartbeat_waits_for_no_broker_that_is_away_and_for_the_next_one_is_sent(
    tmp_path: Path,
) -> None:
    with EmbeddedBrokerServer() as broker:
        asking = make_app(
            settings_of(tmp_path, BOTSWARM_BROKER_URL=broker.url()), set_as_current=False
        )
        with asking.connection_for_write() as connection:
            teller = asking.events.Dispatcher(connection, hostname="w@test")
            broker.kill()
            beat = threading.Thread(
                target=teller.send, args=("worker-heartbeat",), kwargs={"retry": True}, daemon=True
            )
            beat.start()
            beat.join(8)
            is_held = beat.is_alive()
            broker.start()
            beat.join(8)
            assert not is_held
            assert len(teller._outbound_buffer) == 1
            teller.send("worker-heartbeat", retry=True)
            assert len(teller._outbound_buffer) == 1, "this one was sent"
        asking.close()


def test_a_child_that_dies_before_the_broker_answers_does_not_end_its_worker(
    tmp_path: Path,
) -> None:
    with EmbeddedBrokerServer() as broker:
        swarm = Swarm(broker, "/", tmp_path)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            worker = swarm.start("worker", "-Q", "orders", "-n", "w@test")
            parent = psutil.Process(worker.popen.pid)
            until(lambda: len(parent.children()) == 4, "the children")
            parent.children()[0].kill()
            os.kill(broker.pid, signal.SIGCONT)
            until(lambda: " ready." in worker.text or not parent.is_running(), "the worker")
            until(
                lambda: sum(each.status() != "zombie" for each in parent.children()) == 4,
                "another child in its place",
            )
        finally:
            os.kill(broker.pid, signal.SIGCONT)
            swarm.close()
