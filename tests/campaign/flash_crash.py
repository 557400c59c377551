"""A crash of twelve percent within two seconds, with hundreds of bots that hold positions.

``python -m tests.campaign.flash_crash --bots 500 --limit 300``

A whole swarm buys on the simulated market while it is calm. Then the exchange comes back with the
scenario flash-crash: all markets fall twenty seconds later. From the breach of the account's daily
loss on nothing may grow, and what is held is closed. What was lost in the end is held against the
limit and what was lost within one sweep more, and the report explains each halt.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psutil

from botswarm.config import load
from botswarm.ledger.orders import Held
from botswarm.ledger.store import Ledger
from botswarm.supervisor import record
from tests.e2e.swarm import Swarm, until

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
ACCOUNT = "account:simulated:paper"
AMOUNT = Decimal(20)
"""What each bot buys for."""
SWEEP_S = 5.0
LOOK_S = 0.25
TOGETHER = 25
BUYING_S = 300.0
CRASH_S = 240.0
QUIET_S = 20.0
FEES = Decimal("0.003")
"""Of what is sold: commissions, and what a market order pays beyond the last price."""


@dataclass(frozen=True, slots=True)
class Look:
    at: float
    loss: Decimal
    """Realised and at the market, since the bots began."""
    positions: int


@dataclass(slots=True)
class Report:
    """``failures`` is empty where losses stopped in time."""

    bots: int
    limit: Decimal
    held: Decimal = Decimal(0)
    """What the positions were worth before the fall."""
    worst: Decimal = Decimal(0)
    allowed: Decimal = Decimal(0)
    final: Decimal = Decimal(0)
    closed_after_s: float = 0.0
    halted_after_s: float = 0.0
    """From the first look at which the loss was beyond the limit."""
    halts: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.bots} bots held {self.held:.0f} USDT; the limit was a loss of {self.limit}",
                f"the loss reached {self.worst:.2f} while positions were open, and ended at "
                f"{self.final:.2f}; the limit and one sweep allow {self.allowed:.2f}",
                f"halted {self.halted_after_s:.1f} s after the limit was passed, "
                f"all closed after {self.closed_after_s:.1f} s",
                *(f"halt: {halt}" for halt in self.halts),
                *(f"FAILED: {failure}" for failure in self.failures),
            ]
        )


class Campaign:
    def __init__(self, swarm: Swarm, *, bots: int, limit: Decimal) -> None:
        self._swarm = swarm
        self._bots = bots
        environ = {**swarm.environment, "BOTSWARM_STATE_DIR": str(swarm.state_dir)}
        self._ledger = Ledger(load(environ=environ, folder=swarm.folder).settings.database_url)
        self._looks: list[Look] = []
        self._held: list[Held] = []
        self.report = Report(bots=bots, limit=limit)

    def run(self) -> Report:
        try:
            self._swarm.open("botswarm", "up", "--no-demo", name="up")
            self._buy()
            self._crash()
            self._judge()
        except AssertionError as failure:
            self.report.failures.append(str(failure))
        finally:
            with contextlib.suppress(Exception):
                self._swarm.run("botswarm", "down", timeout_s=180)
            self._ledger.close()
        return self.report

    # --- what happens -------------------------------------------------------------------------

    def _buy(self) -> None:
        until(self._is_up, "the swarm to run", 120)
        words = ("set", "daily_loss", str(self.report.limit), "--for", ACCOUNT, "--yes")
        limited = self._swarm.run("botswarm", "risk", "limits", *words)
        assert limited.returncode == 0, limited.stderr
        for begin in range(0, self._bots, TOGETHER):
            self._buy_some(range(begin, min(begin + TOGETHER, self._bots)))

    def _buy_some(self, numbers: range) -> None:
        """Not all at once: what a busy worker cannot place in ten seconds is too old."""
        path = self._swarm.folder / f"bots-{numbers.start}.toml"
        path.write_text("format = 1\n" + "".join(map(_bot, numbers)))
        done = self._swarm.run("botswarm", "bot", "import", str(path), "--start", "--yes")
        assert done.returncode == 0, done.stderr
        until(
            lambda: self._look().positions >= numbers.stop,
            f"{numbers.stop} positions",
            BUYING_S,
        )

    def _is_up(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(self._ledger.findings.sweeps("positions", 1))
        return False

    def _crash(self) -> None:
        self.report.held = sum(
            (held.quantity * price for held, price in self._positions()), Decimal(0)
        )
        env = self._swarm.folder / ".env"
        env.write_text(env.read_text() + "BOTSWARM_EXCHANGE_SCENARIO=flash-crash\n")
        found = record.read(self._swarm.state_dir)
        assert found is not None
        exchange = next(each for each in found.processes if each.name == "exchange")
        psutil.Process(exchange.pid).kill()
        began = time.monotonic()
        self._looks.clear()
        while time.monotonic() - began < CRASH_S:
            look = self._look()
            self._looks.append(look)
            if self._is_halted() and not self.report.halted_after_s:
                self.report.halted_after_s = look.at
            if self.report.halted_after_s and look.positions == 0:
                break
            time.sleep(LOOK_S)

    def _judge(self) -> None:
        report = self.report
        beyond = [look for look in self._looks if look.loss >= report.limit]
        if not beyond:
            report.failures.append("no loss reached the limit: the campaign proved nothing")
            return
        first, last = beyond[0].at, self._looks[-1]
        report.worst = max(look.loss for look in self._looks)
        window = [look.loss for look in beyond if look.at <= first + SWEEP_S + 2 * LOOK_S]
        report.allowed = max([*window, report.limit]) + report.held * FEES
        if not report.halted_after_s:
            report.failures.append("the account was not halted")
            return
        report.halted_after_s = max(0.0, report.halted_after_s - first)
        report.closed_after_s = last.at - first
        if last.positions:
            report.failures.append(f"{last.positions} positions were left open")
        time.sleep(QUIET_S)
        after = self._look()
        report.final = after.loss
        if after.positions:
            report.failures.append(f"{after.positions} positions were opened after the halt")
        if after.loss > report.allowed:
            report.failures.append(f"{after.loss:.2f} was lost, over {report.allowed:.2f}")
        if abs(after.loss - last.loss) > report.held * FEES:
            report.failures.append("losses went on after everything was closed")
        self._explain()

    def _explain(self) -> None:
        """Every halt has an event with the numbers that caused it."""
        states = self._swarm.ask("trading", "status")
        states = states["states"] if isinstance(states, dict) else states
        events = self._swarm.ask("risk", "history", "--severity", "breach")
        for state in states:
            if state["state"] == "active":
                continue
            why = [each for each in events if each["scope"] == state["scope"]]
            numbers = json.dumps(why[-1]["numbers"]) if why else "no event explains it"
            self.report.halts.append(f"{state['scope']}: {state['reason']} {numbers}")
            if not why:
                self.report.failures.append(f"{state['scope']} was halted without an event")

    # --- what is seen -------------------------------------------------------------------------

    def _look(self) -> Look:
        found = self._positions()
        worth = sum((held.quantity * price - held.cost for held, price in found), Decimal(0))
        realised = sum((held.realised for held in self._held), Decimal(0))
        # Commissions leave dust behind that no market takes.
        count = sum(held.quantity * price > AMOUNT / 2 for held, price in found)
        return Look(time.monotonic(), -(worth + realised), count)

    def _positions(self) -> list[tuple[Held, Decimal]]:
        self._held = list(self._ledger.orders.positions(venue="simulated"))
        marks = self._ledger.marks.all()
        return [
            (held, marks[held.venue, held.symbol].price)
            for held in self._held
            if held.quantity and (held.venue, held.symbol) in marks
        ]

    def _is_halted(self) -> bool:
        now = datetime.now(UTC)
        halts = {each.scope: each for each in self._ledger.halts.all()}
        return ACCOUNT in halts and halts[ACCOUNT].state_at(now).value == "reducing"


def _bot(number: int) -> str:
    """Every tenth would buy again every minute: nothing but the halt keeps it from that. The
    others' budgets are used up; what a busy machine was too late for they buy a minute later.
    """
    purchases = 3 if number % 10 == 0 else 1
    return f"""
[[bot]]
name = "holder-{number}"
strategy = "dca"
market = "simulated:{SYMBOLS[number % len(SYMBOLS)]}"
account = "paper"
budget = "{purchases * AMOUNT + 5}"
parameters = {{ amount = "{AMOUNT}", every_minutes = 1 }}
"""


def settings() -> dict[str, str]:
    return {
        "BOTSWARM_RISK_CLOSE_ON_BREACH": "on",
        "BOTSWARM_LIMIT_OPEN_NOTIONAL_MAX": "1000000",
        "BOTSWARM_LIMIT_OPEN_ORDERS_MAX": "5000",
        "BOTSWARM_EXCHANGE_ORDERS_PER_10S_MAX": "100000",
        "BOTSWARM_LOG_LEVEL": "warning",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=500)
    parser.add_argument("--limit", type=Decimal, default=Decimal(300))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="flash-crash-") as folder:
        (Path(folder) / ".env").write_text("")
        swarm = Swarm(Path(folder), settings=settings())
        try:
            report = Campaign(swarm, bots=options.bots, limit=options.limit).run()
        finally:
            swarm.end()
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
