"""Every test here runs twice, once on RabbitMQ and once on the embedded broker.

RabbitMQ is right: a test is written against it first. At the end of a run the number of cases
per broker is printed, and whether both had the same list.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.conformance.tally import BROKERS
from tests.conformance.wire import Channel, Client

# RabbitMQ's management answers from counters: by default it counts every five seconds.
COUNT_OFTEN = {"collect_statistics_interval": "200"} | {
    f"management.sample_retention_policies.{kind}.minute": "1"
    for kind in ("basic", "detailed", "global")
}


def _start_rabbitmq() -> AmqpServer:
    return RabbitMQServer(settings=COUNT_OFTEN)


START: dict[str, Callable[[], AmqpServer]] = {
    "rabbitmq": _start_rabbitmq,
    "embedded": EmbeddedBrokerServer,
}


@pytest.fixture(scope="session", params=BROKERS)
def broker_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def start_once() -> Iterator[Callable[[str], AmqpServer]]:
    """Both brokers stay up to the end: tests may go to and fro between them."""
    running: dict[str, AmqpServer] = {}
    with ExitStack() as servers:

        def start(name: str) -> AmqpServer:
            if name not in running:
                running[name] = servers.enter_context(START[name]())
            return running[name]

        yield start


@pytest.fixture(scope="session")
def broker(broker_name: str, start_once: Callable[[str], AmqpServer]) -> AmqpServer:
    return start_once(broker_name)


@pytest.fixture(scope="session")
def vhost(broker: AmqpServer) -> Iterator[str]:
    """One vhost for all tests: they stay apart by the names they use."""
    broker.add_vhost("conformance")
    yield "conformance"
    if broker.running:
        broker.delete_vhost("conformance")


_numbers = itertools.count(1)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Make a name that no other test uses: ``name("orders")``."""
    number = next(_numbers)
    return lambda word: f"{word}-{number}"


@pytest.fixture
def connect(broker: AmqpServer, vhost: str) -> Iterator[Callable[..., Client]]:
    """Open connections; what is still open at the end is dropped."""
    opened: list[Client] = []

    def open_client(in_vhost: str = vhost, **options: object) -> Client:
        client = Client(broker.host, broker.port)
        opened.append(client)
        return client.open(broker.user, broker.password, in_vhost, **options)  # type: ignore[arg-type] # passed on

    yield open_client
    for client in opened:
        # The test may have broken it on purpose.
        with contextlib.suppress(Exception):
            if not client.closed:
                client.close()
        client.drop()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()


@pytest.fixture
def channel(client: Client) -> Channel:
    return client.channel()
