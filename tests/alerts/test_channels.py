"""What each channel is sent, and what counts as told."""

from __future__ import annotations

import email
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botswarm.alerts import channels, policy
from botswarm.alerts.channels import Channel
from botswarm.config import Settings, load
from botswarm.domain.alert import Notice, NoticeKind, Severity
from botswarm.errors import Unreachable
from botswarm.testing.servers import free_port
from tests.alerts.receivers import Receiver, http_receiver, mail_receiver

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
NOTICE = Notice(
    kind=NoticeKind.FIRED,
    channel="slack",
    severity=Severity.CRITICAL,
    name="BrokerDown",
    subject="",
    words="the broker does not answer",
    cure="botswarm doctor --only broker",
    value="",
    at=NOW,
    due_at=NOW,
    began_at=NOW,
    id=7,
)
OVER = replace(NOTICE, kind=NoticeKind.ENDED)


def settings(tmp_path: Path, **variables: str) -> Settings:
    given = {f"BOTSWARM_NOTIFY_{name.upper()}": value for name, value in variables.items()}
    return load(environ={**given, "BOTSWARM_STATE_DIR": str(tmp_path)}).settings


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as found:
        yield found


def channel(tmp_path: Path, name: str, url: str) -> Channel:
    return channels.of(settings(tmp_path, **{f"{name}_url": url}))[name]


def test_only_channels_with_an_address_are_there(tmp_path: Path) -> None:
    assert set(channels.of(settings(tmp_path))) == set()
    found = channels.of(settings(tmp_path, webhook_url="https://example.org/in"))
    assert set(found) == {"webhook"}


def test_slack_is_told_in_words_what_to_do_and_where_to_read_on(
    tmp_path: Path, receiver: Receiver
) -> None:
    channel(tmp_path, "slack", f"{receiver.url}/services/T/B/x").tell([NOTICE], "swarm-1")
    (path, _, body), *_ = receiver.got
    assert path == "/services/T/B/x"
    assert "botswarm swarm-1" in body["text"]
    assert "[critical] BrokerDown: the broker does not answer" in body["text"]
    assert "do: botswarm doctor --only broker" in body["text"]
    assert "botswarm runbook BrokerDown" in body["text"]


def test_a_storm_is_one_message_with_the_worst_first(tmp_path: Path, receiver: Receiver) -> None:
    minor = [replace(NOTICE, name=f"Minor{n}", severity=Severity.WARNING, id=n) for n in range(40)]
    slack = channel(tmp_path, "slack", f"{receiver.url}/x")
    slack.tell([*minor, NOTICE], "swarm-1")
    assert len(receiver.got) == 1
    lines = receiver.bodies[0]["text"].splitlines()
    assert lines[1].startswith("[critical] BrokerDown")
    assert lines[-1] == "and 11 more: botswarm alert list"


def test_telegram_is_told_in_the_chat_of_the_address(tmp_path: Path, receiver: Receiver) -> None:
    url = f"{receiver.url}/bot12:secret/sendMessage?chat_id=-100"
    channel(tmp_path, "telegram", url).tell([NOTICE], "swarm-1")
    (path, _, body), *_ = receiver.got
    assert (path, body["chat_id"]) == ("/bot12:secret/sendMessage", "-100")
    assert "BrokerDown" in body["text"]


def test_pagerduty_opens_an_incident_and_resolves_the_same_one(
    tmp_path: Path, receiver: Receiver
) -> None:
    url = f"{receiver.url}/v2/enqueue?routing_key=k123"
    pagerduty = channel(tmp_path, "pagerduty", url)
    assert pagerduty.at_once_max == 1
    pagerduty.tell([NOTICE], "swarm-1")
    pagerduty.tell([OVER], "swarm-1")
    opened, resolved = receiver.bodies
    assert (opened["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == resolved["dedup_key"]
    assert opened["routing_key"] == "k123"
    assert opened["payload"]["severity"] == "critical"
    assert "k123" not in receiver.got[0][0]


def test_a_webhook_gets_everything_as_facts_and_the_user_of_its_address(
    tmp_path: Path, receiver: Receiver
) -> None:
    url = receiver.url.replace("//", "//ada:pass%20word@") + "/in"
    channel(tmp_path, "webhook", url).tell([NOTICE, OVER], "swarm-1")
    (_, headers, body), *_ = receiver.got
    assert headers["Authorization"] == "Basic YWRhOnBhc3Mgd29yZA=="
    assert [each["kind"] for each in body["notices"]] == ["fired", "ended"]
    assert body["notices"][0]["severity"] == "critical"
    assert body["notices"][0]["began_at"] == NOW.isoformat()


def test_email_goes_to_all_receivers_with_the_worst_in_its_subject(tmp_path: Path) -> None:
    with mail_receiver() as box:
        url = f"smtp://u:p@127.0.0.1:{box.port}/?from=swarm@example.org&to=a@example.org,b@example.org"
        channel(tmp_path, "email", url).tell([NOTICE, OVER], "swarm-1")
    mail = email.message_from_string(box.mails[0])
    assert mail["Subject"] == "[critical] BrokerDown and 1 more - botswarm swarm-1"
    assert mail["To"] == "a@example.org, b@example.org"
    assert [line for line in box.said if line.startswith("rcpt")] == [
        *("rcpt TO:<a@example.org>", "rcpt TO:<b@example.org>")
    ]
    assert any(line.startswith("AUTH PLAIN") for line in box.said)


@pytest.mark.parametrize("code", [301, 400, 404, 429, 500])
def test_what_was_not_taken_is_not_told(tmp_path: Path, receiver: Receiver, code: int) -> None:
    receiver.answers = [code]
    slack = channel(tmp_path, "slack", f"{receiver.url}/services/T/B/verysecretpart")
    with pytest.raises(Unreachable, match=f"it answered {code}") as caught:
        slack.tell([NOTICE], "swarm-1")
    assert "verysecret" not in str(caught.value)


def test_nobody_there_is_said_as_such(tmp_path: Path) -> None:
    webhook = channel(tmp_path, "webhook", f"http://127.0.0.1:{free_port()}/in")
    with pytest.raises(Unreachable, match="webhook was not told: Connection refused"):
        webhook.tell([NOTICE], "swarm-1")


def test_routes_name_channels_by_severity_and_leave_out_those_without_an_address(
    tmp_path: Path,
) -> None:
    found = policy.of(
        settings(
            tmp_path,
            slack_url="https://hooks.slack.com/services/T/B/x",
            webhook_url="https://example.org/in",
            routes="critical=all,warning=none",
        ),
        {},
    )
    assert found.routes == {
        Severity.CRITICAL: ["slack", "webhook"],
        Severity.HIGH: ["slack", "webhook"],
        Severity.WARNING: [],
        Severity.INFO: ["webhook"],
    }
