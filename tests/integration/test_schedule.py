"""The schedule as people see it: runs, results, pauses and what was missed, by real processes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from botswarm.ledger import migrate
from botswarm.ledger.models import AuditRow
from botswarm.ledger.store import Ledger
from botswarm.messages import send
from botswarm.queueing.leadership import SLOT_HEADER, Slot
from botswarm.schedule import BY_NAME
from botswarm.testing.servers import EmbeddedBrokerServer
from tests.campaign import two_beats
from tests.integration.swarm import Swarm, until


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    migrate.migrate(ledger.database)
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def swarm(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A beat and a worker of the ops queue; nobody runs orders."""
    folder = tmp_path_factory.mktemp("swarm")
    url = ledger.database.url.render_as_string(hide_password=False)
    with EmbeddedBrokerServer() as server:
        made = Swarm(server, "/", folder, {"BOTSWARM_DATABASE_URL": url})
        made.worker("ops")
        made.start("beat")
        try:
            yield made
        finally:
            made.close()


def rows(swarm: Swarm) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in swarm.command("schedule", "list")["data"]}


def test_an_entry_runs_now_and_says_how_it_did(swarm: Swarm, ledger: Ledger) -> None:
    answer = swarm.command("schedule", "run", "probe", "--wait", "30", "--reason", "to see it")
    assert answer["data"]["outcome"] == "done"
    assert "from beat" in answer["data"]["result"]
    runs = swarm.command("schedule", "history", "probe")["data"]["runs"]
    (run,) = [each for each in runs if each["task_id"] == answer["data"]["task_id"]]
    assert (run["state"], run["slot"]) == ("done", None)
    assert run["actor"]
    with ledger.database.connection() as connection:
        audited = connection.execute(select(AuditRow.action, AuditRow.reason)).all()
    assert ("schedule.run", "to see it") in [tuple(each) for each in audited]


def test_the_list_says_what_ran_and_what_is_held_back(swarm: Swarm, ledger: Ledger) -> None:
    def settled() -> bool:
        known = ledger.schedules.known()
        has_run = "sweep-outbox" in known and known["sweep-outbox"].outcome is not None
        return has_run and bool(ledger.schedules.missed(entry="settle-orders"))

    until(settled, "a run, and a slot that was missed", 60)
    found = rows(swarm)
    assert found["settle-orders"]["missed_24h"] > 0
    swept = found["sweep-outbox"]
    assert (swept["state"], swept["outcome"], swept["result"]) == ("on", "done", "0")
    assert swept["next_at"] > swept["sent_at"]
    assert found["settle-orders"]["state"] == "held back: no worker runs orders"
    missed = swarm.command("schedule", "history", "settle-orders")["data"]["missed"]
    assert missed[0]["reason"] == "no worker runs orders"
    # One stretch however long it lasts, and not a line a second.
    assert len(missed) == 1


def test_a_vital_entry_is_not_paused_by_the_way(swarm: Swarm) -> None:
    refused = swarm.command("schedule", "pause", "settle-orders", "--reason", "why not", expect=6)
    assert "orders or money depend on settle-orders" in refused["error"]["cause"]


def test_a_paused_entry_is_not_sent_until_it_is_resumed(swarm: Swarm, ledger: Ledger) -> None:
    words = ("--reason", "a test", "--for", "1h", "--yes")
    swarm.command("schedule", "pause", "settle-orders", *words)
    assert rows(swarm)["settle-orders"]["state"].endswith(": a test")

    def reasons() -> list[str]:
        return [each.reason for each in ledger.schedules.missed(entry="settle-orders")]

    until(lambda: any(each.endswith(": a test") for each in reasons()), "a slot in the pause", 60)
    assert swarm.command("schedule", "resume", "settle-orders")["data"]["was_paused"]
    until(lambda: reasons()[0] == "no worker runs orders", "beat to send it again", 60)
    assert not swarm.command("schedule", "resume", "settle-orders")["data"]["was_paused"]


@pytest.mark.parametrize("name", ["prune-history", "keep-candles", "check-keys", "report-day"])
def test_what_is_done_once_a_day_can_be_done_now(swarm: Swarm, ledger: Ledger, name: str) -> None:
    message = BY_NAME[name].message
    task_id, now = str(uuid.uuid4()), datetime.now(UTC)
    at = now.timestamp()
    header = {SLOT_HEADER: Slot(name, 0, at, at, at, is_kept=True).to_header()}
    send(swarm.app, message, task_id=task_id, headers=header)

    def outcome() -> str | None:
        run = ledger.schedules.run(task_id)
        return None if run is None else run.outcome

    assert until(outcome, f"{name} to end", 60) == "done"


def test_an_entry_that_is_not_there_is_named_with_the_one_that_may_be_meant(swarm: Swarm) -> None:
    answer = swarm.command("schedule", "run", "settle-order", expect=4)
    assert answer["error"]["cure"] == "did you mean settle-orders?"


def test_two_beats_send_each_slot_once_over_kills_and_jumps_of_the_clock(tmp_path: Path) -> None:
    report = two_beats.run(2, 4, "embedded", tmp_path)
    assert report.failures == []
    assert (report.kills, report.jumps >= 1) == (2, True), report
    assert report.sent["rapid"] > 20
