"""The table of the feed's rows is complete, and its defaults are the real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from botswarm import metrics
from botswarm.config.feeding import FEED
from botswarm.config.reference import default_in_words
from botswarm.config.table import BY_NAME
from botswarm.feed import breaker, dialogue
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SEVERITIES

TEXT = (Path(__file__).parent.parent.parent / "docs" / "feed.md").read_text()


class Row(NamedTuple):
    id: str
    what: str
    setting: str
    default: str
    where: str


ROWS = [
    Row(*(cell.strip() for cell in line.strip("|\n ").split("|")))
    for line in TEXT.splitlines()
    if re.match(r"\| [BC]\d+ \|", line)
]
WITH_SETTING = [row for row in ROWS if row.setting.startswith("`")]


def test_every_row_is_there() -> None:
    expected = [f"B{number}" for number in range(1, 44)] + [f"C{number}" for number in range(1, 13)]
    assert list(dict.fromkeys(row.id for row in ROWS)) == expected


def test_every_setting_of_the_connections_has_its_row() -> None:
    assert {row.setting.strip("`") for row in ROWS} >= {setting.name for setting in FEED}


@pytest.mark.parametrize("row", WITH_SETTING, ids=lambda row: row.setting)
def test_the_default_is_the_real_one(row: Row) -> None:
    assert row.default == default_in_words(BY_NAME[row.setting.strip("`")])


def test_what_has_no_setting_has_no_default() -> None:
    assert {row.default for row in ROWS if row not in WITH_SETTING} == {"-"}


def test_every_metric_that_is_named_exists() -> None:
    named = set(re.findall(r"\bbotswarm_[a-z_]+\b", TEXT))
    known = (Path(metrics.__file__)).read_text()
    assert [name for name in sorted(named) if f'"{name}"' not in known] == []


def test_every_security_event_is_described() -> None:
    found = re.findall(r"^\| `(\w+)` \| (?:warning|critical|info) \|", TEXT, re.M)
    assert set(found) == set(SEVERITIES)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    assert "at least every\n5 s, for 4 s each" in TEXT
    assert (breaker.PROBE_PAUSE_MAX_S, breaker.PROBE_TIMEOUT_S) == (5.0, 4.0)
    assert "acknowledge within 5 s" in TEXT
    assert dialogue.ACK_TIMEOUT_S == 5.0
    assert dialogue.ASKED_MAX == 3
    assert dialogue.STREAM_SILENCE_FLOOR_S == 10.0


def test_the_pool_s_own_defaults_are_those_of_production() -> None:
    made = PoolRules()
    for name, setting in (
        ("connections_max", "feed_connections_max"),
        ("check_every_s", "feed_check_every_s"),
        ("idle_close_s", "feed_idle_close_s"),
        ("tries_max", "feed_reconnect_tries_max"),
        ("pause_max_s", "feed_reconnect_max_s"),
        ("health_alert", "feed_health_alert"),
    ):
        assert getattr(made, name) == BY_NAME[setting].profile_defaults["production"]
