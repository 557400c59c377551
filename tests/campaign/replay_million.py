"""Kill a broker that holds a million persistent messages, and time how it comes back.

``python -m tests.campaign.replay_million --messages 1000000``
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

import amqp

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, wait_until
from tests.campaign.victim import Victim

QUEUE = "million"
BODY_BYTES = 200
START_UP_LIMIT_S = 10.0
EMPTY_LIMIT_MB = 50.0
COMPACTION_PATIENCE_S = 60.0
PUBLISH_WINDOW = 1000


@dataclass(slots=True)
class Report:
    """What it took; ``failures`` is empty where nothing was lost and the limits were kept."""

    messages: int
    published_in_s: float = 0
    resident_full_mb: float = 0
    state_full_mb: float = 0
    start_up_s: float = 0
    resident_restarted_mb: float = 0
    drained_in_s: float = 0
    drained: int = 0
    state_final_mb: float = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.messages} persistent messages of {BODY_BYTES} B, "
                f"published and confirmed in {self.published_in_s:.1f} s",
                f"resident memory {self.resident_full_mb:.0f} MB, "
                f"state folder {self.state_full_mb:.0f} MB",
                f"start-up after kill -9: {self.start_up_s:.2f} s, "
                f"resident memory {self.resident_restarted_mb:.0f} MB",
                f"drained {self.drained} in order in {self.drained_in_s:.1f} s",
                f"state folder after compaction: {self.state_final_mb:.1f} MB",
            ]
        )


def campaign(server: AmqpServer, messages: int) -> Report:
    report = Report(messages)
    broker = Victim(server)
    broker.start()
    began = time.monotonic()
    with broker.connect() as connection:
        publish(connection, messages)
    report.published_in_s = time.monotonic() - began
    report.resident_full_mb = broker.resident_mb()
    report.state_full_mb = broker.state_mb()
    broker.kill()
    report.start_up_s = broker.start()
    report.resident_restarted_mb = broker.resident_mb()
    began = time.monotonic()
    with broker.connect() as connection:
        report.drained, misplaced = drain(connection, messages)
    report.drained_in_s = time.monotonic() - began
    report.state_final_mb = _wait_for_compaction(broker)
    broker.stop()
    report.failures = [*misplaced, *_judge(report)]
    return report


def publish(connection: amqp.Connection, messages: int) -> None:
    """Numbered bodies, confirms pipelined; returns when every one is confirmed."""
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    channel.confirm_select()
    confirmed = 0

    def on_ack(tag: int, multiple: bool) -> None:
        nonlocal confirmed
        confirmed = tag if multiple else confirmed + 1

    channel.events["basic_ack"].add(on_ack)
    for number in range(messages):
        body = str(number).ljust(BODY_BYTES)
        channel.basic_publish(amqp.Message(body, delivery_mode=2), exchange="", routing_key=QUEUE)
        while number - confirmed > PUBLISH_WINDOW:
            connection.drain_events(timeout=60)
    while confirmed < messages:
        connection.drain_events(timeout=60)


def drain(connection: amqp.Connection, messages: int) -> tuple[int, list[str]]:
    """Consume everything; how many, and the first that was not the next in order."""
    drained = 0
    misplaced: list[str] = []

    def receive(message: amqp.Message) -> None:
        nonlocal drained
        number = int(message.body)
        if number != drained and not misplaced:
            misplaced.append(f"expected message {drained}, got {number}")
        drained += 1
        if drained % 100 == 0 or drained == messages:
            message.channel.basic_ack(message.delivery_tag, multiple=True)

    channel = connection.channel()
    channel.basic_qos(0, 500, False)
    channel.basic_consume(QUEUE, callback=receive)
    while drained < messages:
        connection.drain_events(timeout=60)
    left = channel.queue_declare(QUEUE, passive=True).message_count
    if left:
        misplaced.append(f"{left} messages too many")
    return drained, misplaced


def _wait_for_compaction(broker: Victim) -> float:
    wait_until(
        lambda: broker.state_mb() < EMPTY_LIMIT_MB, "the journal to shrink", COMPACTION_PATIENCE_S
    )
    return broker.state_mb()


def _judge(report: Report) -> list[str]:
    if report.start_up_s > START_UP_LIMIT_S:
        return [f"start-up took {report.start_up_s:.1f} s"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    with EmbeddedBrokerServer() as server:
        report = campaign(server, options.messages)
    print(report)
    for failure in report.failures:
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
