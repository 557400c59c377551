"""Lose a whole machine while its bots trade; bring the swarm back from the folder of backups alone.

    python -m tests.campaign.fresh_machine

A swarm trades against its simulated exchange, with an order that rests and orders whose answer has
not come yet. It is saved, and all of it is killed and deleted but that folder, from which another
machine is made. Balances, the head of the chain and the open orders have to be those of before;
nothing may be ordered until every account agrees; orders in doubt have to be resolved; then the
bots have to trade again. Exits with 1 where one of these is not so.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from botswarm.backup import sides
from botswarm.backup.choosing import newest
from botswarm.backup.facts import Facts
from botswarm.backup.place import place_of
from botswarm.config import load
from botswarm.domain.permission import TradingState
from botswarm.ledger.exchange_journal import verify_against
from botswarm.ledger.models import FillRow, OrderRow
from botswarm.ledger.restores import IN_DOUBT
from botswarm.ledger.store import Ledger
from tests.e2e.swarm import Swarm, until
from tests.standing import swarm_of

PATIENCE_S = 300.0
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Wrong(Exception):
    """What should be so is not."""


def run(folder: Path, say: Callable[[str], None]) -> None:
    saved = folder / "carried-away"
    said, placed = _first_machine(folder / "first", saved, say)
    shutil.rmtree(folder / "first")
    say("the first machine is gone")
    _second_machine(folder / "second", saved, said, placed, say)


def _first_machine(folder: Path, saved: Path, say: Callable[[str], None]) -> tuple[Facts, str]:
    with machine(folder, saved) as swarm:
        swarm.first_fill(swarm.open("botswarm", "up", name="up"), PATIENCE_S)
        words = ("BTC-USDT", "buy", "0.001", "--limit", "20000", "--wait", "60")
        resting = swarm.ask("order", "place", *words)["id"]
        say("bots trade, and an order rests")
        # The exchange does what it is asked and says so late: orders are in doubt meanwhile.
        swarm.make_answers_slow()
        ledger = ledger_of(swarm)
        until(lambda: in_doubt(ledger) > 0, "an order whose answer has not come", PATIENCE_S)
        made = swarm.ask("backup", "create")
        ledger.close()
        assert made["state"] == "good"
        place = place_of(load(environ=swarm.environment, folder=folder).settings)
        backup, _ = newest(place)
        said = sides.said_of(place, backup)
        doubtful = [each for each in said.open_orders.values() if each in IN_DOUBT]
        say(
            f"saved: entry {said.chain_sequence}, {len(said.open_orders)} open orders, "
            f"{len(doubtful)} of them in doubt"
        )
        if resting not in said.open_orders:
            raise Wrong("the order that rests is not among the open ones that were saved")
        return said, resting


def _second_machine(
    folder: Path, saved: Path, said: Facts, resting: str, say: Callable[[str], None]
) -> None:
    with machine(folder, saved) as swarm:
        began = time.monotonic()
        done = swarm.ask("backup", "restore", "latest", "--yes")
        say(f"brought back in {time.monotonic() - began:.1f} s: {done['files']}")
        found = sides.facts_of(f"sqlite:///{swarm.state_dir / 'ledger.db'}")
        for name in ("chain_sequence", "chain_hash", "balances", "positions"):
            if getattr(found, name) != getattr(said, name):
                raise Wrong(f"{name} is not as it was")
        # What had waited to be sent is in doubt by now.
        for order, state in said.open_orders.items():
            if found.open_orders.get(order) != ("unknown" if state == "approved" else state):
                raise Wrong(f"order {order} was {state} and is {found.open_orders.get(order)}")
        ledger = ledger_of(swarm)
        if state_of(ledger) is not TradingState.HALTED:
            raise Wrong("the swarm is not halted")
        fills = count(ledger, FillRow)
        swarm.open("botswarm", "up", "--no-demo", name="up")
        until(lambda: state_of(ledger) is TradingState.ACTIVE, "trading to go on", PATIENCE_S)
        say(f"trades again {time.monotonic() - began:.1f} s after the restore was begun")
        if in_doubt(ledger, list(said.open_orders)):
            raise Wrong("orders of before are still in doubt")
        until(lambda: count(ledger, FillRow) > fills, "a fill after the restore", PATIENCE_S)
        if ledger.orders.get(resting).state.value != "live":
            raise Wrong(f"the order that rested is {ledger.orders.get(resting).state}")
        _judge_books(swarm, ledger, say)
        ledger.close()


def _judge_books(swarm: Swarm, ledger: Ledger, say: Callable[[str], None]) -> None:
    swarm.run("botswarm", "down", timeout_s=200)
    found = verify_against(ledger.database, swarm.journal)
    say(f"counts: {found.counts}")
    if not found.is_clean:
        raise Wrong(f"the books: {found.findings[:5]}")


@contextmanager
def machine(folder: Path, saved: Path) -> Iterator[Swarm]:
    folder.mkdir(parents=True)
    settings = {"BOTSWARM_BACKUP_DIR": str(saved), "BOTSWARM_BACKUP_KEY": KEY}
    swarm = Swarm(folder, settings)
    try:
        yield swarm
    finally:
        swarm.end()


def ledger_of(swarm: Swarm) -> Ledger:
    return Ledger(f"sqlite:///{swarm.state_dir / 'ledger.db'}")


def state_of(ledger: Ledger) -> TradingState:
    return swarm_of(ledger).state


def in_doubt(ledger: Ledger, among: list[str] | None = None) -> int:
    question = select(func.count()).select_from(OrderRow).where(OrderRow.state.in_(IN_DOUBT))
    if among is not None:
        question = question.where(OrderRow.id.in_(among))
    return int(ledger.database.read(lambda session: session.scalars(question).one()))


def count(ledger: Ledger, table: Any) -> int:
    question = select(func.count()).select_from(table)
    return int(ledger.database.read(lambda session: session.scalars(question).one()))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="botswarm-fresh-") as folder:
        try:
            run(Path(folder), lambda words: print(words, flush=True))
        except Wrong as error:
            print(f"WRONG {error}")
            sys.exit(1)


if __name__ == "__main__":
    main()
