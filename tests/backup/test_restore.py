"""A restored ledger is what was saved, and trades only when every account agrees with its venue."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from botswarm.backup import sides, sqlite
from botswarm.backup.create import create, try_out
from botswarm.backup.folder import Backup
from botswarm.backup.place import Place
from botswarm.backup.restore import restore
from botswarm.backup.sealing import Damaged
from botswarm.domain.order import OrderState
from botswarm.domain.permission import TradingState
from botswarm.errors import Refused
from botswarm.ledger.halts import SWARM
from botswarm.ledger.models import OrderRow
from botswarm.ledger.restores import Restores
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from tests.backup.conftest import FILLS, KEY, PlaceOf
from tests.ledger.conftest import ACCOUNT, VENUE, an_order, let_pass
from tests.standing import reconciled, swarm_of

LATER = timedelta(minutes=1)


def saved(place: Place) -> Backup:
    with closing(Ledger(place.database_url)) as ledger:
        reconciled(ledger, datetime.now(UTC))
    return try_out(place, create(place).backup)


def test_a_restore_brings_back_what_was_saved_and_keeps_what_was_there(place: Place) -> None:
    before = saved(place)
    said = sides.said_of(place, before)
    with closing(Ledger(place.database_url)) as ledger:
        ledger.heartbeats.beat("since", "test", datetime.now(UTC))
    done = restore(place, before, actor="somebody")
    found = sides.facts_of(place.database_url)
    assert (found.chain_sequence, found.chain_hash) == (FILLS, said.chain_hash)
    assert found.balances == said.balances
    assert found.positions == said.positions
    assert found.open_orders == said.open_orders
    assert found.rows["heartbeats"] == 0
    assert done.old is not None
    assert sides.facts_of(_old(place, done.old)).rows["heartbeats"] == 1


def test_a_backup_restored_twice_leaves_both_ledgers_that_were_there(place: Place) -> None:
    before = saved(place)
    with closing(Ledger(place.database_url)) as ledger:
        ledger.heartbeats.beat("since", "test", datetime.now(UTC))
    kept = [restore(place, before, actor="somebody").old for _ in range(2)]
    beats = [sides.facts_of(_old(place, each or "")).rows["heartbeats"] for each in kept]
    assert beats == [1, 0]


def test_whoever_is_killed_while_he_swaps_leaves_a_ledger_in_its_place(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = sides.live_path(sqlite_place)
    side = live.with_name("side.db")
    shutil.copy(live, side)

    def until_the_side_moves(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(path: Path, target: Path) -> Path:
            if path == side:
                raise KeyboardInterrupt
            return move(path, target)

        return moved

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, until_the_side_moves(getattr(Path, name)))
    with pytest.raises(KeyboardInterrupt):
        sqlite.swap(side, live, live.with_name("old.db"))
    assert sides.facts_of(sqlite_place.database_url).chain_sequence == FILLS


def test_a_log_that_its_ledger_could_not_take_in_is_kept_with_it(
    sqlite_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = sides.live_path(sqlite_place)
    side, old = live.with_name("side.db"), live.with_name("old.db")
    shutil.copy(live, side)
    monkeypatch.setattr(sqlite, "_let_go", lambda _: None)
    live.with_name(f"{live.name}-wal").write_bytes(b"what was committed last")
    sqlite.swap(side, live, old)
    assert old.with_name("old.db-wal").read_bytes() == b"what was committed last"
    assert not live.with_name(f"{live.name}-wal").exists()


def _old(place: Place, words: str) -> str:
    if place.database_url.reveal().startswith("sqlite"):
        return f"sqlite:///{words}"
    name = words.removeprefix("the database ")
    return place.database_url.reveal().rpartition("/")[0] + f"/{name}"


def test_a_restored_swarm_is_halted_until_every_account_agrees(
    sqlite_place: Place,
) -> None:
    place = sqlite_place
    restore(place, saved(place), actor="somebody")
    now = datetime.now(UTC)
    with closing(Ledger(place.database_url)) as ledger:
        restores = Restores(ledger.database)
        assert swarm_of(ledger).state is TradingState.HALTED
        assert restores.release(now) is None
        waiting = restores.waiting()
        assert waiting is not None
        assert waiting.words == "not reconciled since: simulated:paper"
        assert swarm_of(ledger).state is TradingState.HALTED
        reconciled(ledger, now + LATER)
        assert restores.release(now + LATER) is not None
        assert swarm_of(ledger).state is TradingState.ACTIVE
        assert restores.waiting() is None


def test_an_order_in_doubt_keeps_a_restored_swarm_halted(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    place = place_for(sqlite_url)
    restore(place, saved(place), actor="somebody")
    now = datetime.now(UTC)
    with closing(Ledger(place.database_url)) as ledger:
        restores = Restores(ledger.database)
        reconciled(ledger, now + LATER)
        _all_orders(ledger, "unknown")
        assert restores.release(now + LATER) is None
        waiting = restores.waiting()
        assert waiting is not None
        assert "orders in doubt" in waiting.words
        _all_orders(ledger, "filled")
        assert restores.release(now + LATER) is not None


def _all_orders(ledger: Ledger, state: str) -> None:
    ledger.database.write(lambda session: session.execute(update(OrderRow).values(state=state)))


def test_an_order_that_waited_to_be_sent_may_have_been_sent_since(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    place = place_for(sqlite_url)
    with closing(Ledger(place.database_url)) as ledger:
        now = datetime.now(UTC)
        ready = an_order(created_at=now, signal_expires_at=now + timedelta(hours=1))
        approved = an_order(created_at=now, signal_expires_at=now + timedelta(hours=1))
        reconciled(ledger, now)
        for order in (ready, approved):
            assert ledger.orders.add(order, now)
        ledger.books.judge(approved.id, let_pass, now)
    restore(place, saved(place), actor="somebody")
    with closing(Ledger(place.database_url)) as ledger:
        for order in (ready, approved):
            # Its fence has to pass, and then it has to be proven that nothing was placed.
            ((found, fence),) = [
                each for each in ledger.books.in_doubt(VENUE, ACCOUNT) if each[0].id == order.id
            ]
            assert found.state is OrderState.UNKNOWN
            assert fence is not None
            assert fence > datetime.now(UTC)
            assert found.signal_expires_at <= datetime.now(UTC)
        assert verify(ledger.database).findings == []


def test_what_a_person_halted_before_the_backup_stays_halted(
    sqlite_url: str, place_for: PlaceOf
) -> None:
    place = place_for(sqlite_url)
    now = datetime.now(UTC)
    with closing(Ledger(place.database_url)) as ledger:
        ledger.halts.set(
            SWARM, TradingState.HALTED, reason="why", actor="her", now=now, is_human=True
        )
    restore(place, saved(place), actor="somebody")
    with closing(Ledger(place.database_url)) as ledger:
        reconciled(ledger, now + LATER)
        Restores(ledger.database).release(now + LATER)
        assert swarm_of(ledger).state is TradingState.HALTED
        assert Restores(ledger.database).waiting() is None


def test_a_damaged_backup_changes_nothing(sqlite_place: Place) -> None:
    place = sqlite_place
    before = saved(place)
    path = before.path / before.parts[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with closing(Ledger(place.database_url)) as ledger:
        ledger.heartbeats.beat("since", "test", datetime.now(UTC))
    with pytest.raises(Damaged):
        restore(place, before, actor="somebody")
    assert sides.facts_of(place.database_url).rows["heartbeats"] == 1
    with closing(Ledger(place.database_url)) as ledger:
        assert swarm_of(ledger).state is TradingState.ACTIVE


def test_a_sqlite_ledger_in_use_is_not_taken_away(sqlite_url: str, place_for: PlaceOf) -> None:
    place = place_for(sqlite_url)
    before = saved(place)
    path = sides.live_path(place)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("SELECT count(*) FROM fills").fetchone()
        with pytest.raises(Refused, match="in use"):
            restore(place, before, actor="somebody")
        assert connection.execute("SELECT count(*) FROM fills").fetchone() == (FILLS,)
    assert [each.name for each in path.parent.glob(".side-*")] == []
    restore(place, before, actor="somebody")


def test_a_ledger_is_restored_where_nothing_is_but_the_folder_and_the_key(
    sqlite_url: str, place_for: PlaceOf, tmp_path: Path
) -> None:
    place = place_for(sqlite_url, backup_key=KEY)
    (tmp_path / "state" / "exchange-journal.jsonl").write_text('{"play": "money"}\n')
    (tmp_path / "state" / "master.key").write_text("a key")
    before = saved(place)
    fresh = place_for(
        f"sqlite:///{tmp_path / 'fresh' / 'ledger.db'}",
        backup_key=KEY,
        state_dir=str(tmp_path / "fresh"),
    )
    done = restore(fresh, fresh.folder.read(before.id), actor="somebody")
    assert done.old is None
    assert sides.facts_of(fresh.database_url).chain_sequence == FILLS
    assert (tmp_path / "fresh" / "master.key").read_text() == "a key"
    assert (tmp_path / "fresh" / "exchange-journal.jsonl").read_text() == '{"play": "money"}\n'


def test_files_that_are_there_are_never_written_over(
    sqlite_url: str, place_for: PlaceOf, tmp_path: Path
) -> None:
    place = place_for(sqlite_url)
    journal = tmp_path / "state" / "exchange-journal.jsonl"
    journal.write_text("old\n")
    before = saved(place)
    journal.write_text("new\n")
    restore(place, before, actor="somebody")
    assert journal.read_text() == "new\n"
