"""Who takes the lead knows all that was said last, however slowly the broker tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import Unreachable
from botswarm.feed import lead
from botswarm.market.wire import EXCHANGE
from botswarm.testing.proxy import CLEAN, FaultProxy, Toxics
from botswarm.testing.servers import EmbeddedBrokerServer

SAID = 1500
BODY = b'{"kind":"trade","symbol":"A-B","ticks":[{"trade_id":%d,"exchange_ms":1}]}'


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBrokerServer]:
    with EmbeddedBrokerServer() as server:
        with connected(server.url()) as way:
            lead.prepare(way.connection, "v")
            channel = way.connection.channel()
            channel.confirm_select()
            for number in range(1, SAID + 1):
                channel.basic_publish(amqp.Message(BODY % number), EXCHANGE, "v.A-B.trade")
            while channel.queue_declare(lead.last_queue("v"), passive=True).message_count < SAID:
                time.sleep(0.02)
        yield server


@pytest.fixture
def proxy(broker: EmbeddedBrokerServer) -> Iterator[FaultProxy]:
    with FaultProxy(broker.port) as made:
        yield made


def connected(url: str) -> Any:
    make: Any = Connection  # kombu's types are not all there
    return make(url, connect_timeout=5)


def through(proxy: FaultProxy, broker: EmbeddedBrokerServer) -> Any:
    way = connected(broker.url().replace(f":{broker.port}", f":{proxy.port}"))
    way.connect()
    return way


def test_a_slow_broker_is_read_to_the_end(
    broker: EmbeddedBrokerServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "READ_TIMEOUT_S", 0.5)
    with through(proxy, broker) as way:
        proxy.set(down=Toxics(bytes_per_s=150_000))
        began = time.monotonic()
        said = lead.read_last(way.connection, "v")
        assert time.monotonic() - began > 2 * lead.READ_TIMEOUT_S
    assert said.read == SAID
    assert (said.markets["A-B"].trade_id, said.markets["A-B"].holes) == (SAID, [])


def test_nobody_leads_on_a_part_of_what_was_said(
    broker: EmbeddedBrokerServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "READ_TIMEOUT_S", 0.5)
    way = through(proxy, broker)
    try:
        proxy.set(down=Toxics(bytes_per_s=20_000))
        with pytest.raises((Unreachable, OSError)):
            read_into_a_hole(way, proxy)
        proxy.set(down=CLEAN)
    finally:
        way.collect()
    with through(proxy, broker) as again:
        assert lead.read_last(again.connection, "v").read == SAID  # it all went back


def read_into_a_hole(way: Any, proxy: FaultProxy) -> None:
    """After a while nothing comes any more, and nobody says so."""
    threading.Timer(1.0, lambda: proxy.set(down=Toxics(is_black_hole=True))).start()
    lead.read_last(way.connection, "v")


def test_nobody_reads_what_was_said_while_the_broker_holds_what_is_on_its_way(
    broker: EmbeddedBrokerServer,
) -> None:
    with connected(broker.url()) as way:
        connection = way.connection
        broker.raise_memory_alarm()
        try:
            until = time.monotonic() + 1.0
            assert not lead.knock(connection, "v", lambda: time.monotonic() > until)
        finally:
            broker.clear_memory_alarm()
    with connected(broker.url()) as way:
        assert lead.knock(way.connection, "v", lambda: False)
        assert lead.read_last(way.connection, "v").markets["A-B"].trade_id == SAID
