"""Freeze a worker between the commit of an attempt and its first byte, and see what comes late.

``python -m tests.campaign.zombie --seconds 60 --rounds 5``
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass

from botswarm.chaos.campaign.load import Load
from botswarm.chaos.campaign.processes import caught_before_send
from botswarm.chaos.campaign.roles import thaw
from botswarm.chaos.campaign.stage import Stage, stage
from botswarm.chaos.campaign.waiting import until
from botswarm.errors import TimedOut

PATIENCE_S = 300.0


@dataclass(slots=True)
class Verdict:
    rounds: int = 0
    late: int = 0
    """Requests that came after their time and were refused for it."""
    doubled: int = 0
    missed: int = 0
    """Nobody could be met at the right moment."""


def zombies(seconds: float, rounds: int) -> Verdict:
    verdict = Verdict()
    with (
        stage() as made,
        Load(made, seed=random.randrange(1_000_000), per_s=4, mishaps=False) as load,
    ):
        until(lambda: made.exchange.journal("fill"), "the first fill", PATIENCE_S)
        for _ in range(rounds):
            _round(made, seconds, verdict)
        load.stop()
        until(lambda: not _in_flight(made), "everything to be known", PATIENCE_S)
        verdict.late = made.exchange.misbehaviour("GET").body["refused"].get("-1021", 0)
        taken = [entry["client_order_id"] for entry in made.exchange.journal("order")]
        verdict.doubled = len(taken) - len(set(taken))
    return verdict


def _round(made: Stage, seconds: float, verdict: Verdict) -> None:
    before = made.exchange.misbehaviour("GET").body["refused"].get("-1021", 0)
    frozen = caught_before_send(made, made.roles["orders-1"])
    if frozen is None:
        verdict.missed += 1
        return
    try:
        time.sleep(seconds)
    finally:
        thaw(frozen)
    verdict.rounds += 1
    try:
        until(
            lambda: made.exchange.misbehaviour("GET").body["refused"].get("-1021", 0) > before,
            "the late bytes to be refused",
            20,
        )
    except TimedOut:
        verdict.missed += 1


def _in_flight(made: Stage) -> bool:
    of = ("simulated", "paper")
    return bool(made.ledger.books.approved(*of) or made.ledger.books.in_doubt(*of))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    verdict = zombies(options.seconds, options.rounds)
    print(verdict)
    return 0 if verdict.late and not verdict.doubled else 1


if __name__ == "__main__":
    sys.exit(main())
