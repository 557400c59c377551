"""Record what real clients say to a broker: ``python -m tests.campaign.record_captures``.

Each client's bytes are taken from a TCP tap in front of RabbitMQ and stored in
tests/data/captures, one file per connection, with the password taken out.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aio_pika
import amqp
import celery
import pika

from botswarm.testing.servers import RabbitMQServer, free_port, wait_until
from tests.campaign.frames import PROTOCOL_HEADER, START_OK, cut, with_credentials

kombu: Any = importlib.import_module("kombu")  # its types are too partial to be checked against

FOLDER = Path(__file__).parent.parent / "data" / "captures"
PLACEHOLDER = ("user", "password")
ENOUGH_PER_CLIENT = 3


class Tap:
    """Passes bytes through to a server and keeps those that go towards it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.streams: list[bytearray] = []
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            kept = bytearray()
            self.streams.append(kept)
            for source, sink, copy in ((client, server, kept), (server, client, None)):
                threading.Thread(target=_pass, args=(source, sink, copy), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, copy: bytearray | None) -> None:
    try:
        while data := source.recv(65536):
            if copy is not None:
                copy += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def kombu_client(url: str) -> None:
    exchange = kombu.Exchange("captures.topic", "topic", durable=True)
    queue = kombu.Queue(
        "captures.kombu",
        exchange,
        "news.#",
        queue_arguments={"x-max-priority": 9, "x-message-ttl": 60000, "x-max-length": 100},
    )
    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer(serializer="json")
        for number in range(6):
            producer.publish(
                {"number": number, "text": "grüße"},
                exchange=exchange,
                routing_key=f"news.{number}",
                declare=[queue],
                priority=number,
                headers={"nested": {"list": [1, -2, 3.5, None, True]}},
                expiration=30,
                compression="zlib" if number % 2 else None,
            )
        decisions = iter(("ack", "reject", "requeue", "ack", "ack", "ack", "ack", "ack"))

        def receive(body: object, message: Any) -> None:
            getattr(message, next(decisions))()

        with connection.Consumer([queue], callbacks=[receive], prefetch_count=2):
            for _ in range(5):
                connection.drain_events(timeout=5)
        channel = connection.channel()
        bound = queue(channel)
        bound.queue_declare(passive=True)
        bound.purge()
        bound.unbind_from(exchange, "news.#")
        bound.delete()
        exchange(channel).delete()
        with connection.SimpleQueue("captures.simple") as simple:
            simple.put({"simple": True})
            simple.get(timeout=5).ack()
        channel.queue_delete("captures.simple")


def py_amqp_client(url: str) -> None:
    parts = url.removeprefix("amqp://").replace("@", ":").split(":")
    with amqp.Connection(
        f"{parts[2]}:{parts[3]}", userid=parts[0], password=parts[1]
    ) as connection:
        channel = connection.channel()
        channel.exchange_declare("captures.a", "fanout", auto_delete=False)
        channel.exchange_declare("captures.b", "headers", auto_delete=False)
        channel.exchange_bind("captures.b", "captures.a", "")
        name, _, _ = channel.queue_declare("", exclusive=True, arguments={"x-expires": 60000})
        channel.queue_bind(name, "captures.b", "", arguments={"x-match": "all", "kind": "tick"})
        channel.confirm_select()
        for _ in range(3):
            channel.basic_publish(
                amqp.Message(b"x" * 300, application_headers={"kind": "tick"}, reply_to=name),
                exchange="captures.a",
            )
        channel.basic_qos(0, 10, True)
        got = channel.basic_get(name)
        channel.basic_reject(got.delivery_tag, requeue=True)
        channel.basic_recover(requeue=True)
        channel.exchange_unbind("captures.b", "captures.a", "")
        channel.queue_unbind(name, "captures.b", "")
        channel.exchange_delete("captures.a", if_unused=True)
        channel.exchange_delete("captures.b")
        transactional = connection.channel()
        transactional.tx_select()
        transactional.tx_commit()
        transactional.tx_rollback()


def pika_client(url: str) -> None:
    parameters = pika.URLParameters(url)
    parameters.frame_max = 8192  # so that a modest body already takes several frames
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("captures.direct", "direct", durable=True)
    arguments = {"x-dead-letter-exchange": "captures.direct", "x-overflow": "reject-publish"}
    channel.queue_declare("captures.pika", durable=True, arguments=arguments)
    channel.queue_declare("captures.quorum", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind("captures.pika", "captures.direct", "key")
    for size in (0, 10, 30_000):
        channel.basic_publish(
            "captures.direct",
            "key",
            b"p" * size,
            pika.BasicProperties(
                content_type="application/octet-stream",
                delivery_mode=2,
                priority=1,
                correlation_id="c",
                expiration="60000",
                message_id="m",
                timestamp=1_700_000_000,
                type="t",
                app_id="a",
                headers={"deep": {"er": {"still": [{"x": 1}]}}},
            ),
            mandatory=True,
        )
    channel.basic_qos(prefetch_count=5)
    for method, _, _ in channel.consume("captures.pika", inactivity_timeout=2):
        if method is None or method.delivery_tag == 3:
            break
    channel.basic_nack(1, requeue=True)
    channel.basic_ack(3, multiple=True)
    channel.cancel()
    channel.queue_purge("captures.pika")
    channel.queue_unbind("captures.pika", "captures.direct", "key")
    channel.queue_delete("captures.pika", if_empty=True)
    channel.queue_delete("captures.quorum")
    channel.exchange_delete("captures.direct")
    channel.close()
    connection.close()


def aio_pika_client(url: str) -> None:
    async def talk() -> None:
        connection = await aio_pika.connect_robust(url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=3)
            exchange = await channel.declare_exchange(
                "captures.headers", aio_pika.ExchangeType.HEADERS, auto_delete=True
            )
            queue = await channel.declare_queue(
                "captures.aio", auto_delete=True, arguments={"x-single-active-consumer": True}
            )
            await queue.bind(exchange, arguments={"x-match": "any", "a": 1, "b": "two"})
            for number in range(4):
                await exchange.publish(
                    aio_pika.Message(
                        str(number).encode(),
                        headers={"a": 1, "raw": bytearray(b"bytes")},
                        priority=number,
                    ),
                    "",
                )
            async with queue.iterator() as messages:
                count = 0
                async for message in messages:
                    await message.ack()
                    count += 1
                    if count == 4:
                        break
            await queue.unbind(exchange, arguments={"x-match": "any", "a": 1, "b": "two"})
            await queue.delete()

    asyncio.run(talk())


def celery_client(url: str) -> None:
    """A client that sends tasks and asks questions, and the worker that answers them."""
    app = celery.Celery("captures", broker=url, backend="rpc://")
    elsewhere = Path(__file__).parent.parent / "e2e" / "elsewhere"
    words = ["worker", "-P", "solo", "-n", "captures@bakery", "-E"]
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "bakery", *words],
        cwd=elsewhere,
        env=os.environ | {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": "rpc://"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            wait_until(lambda: bool(app.control.inspect(timeout=0.5).ping()), "the worker", 30)
            for number in range(3):
                app.send_task(
                    "bakery.tasks.add", (number, 1), exchange="bakery", routing_key="bakery"
                ).get(timeout=10)
            app.send_task(
                "bakery.tasks.add", (1, 1), exchange="bakery", routing_key="bakery", countdown=1
            ).get(timeout=10)
            app.control.inspect(timeout=0.5).active_queues()
        finally:
            worker.terminate()
    app.close()


CLIENTS: dict[str, Callable[[str], None]] = {
    "kombu": kombu_client,
    "py-amqp": py_amqp_client,
    "pika": pika_client,
    "aio-pika": aio_pika_client,
    "celery": celery_client,
}


def without_secrets(stream: bytes) -> bytes:
    """The stream's whole frames, under other credentials, from no machine in particular."""
    here = f"@{socket.gethostname()}".encode()
    stream = stream.replace(here, b"@" + b"h" * (len(here) - 1))
    frames = list(cut(stream.removeprefix(PROTOCOL_HEADER)))
    return PROTOCOL_HEADER + b"".join(
        bytes(with_credentials(frame, *PLACEHOLDER) if frame.method == START_OK else frame)
        for frame in frames
    )


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.bin"):
        old.unlink()
    with RabbitMQServer() as server:
        for name, client in CLIENTS.items():
            tap = Tap(server.port)
            client(server.url().replace(f":{server.port}", f":{tap.port}"))
            tap.listener.close()
            streams = [without_secrets(bytes(stream)) for stream in tap.streams if stream]
            longest = sorted(streams, key=len, reverse=True)[:ENOUGH_PER_CLIENT]
            for number, stream in enumerate(longest):
                path = FOLDER / f"{name}-{number}.bin"
                path.write_bytes(stream)
                print(f"{path.name}: {len(stream)} bytes, {len(list(cut(stream[8:])))} frames")


if __name__ == "__main__":
    main()
