"""What the ledger says of the swarm: figures that are right on both databases, each row once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, insert

from botswarm import exposition, metrics
from botswarm.clock import Clock, StoppedClock
from botswarm.config import Secret, load
from botswarm.health import facts
from botswarm.health.exporter import Exporter
from botswarm.health.queues import Ages
from botswarm.health.swarm import Swarm
from botswarm.health.tail import OVERLAP, Tail
from botswarm.health.watch import Finding
from botswarm.ledger import risk_events
from botswarm.ledger.backup_models import BackupDrillRow, BackupRow
from botswarm.ledger.models import OrderEventRow
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.schedules import Ended, Missed
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import ACCOUNT, BTC, NOW, VENUE, a_bot, a_fill, an_order, sent

LABELS = {"venue": VENUE, "account": ACCOUNT}


def secret_of(ledger: Ledger) -> Secret:
    return Secret(ledger.database.url.render_as_string(hide_password=False))


def told(samples: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition.text(samples).decode())
        for sample in family.samples
    }


def value(found: Any, name: str, **labels: str) -> float:
    return float(found["botswarm_" + name, frozenset(labels.items())])


class Counts:
    """How much each counter has grown since: they are this process' own, for good."""

    def __init__(self) -> None:
        self._before = told(exposition.counted(metrics.COUNTED))

    def __call__(self, name: str, **labels: str) -> float:
        key = "botswarm_" + name, frozenset(labels.items())
        now = told(exposition.counted(metrics.COUNTED))
        return now.get(key, 0.0) - self._before.get(key, 0.0)


class NoQueues:
    def collect(self) -> list[Any]:
        return []


class Slots:
    def take(self, queue: str, cap: int) -> object | None:
        return object()

    def used(self, queue: str, cap: int) -> int:
        return 3


def exporter_of(ledger: Ledger) -> Exporter:
    settings: Any = SimpleNamespace(
        database_url=secret_of(ledger), redis_url=None, state_dir=ledger.database.path
    )
    queues: Any = NoQueues()
    return Exporter(settings, queues, Slots(), {"orders": 8}, StoppedClock(NOW))


def test_what_is_exported_is_what_stands_in_the_ledger(ledger: Ledger) -> None:
    ledger.books.save_instruments([BTC])
    ledger.bots.create(a_bot(), NOW, actor="test")
    filled, waiting = sent(ledger), sent(ledger)
    ledger.books.book([a_fill(filled, 1, quantity=Decimal("0.5"))], NOW)
    assert waiting.state.value == "sending"
    with ledger.database.connection() as connection, connection.begin():
        connection.execute(
            insert(BackupRow),
            {
                "id": "a", "at": NOW - timedelta(hours=1), "method": "online", "state": "good",
                "bytes": 1000, "took_ms": 2500, "store": "folder", "chain_sequence": 1,
                "chain_hash": "x",
            },
        )  # fmt: skip
        connection.execute(
            insert(BackupDrillRow),
            {
                "at": NOW - timedelta(hours=2), "is_good": True, "rto_ms": 4000, "rpo_ms": 1500,
                "words": "fine", "numbers": {},
            },
        )  # fmt: skip
    exporter = exporter_of(ledger)
    exporter.look()
    found = told(exporter.collect(facts.read(secret_of(ledger), NOW)))
    assert value(found, "bots", state="running") == 1
    assert value(found, "orders_open", **LABELS, state="sending") == 2
    assert value(found, "positions", **LABELS) == 1
    assert value(found, "pnl_realised", **LABELS, quote="USDT") <= 0
    assert value(found, "account_agrees", **LABELS) == 1
    assert value(found, "account_compared_seconds", **LABELS) == 0
    assert value(found, "trading_state", state="active") == 1
    assert value(found, "backup_age_seconds") == 3600
    assert value(found, "drill_rto_seconds") == 4
    assert value(found, "drill_rpo_seconds") == 1.5
    assert value(found, "queue_slots_used", queue="orders") == 3
    assert value(found, "ledger_bytes") > 10_000


def test_orders_and_fills_are_counted_once_each_from_when_somebody_looks(ledger: Ledger) -> None:
    ledger.books.save_instruments([BTC])
    sent(ledger)
    tail, counts = Tail(), Counts()
    url = secret_of(ledger)
    facts.asked(url, tail.look)()
    assert counts("orders_total", **LABELS, state="sending") == 0
    order = sent(ledger)
    ledger.books.book([a_fill(order, 7, price=Decimal("101"))], NOW)
    risk_events_of(ledger)
    for _ in range(2):
        facts.asked(url, tail.look)()
    assert counts("orders_total", **LABELS, state="approved") == 1
    assert counts("orders_total", **LABELS, state="sending") == 1
    assert counts("fills_total", **LABELS, side="buy") == 1
    assert counts("filled_value_total", **LABELS, quote="USDT") == pytest.approx(10.1)
    assert counts("order_slippage_bps_bucket", venue=VENUE, le="50.0") == 0
    assert counts("order_slippage_bps_bucket", venue=VENUE, le="100.0") == 1
    assert counts("risk_events_total", kind="position", severity="breach") == 1
    assert counts("order_stage_seconds_count", stage="decided to approved") == 1


def risk_events_of(ledger: Ledger) -> None:
    event = RiskEvent(
        at=NOW, scope="bot:alpha", kind="position", severity=risk_events.Severity.BREACH, words="x"
    )
    ledger.database.write(lambda session: risk_events.note(session, event))


def test_a_row_that_becomes_visible_late_is_counted_all_the_same(ledger: Ledger) -> None:
    order = sent(ledger)
    tail, counts = Tail(), Counts()
    url = secret_of(ledger)

    def note(number: int, after: str) -> None:
        row = {"id": number, "order_id": order.id, "before": "live", "after": after, "at": NOW}
        with ledger.database.connection() as connection, connection.begin():
            connection.execute(insert(OrderEventRow), row)

    with ledger.database.connection() as connection, connection.begin():
        connection.execute(delete(OrderEventRow))
    facts.asked(url, tail.look)()
    note(1000, "partial")
    facts.asked(url, tail.look)()
    note(999, "canceled")
    note(1000 - OVERLAP + 1, "expired")
    for _ in range(2):
        facts.asked(url, tail.look)()
    assert counts("orders_total", **LABELS, state="partial") == 1
    assert counts("orders_total", **LABELS, state="canceled") == 1
    assert counts("orders_total", **LABELS, state="expired") == 1


def test_orders_in_doubt_and_doorbells_are_told_with_their_age(quick_ledger: Ledger) -> None:
    found = facts.read(secret_of(quick_ledger), NOW)
    assert (found.doorbells, found.doorbell_since, found.doubtful) == (0, None, 0)
    assert found.swarm[0] == "active"
    assert found.backup is None
    assert an_order().state.value == "ready"


# --- how old what waits is at most ----------------------------------------------------------------


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_somebody_paused_was_not_missed(ledger: Ledger) -> None:
    def missed(slot: int, reason: str) -> Missed:
        at = NOW - timedelta(hours=slot)
        return Missed(
            entry="probe",
            first_slot=slot,
            last_slot=slot,
            slots=1,
            from_at=at,
            to_at=at,
            reason=reason,
        )

    both = [missed(1, "no beat led"), missed(2, "paused by her: the disk is being replaced")]
    ledger.schedules.note(leader="", stands=[], sent=[], missed=both, withdrawn=[], now=NOW)
    assert facts.read(secret_of(ledger), NOW).missed == {"probe": 1}


def swarm_of(ledger: Ledger, state_dir: Path, clock: Clock | None = None, **more: str) -> Swarm:
    settings = load(
        environ={
            **more,
            "BOTSWARM_STATE_DIR": str(state_dir),
            "BOTSWARM_DATABASE_URL": secret_of(ledger).reveal(),
            "BOTSWARM_BROKER_URL": "amqp://nobody@127.0.0.1:1",
        }
    ).settings
    return Swarm(settings, Slots(), {}, clock or StoppedClock(NOW))


def test_a_night_that_was_missed_is_owed_until_it_is_made_up_for(
    ledger: Ledger, tmp_path: Path
) -> None:
    swarm = swarm_of(ledger, tmp_path)

    def missed(entry: str) -> Missed:
        at = NOW - timedelta(hours=2)
        return Missed(
            entry=entry,
            first_slot=1,
            last_slot=1,
            slots=1,
            from_at=at,
            to_at=at,
            reason="no beat led",
        )

    def ran(entry: str, hours_ago: int) -> None:
        at = NOW - timedelta(hours=hours_ago)
        ledger.schedules.ended(
            Ended(entry=entry, started_at=at, ended_at=at, outcome="done", result="")
        )

    for entry in ("rehearse-restore", "sweep-orders"):
        ran(entry, 26)
    both = [missed("rehearse-restore"), missed("sweep-orders")]
    ledger.schedules.note(leader="", stands=[], sent=[], missed=both, withdrawn=[], now=NOW)
    swarm.look()
    finding = swarm.schedules()
    assert finding.status == "warn"
    assert "rehearse-restore missed 1, and has not run since" in finding.words
    assert "sweep-orders missed 1" in finding.words
    ran("rehearse-restore", 1)
    swarm.look()
    assert swarm.schedules().status == "ok"


def test_what_check_keys_found_is_a_check_of_health_until_it_finds_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    swarm = swarm_of(ledger, tmp_path)

    def looked(outcome: str, result: str) -> Finding:
        ledger.schedules.ended(
            Ended(entry="check-keys", started_at=NOW, ended_at=NOW, outcome=outcome, result=result)
        )
        swarm.look()
        return swarm.keys()

    swarm.look()
    assert swarm.keys().status == "ok"
    old = "the master key is 400 days old: botswarm secrets rotate"
    assert looked("done", old) == Finding(words=old, status="warn")
    assert looked("done", "").status == "ok"
    assert looked("failed", "Unreachable: the ledger is away").status == "ok"


@pytest.mark.parametrize(
    ("behind_s", "every_s", "switch", "status"),
    [
        (20, "10", "on", "ok"),
        (300, "10", "on", "ok"),
        (340, "10", "on", "fail"),
        (340, "10", "off", "fail"),  # that of another machine, which is archived
        (340, "600", "on", "ok"),
        (90_000, "10", "on", "fail"),
        (90_000, "10", "off", "ok"),  # it was switched off
    ],
)
def test_an_archive_that_does_not_go_on_is_found_long_before_the_drill(
    quick_ledger: Ledger, tmp_path: Path, behind_s: int, every_s: str, switch: str, status: str
) -> None:
    wanted = {"BOTSWARM_BACKUP_ARCHIVE": switch, "BOTSWARM_BACKUP_ARCHIVE_EVERY_S": every_s}
    swarm = swarm_of(quick_ledger, tmp_path, None, **wanted)
    at = NOW - timedelta(seconds=behind_s)
    quick_ledger.backups.mark(at, at)
    swarm.look()
    assert swarm.archive().status == status


def test_an_archive_that_was_never_begun_is_given_time_for_its_first_copy(
    quick_ledger: Ledger, tmp_path: Path
) -> None:
    clock = StoppedClock(NOW)
    swarm = swarm_of(quick_ledger, tmp_path, clock, BOTSWARM_BACKUP_ARCHIVE="on")
    swarm.look()
    assert swarm.archive().status == "warn"
    clock.advance(601)
    swarm.look()
    assert swarm.archive().status == "fail"


def test_an_entry_that_is_no_longer_in_the_schedule_is_neither_late_nor_failed(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.schedules.ended(
        Ended(entry="of-old", started_at=NOW, ended_at=NOW, outcome="failed", result="")
    )
    swarm = swarm_of(ledger, tmp_path)
    swarm.look()
    assert (swarm.schedules().status, swarm.schedules().words) == ("ok", "0 entries run on time")


def test_the_oldest_that_waits_is_younger_than_the_last_look_that_had_counted_fewer() -> None:
    time = Time()
    ages = Ages(time)
    assert ages.oldest_s(0, 10) == 0
    time.now = 110
    assert ages.oldest_s(5, 15) == 10  # number 11 came after the look that counted 10
    time.now = 120
    assert ages.oldest_s(5, 20) == 10  # now number 16 is the oldest, and came after 15
    time.now = 130
    assert ages.oldest_s(5, 20) == 20  # nobody takes any more
    time.now = 140
    assert ages.oldest_s(0, 20) == 0


def test_without_a_count_the_oldest_is_younger_than_the_last_empty_queue() -> None:
    time = Time()
    ages = Ages(time)
    assert ages.oldest_s(0, None) == 0
    time.now = 103
    assert ages.oldest_s(4, None) == 3
    time.now = 150
    assert ages.oldest_s(1, None) == 50
    assert ages.oldest_s(0, None) == 0


def test_a_broker_that_was_started_anew_counts_from_nothing() -> None:
    time = Time()
    ages = Ages(time)
    ages.oldest_s(0, 1000)
    time.now = 105
    assert ages.oldest_s(3, 3) == 5
