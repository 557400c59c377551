"""What all processes have set otherwise than before is a change; what only some have is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from botswarm.alerts import looking
from botswarm.config import load
from botswarm.config.alike import alike, others
from botswarm.config.table import BY_NAME
from botswarm.domain.configuration import EVERYWHERE, SETTLES, agreed, changes, in_words
from botswarm.ledger.risk_events import RiskEvent, Severity
from tests.unit.test_processes import NOW, a_process

KEY = b"of this machine"


def said(*values: str, age_s: int = 60) -> Mapping[str, Mapping[str, str]]:
    """Of processes that have so much as their limit."""
    made = [
        a_process(f"p{number}", settings={"limit": value}, age_s=age_s)
        for number, value in enumerate(values)
    ]
    return agreed(made, {"p0": {"log_level": "info"}}, NOW)


def test_what_all_have_is_what_is_set_for_the_swarm_and_for_the_machine() -> None:
    assert said("500", "500") == {
        EVERYWHERE: {"limit": "500", "version": "1", "build": "aaa", "log_level": "info"},
        "here": {"log_level": "info"},
    }


def test_what_only_some_have_is_not_set_yet() -> None:
    assert said("500", "900")[EVERYWHERE] == {
        "version": "1",
        "build": "aaa",
        "log_level": "info",
    }


def test_while_processes_start_nothing_is_said() -> None:
    young = SETTLES - timedelta(seconds=1)
    assert said("500", age_s=int(young.total_seconds())) == {}


def test_a_change_names_the_setting_what_it_was_and_what_it_is() -> None:
    known = {"here": {"log_level": "debug"}, EVERYWHERE: {"limit": "900", "build": "aaa"}}
    found = changes(known, said("500"), ())
    assert in_words(found) == "limit: 900 -> 500; log_level (on here): debug -> info"


def on_two_machines(first: str, second: str) -> Mapping[str, Mapping[str, str]]:
    there = [replace(a_process("p0"), host="a1"), replace(a_process("p1"), host="a2")]
    return agreed(there, {"p0": {"log_level": first}, "p1": {"log_level": second}}, NOW)


def test_what_changed_on_one_machine_is_told_with_its_name_and_what_changed_on_all_once() -> None:
    known = on_two_machines("info", "info")
    one = changes(known, on_two_machines("info", "debug"), ())
    assert in_words(one) == "log_level (on a2): info -> debug"
    both = changes(known, on_two_machines("debug", "debug"), ())
    assert in_words(both) == "log_level: info -> debug"


def test_what_nobody_knew_before_has_not_changed() -> None:
    assert changes({}, said("500"), ()) == []
    assert changes({EVERYWHERE: {"build": "aaa"}}, said("500"), ()) == []


def test_of_a_secret_only_the_change_is_told() -> None:
    known, now = {EVERYWHERE: {"key": "a secret (12)"}}, {EVERYWHERE: {"key": "a secret (34)"}}
    (found,) = changes(known, now, {"key"})
    assert found.words == "key changed"
    assert (found.before, found.after) == ("a secret", "a secret")


def test_many_changes_are_counted_and_not_all_told() -> None:
    known = {EVERYWHERE: {f"name{n:02}": "1" for n in range(13)}}
    now = {EVERYWHERE: {f"name{n:02}": "2" for n in range(13)}}
    words = in_words(changes(known, now, ()))
    assert words.count("->") == 10
    assert words.endswith("; and 3 more")


# --- what each machine has set --------------------------------------------------------------------


def own_of(folder: Path, /, **environ: str) -> Mapping[str, str]:
    return own_by(KEY, folder, **environ)


def own_by(key: bytes, folder: Path, /, **environ: str) -> Mapping[str, str]:
    found = load(environ={"BOTSWARM_STATE_DIR": str(folder), **environ}, folder=folder)
    return others(found.settings, key)


def test_every_setting_is_told_once_but_what_is_never_written_down_and_the_machines_name(
    tmp_path: Path,
) -> None:
    mine = set(own_of(tmp_path))
    assert mine & set(alike()) == set()
    assert set(BY_NAME) - mine - set(alike()) == {"binance_api_secret", "instance_id"}


def test_a_container_that_is_made_anew_under_another_name_is_no_other_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for name in ("f3a1c0ffee01", "f3a1c0ffee02"):
        machine = os.uname_result(("Linux", name, "6", "1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda machine=machine: machine)
        told.append({EVERYWHERE: own_of(tmp_path)})
    first, second = told
    assert changes(first, second, ()) == []


def test_a_secret_is_told_by_a_hash_that_needs_the_machines_key(tmp_path: Path) -> None:
    url = {"BOTSWARM_NOTIFY_WEBHOOK_URL": "https://example.org/hidden-path"}
    one = own_of(tmp_path, **url)["notify_webhook_url"]
    assert one.startswith("a secret (")
    assert "hidden" not in one
    assert own_of(tmp_path, **url)["notify_webhook_url"] == one
    assert own_by(b"another", tmp_path, **url)["notify_webhook_url"] != one
    other = {"BOTSWARM_NOTIFY_WEBHOOK_URL": "https://example.org/other"}
    assert own_of(tmp_path, **other)["notify_webhook_url"] != one


def test_where_a_broker_of_this_machine_listens_is_nobodys_setting(tmp_path: Path) -> None:
    here, there = (f"amqp://u:p4ssw0rd-x@{host}:5672/" for host in ("127.0.0.1", "mq.example"))
    assert "broker_url" not in own_of(tmp_path, BOTSWARM_BROKER_URL=here)
    assert "broker_url" in own_of(tmp_path, BOTSWARM_BROKER_URL=there)


def test_a_password_that_looks_like_a_broken_address_is_a_secret_like_any_other(
    tmp_path: Path,
) -> None:
    told = own_of(tmp_path, BOTSWARM_FLOWER_PASSWORD="//[4pssw0rd-4pssw0rd")
    assert told["flower_password"].startswith("a secret (")


# --- who is told ----------------------------------------------------------------------------------


def test_each_change_is_news_of_its_own_and_what_is_over_is_none() -> None:
    event = RiskEvent(
        at=NOW, scope="swarm", kind="configuration", severity=Severity.INFO, words="a: 1 -> 2", id=7
    )
    seen = looking.read([event, replace(event, id=8, words="b: 1 -> 2")])
    assert [(each.name, each.words) for each in seen] == [
        ("ConfigurationChanged", "a: 1 -> 2"),
        ("ConfigurationChanged", "b: 1 -> 2"),
    ]
    assert len({each.subject for each in seen}) == 2
    assert looking.read([replace(event, kind="processes")]) == []
