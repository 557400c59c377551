"""The database under stress: other processes, forks, servers that die, files that are none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from botswarm.errors import NotFound, TimedOut, Unreachable
from botswarm.ledger import migrate, session
from botswarm.ledger.session import Database
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import PostgreSQLServer, wait_until
from tests.ledger.conftest import NOW, a_bot, an_order, sent
from tests.standing import reconciled

ROOT = Path(__file__).parents[2]

# Judges every order it is given as soon as the file appears; prints how many passed.
JUDGE = """
import sys, pathlib, time
from decimal import Decimal
from botswarm.domain.permission import Approved, Refused
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW

def judge(order, exposure):
    full = exposure.account_open_notional + order.notional > Decimal(500)
    return Refused(order, "full") if full else Approved(order)

url, start, *ids = sys.argv[1:]
ledger = Ledger(url)
print("ready", flush=True)
deadline = time.monotonic() + 30
while not pathlib.Path(start).exists() and time.monotonic() < deadline:
    time.sleep(0.001)
print(sum(isinstance(ledger.books.judge(i, judge, NOW), Approved) for i in ids))
"""


def url_of(ledger: Ledger) -> str:
    return ledger.database.url.render_as_string(hide_password=False)


TCP_PATIENCE = (
    socket.TCP_KEEPIDLE,
    socket.TCP_KEEPINTVL,
    socket.TCP_KEEPCNT,
    socket.TCP_USER_TIMEOUT,
)


def test_racing_processes_cannot_exceed_a_limit_together(ledger: Ledger, tmp_path: Path) -> None:
    ids = []
    for _ in range(24):
        order = an_order()
        ledger.orders.add(order, NOW)
        ids.append(order.id)
    start = tmp_path / "start"
    judges = [
        subprocess.Popen(
            [sys.executable, "-c", JUDGE, url_of(ledger), str(start), *ids[first::4]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(4)
    ]
    for judge in judges:
        assert judge.stdout is not None
        assert judge.stdout.readline() == "ready\n"
    start.touch()
    passed = [int(judge.communicate(timeout=60)[0]) for judge in judges]
    assert sum(passed) == 5


def test_a_forked_child_does_not_disturb_its_parents_connections(ledger: Ledger) -> None:
    ledger.bots.create(a_bot(), NOW, actor="test")
    child = os.fork()
    if child == 0:
        try:
            ledger.dispose_after_fork()
            for _ in range(20):
                ledger.bots.get("alpha")
            os._exit(0)
        except BaseException:
            os._exit(1)
    for _ in range(20):
        ledger.bots.get("alpha")
    assert os.waitpid(child, 0)[1] == 0
    ledger.bots.get("alpha")


def test_work_that_fails_is_not_committed(ledger: Ledger) -> None:
    def work(session: Session) -> None:
        session.execute(text("DELETE FROM chain_head"))
        raise KeyError("defect")

    with pytest.raises(KeyError):
        ledger.database.write(work)
    rows = ledger.database.read(lambda s: s.execute(text("SELECT id FROM chain_head")).all())
    assert len(rows) == 1


def test_deadlocked_writers_are_run_again_whole(ledger: Ledger) -> None:
    """Two transactions take two locks in opposite order; both end, each having run all its work."""
    for name in ("alpha", "beta"):
        ledger.bots.create(a_bot(name=name), NOW, actor="test")
    ledger.bots.set_state("alpha", a_bot().state, NOW, reason="0", actor="test")
    tries: list[str] = []
    holding = threading.Barrier(2)

    def work(first: str, second: str) -> None:
        def both(session: Session) -> None:
            tries.append(first)
            touch = text("UPDATE bots SET last_sequence = last_sequence + 1 WHERE name = :name")
            session.execute(touch, {"name": first})
            if not ledger.database.is_sqlite and len(tries) <= 2:
                holding.wait(timeout=10)
            session.execute(touch, {"name": second})

        ledger.database.write(both)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, "alpha", "beta"), pool.submit(work, "beta", "alpha")]:
            done.result(timeout=30)
    assert [bot.last_sequence for bot in ledger.bots.list()] == [1, 1]
    assert len(tries) == (2 if ledger.database.is_sqlite else 3)


def test_sqlite_writers_wait_for_each_other_instead_of_starting_over(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(ledger.database)
    ledger.bots.create(a_bot(last_sequence=0), NOW, actor="test")
    tries: list[int] = []

    def work(session: Session) -> None:
        tries.append(1)
        seen = session.execute(text("SELECT last_sequence FROM bots")).scalar_one()
        time.sleep(0.01)  # long enough for the others to come in between, if they could
        session.execute(text("UPDATE bots SET last_sequence = :next"), {"next": seen + 1})

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ledger.database.write, work) for _ in range(12)]:
            done.result(timeout=30)
    assert (ledger.bots.get("alpha").last_sequence, len(tries)) == (12, 12)


def test_a_ledger_that_stays_locked_is_given_up_and_says_so(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOCK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(session, "ATTEMPTS_MAX", 2)
    impatient = Ledger(url_of(ledger))
    ledger.bots.create(a_bot(), NOW, actor="test")
    with ledger.database.connection() as connection, connection.begin():
        connection.execute(text("UPDATE bots SET reason = 'mine'"))
        began = time.monotonic()
        with pytest.raises(TimedOut, match="locked"):
            impatient.bots.set_state("alpha", a_bot().state, NOW, reason="", actor="test")
    assert time.monotonic() - began < 5
    impatient.close()


@pytest.fixture
def own_server() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as server:
        yield server


def test_a_server_that_was_killed_is_used_again_when_it_is_back(
    own_server: PostgreSQLServer,
) -> None:
    ledger = Ledger(own_server.ledger_url("postgres"))
    migrate.migrate(ledger.database)
    reconciled(ledger, NOW)
    order = sent(ledger)
    own_server.kill()
    with pytest.raises(Unreachable, match="cannot be used"):
        ledger.orders.get(order.id)
    with pytest.raises(Unreachable, match="cannot be used"):
        ledger.books.record(order.id, order.state.LIVE, NOW)
    own_server.start()
    # What was committed is there, and the old connections are nobody's concern.
    assert ledger.orders.get(order.id) == order
    own_server.restart()
    assert ledger.books.record(order.id, order.state.LIVE, NOW).state == "live"
    ledger.close()


def test_a_host_that_vanished_is_noticed_within_half_a_minute(
    own_server: PostgreSQLServer,
) -> None:
    database = Database(own_server.ledger_url("postgres"))

    def of_its_socket(open_: Session) -> list[int]:
        raw = open_.connection().connection.dbapi_connection
        assert raw is not None
        with socket.socket(fileno=os.dup(raw.fileno())) as wire:
            return [wire.getsockopt(socket.IPPROTO_TCP, option) for option in TCP_PATIENCE]

    idle, apart, count, unanswered_ms = database.read(of_its_socket)
    database.close()
    assert idle + apart * count <= 30
    assert 0 < unanswered_ms <= 30_000


def test_a_connection_lost_in_the_middle_of_the_work_means_to_do_it_again(
    own_server: PostgreSQLServer,
) -> None:
    ledger = Ledger(own_server.ledger_url("postgres"))
    migrate.migrate(ledger.database)
    ledger.bots.create(a_bot(), NOW, actor="test")
    admin = Database(own_server.ledger_url("postgres"))
    tries = 0

    def work(session: Session) -> int:
        nonlocal tries
        tries += 1
        session.execute(text("UPDATE bots SET last_sequence = last_sequence + 1"))
        if tries == 1:
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with admin.connection() as connection:
                connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return int(session.execute(text("SELECT last_sequence FROM bots")).scalar_one())

    assert ledger.database.write(work) == 0
    assert tries == 2
    admin.close()
    ledger.close()


def test_a_connection_lost_after_the_work_failed_hides_nothing_of_why(
    own_server: PostgreSQLServer,
) -> None:
    with closing(Database(own_server.ledger_url("postgres"))) as database:

        def work(session: Session) -> None:
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            url = own_server.ledger_url("postgres")
            with closing(Database(url)) as admin, admin.connection() as connection:
                connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            raise NotFound("no such bot")

        with pytest.raises(NotFound, match="no such bot"):
            database.write(work)
        assert database.write(lambda session: session.execute(text("SELECT 1")).scalar_one()) == 1


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    for use in (
        Ledger(f"sqlite:///{path}").orders.list,
        lambda: migrate.migrate(Database(f"sqlite:///{path}")),
    ):
        with pytest.raises(Unreachable, match="is not a database"):
            use()


def test_sqlite_keeps_its_promises_over_kill_9(tmp_path: Path) -> None:
    """Everything that was acknowledged before the kill is there after it."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate.migrate(Database(url))
    program = (
        "import sys; from botswarm.ledger.store import Ledger\n"
        "from tests.ledger.conftest import NOW, an_order\n"
        "ledger = Ledger(sys.argv[1])\n"
        "while True:\n"
        "    order = an_order(); ledger.orders.add(order, NOW); print(order.id, flush=True)\n"
    )
    said = (tmp_path / "said").open("w+")
    writer = subprocess.Popen([sys.executable, "-c", program, url], cwd=ROOT, stdout=said)
    wait_until(lambda: (tmp_path / "said").read_text().count("\n") > 20, "orders", 30)
    writer.kill()
    writer.wait()
    acknowledged = (tmp_path / "said").read_text().split("\n")[:-1]
    kept = {order.id for order in Ledger(url).orders.list(limit=1000)}
    assert set(acknowledged) <= kept
    said.close()
