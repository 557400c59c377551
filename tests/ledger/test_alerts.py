"""Alerts in the ledger: judged one after the other, and no notice told twice or lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.alerts.judging import Changes, Policy, judge
from botswarm.domain.alert import Episode, Notice, NoticeKind, Seen, Severity, Silence
from botswarm.errors import NotFound
from botswarm.ledger import risk_events
from botswarm.ledger.alert_models import AlertCursorRow
from botswarm.ledger.alerts import CLAIMED_FOR, Alerts, Judge
from botswarm.ledger.models import AuditRow
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW

POLICY = Policy(routes=dict.fromkeys(Severity, ("slack",)), channels=("slack",))
DOWN = Seen(name="BrokerDown", subject="", severity=Severity.CRITICAL, words="it is down")


@pytest.fixture
def alerts(ledger: Ledger) -> Alerts:
    return Alerts(ledger.database)


def judged(*seen: Seen, heard: list[int] | None = None, now: datetime = NOW) -> Judge[Changes]:
    def work(
        before: Sequence[Episode], silences: Sequence[Silence], events: Sequence[RiskEvent]
    ) -> Changes:
        if heard is not None:
            heard.extend(each.id or 0 for each in events)
        return judge(before, seen, silences, POLICY, now)

    return work


def event(kind: str = "position") -> RiskEvent:
    return RiskEvent(
        at=NOW, scope="bot:alpha", kind=kind, severity=risk_events.Severity.BREACH, words="too much"
    )


def test_an_alert_is_kept_from_its_beginning_to_its_end(alerts: Alerts) -> None:
    alerts.advance(judged(DOWN), NOW)
    assert [(each.name, each.fired_at) for each in alerts.open()] == [("BrokerDown", NOW)]
    later = NOW + timedelta(minutes=1)
    alerts.advance(judged(now=later), later)
    assert alerts.open() == []
    assert [each.ended_at for each in alerts.history(since=NOW, limit=10)] == [later]


def test_many_who_judge_at_once_begin_it_once_and_tell_it_once(alerts: Alerts) -> None:
    threads = [threading.Thread(target=lambda: alerts.advance(judged(DOWN), NOW)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alerts.open()) == 1
    assert [each.kind for each in alerts.notices(waiting=True, limit=10)] == [NoticeKind.FIRED]


def test_a_notice_is_handed_to_one_and_to_another_only_when_that_one_died(alerts: Alerts) -> None:
    alerts.advance(judged(DOWN), NOW)
    first = alerts.claim(NOW, channels=["slack"])
    assert [each.name for each in first] == ["BrokerDown"]
    assert alerts.claim(NOW, channels=["slack"]) == []
    again = alerts.claim(NOW + CLAIMED_FOR, channels=["slack"])
    assert [each.id for each in again] == [each.id for each in first]


def test_what_was_told_is_not_told_again_and_what_was_not_comes_back(alerts: Alerts) -> None:
    notices = [_notice("a"), _notice("b")]
    first, second = alerts.add(notices)
    assert len(alerts.claim(NOW, channels=["slack"])) == 2
    later = NOW + timedelta(minutes=10)
    alerts.sent([first], NOW)
    alerts.failed([second], "it answered 500", later, NOW)
    assert alerts.claim(NOW + timedelta(minutes=9), channels=["slack"]) == []
    found = alerts.claim(later, channels=["slack"])
    assert [(each.id, each.attempts, each.error) for each in found] == [
        (second, 1, "it answered 500")
    ]
    assert alerts.waiting() == {"slack": 1}


def test_a_channel_without_an_address_keeps_its_notices(alerts: Alerts) -> None:
    alerts.add([_notice("a")])
    assert alerts.claim(NOW, channels=["email"]) == []
    assert len(alerts.claim(NOW, channels=["slack"])) == 1


def test_every_event_of_risk_is_read_once(ledger: Ledger, alerts: Alerts) -> None:
    heard: list[int] = []
    assert alerts.standing().has_events
    alerts.advance(judged(heard=heard), NOW)
    for number in range(3):
        ledger.database.write(lambda session: risk_events.note(session, event()))
        assert alerts.standing().has_events
        alerts.advance(judged(heard=heard), NOW)
        assert len(heard) == number + 1
    assert not alerts.standing().has_events


def test_an_event_that_becomes_visible_late_is_read_all_the_same(
    ledger: Ledger, alerts: Alerts
) -> None:
    heard: list[int] = []
    ledger.database.write(lambda session: risk_events.note(session, event(), event(), event()))
    alerts.advance(judged(heard=heard), NOW)
    assert len(heard) == 3

    def hide_the_middle_one(session: Session) -> None:
        cursor = session.get_one(AlertCursorRow, "risk_events")
        cursor.known = [cursor.known[0], cursor.known[2]]

    ledger.database.write(hide_the_middle_one)
    assert alerts.standing().has_events
    alerts.advance(judged(heard=heard), NOW)
    assert heard[3:] == [heard[1]]


def test_a_silence_holds_until_it_ends_or_is_ended_and_is_audited(
    ledger: Ledger, alerts: Alerts
) -> None:
    silence = Silence(
        name="BrokerDown",
        subject="",
        at=NOW,
        until=NOW + timedelta(hours=1),
        actor="ada",
        reason="x",
    )
    kept = alerts.silence(silence)
    alerts.advance(judged(DOWN), NOW)
    assert alerts.notices(waiting=True, limit=10) == []
    assert kept.id is not None
    alerts.unsilence(kept.id, actor="ada", now=NOW + timedelta(minutes=1))
    assert alerts.silences(NOW + timedelta(minutes=2)) == []
    with pytest.raises(NotFound, match="no silence"):
        alerts.unsilence(kept.id, actor="ada", now=NOW + timedelta(minutes=2))
    said = ledger.database.read(lambda session: session.scalars(select(AuditRow.action)).all())
    assert {"alert.silence", "alert.unsilence"} <= set(said)


def test_who_is_at_it_is_written_down(alerts: Alerts) -> None:
    alerts.advance(judged(DOWN), NOW)
    alerts.acknowledge("BrokerDown", None, actor="ada", now=NOW)
    assert [each.acknowledged_by for each in alerts.open()] == ["ada"]
    with pytest.raises(NotFound, match="no alert Other is open"):
        alerts.acknowledge("Other", None, actor="ada", now=NOW)


def test_what_happened_without_the_ledger_is_taken_over_once_it_is_back(alerts: Alerts) -> None:
    alerts.advance(judged(DOWN), NOW)
    known = alerts.open()[0]
    later = NOW + timedelta(minutes=5)
    new = replace(known, id=None, name="DatabaseConnectionFailure", began_at=NOW, ended_at=later)
    told = replace(_notice("DatabaseConnectionFailure"), sent_at=NOW)
    alerts.take_over([replace(known, ended_at=later), new], [told])
    assert alerts.open() == []
    assert {each.name for each in alerts.history(since=NOW, limit=10)} == {
        *("BrokerDown", "DatabaseConnectionFailure")
    }
    assert [each.name for each in alerts.notices(waiting=True, limit=10)] == ["BrokerDown"]


def test_what_is_over_for_months_goes(alerts: Alerts) -> None:
    alerts.advance(judged(DOWN), NOW)
    alerts.advance(judged(now=NOW + timedelta(minutes=1)), NOW + timedelta(minutes=1))
    assert alerts.prune(NOW + timedelta(days=30)) == 0
    assert alerts.prune(NOW + timedelta(days=100)) == 3


def _notice(name: str) -> Notice:
    return Notice(
        kind=NoticeKind.FIRED,
        channel="slack",
        severity=Severity.CRITICAL,
        name=name,
        subject="",
        words="it is down",
        cure="",
        value="",
        at=NOW,
        due_at=NOW,
        began_at=NOW,
    )
