"""The page on venues says the limits, channels and addresses that are in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from botswarm.config import load
from botswarm.exchanges.registry import market_data, recorded, venues
from botswarm.exchanges.streams import MarketData

PAGE = (Path(__file__).parent.parent.parent / "docs" / "venues.md").read_text()
COLUMNS = ("binance", "coinbase", "coinbase-exchange", "kraken")


def table() -> dict[str, list[str]]:
    part = PAGE.partition("## Limits we keep")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def of(venue: str, folder: Path) -> MarketData:
    return recorded(load(environ={}, folder=folder).settings, venue)


def number(cell: str) -> float:
    found = re.match(r"[\d.]+", cell)
    assert found, cell
    return float(found[0])


def test_the_table_of_limits_is_what_is_kept(tmp_path: Path) -> None:
    rows = table()
    seconds = {"a second": 1, "in 5 min": 300, "in 10 min": 600}
    for place, venue in enumerate(COLUMNS):
        rules = of(venue, tmp_path).rules
        attempts = rows["connection attempts"][place]
        assert number(attempts) == rules.connects_max
        assert seconds[attempts.partition(" ")[2]] == rules.connects_period_s
        assert number(rows["streams of a connection"][place]) == rules.streams_max
        sends = rows["our messages a second, of a connection"][place]
        assert number(sends) == rules.sends_per_s
        together = rows["the same, of all connections together"][place]
        of_all = None if together == "none" else number(together)
        assert of_all == rules.address_sends_per_s
        assert number(rows["dead after silence of"][place]) == rules.silence_s
        subscribing = rows["must subscribe within"][place]
        within = None if subscribing == "none" else number(subscribing)
        assert within == rules.subscribe_within_s
        frame = number(rows["largest frame read"][place]) * 1_048_576
        assert frame == rules.frame_max_bytes
        lifetime = rows["ends a connection after"][place]
        assert (rules.lifetime_s is None) == (lifetime == "none")


@pytest.mark.parametrize("venue", COLUMNS)
def test_each_venue_and_its_addresses_are_named(venue: str) -> None:
    setting = f"BOTSWARM_{venue.replace('-', '_').upper()}"
    assert f"| `{venue}` |" in PAGE
    assert f"`{setting}_STREAM_URL`" in PAGE
    assert f"`{setting}_REST_URL`" in PAGE


def test_all_venues_there_are_stand_on_the_page() -> None:
    assert [venue for venue in venues() if f"`{venue}`" not in PAGE] == []


def test_every_venue_can_be_made_from_the_settings_alone(tmp_path: Path) -> None:
    settings = load(environ={}, folder=tmp_path).settings
    for venue in COLUMNS:
        assert market_data(settings, venue).name == venue
