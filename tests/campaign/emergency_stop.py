"""The emergency stop, pressed again and again while orders flow.

``python -m tests.campaign.emergency_stop --presses 100 --without workers``

Each press is the real command in a process of its own, and ``--without`` takes something away just
before it: the broker and Redis are killed, workers are frozen in the middle of what they do. The
commit that counts is the one that puts the stop in force: the exchange's own journal says whether
it took an order after it. Between the halt and that commit orders come that were judged before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from botswarm.bench.orders import MARKETS, Stage
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import TradingState
from botswarm.ledger.halts import SWARM
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer, RedisServer

WITHOUT = ("nothing", "rabbitmq", "redis", "workers")
PATIENCE_S = 120.0
AFTER_S = 1.0
"""How long orders go on being decided after the stop, before the journal is read."""
ROUNDED_MS = 2
POLL_S = 0.02
RESTS_EVERY = 4
FAR = Decimal("0.5")
BOTS = 30


@dataclass(slots=True)
class Report:
    without: str
    rate: int
    flow_per_s: list[int] = field(default_factory=list)
    """Orders the exchange took each second before each press, from its first one on."""
    loads: list[float] = field(default_factory=list)
    """Of the machine, at each press."""
    said_ms: list[int] = field(default_factory=list)
    in_force_ms: list[int] = field(default_factory=list)
    cancelled_ms: list[int] = field(default_factory=list)
    cancelled: int = 0
    in_doubt: int = 0
    taken: int = 0
    """Orders the exchange took in all."""
    undelivered: int = 0
    """Decided while the broker did not answer."""
    between: int = 0
    """Taken after the halt was committed and before it was in force: judged before."""
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{len(self.said_ms)} presses without {self.without}, {self.rate} orders/s decided; "
            f"load {min(self.loads, default=0):.1f} to {max(self.loads, default=0):.1f}",
            f"the exchange took {self.taken} orders, {self.between} of them between the halt and "
            "the commit that put it in force",
            f"{self.undelivered} were decided while the broker did not answer",
            f"{self.cancelled} orders cancelled by the command; of {self.in_doubt} nobody knew "
            "whether they were there when it ended",
        ]
        for name in ("flow_per_s", "said_ms", "in_force_ms", "cancelled_ms"):
            lines.append(f"{name:>13}: {_spread(getattr(self, name))}")
        lines += self.failures or ["no order was taken after a stop was in force"]
        return "\n".join(lines)


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "-"
    found = sorted(values)
    part = (found[int(share * (len(found) - 1))] for share in (0.5, 0.9, 0.99))
    p50, p90, p99 = part
    return f"p50 {p50}, p90 {p90}, p99 {p99}, max {found[-1]}"


class Taken:
    """When the exchange took each order; what it has written is read once, however long it gets."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._at_ms: list[int] = []

    def at_ms(self) -> Sequence[int]:
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        entries = (json.loads(line) for line in whole.splitlines())
        self._at_ms += [each["at"] for each in entries if each["type"] == "order"]
        return self._at_ms


class Campaign:
    def __init__(
        self, broker: AmqpServer, folder: Path, without: str, flowing: int, stack: ExitStack
    ) -> None:
        """``flowing`` orders are taken after a resume before the button is pressed."""
        self.without = without
        self.stage = Stage(broker, "postgresql", folder, stack)
        self.redis: RedisServer | None = None
        if without == "redis":
            self.redis = stack.enter_context(RedisServer())
            self.stage.environment["BOTSWARM_REDIS_URL"] = self.redis.url()
        self.stage.environment["PATH"] = os.environ["PATH"]
        self.numbers = iter(range(10**9))
        self.stop = threading.Event()
        self.flow = threading.Event()
        self.undelivered = 0
        self.in_force_ms = math.inf
        self.journal = Taken(self.stage.exchange.journal_path)
        self.flowing = flowing

    # --- load -----------------------------------------------------------------------------------

    @contextmanager
    def load(self, rate: int) -> Iterator[None]:
        """So many decisions a second, whatever becomes of them."""
        thread = threading.Thread(target=self._decide, args=(rate,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            self.flow.set()
            thread.join(PATIENCE_S)

    def _decide(self, rate: int) -> None:
        began = time.monotonic()
        for number in self.numbers:
            if not self.flow.is_set():
                self.flow.wait(PATIENCE_S)
                began = time.monotonic() - number / rate
            if self.stop.wait(max(0.0, began + number / rate - time.monotonic())):
                return
            try:
                self.stage.decide(an_order(number))
            except Exception:
                # The broker is away: rounds find what was decided when it is back.
                self.undelivered += 1

    # --- one press ------------------------------------------------------------------------------

    def press(self, workers: Sequence[int], report: Report) -> None:
        self.look_for_late(report)
        self._resume()
        self.flow.set()
        before = len(self.journal.at_ms())
        enough = before + self.flowing
        self._until(lambda: len(self.journal.at_ms()) >= enough, "orders to flow")
        taken = self.journal.at_ms()[before:]
        report.flow_per_s.append(round((len(taken) - 1) / (taken[-1] - taken[0]) * 1000))
        report.loads.append(os.getloadavg()[0])
        with self._away(workers):
            code, said = self._stop()
            if "data" not in said:
                report.failures.append(f"it said {said}")
                return
        done = said["data"]
        time.sleep(AFTER_S)
        # What nobody may send any more need not pile up until the next press.
        self.flow.clear()
        self._judge(done, report, code)

    @contextmanager
    def _away(self, workers: Sequence[int]) -> Iterator[None]:
        match self.without:
            case "workers":
                for pid in workers:
                    os.killpg(pid, signal.SIGSTOP)
            case "rabbitmq":
                self.stage.broker.kill()
            case "redis":
                assert self.redis is not None, "it was started"
                self.redis.kill()
        try:
            yield
        finally:
            match self.without:
                case "workers":
                    for pid in workers:
                        os.killpg(pid, signal.SIGCONT)
                case "rabbitmq":
                    self.stage.broker.start()
                case "redis":
                    assert self.redis is not None, "it was started"
                    self.redis.start()

    def _stop(self) -> tuple[int, Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "botswarm", "trading", "emergency-stop"),
                *("--cancel", "--wait", "60", "--json", "--reason", "campaign"),
            ],
            cwd=self.stage.folder,
            env=self.stage.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode, done.stdout + done.stderr

    def look_for_late(self, report: Report) -> None:
        """What came since the last stop was in force, also from who woke up since."""
        since, self.in_force_ms = self.in_force_ms, math.inf
        late = [at - since for at in self.journal.at_ms() if at > since + ROUNDED_MS]
        if late:
            report.failures.append(
                f"{len(late)} orders were taken after it was in force, up to {max(late):.0f} ms"
            )

    def _judge(self, done: Any, report: Report, code: int) -> None:
        pressed_ms = datetime.fromisoformat(done["at"]).timestamp() * 1000
        if done["in_force_ms"] is None:
            report.failures.append(f"it did not come into force: {done}")
            return
        said, in_force = pressed_ms + done["said_ms"], pressed_ms + done["in_force_ms"]
        taken = self.journal.at_ms()
        self.in_force_ms = in_force
        report.between += sum(said + ROUNDED_MS < at <= in_force + ROUNDED_MS for at in taken)
        report.taken = len(taken)
        report.said_ms.append(done["said_ms"])
        report.in_force_ms.append(done["in_force_ms"])
        if done["cancelled_ms"] is None:
            report.failures.append(f"something stayed open: {done['accounts']}")
        else:
            report.cancelled_ms.append(done["cancelled_ms"])
        account = done["accounts"].get("simulated:paper", {})
        report.cancelled += account.get("cancelled", 0)
        report.in_doubt += account.get("in_doubt", 0)
        is_known = code == 0 or account.get("in_doubt")
        if not is_known:
            report.failures.append(f"it ended with {code}: {done['accounts']}")
        if left := self.open_orders():
            report.failures.append(f"{left} orders are open after it")

    # --- the world ------------------------------------------------------------------------------

    def wait_for_a_clean_account(self) -> None:
        """Nothing is sent before a worker has held it against its venue."""
        standing = self.stage.ledger.reconciliations.standing
        self._until(lambda: standing("simulated", "paper").is_clean, "the account to be clean")

    def open_orders(self) -> int:
        return len(self.stage.exchange.signed("GET", "/api/v3/openOrders").body)

    def _resume(self) -> None:
        self.stage.ledger.halts.set(
            SWARM,
            TradingState.ACTIVE,
            reason="campaign",
            actor="campaign",
            now=datetime.now(UTC),
            is_human=True,
        )

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}")
            time.sleep(POLL_S)


def an_order(number: int) -> Order:
    """At market, each bot in turn; every few rests far below the market."""
    now, bot = datetime.now(UTC), number % BOTS
    symbol = list(MARKETS)[bot % len(MARKETS)]
    quantity, price = MARKETS[symbol]
    rests = number % RESTS_EVERY == 0
    return Order(
        id=str(uuid.uuid4()),
        bot=f"bench{bot}",
        venue="simulated",
        account="paper",
        symbol=symbol,
        side=Side.SELL if number // BOTS % 2 and not rests else Side.BUY,
        kind=OrderKind.LIMIT if rests else OrderKind.MARKET,
        quantity=Decimal(quantity),
        limit_price=price * FAR if rests else None,
        time_in_force=TimeInForce.GTC,
        reference_price=Decimal(price),
        state=OrderState.READY,
        created_at=now,
        signal_expires_at=now + timedelta(seconds=10),
    )


def run(
    presses: int,
    *,
    without: Sequence[str] = ("nothing",),
    rate: int = 100,
    workers: int = 1,
    is_embedded: bool = False,
    flowing: int = 100,
) -> Report:
    """``without``: each press goes without the next of these, over and over."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedBrokerServer() if is_embedded else RabbitMQServer())
        kinds = list(without)
        made = Campaign(broker, folder, "redis" if "redis" in kinds else kinds[0], flowing, stack)
        report = Report(" or ".join(kinds), rate)
        pids = stack.enter_context(made.stage.workers(workers))
        made.wait_for_a_clean_account()
        frozen = [pid for name, pid in pids.items() if name.startswith("worker")]
        with made.load(rate):
            for number in range(presses):
                made.without = kinds[number % len(kinds)]
                try:
                    made.press(frozen, report)
                except TimeoutError as error:
                    report.failures.append(f"press {number + 1} was not made: {error}")
                    break
            made.look_for_late(report)
        report.undelivered = made.undelivered
        return report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=100)
    parser.add_argument("--without", choices=WITHOUT, default="nothing")
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--flowing", type=int, default=100)
    given = parser.parse_args(arguments)
    report = run(
        given.presses,
        without=[given.without],
        rate=given.rate,
        workers=given.workers,
        flowing=given.flowing,
    )
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
