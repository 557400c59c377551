"""A frame that was taken out of a recording is missed by each venue's own rule."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botswarm.cli.feed_files import summary
from botswarm.config import load
from botswarm.exchanges.registry import recorded
from botswarm.feed import recording
from botswarm.feed.normalising import Normaliser

FRAMES = Path(__file__).parent.parent / "data" / "frames"


def gaps(venue: str, lines: Sequence[str]) -> list[dict[str, Any]]:
    settings = load(environ={}, folder=FRAMES).settings
    normaliser = Normaliser(recorded(settings, venue))
    assert len(list(normaliser.ticks(recording.lines(io.BytesIO("\n".join(lines).encode()))))) > 0
    found: list[dict[str, Any]] = summary(venue, normaliser.account)["gap_list"]
    return found


def lines_of(venue: str) -> list[str]:
    return (FRAMES / f"{venue}.txt").read_text().splitlines()


def test_nothing_is_missing_in_the_recordings_as_they_are() -> None:
    for venue in ("coinbase", "coinbase-exchange", "kraken"):
        assert gaps(venue, lines_of(venue)) == []


def test_kraken_s_checksum_misses_a_change_that_the_next_one_builds_on() -> None:
    lines = lines_of("kraken")
    updates = [number for number, line in enumerate(lines) if '"book","type":"update"' in line]
    assert len(updates) == 3
    for number in updates[:-1]:
        (gap,) = gaps("kraken", lines[:number] + lines[number + 1 :])
        assert (gap["channel"], gap["symbol"], gap["reason"]) == ("book", "BTC-USD", "checksum")


def test_coinbase_s_numbers_miss_any_frame() -> None:
    lines = lines_of("coinbase")
    numbered = [number for number, line in enumerate(lines) if "sequence_num" in line]
    for number in numbered[1:-1]:
        found = gaps("coinbase", lines[:number] + lines[number + 1 :])
        assert any(gap["missing"] == 1 for gap in found), lines[number]


def test_coinbase_exchange_s_trade_ids_miss_a_match() -> None:
    lines = lines_of("coinbase-exchange")
    (first,) = (number for number, line in enumerate(lines) if '"trade_id":1287328,"maker' in line)
    frame = lines[first].partition(": ")[2]
    before = json.dumps(json.loads(frame) | {"trade_id": 1287327})
    (gap,) = gaps("coinbase-exchange", [before, *lines[:first], *lines[first + 1 :]])
    assert (gap["channel"], gap["from"], gap["to"]) == ("trade", 1287328, 1287328)
