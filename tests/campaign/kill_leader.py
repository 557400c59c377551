"""Kill the feed that leads, many times: no silence of three seconds, no trade twice, none lost.

``python -m tests.campaign.kill_leader --rounds 50 --seed 1 [--broker embedded]``
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from botswarm.testing.servers import wait_until
from tests.campaign.feed_stage import BROKERS, Daemon, Stage, set_up
from tests.campaign.feed_watch import Truth, Verdict, Watch, is_complete, judge

SILENCE_MAX_S = 3.0
WARM_WITHIN_S = 30.0
COMPLETE_WITHIN_S = 30.0
AFTER_S = (1.0, 3.0)
"""From the moment the one who stands by is warm to the next kill."""


@dataclass(slots=True)
class Report:
    """``failures`` is empty where no kill was noticed by who reads the ticks."""

    seed: int
    broker: str
    rounds: int = 0
    silences_s: list[float] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    messages: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.silences_s)
        return "\n".join(
            [
                f"{self.rounds} leaders killed on {self.broker}, seed {self.seed}; "
                f"{self.messages} messages read",
                f"silence after a kill: longest {ordered[-1]:.2f} s, "
                f"median {ordered[len(ordered) // 2]:.2f} s",
                *(
                    f"{each.venue} {each.symbol}: {each.happened} trades happened, {each.once} "
                    f"read, {each.twice} twice, {each.repeated} repeated, {each.recovered} "
                    f"recovered, {each.missing} missing, {each.unexpected} unexpected"
                    for each in self.verdicts
                ),
                "failures: " + ("none" if not self.failures else ""),
                *(f"  {each}" for each in self.failures),
            ]
        )


def run(rounds: int, seed: int, broker: str, *, venues: Sequence[str] = ("binance",)) -> Report:
    report = Report(seed, broker)
    chance = random.Random(seed)
    with set_up(broker, venues=venues, seed=seed) as stage:
        truth = Truth(stage.exchange.streams_path)
        with Watch(stage.broker.url()) as watch:
            for _ in range(rounds):
                time.sleep(chance.uniform(*AFTER_S))
                _kill(stage, watch, report)
            upto = _settle(stage, watch, truth, report)
            report.messages = watch.messages
            report.verdicts = judge(watch, truth, venues, upto)
    for verdict in report.verdicts:
        report.failures += verdict.failures
        if verdict.missing:
            report.failures.append(f"{verdict.venue} {verdict.symbol}: {verdict.missing} lost")
    return report


def _kill(stage: Stage, watch: Watch, report: Report) -> None:
    """The one who leads; it comes back and stands by before the next is killed."""
    leader = _leader(stage)
    other = next(each for each in stage.daemons if each is not leader)
    at = time.monotonic()
    leader.kill()
    count = watch.messages
    wait_until(lambda: _leads(other), f"{other.title} to lead", WARM_WITHIN_S)
    wait_until(lambda: watch.messages > count + 20, "ticks to be read again", WARM_WITHIN_S)
    silence_s = watch.longest_silence(at)
    report.rounds += 1
    report.silences_s.append(silence_s)
    if silence_s >= SILENCE_MAX_S:
        report.failures.append(f"round {report.rounds}: {silence_s:.1f} s of silence")
    leader.start()
    wait_until(lambda: _is_warm(leader, stage), f"{leader.title} to stand by", WARM_WITHIN_S)


def _leader(stage: Stage) -> Daemon:
    leaders = [each for each in stage.daemons if each.running and _leads(each)]
    assert len(leaders) == 1, f"{len(leaders)} feeds say that they lead"
    return leaders[0]


def _leads(daemon: Daemon) -> bool:
    roles = [line for line in daemon.words.splitlines() if _tells_role(line)]
    return bool(roles) and '"leading' in roles[-1]


def _tells_role(line: str) -> bool:
    return '"leading' in line or "standing by" in line


def _is_warm(daemon: Daemon, stage: Stage) -> bool:
    """Connected to the venue, and so able to take over."""
    return any(each["peer"] == daemon.address for each in _connections(stage))


def _connections(stage: Stage) -> list[dict[str, object]]:
    found = stage.exchange.stream_counts()["connections"]
    return [each for each in found if each["streams"]]


def _settle(stage: Stage, watch: Watch, truth: Truth, report: Report) -> dict[str, int]:
    truth.read_on()
    upto = truth.last_ids()
    try:
        wait_until(
            lambda: is_complete(watch, truth, stage.venues, upto),
            "every trade to be read",
            COMPLETE_WITHIN_S,
        )
    except Exception as error:
        report.failures.append(str(error))
    for daemon in stage.daemons:
        daemon.stop()
    time.sleep(0.5)
    for daemon in stage.daemons:
        report.failures += [f"{daemon.title}: a traceback in {x}" for x in daemon.tracebacks]
    return upto


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="rabbitmq")
    options = parser.parse_args()
    report = run(options.rounds, options.seed, options.broker)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
