"""The embedded broker and RabbitMQ measured side by side, in one run, in turn."""

from __future__ import annotations

import os
import platform
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from botswarm.bench import figures, loads
from botswarm.bench.figures import SIDES, Measure
from botswarm.errors import NotFound
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer

Progress = Callable[[str], None]
Recorded = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done; the figures of different sizes are not to be compared."""

    rounds: int
    tasks: int
    trips: int
    messages: int
    confirmed: int
    full: int


FULL = Size(rounds=3, tasks=6000, trips=300, messages=20_000, confirmed=1500, full=1_000_000)
QUICK = Size(rounds=1, tasks=1000, trips=50, messages=3000, confirmed=300, full=20_000)


def main(
    *,
    quick: bool = False,
    progress: Progress = lambda line: None,
    size: Size | None = None,
    rabbitmq: Callable[[], AmqpServer] = RabbitMQServer,
) -> dict[str, Any]:
    """Measure, and return plain data; ``figures.table`` turns it into text.

    Where RabbitMQ is not installed its columns are None and ``missing`` says what to install.
    """
    size = size or (QUICK if quick else FULL)
    began_at = datetime.now(UTC).isoformat(timespec="seconds")
    runs: Recorded = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        servers, missing = _servers(stack, rabbitmq)
        for round_ in range(size.rounds):
            for side, server in servers.items():
                progress(f"round {round_ + 1} of {size.rounds}: {side}")
                _round(server, size, runs[side])
        for side, server in servers.items():
            progress(f"{size.full:,} messages: {side}")
            _full(server, size, runs[side])
        versions = _versions(servers)
    return {
        "command": f"botswarm bench broker{' --quick' if quick else ''}",
        "began_at": began_at,
        "rounds": size.rounds,
        "messages_full": size.full,
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "system": platform.platform(),
            "versions": versions,
        },
        "missing": missing,
        "rows": figures.rows(runs),
    }


def _servers(
    stack: ExitStack, rabbitmq: Callable[[], AmqpServer]
) -> tuple[dict[str, AmqpServer], str]:
    servers: dict[str, AmqpServer] = {
        SIDES[0]: stack.enter_context(EmbeddedBrokerServer()),
    }
    try:
        servers[SIDES[1]] = stack.enter_context(rabbitmq())
    except NotFound as error:
        return servers, f"RabbitMQ was not measured: {error.cause}; {error.cure}"
    return servers, ""


def _round(server: AmqpServer, size: Size, runs: dict[str, list[float]]) -> None:
    def record(measure: Measure, value: float) -> None:
        runs[measure.key].append(value)

    record(figures.START_UP, loads.start_up(server))
    record(figures.MEMORY_EMPTY, loads.memory_mb(server))
    rate, trips = loads.tasks_and_round_trips(server, size.tasks, size.trips)
    record(figures.TASKS, rate)
    record(figures.TRIP_P50, trips[len(trips) // 2])
    record(figures.TRIP_P99, trips[len(trips) * 99 // 100])
    record(figures.PUBLISH, loads.publish(server, size.messages))
    record(figures.CONSUME_ACK, loads.consume(server, size.messages, no_ack=False))
    record(figures.PUBLISH_PIPELINED, loads.publish_pipelined(server, size.messages))
    record(figures.CONSUME_NO_ACK, loads.consume(server, size.messages, no_ack=True))
    record(figures.PUBLISH_CONFIRMED, loads.publish_confirmed(server, size.confirmed))
    record(
        figures.PUBLISH_QUORUM, loads.publish_pipelined(server, size.messages, queue=loads.QUORUM)
    )
    loads.purge(server)


def _full(server: AmqpServer, size: Size, runs: dict[str, list[float]]) -> None:
    filling = loads.publish_pipelined(server, size.full, window=1000)
    runs[figures.FILL.key].append(filling)
    runs[figures.MEMORY_FULL.key].append(loads.memory_mb(server))
    runs[figures.START_UP_FULL.key].append(loads.start_up(server))
    runs[figures.MEMORY_RESTARTED.key].append(loads.memory_mb(server))
    loads.purge(server)


def _versions(servers: dict[str, AmqpServer]) -> dict[str, str]:
    found = {"Python": platform.python_version()}
    found |= {name: version(name) for name in ("botswarm", "celery", "kombu", "amqp")}
    if SIDES[1] in servers:
        _, overview = servers[SIDES[1]].manage("GET", "overview")
        found |= {
            "RabbitMQ": overview["rabbitmq_version"],
            "Erlang": overview["erlang_version"],
        }
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    print(
        figures.table(
            main(quick="--quick" in sys.argv, progress=lambda line: print(line, file=sys.stderr))
        )
    )
