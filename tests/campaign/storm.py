"""Storms of 429 and 418 over processes that share one allowance: nobody asks within a ban.

``python -m tests.campaign.storm --rounds 200 --seed 1``

Each round uses the allowance up to where only cancels go, lets them go, and orders a storm of 1 to
300 seconds while everybody goes on asking. The clocks of the exchange and of all processes are put
forward together, so a ban of five minutes takes a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from botswarm.testing.exchange import SimulatedExchangeServer
from tests.campaign.storm_client import Shift, Told, serve

PROCESSES = 4
LONGEST_S = 300
INSIST_S = 0.4
END_S = 0.5
"""This much of each ban passes by the clocks as they are."""
MINUTE_S = 61
ANSWER_S = 60.0


@dataclass(slots=True)
class Report:
    """``failures`` is empty where nobody asked within a ban and every cancel went out."""

    seed: int
    rounds: int = 0
    banned_s: int = 0
    pressed: int = 0
    told: int = 0
    """Requests that learned of a ban: those on their way when it began, and nothing else."""
    cancels_under_pressure: int = 0
    cancels_after: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"seed {self.seed}: {self.rounds} storms, {self.banned_s} s of bans in all",
                f"{self.pressed} questions until the allowance left only its reserve; "
                f"{self.cancels_under_pressure} cancels went out of it",
                f"{self.told} requests were on their way when a storm began, 0 were sent within "
                f"one, {self.cancels_after} cancels went out after its end"
                if not self.failures
                else "\n".join(self.failures),
            ]
        )


class Swarm:
    def __init__(self, folder: Path, exchange: SimulatedExchangeServer) -> None:
        context = multiprocessing.get_context("spawn")
        self.shift, self.exchange = Shift(folder / "shift"), exchange
        self.pipes: list[Connection] = []
        self.processes = []
        card = exchange.card
        for _ in range(PROCESSES):
            ours, its = context.Pipe()
            process = context.Process(
                target=serve,
                args=(its, folder, card.rest_url, card.api_key, card.api_secret),
                daemon=True,
            )
            process.start()
            its.close()
            self.pipes.append(ours)
            self.processes.append(process)
        self.answers()

    def all(self, word: str, seconds: float = 0.0) -> list[object]:
        self.tell(word, seconds)
        return self.answers()

    def tell(self, word: str, seconds: float = 0.0) -> None:
        for pipe in self.pipes:
            pipe.send((word, seconds))

    def answers(self) -> list[object]:
        found = []
        for pipe in self.pipes:
            if not pipe.poll(ANSWER_S):
                raise TimeoutError("a process does not answer")
            found.append(pipe.recv())
        return found

    def forward(self, seconds: float) -> None:
        """The exchange first: nobody may think that a ban has ended before it has."""
        shift = self.shift.seconds + seconds
        self.exchange.arm("clock_offset", seconds=shift)
        self.shift.seconds = shift

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()


@contextmanager
def swarm(folder: Path) -> Iterator[Swarm]:
    with SimulatedExchangeServer(folder / "exchange") as exchange:
        made = Swarm(folder, exchange)
        try:
            yield made
        finally:
            made.close()


def run(rounds: int, seed: int, folder: Path) -> Report:
    report, dice = Report(seed), random.Random(seed)
    with swarm(folder) as at:
        for number in range(rounds):
            one_round(at, report, dice)
            report.rounds = number + 1
    return report


def one_round(at: Swarm, report: Report, dice: random.Random) -> None:
    at.forward(MINUTE_S)
    at.all("clear")
    at.all("place")
    report.pressed += sum(int(str(each)) for each in at.all("press"))
    _check_cancels(at, report, "under pressure")
    report.cancels_under_pressure += PROCESSES
    storm_s = dice.choice((1, 2, dice.randint(3, LONGEST_S), LONGEST_S))
    report.banned_s += storm_s
    # Everybody asks before, while and after it begins.
    at.forward(MINUTE_S)
    at.tell("insist", INSIST_S)
    time.sleep(INSIST_S / 4)
    before = len(at.exchange.stream_counts()["storms"])
    at.exchange.arm(dice.choice(("too_many", "banned")), seconds=storm_s)
    at.answers()
    if storm_s > 1:
        at.forward(storm_s - END_S)
    at.all("insist", END_S * 1.2)
    _check_told(at, report, before)
    # What everybody asked may have used up more than a cancel's share.
    at.forward(MINUTE_S)
    _check_cancels(at, report, "after the ban")
    report.cancels_after += PROCESSES


def _check_cancels(at: Swarm, report: Report, when: str) -> None:
    for words in at.all("cancel"):
        # Whoever insisted may have cancelled it already.
        if words and "Unknown order sent" not in str(words):
            report.failures.append(f"round {report.rounds}: a cancel {when}: {words}")


def _check_told(at: Swarm, report: Report, before: int) -> None:
    """The exchange counts who came within a storm; each of them must have left before any of us
    could know of it.
    """
    told = [Told(*each) for answer in at.all("told") for each in answer]  # type: ignore[attr-defined]
    storms = at.exchange.stream_counts()["storms"][before:]
    asked = sum(storm["asked"] for storm in storms)
    report.told += len(told)
    if asked != len(told):
        report.failures.append(f"round {report.rounds}: {asked} came, {len(told)} were told")
    if not told:
        report.failures.append(f"round {report.rounds}: nobody met the storm")
        return
    known = min(each.known for each in told)
    late = [each for each in told if each.sent > known]
    if late:
        report.failures.append(
            f"round {report.rounds}: {len(late)} requests were sent within the ban, the last "
            f"{max(each.sent for each in late) - known:.3f} s after it was known"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        report = run(wanted.rounds, wanted.seed, Path(folder))
    print(report)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
