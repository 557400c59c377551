"""Kill a random process of a running swarm, many times, and hold its books to the exchange's.

``python -m tests.campaign.kill_swarm --rounds 50 --seed 1``
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

from botswarm.config import load
from botswarm.ledger.models import OrderRow
from botswarm.ledger.session import Database
from botswarm.supervisor import record
from botswarm.testing.servers import PostgreSQLServer, RabbitMQServer, RedisServer
from tests.e2e.swarm import Shell, Swarm

RECOVERY_S = 90.0
"""A process that was killed twice within half a minute is started again ever later."""
QUIET_S = 180.0
"""An order in doubt is settled by proof, and proof waits for the venue's own expiry."""
AIMED_AT = ("exchange", "orders", "orders child")
AIM_S = 3.0
IN_FLIGHT = ("ready", "approved", "sending", "unknown")
MUST_BE_ZERO = ("lost", "doubled", "unknown", "missing")


@dataclass(slots=True)
class Report:
    """``failures`` is empty where every kill was recovered from and the books are right."""

    seed: int
    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, float] = field(default_factory=dict)
    """The longest by victim: from the kill to a fill of an order that was made after it."""
    in_doubt: int = 0
    """Orders that were once unknown: their sender, or the exchange, died in the middle."""
    quiet_after_s: float = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = [f"{name} {took:.1f} s" for name, took in sorted(self.recovery_s.items())]
        counts = [f"{name} {many}" for name, many in self.counts.items()]
        return "\n".join(
            [
                f"rounds {self.rounds}, seed {self.seed}",
                "killed: " + ", ".join(f"{name} {n}" for name, n in sorted(self.kills.items())),
                "slowest recovery: " + ", ".join(slowest),
                f"orders that were in doubt for a while: {self.in_doubt}",
                f"quiet {self.quiet_after_s:.0f} s after trading was halted",
                "at the end: " + ", ".join(counts),
                *(f"FAILED: {failure}" for failure in self.failures),
            ]
        )


class Failed(Exception):
    """The swarm did not do what it must; the text says what."""


class Campaign:
    def __init__(self, swarm: Swarm, *, seed: int, progress: bool) -> None:
        self._swarm = swarm
        self._dice = random.Random(seed)
        self._progress = progress
        self._up: Shell | None = None
        environ = {**swarm.environment, "BOTSWARM_STATE_DIR": str(swarm.state_dir)}
        self._database = Database(load(environ=environ, folder=swarm.folder).settings.database_url)
        self.report = Report(seed)

    def run(self, rounds: int) -> Report:
        try:
            self._up = self._swarm.open("botswarm", "up", name="up")
            self._swarm.first_fill(self._up, RECOVERY_S)
            for number in range(1, rounds + 1):
                self._round(number)
            self._settle()
            self._stop()
        except (Failed, AssertionError) as failure:
            self.report.failures.append(str(failure))
        finally:
            self._database.close()
        return self.report

    # --- one round ------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        time.sleep(self._dice.uniform(0.5, 3.0))
        name, victim = self._dice.choice(self._victims())
        pid = victim.pid
        if name in AIMED_AT and self._dice.random() < 0.5:
            self._wait_for_a_send()
        killed_at, began = datetime.now(UTC), time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        self._wait(lambda: self._is_whole(pid), f"all to run again after {name} was killed")
        self._wait(lambda: self._filled_since(killed_at), f"a new fill after {name} was killed")
        took = time.monotonic() - began
        self.report.rounds = number
        self.report.kills[name] += 1
        self.report.recovery_s[name] = max(took, self.report.recovery_s.get(name, 0))
        if self._progress:
            print(f"round {number}: killed {name}, trading again after {took:.1f} s", flush=True)

    def _victims(self) -> list[tuple[str, psutil.Process]]:
        """Every process of the swarm but its supervisor, and of each pool one of its children."""
        found = []
        for note in self._notes().processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(note.pid)
                found.append((note.name, parent))
                if children := parent.children(recursive=True):
                    found.append((f"{note.name} child", self._dice.choice(children)))
        return found

    def _notes(self) -> record.Notes:
        notes = record.read(self._swarm.state_dir)
        if notes is None:
            raise Failed(f"the supervisor is gone:\n{self._last_words()}")
        return notes

    def _is_whole(self, killed: int) -> bool:
        notes = self._notes().processes
        return all(note.state == "running" and note.pid not in (None, killed) for note in notes)

    def _filled_since(self, moment: datetime) -> bool:
        question = select(func.count()).where(
            OrderRow.created_at > moment, OrderRow.state == "filled"
        )
        return self._database.read(lambda session: session.scalars(question).one()) > 0

    def _wait_for_a_send(self) -> None:
        """Orders are at the venue for some milliseconds a second: chance alone rarely hits one."""
        question = select(func.count()).where(OrderRow.state == "sending")
        deadline = time.monotonic() + AIM_S
        while time.monotonic() < deadline:
            if self._database.read(lambda session: session.scalars(question).one()) > 0:
                return
            time.sleep(0.001)

    # --- the end --------------------------------------------------------------------------

    def _settle(self) -> None:
        """No new orders; then whatever is in doubt must come to its end by itself."""
        reason = ("--reason", "the campaign is over")
        halted = self._swarm.run("botswarm", "trading", "halt", *reason)
        if halted.returncode != 0:
            raise Failed(f"trading was not halted: {halted.stderr}")
        began = time.monotonic()
        self._wait(self._is_quiet, "no order to be in flight or in doubt", QUIET_S)
        self.report.quiet_after_s = time.monotonic() - began

    def _is_quiet(self) -> bool:
        question = select(func.count()).where(OrderRow.state.in_(IN_FLIGHT))
        if self._database.read(lambda session: session.scalars(question).one()) > 0:
            return False
        verified = self._verified()
        return bool(verified["counts"]["pending_fills"] == 0)

    def _stop(self) -> None:
        stopped = self._swarm.run("botswarm", "down", timeout_s=180)
        if stopped.returncode != 0:
            raise Failed(f"it did not stop: {stopped.stderr}")
        verified = self._verified()
        self.report.counts = verified["counts"]
        self.report.in_doubt = self._once_in_doubt()
        for finding in verified["findings"][:20]:
            self.report.failures.append(
                f"{finding['check']} {finding['subject']}: {finding['words']}"
            )
        for name in MUST_BE_ZERO:
            if verified["counts"][name]:
                self.report.failures.append(f"{name}: {verified['counts'][name]}")
        if not verified["counts"]["exchange_fills"]:
            self.report.failures.append("nothing was filled: the campaign proved nothing")

    def _verified(self) -> Any:
        return self._swarm.ask("ledger", "verify", "--journal", str(self._swarm.journal))

    def _once_in_doubt(self) -> int:
        from botswarm.ledger.models import OrderEventRow

        question = select(func.count(func.distinct(OrderEventRow.order_id))).where(
            OrderEventRow.after == "unknown"
        )
        return int(self._database.read(lambda session: session.scalars(question).one()))

    def _wait(self, condition: Any, what: str, timeout_s: float = RECOVERY_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"waited {timeout_s:g} s in vain for {what}:\n{self._last_words()}")
            time.sleep(0.2)

    def _last_words(self) -> str:
        return "\n".join(self._up.text.splitlines()[-30:]) if self._up else ""


def campaign(swarm: Swarm, *, rounds: int, seed: int, progress: bool = False) -> Report:
    """Who is killed, and when, follows from ``seed``; what it was doing then does not."""
    try:
        return Campaign(swarm, seed=seed, progress=progress).run(rounds)
    finally:
        swarm.end()


@contextlib.contextmanager
def servers(are_real: bool) -> Iterator[dict[str, str]]:
    if not are_real:
        yield {}
        return
    with RabbitMQServer() as rabbitmq, PostgreSQLServer() as postgresql, RedisServer() as redis:
        postgresql.create_database("swarm")
        yield {
            "DATABASE_URL": postgresql.url("swarm"),
            "CLOUDAMQP_URL": rabbitmq.url(),
            "REDIS_URL": redis.url(),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--real", action="store_true", help="on RabbitMQ, PostgreSQL and Redis")
    parser.add_argument("--folder", type=Path, help="keep everything there, for looking into it")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as stack:
        settings = stack.enter_context(servers(options.real))
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        swarm = Swarm(folder.resolve(), settings)
        report = campaign(swarm, rounds=options.rounds, seed=seed, progress=True)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
