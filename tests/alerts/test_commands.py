"""`botswarm alert` and `botswarm runbook` as the person on call meets them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from botswarm.alerts.judging import Policy, judge
from botswarm.alerts.spool import Kept, Spool
from botswarm.domain.alert import Episode, Seen, Severity
from botswarm.ledger import migrate
from botswarm.ledger.alerts import Alerts
from botswarm.ledger.schedules import Ended, Schedules
from botswarm.ledger.session import Database
from botswarm.schedule import BY_NAME
from tests.alerts.receivers import Receiver, http_receiver
from tests.command_line import alone, called

Run = Callable[..., tuple[int, dict[str, Any]]]
DOWN = Seen(name="BrokerDown", subject="", severity=Severity.CRITICAL, words="it is down")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    alone(monkeypatch, tmp_path, BOTSWARM_STATE_DIR=str(tmp_path), DATABASE_URL=url)
    return partial(called, capsys)


@pytest.fixture
def alerts(tmp_path: Path) -> Iterator[Alerts]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.migrate(database)
    yield Alerts(database)
    database.close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with http_receiver() as found:
        monkeypatch.setenv("BOTSWARM_NOTIFY_SLACK_URL", f"{found.url}/services/T/B/x")
        monkeypatch.setenv("BOTSWARM_NOTIFY_WEBHOOK_URL", f"{found.url}/in")
        yield found


def begin(alerts: Alerts, policy: Policy | None = None) -> None:
    now = datetime.now(UTC)
    policy = policy or Policy(routes={Severity.CRITICAL: ("slack",)}, channels=("slack",))
    alerts.advance(
        lambda before, silences, events: judge(before, [DOWN], silences, policy, now), now
    )


def test_what_is_wrong_is_listed_with_the_page_to_read_next(run: Run, alerts: Alerts) -> None:
    assert run("alert", "list")[1]["data"] == []
    begin(alerts)
    code, answer = run("alert", "list")
    assert (code, answer["data"][0]["name"], answer["data"][0]["state"]) == (
        *(0, "BrokerDown", "firing"),
    )
    assert answer["next"] == ["botswarm runbook BrokerDown"]
    assert run("alert", "list", "--notices")[1]["data"][0]["channel"] == "slack"


def test_without_the_ledger_the_list_is_what_the_watch_knows_here(run: Run, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    episode = Episode(
        name="DatabaseConnectionFailure",
        subject="",
        severity=Severity.CRITICAL,
        words="gone",
        cure="",
        value="",
        began_at=now,
        seen_at=now,
        fired_at=now,
        told_at=now,
    )
    Spool(tmp_path).write(Kept(episodes=[episode], is_owed=True))
    code, answer = run("alert", "list")
    assert (code, [each["name"] for each in answer["data"]]) == (0, ["DatabaseConnectionFailure"])
    assert "this machine's watch" in answer["warnings"][0]


def test_without_the_ledger_the_watch_here_is_told_who_is_at_it(run: Run, tmp_path: Path) -> None:
    """And the ledger, with what else happened, once it is back."""
    now = datetime.now(UTC)
    spool, policy = Spool(tmp_path), Policy()
    changes = judge([], [DOWN], [], policy, now)
    spool.write(Kept(episodes=list(changes.episodes)))
    with spool.sole_judge():
        pass
    code, answer = run("alert", "ack", "BrokerDown")
    assert (code, "when it is back" in answer["warnings"][0]) == (0, True)
    kept = spool.read()
    assert (kept.is_owed, bool(kept.episodes[0].acknowledged_by)) == (True, True)
    assert run("alert", "list")[1]["data"][0]["state"].startswith("taken by ")
    code, answer = run("alert", "ack", "DiskFilling")
    assert (code, answer["error"]["cure"]) == (4, "see: botswarm alert list")


def test_where_nobody_looks_it_is_not_said_that_nothing_is_wrong(
    run: Run, alerts: Alerts, tmp_path: Path
) -> None:
    code, said = run("alert", "list", is_json=False)
    assert (code, "Nothing is wrong" in said) == (0, False)
    assert "nobody has looked for it yet" in said
    with Spool(tmp_path).sole_judge():
        assert run("alert", "list")[1]["warnings"] == []
    old = datetime.now(UTC) - timedelta(minutes=5)
    os.utime(tmp_path / "alerts.lock", (old.timestamp(), old.timestamp()))
    assert f"since {old:%Y-%m-%d %H:%M:%S}" in run("alert", "list")[1]["warnings"][0]


def test_a_watch_on_another_machine_is_known_by_the_ledger(
    run: Run, alerts: Alerts, tmp_path: Path
) -> None:
    now, entry = datetime.now(UTC), BY_NAME["watch-alerts"].name
    ended = Ended(entry=entry, started_at=now, ended_at=now, outcome="done", result="0")
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    Schedules(database).ended(ended)
    database.close()
    assert run("alert", "list")[1]["warnings"] == []
    said: Any = run("alert", "list", is_json=False)[1]
    assert said == "Nothing is wrong.\n"


def test_whoever_lists_what_is_wrong_is_told_of_silences(run: Run, alerts: Alerts) -> None:
    run("alert", "silence", "all", "--for", "30m", "--reason", "upgrade")
    assert "alert list --silences" in run("alert", "list")[1]["warnings"][0]


def test_who_takes_an_alert_is_named_in_the_list(run: Run, alerts: Alerts) -> None:
    begin(alerts)
    assert run("alert", "ack", "BrokerDown")[0] == 0
    assert run("alert", "list")[1]["data"][0]["state"].startswith("taken by ")
    code, answer = run("alert", "ack", "DiskFilling")
    assert (code, answer["error"]["cure"]) == (4, "see: botswarm alert list")


def test_a_silence_is_listed_and_ended_by_its_number(run: Run, alerts: Alerts) -> None:
    code, answer = run("alert", "silence", "BrokerDown", "--for", "30m", "--reason", "upgrade")
    number = answer["data"]["id"]
    assert (code, answer["next"]) == (0, [f"botswarm alert unsilence {number}"])
    begin(alerts)
    assert run("alert", "list")[1]["data"][0]["state"] == "silent"
    assert run("alert", "list", "--silences")[1]["data"][0]["reason"] == "upgrade"
    assert run("alert", "unsilence", str(number))[0] == 0
    assert run("alert", "list", "--silences")[1]["data"] == []
    assert run("alert", "unsilence", str(number))[0] == 4
    assert run("alert", "unsilence", "9" * 30)[0] == 2
    assert run("alert", "silence", "NoSuchThing", "--reason", "x")[0] == 4


def test_a_test_alert_is_sent_and_received_on_every_channel(run: Run, receiver: Receiver) -> None:
    code, answer = run("alert", "test")
    assert (code, answer["data"]) == (0, {"slack": "told", "webhook": "told"})
    assert {path for path, _, _ in receiver.got} == {"/services/T/B/x", "/in"}
    assert "TestAlert" in json.dumps(receiver.bodies)


def test_a_channel_that_does_not_take_it_is_named_and_the_others_are_told(
    run: Run, receiver: Receiver
) -> None:
    receiver.answers = [403]
    code, answer = run("alert", "test")
    assert code == 5
    assert answer["data"] == {
        "slack": "slack was not told: it answered 403 not today",
        "webhook": "told",
    }


def test_without_a_channel_a_test_alert_says_which_setting_makes_one(run: Run) -> None:
    code, answer = run("alert", "test")
    assert code == 4
    assert "BOTSWARM_NOTIFY_SLACK_URL" in answer["error"]["cure"]
    code, answer = run("alert", "test", "--channel", "slack")
    assert (code, "BOTSWARM_NOTIFY_SLACK_URL" in answer["error"]["cure"]) == (4, True)


def test_every_rule_is_listed_with_who_sees_it(run: Run) -> None:
    found = {each["name"]: each for each in run("alert", "rules")[1]["data"]}
    assert found["DatabaseConnectionFailure"]["has_probe"] is True
    assert found["HighEventLatency"]["expression"].startswith("histogram_quantile(0.95")


def test_a_page_is_printed_whatever_its_case_and_a_wrong_name_is_helped(run: Run) -> None:
    assert run("runbook", "brokerdown")[1]["data"]["text"].startswith("# BrokerDown")
    code, answer = run("runbook", "BrokerDwn")
    assert code == 4
    assert "did you mean BrokerDown" in answer["error"]["cure"]
    assert "The broker cannot be reached" in run("runbook")[1]["data"].values()


def test_the_files_are_written_below_the_folder_that_is_named(run: Run, tmp_path: Path) -> None:
    code, _ = run("alert", "files", str(tmp_path / "made"))
    assert code == 0
    assert (tmp_path / "made/prometheus/rules/feed.yml").exists()
    targets = (tmp_path / "made/prometheus/prometheus.yml").read_text()
    assert '"environment": "production"' in targets
    (tmp_path / "taken").write_text("a file")
    assert run("alert", "files", str(tmp_path / "taken"))[0] == 2


def test_targets_are_of_the_profile_that_is_named(run: Run, tmp_path: Path) -> None:
    assert run("alert", "files", str(tmp_path), "--profile", "staging")[0] == 0
    targets = (tmp_path / "prometheus/prometheus.yml").read_text()
    assert '"environment": "staging"' in targets
    assert "production" not in targets
