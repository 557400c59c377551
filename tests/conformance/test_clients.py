"""The client libraries people use, each doing what it is used for."""

# kombu says that it is typed, and types half of what it offers.
# mypy: disable-error-code="attr-defined,name-defined,no-untyped-call"

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import aio_pika
import amqp
import kombu
import kombu.exceptions
import kombu.pidbox
import pika
import pika.exceptions
import pytest

from botswarm.testing.servers import AmqpServer, wait_until

Name = Callable[[str], str]

PATIENCE_S = 10.0


@pytest.fixture
def url(broker: AmqpServer, vhost: str) -> str:
    return broker.url(vhost)


# kombu


@pytest.fixture
def kombu_connection(url: str) -> Iterator[kombu.Connection]:
    with kombu.Connection(url, heartbeat=10) as connection:
        yield connection


def _drain(connection: kombu.Connection, done: Callable[[], bool]) -> None:
    while not done():
        connection.drain_events(timeout=PATIENCE_S)


def test_kombu_sends_json_and_gets_it_back(kombu_connection: kombu.Connection, name: Name) -> None:
    queue = kombu.Queue(
        name("q"), kombu.Exchange(name("ex"), "topic"), routing_key="a.#", auto_delete=True
    )
    got: list[Any] = []

    def on_message(body: Any, message: kombu.Message) -> None:
        got.append((body, message.headers, message.delivery_info["routing_key"]))
        message.ack()

    with kombu_connection.Consumer(queue, callbacks=[on_message]):
        producer = kombu_connection.Producer()
        for number in range(3):
            producer.publish(
                {"n": number, "at": datetime(2026, 1, 1, tzinfo=UTC)},
                exchange=queue.exchange,
                routing_key="a.b",
                headers={"n": number},
                declare=[queue],
            )
        _drain(kombu_connection, lambda: len(got) == 3)
    assert [(body["n"], headers["n"], key) for body, headers, key in got] == [
        (number, number, "a.b") for number in range(3)
    ]
    kombu.Exchange(name("ex"), channel=kombu_connection.default_channel).delete()


def test_kombus_simple_queue_works(kombu_connection: kombu.Connection, name: Name) -> None:
    with closing(kombu_connection.SimpleQueue(name("simple"))) as queue:
        for number in range(3):
            queue.put({"n": number})
        bodies = []
        for _ in range(3):
            message = queue.get(timeout=PATIENCE_S)
            bodies.append(message.payload["n"])
            message.ack()
        assert bodies == [0, 1, 2]
        with pytest.raises(queue.Empty):
            queue.get(block=False)
    kombu_connection.channel().queue_delete(name("simple"))


def test_kombu_hears_that_a_message_was_refused(url: str, name: Name) -> None:
    options = {"confirm_publish": True}
    with kombu.Connection(url, transport_options=options) as connection:
        queue = kombu.Queue(
            name("q"),
            max_length=1,
            queue_arguments={"x-overflow": "reject-publish"},
            auto_delete=True,
            channel=connection.default_channel,
        )
        queue.declare()
        producer = connection.Producer()
        producer.publish("fits", routing_key=name("q"))
        with pytest.raises(amqp.exceptions.MessageNacked):
            producer.publish("does not", routing_key=name("q"))


def test_kombu_hears_that_a_message_had_nowhere_to_go(url: str, name: Name) -> None:
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        with pytest.raises(amqp.exceptions.ChannelError) as error:
            connection.Producer().publish("x", routing_key=name("nowhere"), mandatory=True)
        assert error.value.reply_code == 312


def test_kombu_limits_what_each_consumer_holds(
    kombu_connection: kombu.Connection, name: Name
) -> None:
    channel = kombu_connection.default_channel
    queue = kombu.Queue(name("q"), auto_delete=True, channel=channel)
    queue.declare()
    for number in range(5):
        kombu_connection.Producer().publish({"n": number}, routing_key=name("q"))
    held: list[kombu.Message] = []
    with kombu.Consumer(channel, [queue], on_message=held.append, prefetch_count=2):
        _drain(kombu_connection, lambda: len(held) == 2)
        with pytest.raises(socket.timeout):
            kombu_connection.drain_events(timeout=0.3)
        held[0].ack()
        _drain(kombu_connection, lambda: len(held) == 3)


def test_kombu_reconnects_after_the_broker_closed_its_connection(
    broker: AmqpServer, url: str, name: Name
) -> None:
    options = {"client_properties": {"connection_name": name("kombu")}}
    with kombu.Connection(url, transport_options=options) as connection:
        kombu.Queue(name("q"), channel=connection.default_channel).declare()
        _close_connection(broker, name("kombu"))

        def publish() -> None:
            connection.Producer().publish("again", routing_key=name("q"))
            # A closed socket may take one more write in silence; an answer shows it is alive.
            connection.default_channel.queue_declare(name("q"), passive=True)

        connection.ensure(connection, publish, max_retries=5, interval_start=0)()
        message = connection.default_channel.basic_get(name("q"), no_ack=True)
        assert b"again" in message.body.encode()
        connection.default_channel.queue_delete(name("q"))


def _close_connection(broker: AmqpServer, connection_name: str) -> None:
    """Close it as an operator would, by the management answer."""
    found: list[str] = []

    def listed() -> bool:
        for row in broker.manage("GET", "connections")[1]:
            properties = row.get("client_properties") or {}
            if properties.get("connection_name") == connection_name:
                found.append(row["name"])
        return bool(found)

    wait_until(listed, "the connection in the list", PATIENCE_S)
    path = found[0].replace(" ", "%20").replace(">", "%3E")
    assert broker.manage("DELETE", f"connections/{path}")[0] == 204


def test_kombus_mailbox_asks_and_is_answered(url: str, name: Name) -> None:
    with kombu.Connection(url) as connection, kombu.Connection(url) as asking:
        mailbox = kombu.pidbox.Mailbox(name("box"), type="fanout", accept=["json"])
        node = mailbox(connection).Node("node-1", state={}, channel=connection.channel())
        node.handlers["double"] = lambda state, number: number * 2
        consumer = node.listen()
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection.drain_events(timeout=0.1)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            answers = mailbox(asking).multi_call("double", {"number": 21}, timeout=5, limit=1)
        finally:
            stop.set()
            thread.join()
            consumer.cancel()
    assert answers == [{"node-1": 42}]


def test_kombu_delivers_to_a_priority_queue(kombu_connection: kombu.Connection, name: Name) -> None:
    queue = kombu.Queue(
        name("q"), max_priority=9, auto_delete=True, channel=kombu_connection.default_channel
    )
    queue.declare()
    for priority in (1, 9, 5):
        kombu_connection.Producer().publish(priority, routing_key=name("q"), priority=priority)
    messages = [queue.get(no_ack=True) for _ in range(3)]
    assert [message and message.payload for message in messages] == [9, 5, 1]


# py-amqp


@pytest.fixture
def amqp_channel(broker: AmqpServer, vhost: str) -> Iterator[Any]:
    connection = amqp.Connection(
        host=f"{broker.host}:{broker.port}",
        userid=broker.user,
        password=broker.password,
        virtual_host=vhost,
    )
    connection.connect()
    yield connection.channel()
    connection.close()


def test_py_amqp_gets_properties_and_headers_back(amqp_channel: Any) -> None:
    queue = amqp_channel.queue_declare(exclusive=True).queue
    headers = {
        "int": -5,
        "long": 2**40,
        "float": 0.5,
        "text": "grüße",
        "true": True,
        "none": None,
        "list": [1, "two", {"three": 3}],
        "when": datetime(2026, 1, 1),  # noqa: DTZ001 - py-amqp's times carry no zone
    }
    sent = amqp.Message("body", content_type="text/plain", application_headers=headers, priority=2)
    amqp_channel.basic_publish_confirm(sent, routing_key=queue)
    message = amqp_channel.basic_get(queue, no_ack=True)
    assert message.body == "body"
    assert message.headers == headers
    assert (message.properties["content_type"], message.properties["priority"]) == (
        "text/plain",
        2,
    )


def test_py_amqp_raises_what_the_broker_says(amqp_channel: Any) -> None:
    with pytest.raises(amqp.exceptions.NotFound) as error:
        amqp_channel.queue_declare("missing", passive=True)
    assert error.value.reply_code == 404
    assert error.value.method_sig == (50, 10)


def test_py_amqp_hears_that_its_queue_is_gone(amqp_channel: Any, name: Name) -> None:
    amqp_channel.queue_declare(name("q"), auto_delete=False)
    cancelled: list[str] = []
    amqp_channel.basic_consume(name("q"), on_cancel=cancelled.append, consumer_tag="mine")
    amqp_channel.connection.channel().queue_delete(name("q"))
    while not cancelled:
        amqp_channel.connection.drain_events(timeout=PATIENCE_S)
    assert cancelled == ["mine"]


def test_py_amqp_gets_a_returned_message(amqp_channel: Any, name: Name) -> None:
    returned: list[Any] = []
    amqp_channel.events["basic_return"].add(lambda *arguments: returned.append(arguments))
    amqp_channel.basic_publish(
        amqp.Message("x"), exchange="amq.direct", routing_key=name("nowhere"), mandatory=True
    )
    while not returned:
        amqp_channel.connection.drain_events(timeout=PATIENCE_S)
    error = returned[0][0]
    assert error.reply_code == 312


def test_py_amqp_exchanges_heartbeats(broker: AmqpServer, vhost: str) -> None:
    connection = amqp.Connection(
        host=f"{broker.host}:{broker.port}",
        userid=broker.user,
        password=broker.password,
        virtual_host=vhost,
        heartbeat=2,
    )
    connection.connect()
    channel = connection.channel()
    for _ in range(7):
        connection.heartbeat_tick(rate=4)
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.5)
    assert channel.queue_declare(exclusive=True).queue
    connection.close()


# pika


@pytest.fixture
def pika_channel(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def test_pika_publishes_and_consumes(pika_channel: Any) -> None:
    queue = pika_channel.queue_declare("", exclusive=True).method.queue
    for number in range(5):
        pika_channel.basic_publish("", queue, str(number).encode())
    bodies = []
    for method, _, body in pika_channel.consume(queue, inactivity_timeout=PATIENCE_S):
        bodies.append(body)
        pika_channel.basic_ack(method.delivery_tag)
        if len(bodies) == 5:
            break
    assert pika_channel.cancel() == 0
    assert bodies == [b"0", b"1", b"2", b"3", b"4"]


def test_pika_gets_properties_and_headers_back(pika_channel: Any) -> None:
    queue = pika_channel.queue_declare("", exclusive=True).method.queue
    sent = pika.BasicProperties(
        content_type="application/json",
        headers={"short": 5, "long": 2**40, "list": [1, "a"], "table": {"n": None}},
        delivery_mode=2,
        correlation_id="c",
        timestamp=1_700_000_000,
    )
    pika_channel.basic_publish("", queue, b"x", sent)
    _, properties, _ = pika_channel.basic_get(queue, auto_ack=True)
    assert properties == sent


def test_pika_hears_refusals_and_returns(pika_channel: Any, name: Name) -> None:
    pika_channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        pika_channel.basic_publish("amq.direct", name("nowhere"), b"x", mandatory=True)
    arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
    queue = pika_channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    with pytest.raises(pika.exceptions.NackError):
        pika_channel.basic_publish("", queue, b"x")


def test_pika_sees_why_its_channel_was_closed(pika_channel: Any) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
        pika_channel.queue_declare("missing", passive=True)
    assert error.value.reply_code == 404
    assert pika_channel.connection.channel().queue_declare("", exclusive=True)


def test_pika_sees_a_wrong_password_as_such(broker: AmqpServer, vhost: str) -> None:
    parameters = pika.ConnectionParameters(
        broker.host,
        broker.port,
        vhost,
        pika.PlainCredentials(broker.user, "wrong"),
    )
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(parameters)


def test_pika_hears_that_it_is_blocked(broker: AmqpServer, url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    heard: list[str] = []
    connection.add_on_connection_blocked_callback(lambda *_: heard.append("blocked"))
    connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    broker.raise_memory_alarm()
    try:
        channel.basic_publish("", queue, b"x")

        def hears(word: str) -> Callable[[], bool]:
            def listen() -> bool:
                connection.process_data_events(time_limit=0.05)
                return word in heard

            return listen

        wait_until(hears("blocked"), "the notice", PATIENCE_S)
    finally:
        broker.clear_memory_alarm()
    wait_until(hears("unblocked"), "the notice", PATIENCE_S)
    connection.close()


def test_pika_takes_part_in_a_transaction_or_hears_that_there_are_none(
    broker_name: str, pika_channel: Any
) -> None:
    if broker_name == "embedded":  # documented difference
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as error:
            pika_channel.tx_select()
        assert error.value.reply_code == 540
        return
    pika_channel.tx_select()
    pika_channel.tx_commit()


# aio-pika


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def test_aio_pika_publishes_and_iterates(url: str, name: Name) -> None:
    async def work() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=2)
            exchange = await channel.declare_exchange(name("ex"), "topic", auto_delete=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "a.*")
            for number in range(5):
                message = aio_pika.Message(str(number).encode(), headers={"n": number})
                await exchange.publish(message, "a.b")
            got = []
            async with queue.iterator(timeout=PATIENCE_S) as messages:
                async for received in messages:
                    async with received.process():
                        got.append((received.body, received.headers["n"]))
                    if len(got) == 5:
                        break
            assert got == [(str(number).encode(), number) for number in range(5)]

    run(work())


def test_aio_pika_gets_headers_of_every_width_back(url: str) -> None:
    headers: Any = {
        "byte": 5,
        "short": 300,
        "int": 70_000,
        "long": 2**40,
        "negative": -300,
        "float": 0.1,
        "bytes": bytearray(b"\x00\xff"),
        "list": [1, 2, {"a": True}],
        "none": None,
    }

    async def work() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await channel.default_exchange.publish(
                aio_pika.Message(b"x", headers=headers), queue.name
            )
            message = await queue.get(no_ack=True, timeout=PATIENCE_S)
            assert message is not None
            # pamqp writes a float in single precision.
            headers["float"] = pytest.approx(0.1)
            assert dict(message.headers) == headers

    run(work())


def test_aio_pika_hears_returns_and_refusals(url: str, name: Name) -> None:
    async def work() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), name("nowhere"))
            arguments: Any = {"x-max-length": 0, "x-overflow": "reject-publish"}
            queue = await channel.declare_queue(exclusive=True, arguments=arguments)
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), queue.name)

    run(work())


def test_aio_pika_sees_why_a_queue_cannot_be_declared(url: str, name: Name) -> None:
    async def work() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            await channel.declare_queue(name("q"), auto_delete=True)
            with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
                await channel.declare_queue(name("q"), durable=True)

    run(work())


def test_aio_pika_recovers_when_the_broker_closes_its_connection(
    broker: AmqpServer, url: str, name: Name
) -> None:
    async def work() -> None:
        connection = await aio_pika.connect_robust(
            url, reconnect_interval=0.1, client_properties={"connection_name": name("aio")}
        )
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(name("q"), durable=True)
            got: asyncio.Queue[bytes] = asyncio.Queue()

            async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                async with message.process():
                    await got.put(message.body)

            await queue.consume(on_message)
            broken = asyncio.Event()
            connection.close_callbacks.add(lambda *_: broken.set())
            await asyncio.to_thread(_close_connection, broker, name("aio"))
            await asyncio.wait_for(broken.wait(), PATIENCE_S)
            await connection.ready()
            async with await aio_pika.connect(url) as other:
                publisher = await other.channel()
                await publisher.default_exchange.publish(aio_pika.Message(b"back"), name("q"))
            assert await asyncio.wait_for(got.get(), PATIENCE_S) == b"back"
            await queue.delete(if_unused=False, if_empty=False)

    run(work())


def test_aio_pika_carries_a_remote_call(url: str, name: Name) -> None:
    from aio_pika.patterns import RPC

    async def double(*, number: int) -> int:
        return number * 2

    async def work() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            rpc = await RPC.create(channel)
            await rpc.register(name("double"), double, auto_delete=True)
            assert await rpc.call(name("double"), kwargs={"number": 21}) == 42
            await rpc.close()

    run(work())


# Several at once


def test_every_library_reads_what_every_other_wrote(
    url: str, kombu_connection: kombu.Connection, amqp_channel: Any, pika_channel: Any
) -> None:
    queue = amqp_channel.queue_declare(auto_delete=True, exclusive=False).queue

    async def by_aio_pika() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            message = aio_pika.Message(b"aio-pika", headers={"from": "aio-pika", "n": 1})
            await channel.default_exchange.publish(message, queue)

    def write(library: str) -> None:
        match library:
            case "kombu":
                kombu_connection.Producer().publish(
                    "kombu",
                    routing_key=queue,
                    headers={"from": "kombu", "n": 1},
                    serializer="raw",
                    content_type="text/plain",
                    content_encoding="utf-8",
                )
            case "py-amqp":
                message = amqp.Message("py-amqp", application_headers={"from": "py-amqp", "n": 1})
                amqp_channel.basic_publish_confirm(message, routing_key=queue)
            case "pika":
                properties = pika.BasicProperties(headers={"from": "pika", "n": 1})
                pika_channel.basic_publish("", queue, b"pika", properties)
            case _:
                run(by_aio_pika())

    libraries = ["kombu", "py-amqp", "pika", "aio-pika"]
    for library in libraries:
        write(library)

    def all_there() -> bool:
        return bool(pika_channel.queue_declare(queue, passive=True).method.message_count == 4)

    wait_until(all_there, "the messages", PATIENCE_S)
    for _ in range(4):
        message = amqp_channel.basic_get(queue)
        assert message.headers == {"from": _text(message.body), "n": 1}
    amqp_channel.basic_recover(requeue=True)
    for _ in range(4):
        _, properties, body = pika_channel.basic_get(queue)
        assert properties.headers == {"from": body.decode(), "n": 1}


def _text(body: str | bytes) -> str:
    return body if isinstance(body, str) else body.decode()
