"""Every table has a say on how long it keeps what; old rows go, and money never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, inspect, select

from botswarm.domain.market import Candle
from botswarm.keys import ages
from botswarm.ledger import retention
from botswarm.ledger.exchange_keys import KeptKey, Sealed
from botswarm.ledger.models import FillRow, Table
from botswarm.ledger.reports import Reports
from botswarm.ledger.schedule_models import ScheduleMissRow, ScheduleRunRow
from botswarm.ledger.schedules import Ended, Missed, Pause, Sent, Stand, Withdrawn
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW, a_fill, sent
from tests.settings import settings_of

DAY = timedelta(days=1)
MINUTE_MS = 60_000


def rows_of(ledger: Ledger, table: type[Table]) -> int:
    return ledger.database.read(
        lambda session: session.scalars(select(func.count()).select_from(table)).one()
    )


def test_every_table_says_once_how_long_it_keeps_its_rows(ledger: Ledger) -> None:
    with ledger.database.connection() as connection:
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
    said = [
        *(history.table.__tablename__ for history in retention.HISTORIES),
        *retention.KEPT_ELSEWHERE,
        *retention.BOUNDED,
        *retention.KEPT_FOR_EVER,
    ]
    assert sorted(said) == sorted(tables)


def a_run(number: int, **changes: Any) -> Sent:
    run = Sent(
        task_id=f"task-{number}",
        entry="nightly",
        slot=number,
        due_at=NOW - number * DAY,
        expires_at=NOW - number * DAY + timedelta(hours=1),
        sent_at=NOW - number * DAY,
    )
    return replace(run, **changes)


def a_miss(first: int, last: int, **changes: Any) -> Missed:
    missed = Missed(
        entry="nightly",
        first_slot=first,
        last_slot=last,
        slots=last - first + 1,
        from_at=NOW - timedelta(seconds=last - first),
        to_at=NOW,
        reason="no beat led",
    )
    return replace(missed, **changes)


def note(ledger: Ledger, **said: Any) -> None:
    empty: dict[str, Any] = {"stands": [], "sent": [], "missed": [], "withdrawn": []}
    ledger.schedules.note(leader="beat/1", now=NOW, **{**empty, **said})


def test_only_what_is_older_than_its_days_is_deleted(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)
    old = a_miss(1, 2, from_at=NOW - 200 * DAY, to_at=NOW - 200 * DAY)
    note(ledger, sent=[a_run(number) for number in range(0, 120, 10)], missed=[old, a_miss(5, 6)])
    order = sent(ledger)
    ledger.books.book([a_fill(order, 1)], NOW - 500 * DAY)
    before = rows_of(ledger, FillRow)
    gone = retention.prune(ledger.database, NOW, 45)
    assert gone == {"schedule_runs": 7, "schedule_misses": 1}
    assert rows_of(ledger, ScheduleRunRow) == 5
    assert rows_of(ledger, ScheduleMissRow) == 1
    after = rows_of(ledger, FillRow)
    assert after == before
    assert retention.prune(ledger.database, NOW, 45) == {}


# --- the schedule's own book ----------------------------------------------------------------------


def test_a_run_is_written_by_beat_and_by_its_worker_in_any_order(ledger: Ledger) -> None:
    late = a_run(1)
    ledger.schedules.began(late, NOW)
    note(ledger, sent=[late, a_run(2)])
    ended = Ended(entry="nightly", started_at=NOW, ended_at=NOW, outcome="done", result="3" * 900)
    ledger.schedules.ended(ended, late.task_id)
    runs = {run.task_id: run for run in ledger.schedules.runs(entry="nightly")}
    assert runs["task-1"].state(NOW) == "done"
    assert len(runs["task-1"].result or "") == 500
    assert runs["task-2"].state(NOW) == "nobody ran it in time"
    assert ledger.schedules.known()["nightly"].runs == 1


def test_a_new_leader_does_not_forget_what_the_last_one_sent(ledger: Ledger) -> None:
    stand = Stand(name="nightly", slot=7, sent_at=NOW, next_at=NOW + DAY, held="no worker")
    note(ledger, stands=[stand])
    note(ledger, stands=[replace(stand, slot=None, sent_at=None, held=None)])
    known = ledger.schedules.known()["nightly"]
    assert (known.slot, known.sent_at, known.held) == (7, NOW, None)
    assert ledger.schedules.slots() == {"nightly": [7]}


def test_a_stretch_that_grows_stays_one_and_can_be_taken_back_in_part(ledger: Ledger) -> None:
    note(ledger, missed=[a_miss(10, 11)])
    note(ledger, missed=[a_miss(10, 19)])
    (found,) = ledger.schedules.missed()
    assert (found.last_slot, found.slots) == (19, 10)
    note(ledger, missed=[a_miss(30, 30)], withdrawn=[Withdrawn(entry="nightly", from_slot=15)])
    assert [(each.first_slot, each.last_slot) for each in ledger.schedules.missed()] == [
        (30, 30),
        (10, 14),
    ]


def test_a_pause_ends_by_itself(ledger: Ledger) -> None:
    pause = Pause(name="nightly", at=NOW, until=NOW + DAY, actor="ann", reason="the disk")
    ledger.schedules.pause(pause)
    assert ledger.schedules.pauses(NOW)["nightly"].words == "paused by ann: the disk"
    assert ledger.schedules.pauses(NOW + DAY) == {}


# --- candles, keys, reports -----------------------------------------------------------------------


def a_candle(number: int) -> Candle:
    price = Decimal(100)
    return Candle(
        venue="simulated",
        symbol="BTC-USDT",
        timeframe="1m",
        open_ms=number * MINUTE_MS,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=Decimal(1),
        trades=1,
        is_closed=True,
    )


def test_old_candles_go_and_holes_are_counted(ledger: Ledger) -> None:
    ledger.candles.save([a_candle(number) for number in range(20) if number not in (12, 13)])
    assert ledger.candles.prune("1m", 10 * MINUTE_MS) == 10
    assert ledger.candles.prune("1m", 10 * MINUTE_MS) == 0
    assert ledger.candles.holes(0) == {("simulated", "BTC-USDT", "1m"): 2}
    assert [each.open_ms // MINUTE_MS for each in ledger.candles.load(
        "simulated", "BTC-USDT", "1m", limit=50
    )] == [10, 11, 14, 15, 16, 17, 18, 19]  # fmt: skip


def test_a_day_is_added_up_exactly_and_kept(ledger: Ledger) -> None:
    order = sent(ledger)
    fills = [a_fill(order, number, at=NOW, commission=Decimal("0.1")) for number in (1, 2, 3)]
    ledger.books.book(fills, NOW)
    note(ledger, missed=[a_miss(1, 4), a_miss(9, 9, reason="paused by ann: the disk")])
    reports = Reports(ledger.database)
    made = reports.make(NOW.date(), NOW + DAY)
    assert sum(made.data["orders"].values()) == 1
    assert made.data["fills"] == {"simulated:paper": 3}
    assert made.data["commission"] == {"BTC": "0.3"}
    assert made.data["missed_slots"] == {"nightly": 4}
    assert reports.of(NOW.date()) == reports.make(NOW.date(), NOW + DAY) == made
    assert reports.now(NOW.date(), NOW + DAY) == made
    empty = reports.make((NOW - 9 * DAY).date(), NOW)
    assert sum(empty.data["orders"].values()) == 0
    assert [each.day for each in reports.latest(5)] == [made.day, empty.day]


def a_key(**changes: Any) -> KeptKey:
    key = KeptKey(
        venue="kraken",
        account="main",
        kind="hmac",
        version=1,
        created_at=NOW,
        changed_at=NOW,
        tested_at=NOW,
        test=None,
        envelope=Sealed(master_id="m", wrap_nonce=b"", wrapped_key=b"", nonce=b"", sealed=b""),
    )
    return replace(key, **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"changed_at": NOW - 91 * DAY}, ["is 91 days old"]),
        ({"tested_at": NOW - 31 * DAY}, ["was not tested for 30 days"]),
        ({"tested_at": None, "created_at": NOW - 31 * DAY}, ["was not tested for 30 days"]),
    ],
)
def test_old_and_untested_keys_are_named(
    changes: dict[str, Any], says: list[str], tmp_path: Any
) -> None:

    settings = settings_of(tmp_path)
    found = ages.too_old([a_key(**changes)], settings, NOW, 90 * DAY)
    assert len(found) == len(says)
    assert all(words in sentence for words, sentence in zip(says, found, strict=True))
