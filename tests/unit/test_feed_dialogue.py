"""What a connection makes of a venue's words, without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from botswarm.exchanges.kraken.market import KrakenMarketData
from botswarm.exchanges.streams import Stream
from botswarm.feed.dialogue import Dialogue, Ears
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

NOW_MS = 1_800_000_000_000
HOUR_S = 3600.0
STATUS, TRADE = Stream("BTC-USD", "status"), Stream("BTC-USD", "trade")


@pytest.fixture
def dialogue() -> Iterator[Dialogue]:
    security = SecurityLog()
    ears = Ears(
        ticks=lambda ticks, now: None,
        last_trade=lambda symbol, trade_id: None,
        skipped=lambda symbols: None,
        wants_book=lambda stream: None,
        event=lambda event: None,
    )
    with closing(
        KrakenMarketData(name="kraken", rest_url="http://127.0.0.1:1", stream_url="")
    ) as d:
        yield Dialogue(
            "kraken-1",
            d,
            rules=PoolRules(),
            ears=ears,
            security=security,
            rejects=Rejects(security),
        )


def status(state: str) -> bytes:
    pairs = [{"symbol": "BTC/USD", "status": state}]
    return json.dumps({"channel": "instrument", "data": {"pairs": pairs}}).encode()


def trade(number: int) -> bytes:
    told = {
        "symbol": "BTC/USD",
        "side": "buy",
        "price": 1.5,
        "qty": 1.0,
        "trade_id": number,
        "timestamp": f"2026-04-07T14:30:{number:02d}Z",
    }
    return json.dumps({"channel": "trade", "data": [told]}).encode()


def test_a_status_that_never_changes_is_not_strangely_silent_and_trades_are(
    dialogue: Dialogue,
) -> None:
    dialogue.subscribe([STATUS, TRADE], 0.0)
    for second, state in enumerate(("online", "post_only", "online")):
        dialogue.read([status(state), trade(second)], NOW_MS, float(second))
    assert dialogue.served == {STATUS, TRADE}
    assert not dialogue.pulses[STATUS].is_quiet(HOUR_S)
    assert not dialogue.pulses[STATUS].is_stale(HOUR_S)
    assert dialogue.pulses[TRADE].is_quiet(HOUR_S)
