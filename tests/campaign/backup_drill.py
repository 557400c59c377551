"""Lose a ledger of a million fills while it is written to: how soon is it back, what is gone?

    python -m tests.campaign.backup_drill --ledger both --fills 1000000

For each kind of ledger: fills are booked all the time, each group in a commit of its own. The
archive runs as a process, is killed without a warning, and a drill follows while the booking goes
on. Then everything is brought back where nothing is but the folder of backups: a fresh state
folder, or a fresh server. Exits with 1 where a bound is missed, or what came back is not a true
earlier state of what was lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from botswarm.backup import facts
from botswarm.domain.fill import Fill
from botswarm.domain.order import Side
from botswarm.errors import TimedOut
from botswarm.ledger.halts import SWARM
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from botswarm.testing.servers import PostgreSQLServer
from tests.campaign.many_fills import fill_ledger

ROOT = Path(__file__).parents[2]
FIRST_TRADE = 10**12
GROUP = 5
GOOD_S = 1_800.0
RTO_MAX_S, RPO_MAX_S = 300.0, 60.0


@dataclass(slots=True)
class Report:
    ledger: str
    figures: dict[str, Any]
    wrong: list[str]

    def say(self, name: str, value: Any) -> None:
        self.figures[name] = value
        print(f"{self.ledger:10}  {name}: {value}", flush=True)


# --- the load -------------------------------------------------------------------------------------


def book_for_ever(url: str, rate: float) -> None:
    """As many fills a second, five to a commit, until it is killed; says how long commits took."""
    with closing(Ledger(url)) as ledger:
        took: list[float] = []
        began = said = time.monotonic()
        for group in itertools.count():
            now = datetime.now(UTC)
            fills = [_fill(group * GROUP + number, now) for number in range(GROUP)]
            at = time.monotonic()
            ledger.books.book(fills, now, account="paper")
            took.append(time.monotonic() - at)
            if at - said > 5:
                said = at
                late = sorted(took)
                figures = {
                    "fills": (group + 1) * GROUP,
                    "p50_ms": round(statistics.median(late) * 1000, 1),
                    "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1),
                    "max_ms": round(late[-1] * 1000, 1),
                }
                print(json.dumps(figures), flush=True)
                took = []
            pause = began + (group + 1) * GROUP / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)


def _fill(number: int, now: datetime) -> Fill:
    return Fill(
        venue="simulated",
        symbol="BTC-USDT",
        trade_id=FIRST_TRADE + number,
        client_order_id=f"theirs-{number}",
        side=Side.BUY if number % 2 else Side.SELL,
        price=Decimal(100_000),
        quantity=Decimal("0.001"),
        commission=Decimal("0.0000001"),
        commission_asset="BTC",
        at=now,
    )


@contextmanager
def running(log: Path, *words: str, environment: Mapping[str, str]) -> Iterator[Any]:
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def load_said(log: Path) -> dict[str, Any]:
    """The slowest of what it said lately, and how many fills there are."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    if not lines:
        return {}
    late = lines[-6:]
    return {
        "fills": lines[-1]["fills"],
        "p50_ms": statistics.median(each["p50_ms"] for each in late),
        "p99_ms": max(each["p99_ms"] for each in late),
        "max_ms": max(each["max_ms"] for each in late),
    }


# --- one kind of ledger ---------------------------------------------------------------------------


def run(
    kind: str,
    folder: Path,
    *,
    fills: int,
    rate: float,
    load_s: float,
    with_verify: bool,
    prefilled: Path | None = None,
) -> Report:
    report = Report(kind, {}, [])
    with ExitStack() as stack:
        url = _ledger(kind, folder / "live", stack)
        began = time.monotonic()
        if prefilled is not None:
            shutil.copy(prefilled, folder / "live" / "ledger.db")
        else:
            fill_ledger(url, fills)
        report.say("filled_s", round(time.monotonic() - began, 1))
        report.say("ledger_mb", _size_mb(url))
        environment = _environment(folder / "live", folder / "backups", url)
        load_log = folder / "load.log"
        module = "tests.campaign.backup_drill"
        words = ("-m", module, "--as-load", url, "--rate", str(rate))
        with running(load_log, *words, environment={}):
            time.sleep(min(load_s, 20))
            report.say("commits_before_archive", load_said(load_log))
            _archive(folder, environment, load_s, report)
            report.say("commits_with_archive", load_said(load_log))
            head = _head(url)
            # Its process is gone as if the machine were: what it had not carried over is lost.
            done = _botswarm(folder, environment, "backup", "drill")["data"]
            report.say("commits_in_drill", load_said(load_log))
        _judge_drill(report, done, head)
        _bring_back_elsewhere(kind, folder, stack, url, report, with_verify=with_verify)
        with closing(Ledger(url)) as ledger:
            kept = ledger.backups.drills()
            if not kept or kept[0].rto_ms is None:
                report.wrong.append("the drill is not kept in the ledger, where metrics read it")
    return report


def _archive(folder: Path, environment: Mapping[str, str], load_s: float, report: Report) -> None:
    words = ("-m", "botswarm", "run", "archive")
    with running(folder / "archive.log", *words, environment=environment) as archive:
        began = time.monotonic()
        while not _is_good(folder, environment):
            if archive.poll() is not None or time.monotonic() - began > GOOD_S:
                raise TimedOut(
                    f"the archive made no good backup: {(folder / 'archive.log').read_text()}",
                    cure="see what it says",
                )
            time.sleep(1)
        report.say("copied_and_tried_s", round(time.monotonic() - began, 1))
        time.sleep(load_s)


def _judge_drill(report: Report, done: Mapping[str, Any], head: int) -> None:
    report.say("drill_rto_s", done["rto_s"])
    report.say("drill_rpo_s", done["rpo_s"])
    report.say("drill_steps", done["numbers"])
    if not done["good"]:
        report.wrong.append(f"the drill: {done['words']}")
        return
    report.say("entries_lost", head - done["numbers"]["entries"])
    if done["rto_s"] > RTO_MAX_S or done["rpo_s"] > RPO_MAX_S:
        report.wrong.append(f"RTO {done['rto_s']} s, RPO {done['rpo_s']} s")


def _bring_back_elsewhere(
    kind: str, folder: Path, stack: ExitStack, live: str, report: Report, *, with_verify: bool
) -> None:
    url = _ledger(kind, folder / "fresh", stack)
    environment = _environment(folder / "fresh", folder / "backups", url)
    began = time.monotonic()
    done = _botswarm(folder, environment, "backup", "restore", "latest", "--yes")["data"]
    took_s = time.monotonic() - began
    report.say("restore_elsewhere_s", round(took_s, 1))
    if took_s > RTO_MAX_S:
        report.wrong.append(f"to bring it back elsewhere took {took_s:.0f} s")
    sequence, hashed = done["chain"]["sequence"], done["chain"]["hash"]
    with closing(Database(live)) as database:
        if not database.read(lambda session: facts.holds(session, sequence, hashed)):
            report.wrong.append("what came back is no earlier state of what was lost")
    with closing(Ledger(url)) as ledger:
        states = [each.state.value for each in ledger.halts.all() if each.scope == SWARM]
    if states != ["halted"]:
        report.wrong.append("a restored swarm is not halted")
    if with_verify:
        began = time.monotonic()
        with closing(Database(url)) as database:
            found = verify(database).findings
        report.say("verified_s", round(time.monotonic() - began, 1))
        report.wrong += [f"{each.subject} {each.words}" for each in found[:5]]


def _ledger(kind: str, state: Path, stack: ExitStack) -> str:
    state.mkdir(parents=True)
    if kind == "sqlite":
        return f"sqlite:///{state / 'ledger.db'}"
    server = stack.enter_context(PostgreSQLServer())
    return server.ledger_url()


def _environment(state: Path, backups: Path, url: str) -> dict[str, str]:
    return {
        "BOTSWARM_STATE_DIR": str(state),
        "BOTSWARM_BACKUP_DIR": str(backups),
        "BOTSWARM_DATABASE_URL": url,
        "BOTSWARM_BACKUP_ARCHIVE": "on",
        "BOTSWARM_LOG_LEVEL": "info",
        "PYTHONWARNINGS": "ignore",
    }


def _is_good(folder: Path, environment: Mapping[str, str]) -> bool:
    listed = _botswarm(folder, environment, "backup", "list")["data"]
    return any(each["state"] == "good" for each in listed)


def _botswarm(folder: Path, environment: Mapping[str, str], *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "botswarm", *words, "--json"],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "data" not in answer:
        raise TimedOut(f"{' '.join(words)}: {done.stdout}{done.stderr}", cure="see what it says")
    return answer


def _head(url: str) -> int:
    with closing(Database(url)) as database, database.connection() as connection:
        return int(connection.exec_driver_sql("SELECT sequence FROM chain_head").scalar_one())


def _size_mb(url: str) -> int:
    with closing(Database(url)) as database:
        if database.path is not None:
            return database.path.stat().st_size >> 20
        with database.connection() as connection:
            question = "SELECT pg_database_size(current_database())"
            return int(connection.exec_driver_sql(question).scalar_one()) >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--fills", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=100.0, help="fills a second meanwhile")
    parser.add_argument("--load-s", type=float, default=90.0, help="how long under the archive")
    parser.add_argument("--verify", action="store_true", help="check every entry of what came back")
    parser.add_argument("--folder", type=Path, help="where there is room for four ledgers")
    parser.add_argument("--prefilled", type=Path, help="a SQLite ledger that was made before")
    parser.add_argument("--as-load", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_load:
        book_for_ever(given.as_load, given.rate)
    kinds = ["sqlite", "postgresql"] if given.ledger == "both" else [given.ledger]
    wrong = []
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="botswarm-drill-", dir=given.folder) as folder:
            report = run(
                kind,
                Path(folder),
                fills=given.fills,
                rate=given.rate,
                load_s=given.load_s,
                with_verify=given.verify,
                prefilled=given.prefilled if kind == "sqlite" else None,
            )
        wrong += [f"{kind}: {words}" for words in report.wrong]
    for words in wrong:
        print(f"WRONG {words}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
