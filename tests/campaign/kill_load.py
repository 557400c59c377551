"""The load a broker is killed under: confirmed publishers, and consumers of every habit."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import amqp

from tests.campaign.kill_oracle import Attempt, Delivery, Oracle, deaths_of, hops_of

TOPIC = "kill.topic"
DEAD = "kill.dead"
LOOP_HOPS = 2
"""How many times a message is sent round the retry loop before it is acked."""


def dead_letter_to(queue: str) -> dict[str, Any]:
    return {"x-dead-letter-exchange": DEAD, "x-dead-letter-routing-key": queue}


QUEUES: dict[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 3, **dead_letter_to("quorum.dead")},
    "priority": {"x-max-priority": 9},
    "ttl": {"x-message-ttl": 300, **dead_letter_to("ttl.dead")},
    "reject": dead_letter_to("reject.dead"),
    "loop": dead_letter_to("loop.wait"),
    "loop.wait": {"x-message-ttl": 60, **dead_letter_to("loop")},
    "fan.classic": {},
    "fan.quorum": {"x-queue-type": "quorum"},
    "quorum.dead": {},
    "ttl.dead": {},
    "reject.dead": {},
}
ROOT_OF = {
    **{name: name for name in QUEUES},
    "loop.wait": "loop",
    "quorum.dead": "quorum",
    "ttl.dead": "ttl",
    "reject.dead": "reject",
}
QUORUM = frozenset({"quorum", "fan.quorum"})
DIRECT = ("classic", "quorum", "priority", "ttl", "reject", "loop")
MAY_DEAD_LETTER = frozenset({"quorum", "ttl", "reject", "loop"})
"""A consumer rejects for good only where a dead letter catches the message."""


def declare(connection: amqp.Connection) -> None:
    """The campaign's exchanges and queues, all durable; twice is as good as once."""
    with connection.channel() as channel:
        channel.exchange_declare(TOPIC, "topic", durable=True, auto_delete=False)
        channel.exchange_declare(DEAD, "direct", durable=True, auto_delete=False)
        for name, arguments in QUEUES.items():
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
            channel.queue_bind(name, DEAD, name)
        channel.queue_bind("fan.classic", TOPIC, "fan.#")
        channel.queue_bind("fan.quorum", TOPIC, "fan.*")


def body_of(message: str, size: int) -> bytes:
    """The id, its digest and filling that follows from both: any damage shows."""
    head = (
        f"{message} {hashlib.sha1(message.encode(), usedforsecurity=False).hexdigest()} ".encode()
    )
    return (head * (size // len(head) + 1))[: max(size, len(head))]


def is_intact(message: str, body: bytes) -> bool:
    return body == body_of(message, len(body))


class Broker(Protocol):
    """What the load needs of a broker, whoever runs it."""

    def connect(self) -> amqp.Connection: ...


@dataclass(slots=True)
class Stage:
    """What all actors share: the broker, the notes, and whether the curtain is up."""

    broker: Broker
    oracle: Oracle
    up: threading.Event
    over: threading.Event
    round: int = 0
    backlog_limit: int = 20_000


class Actor(threading.Thread):
    """A client that plays until its connection dies, and comes back when the broker does."""

    def __init__(self, stage: Stage, name: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.stage = stage
        self.random = random.Random(seed)

    def run(self) -> None:
        while not self.stage.over.is_set():
            if not self.stage.up.wait(0.2):
                continue
            try:
                with self.stage.broker.connect() as connection:
                    self.play(connection)
            except (OSError, amqp.ConnectionError, RuntimeError):
                time.sleep(0.01)  # the broker was killed: that is what this is about
            except Exception as error:
                # A channel error or a fault of this harness: neither may pass for a kill.
                self.stage.oracle.note_unexpected(f"{self.name}: {error!r}")
                time.sleep(0.1)

    def play(self, connection: amqp.Connection) -> None:
        raise NotImplementedError


class Publisher(Actor):
    """Publishes with pipelined confirms; an id counts as confirmed when its ack was read."""

    window = 100

    def __init__(self, stage: Stage, name: str, seed: int) -> None:
        super().__init__(stage, name, seed)
        self.numbers = itertools.count()
        self.outstanding: dict[int, str] = {}

    def play(self, connection: amqp.Connection) -> None:
        channel = connection.channel()
        self.outstanding = {}
        channel.confirm_select()
        channel.events["basic_ack"].add(self.on_ack)
        channel.events["basic_nack"].add(self.on_nack)
        tag = 0
        while not self.stage.over.is_set():
            if self.stage.oracle.awaiting() < self.stage.backlog_limit:
                for _ in range(self.random.randint(1, 20)):
                    tag += 1
                    self.publish(channel, tag)
            else:
                time.sleep(0.01)
            self.collect(connection)

    def publish(self, channel: amqp.Channel, tag: int) -> None:
        message = f"{self.name}-{self.stage.round}-{next(self.numbers)}"
        fan = self.random.random() < 0.2
        queue = "" if fan else self.random.choice(DIRECT)
        persistent = fan or queue in QUORUM or self.random.random() < 0.9
        roots = ("fan.classic", "fan.quorum") if fan else (queue,)
        properties: dict[str, Any] = {
            "message_id": message,
            "delivery_mode": 2 if persistent else 1,
            "application_headers": {"number": tag, "nested": {"list": [1, "two", None]}},
        }
        if queue == "priority":
            properties["priority"] = self.random.randint(0, 9)
        if queue == "ttl" and self.random.random() < 0.5:
            properties["expiration"] = str(self.random.randint(0, 200))
        self.outstanding[tag] = message
        self.stage.oracle.note_attempt(message, Attempt(roots, persistent, self.stage.round))
        channel.basic_publish(
            amqp.Message(body_of(message, self.size()), **properties),
            exchange=TOPIC if fan else "",
            routing_key="fan.out" if fan else queue,
        )

    def size(self) -> int:
        """Mostly small; now and then several frames' worth."""
        return 300_000 if self.random.random() < 0.002 else self.random.randint(60, 1500)

    def collect(self, connection: amqp.Connection) -> None:
        while len(self.outstanding) > self.window:
            connection.drain_events(timeout=5)

    def on_ack(self, tag: int, multiple: bool) -> None:
        self.stage.oracle.note_confirms(self.take(tag, multiple))

    def on_nack(self, tag: int, multiple: bool) -> None:
        self.stage.oracle.note_confirms(self.take(tag, multiple), refused=True)

    def take(self, tag: int, multiple: bool) -> list[str]:
        tags = [seen for seen in self.outstanding if seen <= tag] if multiple else [tag]
        return [self.outstanding.pop(seen) for seen in tags if seen in self.outstanding]


class Consumer(Actor):
    """Acks, holds, requeues and rejects by chance, so that a kill meets every kind of delivery."""

    def __init__(self, stage: Stage, name: str, seed: int, queues: tuple[str, ...]) -> None:
        super().__init__(stage, name, seed)
        self.queues = queues
        self.held: deque[tuple[amqp.Message, str]] = deque()

    def play(self, connection: amqp.Connection) -> None:
        self.held.clear()
        for queue in self.queues:
            channel = connection.channel()
            channel.basic_qos(0, self.random.choice((1, 20, 100)), False)
            channel.basic_consume(queue, callback=self.receiver(queue))
        while not self.stage.over.is_set():
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                self.release(len(self.held))  # never starve a queue whose window is all held

    def receiver(self, queue: str) -> Callable[[amqp.Message], None]:
        def receive(message: amqp.Message) -> None:
            note(self.stage, message, queue)
            self.decide(message, queue)
            if len(self.held) > 60 or self.random.random() < 0.02:
                self.release(len(self.held) // 2)

        return receive

    def decide(self, message: amqp.Message, queue: str) -> None:
        chance = self.random.random()
        headers = message.headers
        go_round = queue == "loop" and deaths_of(headers, "loop", "rejected") < LOOP_HOPS
        if go_round or (chance < 0.10 and queue in MAY_DEAD_LETTER):
            self.reject(message)
        elif chance < 0.18:
            message.channel.basic_reject(message.delivery_tag, requeue=True)
        elif chance < 0.30:
            self.held.append((message, queue))
        else:
            self.ack(message, queue)

    def ack(self, message: amqp.Message, queue: str) -> None:
        self.stage.oracle.note_ack(identity(message), queue)
        message.channel.basic_ack(message.delivery_tag)

    def reject(self, message: amqp.Message) -> None:
        self.stage.oracle.note_reject(identity(message))
        message.channel.basic_reject(message.delivery_tag, requeue=False)

    def release(self, count: int) -> None:
        for _ in range(count):
            self.ack(*self.held.popleft())


def identity(message: amqp.Message) -> str:
    return str(message.properties.get("message_id"))


def note(stage: Stage, message: amqp.Message, queue: str) -> None:
    """Tell the oracle what was delivered, and check the x-death header's own arithmetic."""
    name, headers, body = identity(message), message.headers, message.body
    raw = body.encode() if isinstance(body, str) else bytes(body)
    hops = hops_of(headers)
    stage.oracle.note_delivery(
        Delivery(
            name,
            queue,
            bool(message.delivery_info["redelivered"]),
            hops,
            stage.round,
            is_intact(name, raw),
        )
    )
    if complaint := x_death_complaint(stage.oracle, name, queue, headers, hops):
        stage.oracle.note_unexpected(f"{complaint}: {name} on {queue}, {headers}")


def x_death_complaint(
    oracle: Oracle, message: str, queue: str, headers: dict[str, Any], hops: int
) -> str | None:
    """What is wrong with a delivery's x-death header, if anything."""
    if ROOT_OF[queue] == "loop":
        rejected = deaths_of(headers, "loop", "rejected")
        expired = deaths_of(headers, "loop.wait", "expired")
        if rejected != expired or hops != rejected + expired:
            return "the retry loop's deaths do not pair up"
        if rejected > oracle.rejects[message]:
            return "more rejections in x-death than were sent"
    elif queue.endswith(".dead"):
        if hops != 1:
            return "a dead letter that did not die exactly once"
    elif hops:
        return "deaths on a message that never left its queue"
    return None


def actors(stage: Stage, seed: int, publishers: int = 2) -> list[Actor]:
    """The whole company: every queue has a consumer, some have two that compete."""
    consumed = (
        ("classic", "quorum", "fan.classic"),
        ("classic", "quorum", "priority", "fan.quorum"),
        ("ttl", "reject", "loop", "quorum.dead"),
        ("reject.dead", "ttl.dead", "loop"),
    )
    return [
        *(Publisher(stage, f"p{number}", seed * 100 + number) for number in range(publishers)),
        *(
            Consumer(stage, f"c{number}", seed * 100 + 50 + number, queues)
            for number, queues in enumerate(consumed)
        ),
    ]


def drain(stage: Stage, *, within_s: float) -> int:
    """Consume and ack everything that is left; how many deliveries that took."""
    deadline = time.monotonic() + within_s
    drained = 0
    names = [name for name in QUEUES if name != "loop.wait"]
    with stage.broker.connect() as connection:

        def receiver(queue: str) -> Callable[[amqp.Message], None]:
            def receive(message: amqp.Message) -> None:
                nonlocal drained
                drained += 1
                note(stage, message, queue)
                stage.oracle.note_ack(identity(message), queue)
                message.channel.basic_ack(message.delivery_tag)

            return receive

        for name in names:
            channel = connection.channel()
            channel.basic_qos(0, 200, False)
            channel.basic_consume(name, callback=receiver(name))
        quiet = 0
        while quiet < 5:
            if time.monotonic() > deadline:
                stage.oracle.note_unexpected(f"not drained within {within_s} s")
                return drained
            try:
                connection.drain_events(timeout=0.2)
                quiet = 0
            except TimeoutError:
                quiet = quiet + 1 if is_empty(connection) else 0
    return drained


def is_empty(connection: amqp.Connection) -> bool:
    with connection.channel() as channel:
        return not any(channel.queue_declare(name, passive=True).message_count for name in QUEUES)
