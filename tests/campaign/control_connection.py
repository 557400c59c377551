"""A well-behaved client whose work must go on undisturbed while others misbehave.

Run as a process of its own, so that its clock is not held up by the misbehaviour's own work;
prints one line of JSON when its standard input is closed.
"""

from __future__ import annotations

import json
import select
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import amqp

PAUSE_S = 0.004


@dataclass(frozen=True, slots=True)
class Verdict:
    """Round trips made on one connection, their latencies, and what went wrong, if anything."""

    round_trips: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    trouble: str


def watch(host: str, user: str, password: str) -> Verdict:
    took: list[float] = []
    trouble = ""
    try:
        with amqp.Connection(
            host, userid=user, password=password, heartbeat=0, confirm_publish=True
        ) as connection:
            _round_trips(connection, took)
    except Exception as error:
        trouble = repr(error)
    took.sort()
    if not took:
        return Verdict(0, 0, 0, 0, trouble or "no round trip was made")
    return Verdict(
        len(took),
        round(took[len(took) // 2] * 1e3, 2),
        round(took[len(took) * 99 // 100] * 1e3, 2),
        round(took[-1] * 1e3, 2),
        trouble,
    )


def _round_trips(connection: amqp.Connection, took: list[float]) -> None:
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).queue
    received: list[Any] = []
    channel.basic_consume(queue, callback=received.append)
    number = 0
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        number += 1
        began = time.perf_counter()
        channel.basic_publish(amqp.Message(str(number)), exchange="", routing_key=queue)
        while not received:
            connection.drain_events(timeout=30)
        took.append(time.perf_counter() - began)
        message = received.pop()
        if received or message.body != str(number) or message.delivery_info["redelivered"]:
            raise RuntimeError(f"expected {number}, got {message.body} and {len(received)} more")
        channel.basic_ack(message.delivery_tag)


if __name__ == "__main__":
    # The password comes by standard input: an argument can be read by every user here.
    address, name = sys.argv[1:3]
    print(json.dumps(asdict(watch(address, name, sys.stdin.readline().strip()))))
