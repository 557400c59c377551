"""Kill the embedded broker under load, many times, and account for every message.

``python -m tests.campaign.kill_broker --rounds 200 --seed 1``
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import threading
import time
from dataclasses import dataclass, field

from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.campaign.kill_load import QUORUM, ROOT_OF, Stage, actors, declare, drain
from tests.campaign.kill_oracle import Finding, Oracle
from tests.campaign.victim import Victim

STATE_LIMIT_MB = 150.0
"""The backlog is held under 20,000 messages of about 1 kB. The journal may weigh half as much
again as what lives in it, and a few segments; beyond this it was not compacted."""
EMPTY_LIMIT_MB = 50.0
"""Three segments: what the journal of an empty broker may keep."""


@dataclass(slots=True)
class Report:
    """The counts of one campaign; ``failures`` is empty where the broker kept its promises."""

    seed: int
    rounds: int
    attempted: int = 0
    confirmed: int = 0
    refused: int = 0
    delivered: int = 0
    acked: int = 0
    redelivered: int = 0
    marked_at_first_sight: int = 0
    recovered: int = 0
    lost: Finding = field(default_factory=Finding)
    duplicated: Finding = field(default_factory=Finding)
    unexpected: Finding = field(default_factory=Finding)
    state_max_mb: float = 0
    state_final_mb: float = 0
    start_up_s: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        counted = {
            "lost": self.lost,
            "second deliveries not marked redelivered": self.duplicated,
            "unexpected": self.unexpected,
        }
        return [
            *(
                f"{finding.count} {name}, such as:\n    " + "\n    ".join(finding.examples)
                for name, finding in counted.items()
                if finding.count
            ),
            *(f"the broker's log says: {line}" for line in self.complaints[:5]),
            *self._weight_failures(),
        ]

    def _weight_failures(self) -> list[str]:
        found = []
        if self.state_max_mb > STATE_LIMIT_MB:
            found.append(f"the state folder grew to {self.state_max_mb:.0f} MB")
        if self.state_final_mb > EMPTY_LIMIT_MB:
            found.append(f"the state folder still weighs {self.state_final_mb:.0f} MB when empty")
        if not self.confirmed or not self.recovered:
            found.append("nothing was confirmed or recovered: the campaign proved nothing")
        return found

    def __str__(self) -> str:
        start_up = sorted(self.start_up_s)
        return "\n".join(
            [
                f"rounds {self.rounds}, seed {self.seed}",
                f"attempted {self.attempted}",
                f"confirmed {self.confirmed}",
                f"refused {self.refused}",
                f"delivered {self.delivered}",
                f"acks sent {self.acked} (whether the broker saw the last ones is unknown)",
                f"redelivered and marked {self.redelivered}",
                f"marked redelivered at first sight {self.marked_at_first_sight}",
                f"recovered at the end {self.recovered}",
                f"lost {self.lost.count}",
                f"second deliveries not marked redelivered {self.duplicated.count}",
                f"unexpected {self.unexpected.count}",
                f"state folder: largest {self.state_max_mb:.1f} MB, "
                f"after the drain {self.state_final_mb:.1f} MB",
                f"start-up after a kill: median {start_up[len(start_up) // 2]:.2f} s, "
                f"slowest {start_up[-1]:.2f} s",
            ]
        )


def campaign(server: AmqpServer, *, rounds: int, seed: int, progress: bool = False) -> Report:
    """Run it; every random choice follows from ``seed``, as far as two clocks agree."""
    dice = random.Random(seed)
    broker = Victim(server)
    oracle = Oracle(ROOT_OF, QUORUM)
    stage = Stage(broker, oracle, threading.Event(), threading.Event())
    report = Report(seed, rounds)
    company = actors(stage, seed)
    try:
        broker.start()
        with broker.connect() as connection:
            declare(connection)
        for actor in company:
            actor.start()
        for stage.round in range(1, rounds + 1):
            _play_round(stage, broker, dice, report)
            if progress and (stage.round % 10 == 0 or rounds < 20):
                print(_line(stage, report), flush=True)
        stage.over.set()
        stage.up.set()
        for actor in company:
            actor.join(10)
        _settle(stage, broker, report)
    finally:
        stage.over.set()
        broker.kill()
    return report


def _play_round(stage: Stage, broker: Victim, dice: random.Random, report: Report) -> None:
    stage.up.set()
    time.sleep(dice.uniform(0.1, 0.7))
    stage.up.clear()
    broker.kill()
    report.state_max_mb = max(report.state_max_mb, broker.state_mb())
    report.start_up_s.append(broker.start())


def _settle(stage: Stage, broker: Victim, report: Report) -> None:
    """One last kill, then drain: what comes back now came from the disk."""
    broker.kill()
    stage.round += 1
    report.start_up_s.append(broker.start())
    oracle = stage.oracle
    report.recovered = drain(stage, within_s=120)
    report.attempted = len(oracle.attempted)
    report.confirmed = len(oracle.confirmed)
    report.refused = len(oracle.refused)
    report.delivered = sum(oracle.deliveries.values())
    report.acked = oracle.acks
    report.redelivered = oracle.redelivered
    report.marked_at_first_sight = oracle.marked_at_first_sight
    report.lost, report.duplicated = oracle.lost(), oracle.duplicated
    report.unexpected = oracle.unexpected
    broker.stop()
    broker.start()  # compaction may wait for a start; an empty broker is light after one
    report.state_final_mb = broker.state_mb()
    broker.stop()
    report.complaints = broker.complaints()


def _line(stage: Stage, report: Report) -> str:
    oracle = stage.oracle
    return (
        f"round {stage.round}: confirmed {len(oracle.confirmed)}, acks {oracle.acks}, "
        f"redelivered {oracle.redelivered}, unmarked {oracle.duplicated.count}, "
        f"unexpected {oracle.unexpected.count}, state {report.state_max_mb:.1f} MB, "
        f"start-up {report.start_up_s[-1]:.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--fsync", choices=("always", "interval", "never"), default="interval")
    parser.add_argument("--broker", choices=("embedded", "rabbitmq"), default="embedded")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    server = (
        EmbeddedBrokerServer(options=("--fsync", options.fsync))
        if options.broker == "embedded"
        else RabbitMQServer()
    )
    try:
        report = campaign(server, rounds=options.rounds, seed=seed, progress=True)
    finally:
        server.close()
    print(report)
    for failure in itertools.islice(report.failures, 20):
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
