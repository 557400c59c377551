"""Rounds of the watch with a ledger that comes and goes, and channels that refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.alerts import channels, looking, policy
from botswarm.alerts.channels import Channel
from botswarm.alerts.night import sees_well
from botswarm.alerts.patience import Patience
from botswarm.alerts.spool import Spool
from botswarm.alerts.watch import GIVE_UP_AFTER, Watch
from botswarm.clock import StoppedClock
from botswarm.config import load
from botswarm.domain.alert import Seen, Severity
from botswarm.errors import Unreachable
from botswarm.ledger import migrate, risk_events
from botswarm.ledger.alerts import Alerts, Standing
from botswarm.ledger.risk_events import RiskEvent
from botswarm.ledger.session import Database
from botswarm.testing.servers import wait_until
from tests.alerts.receivers import Receiver, http_receiver

DOWN = Seen(name="BrokerDown", subject="", severity=Severity.CRITICAL, words="it is down")
LOST = Seen(name="DatabaseConnectionFailure", subject="", severity=Severity.CRITICAL, words="gone")


class Night:
    """A watch over what the test says is so, with a ledger that the test takes away."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        self.path = folder / "ledger.db"
        self.database = Database(f"sqlite:///{self.path}")
        migrate.migrate(self.database)
        self.alerts = Alerts(self.database)
        self.seen: list[Seen] = []
        self.clock = StoppedClock(datetime(2026, 3, 4, 12, 0, tzinfo=UTC))
        settings = load(
            environ={
                "BOTSWARM_STATE_DIR": str(folder),
                "BOTSWARM_NOTIFY_WEBHOOK_URL": f"{receiver.url}/in",
            }
        ).settings
        self.channels = dict(channels.of(settings))
        self.watch = Watch(
            alerts=self.alerts,
            spool=Spool(folder),
            look=lambda: list(self.seen),
            read=looking.read,
            policy=policy.of(settings, {}),
            channels=self.channels,
            source="here",
            clock=self.clock,
        )

    def take_the_ledger_away(self) -> None:
        self.database.close()
        self.path.rename(self.folder / "elsewhere.db")

    def bring_it_back(self) -> None:
        (self.folder / "elsewhere.db").rename(self.path)

    def round(self, after_s: float = 5) -> None:
        self.clock.advance(after_s)
        assert self.watch.round().is_judged

    @property
    def told(self) -> list[tuple[str, str]]:
        return [
            (each["kind"], each["name"])
            for body in self.receiver.bodies
            for each in body["notices"]
        ]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with http_receiver() as receiver:
        night = Night(tmp_path, receiver)
        yield night
        night.database.close()


def test_what_is_wrong_is_told_once_and_so_is_its_end(night: Night) -> None:
    night.seen = [DOWN]
    for _ in range(5):
        night.round()
    assert night.told == [("fired", "BrokerDown")]
    night.seen = []
    night.round(after_s=60)
    assert night.told == [("fired", "BrokerDown"), ("ended", "BrokerDown")]


def test_a_quiet_night_writes_nothing(night: Night) -> None:
    night.round()
    with night.database.connection() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        for _ in range(3):
            night.round()
        assert connection.exec_driver_sql("PRAGMA data_version").scalar_one() == before


def test_the_swarm_is_up_while_the_ledger_is_there_and_no_outage_is_told(night: Night) -> None:
    halted = Seen(
        name="TradingLossesExceedLimit", subject="", severity=Severity.CRITICAL, words="enough"
    )
    soon = replace(DOWN, for_s=60)
    for seen, is_up in (([halted], True), ([soon], True), ([DOWN], False), ([], True)):
        night.seen = seen
        night.clock.advance(100)
        assert sees_well(night.watch.round()) is is_up, seen
    night.take_the_ledger_away()
    night.clock.advance(100)
    assert not sees_well(night.watch.round())


def test_each_change_of_the_configuration_is_told_where_news_go(night: Night) -> None:
    def changed(words: str) -> None:
        event = RiskEvent(
            at=night.clock.now(),
            scope="swarm",
            kind="configuration",
            severity=risk_events.Severity.INFO,
            words=words,
        )
        night.database.write(lambda session: risk_events.note(session, event))

    for words in ("a: 1 -> 2", "b: 1 -> 2"):
        changed(words)
        for _ in range(3):
            night.round()
    assert night.told == [("fired", "ConfigurationChanged")] * 2
    notices = [each for body in night.receiver.bodies for each in body["notices"]]
    assert [each["words"] for each in notices] == ["a: 1 -> 2", "b: 1 -> 2"]
    assert {each["severity"] for each in notices} == {"info"}


def test_a_channel_that_refuses_is_told_later_and_nothing_is_lost(night: Night) -> None:
    night.receiver.answers = [500, 500]
    night.seen = [DOWN]
    night.round()
    assert night.told == []
    night.round(after_s=10)
    assert night.told == []
    night.round(after_s=20)
    assert night.told == [("fired", "BrokerDown")]


@pytest.mark.parametrize("with_ledger", [True, False])
def test_a_channel_that_does_not_answer_is_tried_once_a_round_whatever_waits_for_it(
    night: Night, with_ledger: bool
) -> None:
    """Each try may take ten seconds, and somebody else waits to be told of a fire."""
    night.channels["webhook"] = replace(night.channels["webhook"], at_once_max=1)
    if not with_ledger:
        night.take_the_ledger_away()
    night.seen = [replace(DOWN, subject=name) for name in ("a", "b", "c")]
    night.receiver.answers = [500] * 3
    night.round()
    assert len(night.receiver.answers) == 2
    night.receiver.answers = []
    night.round()
    assert len(night.told) == 2
    night.round(after_s=10)
    assert len(night.told) == 3


def test_after_days_of_refusal_a_notice_stays_in_the_list_with_its_reason(night: Night) -> None:
    night.receiver.answers = [500] * 2000
    night.seen = [DOWN]
    night.round()
    night.seen = []
    night.round(after_s=GIVE_UP_AFTER.total_seconds() + 60)
    night.round(after_s=GIVE_UP_AFTER.total_seconds() + 60)
    notices = night.alerts.notices(waiting=True, limit=10)
    assert {each.gave_up_at is not None for each in notices} == {True}
    assert all("it answered 500 not today" in each.error for each in notices)


def test_without_the_ledger_it_is_told_all_the_same_and_the_ledger_hears_of_it_later(
    night: Night,
) -> None:
    night.seen = [DOWN]
    night.round()
    night.take_the_ledger_away()
    night.seen = [DOWN, LOST]
    for _ in range(3):
        night.round()
    assert night.told == [("fired", "BrokerDown"), ("fired", "DatabaseConnectionFailure")]
    night.bring_it_back()
    night.seen = []
    night.round(after_s=60)
    assert night.told[2:] == [("ended", "BrokerDown"), ("ended", "DatabaseConnectionFailure")]
    assert night.alerts.open() == []
    names = {
        each.name for each in night.alerts.history(since=datetime.min.replace(tzinfo=UTC), limit=9)
    }
    assert names == {"BrokerDown", "DatabaseConnectionFailure"}
    kept = night.alerts.notices(waiting=False, limit=10)
    assert len(kept) == 4
    assert all(each.sent_at for each in kept)


def test_what_ends_while_the_ledger_is_away_is_told_and_ended(night: Night) -> None:
    night.seen = [DOWN]
    night.round()
    night.take_the_ledger_away()
    night.seen = []
    night.round(after_s=60)
    assert night.told == [("fired", "BrokerDown"), ("ended", "BrokerDown")]
    night.bring_it_back()
    night.round()
    assert night.alerts.open() == []
    assert night.told == [("fired", "BrokerDown"), ("ended", "BrokerDown")]


def test_without_ledger_and_channel_the_notice_waits_in_the_folder(night: Night) -> None:
    night.round()
    night.take_the_ledger_away()
    night.receiver.answers = [500]
    night.seen = [LOST]
    night.round()
    assert night.told == []
    kept = json.loads((night.folder / "alerts.json").read_text())
    assert kept["notices"][0]["attempts"] == 1
    night.bring_it_back()
    night.seen = []
    night.round(after_s=60)
    assert night.told == [("fired", "DatabaseConnectionFailure"), ("ended", LOST.name)]


def test_a_breach_of_a_limit_is_told_from_its_event(night: Night) -> None:
    night.round()
    event = RiskEvent(
        at=night.clock.now(),
        scope="account:binance:main",
        kind="daily_loss",
        severity=risk_events.Severity.BREACH,
        words="lost 600 of 500 USDT today",
    )
    night.database.write(lambda session: risk_events.note(session, event, event))
    night.round()
    night.round()
    assert night.told == [("fired", "TradingLossesExceedLimit")]
    assert night.receiver.bodies[0]["notices"][0]["words"] == "lost 600 of 500 USDT today"


def test_a_file_that_cannot_be_read_is_kept_and_said(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    (night.folder / "alerts.json").write_text("{half")
    night.round()
    assert "cannot be read" in caplog.text
    assert (night.folder / "alerts.unreadable").read_text() == "{half"


def test_while_one_judges_another_leaves_it_to_it(night: Night) -> None:
    inner: list[bool] = []
    watch: Watch = night.watch
    original: Callable[[], object] = watch._look

    def look() -> list[Seen]:
        if not inner:
            inner.append(True)
            inner.append(watch.round().is_judged)
        original()
        return []

    watch._look = look
    night.round()
    assert inner == [True, False]


def test_a_channel_is_never_told_while_the_rounds_are_held_up_by_it(night: Night) -> None:
    """A hanging channel holds no lock: another round judges meanwhile."""
    judged: list[bool] = []

    def hang(*_: object) -> None:
        judged.append(night.watch.round().is_judged)
        raise Unreachable("it hangs", cure="")

    slow = Channel("webhook", night.watch._channels["webhook"].address, hang)
    night.watch._channels = {"webhook": slow}
    night.seen = [DOWN]
    night.round()
    assert judged == [True]


def test_a_ledger_that_hangs_holds_nobody_up_and_is_asked_again_once_it_answers(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.round()
    thawed = threading.Event()
    asked: list[str] = []
    standing = night.alerts.standing

    def frozen() -> Standing:
        asked.append("once")
        thawed.wait(60)
        return standing()

    monkeypatch.setattr(night.alerts, "standing", frozen)
    night.watch._ledger = Patience(0.2)
    night.seen = [LOST]
    night.round()
    night.round()
    assert night.told == [("fired", "DatabaseConnectionFailure")]
    assert asked == ["once"]
    thawed.set()
    monkeypatch.setattr(night.alerts, "standing", standing)
    night.watch._ledger._limit_s = 60
    night.seen = []
    wait_until(lambda: night.watch._ledger.is_free, "the ledger to be free", 60)
    night.round(after_s=60)
    assert night.told[1:] == [("ended", "DatabaseConnectionFailure")]
    assert night.alerts.open() == []
