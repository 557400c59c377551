"""A changed configuration is told once, in an event and in the audit, however often looked."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from botswarm.config import load
from botswarm.domain.configuration import EVERYWHERE
from botswarm.ledger import known_settings, own_settings, risk_events
from botswarm.ledger.control_models import KnownSettingsRow
from botswarm.ledger.models import AuditRow
from botswarm.ledger.plain import asking
from botswarm.ledger.presence import Presence
from botswarm.ledger.processes import owned, sign
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import wait_until
from tests.ledger.conftest import NOW
from tests.ledger.test_processes import At, gone, signed, url_of
from tests.unit.test_processes import SETTINGS, a_process

LIMIT = "limit_order_notional_max"
POORER = {**SETTINGS, LIMIT: "100"}


def noted(ledger: Ledger, now: datetime = NOW, times: int = 3) -> Sequence[str]:
    return [each.words for _ in range(times) for each in known_settings.note(ledger.database, now)]


def events(ledger: Ledger) -> Sequence[RiskEvent]:
    return ledger.database.read(
        lambda session: risk_events.since(session, 0, kind=known_settings.KIND)
    )


def signed_with(ledger: Ledger, name: str, own: Mapping[str, str]) -> None:
    with asking(url_of(ledger), writes=True) as ask:
        sign(ask, a_process(name), own)


def test_a_swarm_that_was_started_otherwise_is_told_once_and_not_by_each_process(
    ledger: Ledger,
) -> None:
    before = [a_process(f"old{n}") for n in range(3)]
    signed(ledger, *before)
    assert noted(ledger) == []
    gone(ledger, *before)
    assert noted(ledger) == [], "a swarm that is stopped has no other settings"
    signed(ledger, *(a_process(f"new{n}", settings=POORER) for n in range(3)))
    assert noted(ledger) == [f"{LIMIT}: 500 -> 100"]
    (event,) = events(ledger)
    assert event.words == f"the configuration has changed: {LIMIT}: 500 -> 100"
    (row,) = ledger.database.read(
        lambda session: session.scalars(
            select(AuditRow).where(AuditRow.action == known_settings.ACTION)
        ).all()
    )
    assert (row.before, row.after) == ({LIMIT: "500"}, {LIMIT: "100"})


def test_while_one_process_after_the_other_is_started_anew_nothing_is_told_until_the_last(
    quick_ledger: Ledger,
) -> None:
    old, new = a_process("old"), a_process("new", settings=POORER)
    signed(quick_ledger, old)
    noted(quick_ledger)
    signed(quick_ledger, new)
    assert noted(quick_ledger) == []
    gone(quick_ledger, old)
    assert noted(quick_ledger) == [f"{LIMIT}: 500 -> 100"]


def test_a_change_and_its_return_are_two_events(quick_ledger: Ledger) -> None:
    for turn, settings in enumerate((SETTINGS, POORER, SETTINGS)):
        each = a_process(f"p{turn}", settings=settings)
        signed(quick_ledger, each)
        noted(quick_ledger)
        gone(quick_ledger, each)
    assert [each.words[-10:] for each in events(quick_ledger)] == ["500 -> 100", "100 -> 500"]


def test_another_build_is_a_change(quick_ledger: Ledger) -> None:
    signed(quick_ledger, one := a_process("one"))
    noted(quick_ledger)
    gone(quick_ledger, one)
    signed(quick_ledger, a_process("two", made_of="bbb"))
    assert noted(quick_ledger) == ["build: aaa -> bbb"]


def test_what_a_machine_has_set_for_itself_is_told_with_its_name_and_no_secret(
    ledger: Ledger,
) -> None:
    signed_with(ledger, "one", {"log_level": "info", "redis_url": "a secret (12345678)"})
    noted(ledger)
    gone(ledger, a_process("one"))
    signed_with(ledger, "two", {"log_level": "debug", "redis_url": "a secret (87654321)"})
    signed(ledger, a_process("two"))
    assert noted(ledger) == ["log_level: info -> debug", "redis_url changed"]
    (event,) = events(ledger)
    assert "8765" not in str(event)


def test_machines_that_are_gone_for_long_are_forgotten_and_the_swarm_is_not(
    quick_ledger: Ledger,
) -> None:
    def places() -> set[str]:
        rows = select(KnownSettingsRow.place)
        return set(quick_ledger.database.read(lambda session: session.scalars(rows).all()))

    signed_with(quick_ledger, "one", {"log_level": "info"})
    noted(quick_ledger)
    assert places() == {EVERYWHERE, "here"}
    gone(quick_ledger, a_process("one"))
    later = NOW + timedelta(days=91)
    other = replace(a_process("two", settings=POORER), host="there", started_at=NOW, seen_at=later)
    with asking(url_of(quick_ledger), writes=True) as ask:
        sign(ask, other, {"log_level": "debug"})
    assert noted(quick_ledger, later) == [f"{LIMIT}: 500 -> 100", "log_level: info -> debug"]
    assert places() == {EVERYWHERE, "there"}


def test_a_process_says_once_what_it_has_set_and_it_stays_with_its_line(
    quick_ledger: Ledger, tmp_path: Path
) -> None:
    url = url_of(quick_ledger).reveal()
    environ = {"BOTSWARM_DATABASE_URL": url, "BOTSWARM_STATE_DIR": str(tmp_path / "state")}
    settings = load(environ=environ, folder=tmp_path).settings
    presence = Presence(settings, "worker", "w@here", clock=At(NOW), every_s=0.01)
    presence.begin()
    wait_until(lambda: said(quick_ledger) != [], "it signs", timeout_s=30)
    for _ in range(3):
        presence.sign()
    (own,) = said(quick_ledger)
    assert own["history_days_kept"] == "90"
    assert LIMIT not in own
    presence.end()
    assert said(quick_ledger) == []


def said(ledger: Ledger) -> list[Mapping[str, str]]:
    with asking(url_of(ledger)) as ask:
        return list(owned(ask, NOW).values())


def test_a_key_is_made_once_for_a_machine_and_is_its_owners_alone(tmp_path: Path) -> None:
    environ = {
        "BOTSWARM_STATE_DIR": str(tmp_path / "state"),
        "BOTSWARM_REDIS_URL": "redis://cache.example:6379/0",
    }
    settings = load(environ=environ, folder=tmp_path).settings
    first = own_settings.own(settings)
    assert first["redis_url"].startswith("a secret (")
    assert own_settings.own(settings) == first
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.unlink()
    assert own_settings.own(settings)["redis_url"] != first["redis_url"]


def test_a_state_folder_that_cannot_be_used_tells_nothing_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    settings = load(environ={"BOTSWARM_STATE_DIR": str(folder)}, folder=tmp_path).settings
    folder.write_text("")
    assert own_settings.own(settings) == {}
    folder.unlink()
    own_settings.own(settings)
    (folder / own_settings.KEY_FILE).write_bytes(b"")
    assert own_settings.own(settings) == {}
    assert "is no key: delete it" in caplog.text


def test_a_swarm_that_is_starting_is_judged_when_it_has_settled(quick_ledger: Ledger) -> None:
    signed(quick_ledger, one := a_process("one"))
    noted(quick_ledger)
    gone(quick_ledger, one)
    signed(quick_ledger, a_process("two", settings=POORER, age_s=44))
    assert noted(quick_ledger) == []
    assert noted(quick_ledger, NOW + timedelta(seconds=1)) == [f"{LIMIT}: 500 -> 100"]
