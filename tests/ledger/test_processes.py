"""Processes sign in the ledger; while they differ the swarm is not opened, and is held back."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from botswarm.clock import Clock
from botswarm.config import Secret, load
from botswarm.domain.enabling import Plan
from botswarm.domain.permission import TradingState
from botswarm.domain.processes import Process
from botswarm.errors import Refused, Unreachable
from botswarm.health.swarm import Swarm
from botswarm.ledger import risk_events
from botswarm.ledger.halts import SWARM, Cause, Halt
from botswarm.ledger.plain import asking
from botswarm.ledger.presence import Presence
from botswarm.ledger.process_guard import guard
from botswarm.ledger.processes import forget, seen, sign
from botswarm.ledger.store import Ledger
from botswarm.queueing.slots import FileSlots
from tests.ledger.conftest import NOW
from tests.standing import swarm_of
from tests.unit.test_processes import a_process

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED


def url_of(ledger: Ledger) -> Secret:
    return Secret(ledger.database.url.render_as_string(hide_password=False))


def signed(ledger: Ledger, *processes: Process) -> None:
    with asking(url_of(ledger), writes=True) as ask:
        for each in processes:
            sign(ask, each)


def gone(ledger: Ledger, *processes: Process) -> None:
    with asking(url_of(ledger), writes=True) as ask:
        for each in processes:
            forget(ask, each.id)


def found(ledger: Ledger, now: datetime = NOW) -> list[Process]:
    with asking(url_of(ledger)) as ask:
        return seen(ask, now)


def resumed(ledger: Ledger, now: datetime = NOW) -> Halt:
    return ledger.halts.set(SWARM, ACTIVE, reason="go", actor="alice", now=now, is_human=True)


ONE, OTHER = a_process("one"), a_process("other", made_of="bbb", age_s=5)


def test_what_was_signed_is_read_as_it_was_until_it_is_not_heard_of(ledger: Ledger) -> None:
    signed(ledger, ONE)
    signed(ledger, ONE)
    assert found(ledger) == [ONE]
    assert found(ledger, NOW + timedelta(seconds=29)) == [ONE]
    assert found(ledger, NOW + timedelta(seconds=31)) == []
    gone(ledger, ONE)
    assert found(ledger) == []


def test_a_person_cannot_resume_while_processes_differ_and_is_told_which(ledger: Ledger) -> None:
    ledger.halts.set(SWARM, HALTED, reason="stop", actor="alice", now=NOW, is_human=True)
    signed(ledger, ONE, OTHER)
    with pytest.raises(Refused, match=r"other .* runs build bbb, the others aaa") as caught:
        resumed(ledger)
    assert "ps --all" in caught.value.cure
    assert swarm_of(ledger).state is HALTED
    gone(ledger, OTHER)
    assert resumed(ledger).state is ACTIVE


def test_a_swarm_that_is_open_is_not_opened_further_while_processes_differ(ledger: Ledger) -> None:
    def opened(share: int) -> Halt:
        return ledger.halts.set(
            SWARM, ACTIVE, reason="go", actor="alice", now=NOW, is_human=True, share=share
        )

    opened(10)
    signed(ledger, ONE, OTHER)
    with pytest.raises(Refused, match="processes differ"):
        opened(50)
    assert opened(5).share == 5


def test_a_process_that_starts_to_differ_makes_the_swarm_reduce_until_it_is_gone(
    ledger: Ledger,
) -> None:
    signed(ledger, ONE)
    assert guard(ledger.database, NOW) == []
    signed(ledger, OTHER)
    for _ in range(3):
        (difference,) = guard(ledger.database, NOW)
    held = swarm_of(ledger)
    assert (held.state, held.cause) == (REDUCING, Cause.SYSTEM)
    assert difference.words in held.reason
    gone(ledger, OTHER)
    for _ in range(3):
        assert guard(ledger.database, NOW) == []
    assert swarm_of(ledger).state is ACTIVE
    events = ledger.database.read(lambda session: risk_events.since(session, 0, kind="processes"))
    assert [event.severity.value for event in events] == ["breach", "info"]


def test_what_a_person_or_another_rule_holds_is_never_let_go_by_the_guard(ledger: Ledger) -> None:
    signed(ledger, ONE, OTHER)
    guard(ledger.database, NOW)
    ledger.halts.set(SWARM, HALTED, reason="restored", actor="backup", now=NOW, cause=Cause.SYSTEM)
    gone(ledger, OTHER)
    guard(ledger.database, NOW)
    assert swarm_of(ledger).state is HALTED
    ledger.halts.set(SWARM, REDUCING, reason="careful", actor="alice", now=NOW, is_human=True)
    signed(ledger, OTHER)
    guard(ledger.database, NOW)
    gone(ledger, OTHER)
    guard(ledger.database, NOW)
    assert (swarm_of(ledger).state, swarm_of(ledger).actor) == (REDUCING, "alice")


class Later(Clock):
    """Each look is a minute after the last."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def test_a_process_signs_again_and_again_and_says_goodbye(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    url = url_of(ledger).reveal().replace("+psycopg2", "")
    environ = {"BOTSWARM_DATABASE_URL": url, "BOTSWARM_STRATEGIES_DIR": str(folder)}
    settings, clock = load(environ=environ, folder=tmp_path).settings, Later()
    presence = Presence(settings, "worker", "w@here", True, clock, every_s=0.01)
    presence.begin()
    deadline = time.monotonic() + 30
    while not (first := found(ledger, clock.at)) and time.monotonic() < deadline:
        time.sleep(0.01)
    (folder / "mine.py").write_text("x = 1\n")
    while time.monotonic() < deadline:
        (now,) = found(ledger, clock.at) or first
        if now.made.strategies != first[0].made.strategies:
            break
        time.sleep(0.01)
    assert now.made.strategies != first[0].made.strategies
    assert now.changed_at > first[0].changed_at
    assert now.started_at == first[0].started_at
    presence.end()
    assert found(ledger, clock.at) == []


def test_a_ledger_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    url = Secret(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(Unreachable, match="there is no ledger"), asking(url, writes=True):
        pass


class At(Clock):
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def test_the_swarms_health_tells_of_builds_of_shares_and_of_nobody_looking(
    ledger: Ledger, tmp_path: Path
) -> None:
    url = url_of(ledger).reveal().replace("+psycopg2", "")
    settings = load(environ={"BOTSWARM_DATABASE_URL": url}, folder=tmp_path).settings
    clock = At(NOW)
    health = Swarm(settings, FileSlots(tmp_path), {}, clock)

    def told() -> list[tuple[str, str]]:
        health._look_at_ledger()
        looks = (health.builds, health.trading, health.enabling)
        return [(found.status or "", found.words) for found in (look() for look in looks)]

    assert told() == [
        ("ok", "0 processes are made of the same"),
        ("ok", "active"),
        ("ok", "nothing opens step by step"),
    ]
    plan = Plan(stages=(25, 100), hold=timedelta(minutes=1))
    ledger.enablings.begin(plan, actor="alice", reason="monday", now=NOW)
    signed(ledger, ONE, OTHER)
    builds, trading, enabling = told()
    assert builds[0] == "warn"
    assert "other (pid 7 on here) runs build bbb" in builds[1]
    assert trading == ("ok", "active, for 25 % of the bots")
    assert enabling[1] == "looked at 0 s ago"
    clock.at = NOW + timedelta(seconds=25)
    assert told()[2][1] == "looked at 25 s ago"
