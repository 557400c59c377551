"""Runs the same random programs on RabbitMQ and on the embedded broker and compares what is seen.

``python -m tests.conformance.compare_brokers --programs 50`` prints the first difference of each
program that went differently, with the steps that led there. What is found belongs into a test
case. Consumers take part in no program: who is served next is a race on RabbitMQ. A difference
in the order of dead letters that arrive in the same instant is one too.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from typing import Any

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.conformance.wire import Channel, Client, Closed, Method

QUEUES = ("q0", "q1", "q2", "q3")
EXCHANGES = ("e0", "e1")
KEYS = ("a.b", "x", "c")
VHOST = "compare"

# Long enough for RabbitMQ's queues to tell each other what died.
SETTLE_S = 0.012

Step = tuple[Any, ...]


def make_program(seed: int, length: int) -> list[Step]:
    pick = random.Random(seed)
    steps: list[Step] = [("declare", queue, _arguments(pick)) for queue in QUEUES]
    for exchange in EXCHANGES:
        kind = pick.choice(["direct", "topic", "fanout", "headers"])
        spare = pick.choice([{}, {"alternate-exchange": "amq.fanout"}])
        steps.append(("exchange", exchange, kind, spare))
    for _ in range(pick.randint(2, 7)):
        source = pick.choice([*EXCHANGES, "amq.fanout"])
        pattern = pick.choice(["a.b", "a.*", "#", "x", "*.b"])
        wanted = pick.choice([{}, {"x-match": "any", "h": 1}, {"h": 1}])
        steps.append(("bind", pick.choice(QUEUES), source, pattern, wanted))
    if pick.random() < 0.4:
        steps.append(("join", "e1", "e0", pick.choice(["#", "a.b"])))
    steps += [_step(pick, number) for number in range(length)]
    return [*steps, ("count",), ("reopen",), *(("drain", queue) for queue in QUEUES)]


def _arguments(pick: random.Random) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if pick.random() < 0.35:
        arguments["x-max-length"] = pick.randint(0, 3)
    if pick.random() < 0.15:
        arguments["x-max-length-bytes"] = pick.choice([1, 3, 6])
    if arguments and pick.random() < 0.6:
        arguments["x-overflow"] = pick.choice(["reject-publish", "drop-head", "reject-publish-dlx"])
    if pick.random() < 0.5:
        arguments["x-dead-letter-exchange"] = pick.choice(["", *EXCHANGES])
        if pick.random() < 0.6:
            arguments["x-dead-letter-routing-key"] = pick.choice([*QUEUES, "a.b"])
    if pick.random() < 0.3:
        arguments["x-max-priority"] = pick.choice([1, 3, 5])
    return arguments


def _step(pick: random.Random, number: int) -> Step:
    kinds = {"publish": 40, "get": 35, "settle": 13, "recover": 4, "purge": 3, "reopen": 2}
    kinds |= {"count": 3}
    (kind,) = pick.choices(list(kinds), list(kinds.values()))
    match kind:
        case "publish":
            exchange = pick.choice(["", "", *EXCHANGES])
            key = pick.choice(KEYS if exchange else QUEUES)
            body = str(number).rjust(pick.choice([1, 2, 3]), "0")
            return (kind, exchange, key, body, pick.random() < 0.3, _properties(pick))
        case "get" | "purge":
            return (kind, pick.choice(QUEUES))
        case "settle":
            answer = pick.choice(["ack", "nack", "requeue", "reject"])
            return (kind, answer, pick.random(), pick.random() < 0.2)
        case _:
            return (kind,)


def _properties(pick: random.Random) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    if pick.random() < 0.3:
        properties["priority"] = pick.randint(0, 6)
    if pick.random() < 0.3:
        headers["h"] = pick.choice([1, 2])
    if pick.random() < 0.1:
        headers["CC"] = [pick.choice(QUEUES)]
    return properties | ({"headers": headers} if headers else {})


class Run:
    """One program on one broker; ``seen`` is all that a client could notice."""

    def __init__(self, broker: AmqpServer) -> None:
        self.client = Client(broker.host, broker.port)
        self.client.open(broker.user, broker.password, VHOST)
        self.channel: Channel
        self.held: list[int] = []
        self.seen: list[tuple[int, Any]] = []
        self._open()

    def _open(self) -> None:
        self.channel = self.client.channel()
        self.channel.confirm()
        self.held = []

    def run(self, steps: list[Step]) -> list[tuple[int, Any]]:
        for number, step in enumerate(steps):
            try:
                noticed = self._do(*step)
            except Closed as closed:
                noticed = (closed.scope, closed.code)
                self._open()
            self._settle()
            self.seen.append((number, noticed))
        self.client.drop()
        return self.seen

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        with contextlib.suppress(TimeoutError):
            while True:
                self.client.pump(deadline)

    def _do(self, kind: str, *details: Any) -> Any:
        channel = self.channel
        match kind, details:
            case "declare", (queue, arguments):
                return channel.queue(queue, arguments=arguments)
            case "exchange", (name, exchange_type, arguments):
                return channel.exchange(name, exchange_type, arguments=arguments)
            case "bind", (queue, exchange, key, arguments):
                return channel.bind(queue, exchange, key, arguments=arguments)
            case "join", (to, source, key):
                channel.call("exchange.bind", destination=to, source=source, routing_key=key)
            case "publish", (exchange, key, body, mandatory, properties):
                channel.publish(exchange, key, body, mandatory=mandatory, **properties)
                answer = channel.confirmed().name
                returned = [_view(message) for message in channel.returns]
                channel.returns.clear()
                return (answer, returned)
            case "get", (queue,):
                if (message := channel.get(queue, no_ack=False)) is not None:
                    self.held.append(message.tag)
                return message and _view(message)
            case "settle", (answer, where, multiple):
                self._answer(answer, where, multiple)
            case "recover", ():
                channel.call("basic.recover", requeue=True)
                self.held = []
            case "purge", (queue,):
                return channel.call("queue.purge", queue=queue).messages
            case "reopen", ():
                channel.close()
                self._open()
            case "count", ():
                self._settle()
                return {queue: channel.count(queue) for queue in QUEUES}
            case "drain", (queue,):
                return [_view(message) for message in iter(lambda: channel.get(queue), None)]
        return None

    def _answer(self, answer: str, where: float, multiple: bool) -> None:
        if not self.held:
            return
        place = int(where * len(self.held))
        tag = self.held[place]
        multiple = multiple and answer != "reject"
        match answer:
            case "ack":
                self.channel.ack(tag, multiple=multiple)
            case "reject":
                self.channel.reject(tag, requeue=False)
            case _:
                self.channel.nack(tag, multiple=multiple, requeue=answer == "requeue")
        self.held = self.held[place + 1 :] if multiple else [t for t in self.held if t != tag]
        self.channel.sync()


def _view(message: Method) -> Any:
    """What two brokers should agree on: all but the time of death and the tag."""
    headers = dict(message.headers)
    if "x-death" in headers:
        headers["x-death"] = [
            {key: value for key, value in death.items() if key != "time"}
            for death in headers["x-death"]
        ]
    rest = {key: value for key, value in message.properties.items() if key != "headers"}
    redelivered = message.arguments.get("redelivered")
    return (message.body, redelivered, message.exchange, message.key, headers, rest)


def _run_in_fresh_vhost(broker: AmqpServer, steps: list[Step]) -> list[tuple[int, Any]]:
    broker.add_vhost(VHOST)
    try:
        return Run(broker).run(steps)
    finally:
        broker.delete_vhost(VHOST)


def compare(seed: int, length: int, rabbitmq: AmqpServer, embedded: AmqpServer) -> str:
    """The first difference, told with the steps before it; empty where there is none."""
    steps = make_program(seed, length)
    for right, ours in zip(
        _run_in_fresh_vhost(rabbitmq, steps), _run_in_fresh_vhost(embedded, steps), strict=True
    ):
        if right != ours:
            told = [f"program {seed}", *(f"  {step}" for step in steps[: right[0] + 1])]
            return "\n".join([*told, f"  RabbitMQ: {right[1]}", f"  embedded: {ours[1]}"])
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=50)
    parser.add_argument("--length", type=int, default=40, help="random steps per program")
    parser.add_argument("--seed", type=int, default=1, help="of the first program")
    options = parser.parse_args()
    differences = 0
    with RabbitMQServer() as rabbitmq, EmbeddedBrokerServer() as embedded:
        for seed in range(options.seed, options.seed + options.programs):
            if difference := compare(seed, options.length, rabbitmq, embedded):
                differences += 1
                print(difference, flush=True)
    print(f"{options.programs} programs, {differences} went differently")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
