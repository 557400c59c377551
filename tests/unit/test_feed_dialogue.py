"""What a connection makes of a venue's words, without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.exchanges.coinbase.market import CoinbaseMarketData
from botswarm.exchanges.kraken.market import KrakenMarketData
from botswarm.exchanges.streams import MarketData, Stream
from botswarm.feed.dialogue import Dialogue, Ears
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

NOW_MS = 1_800_000_000_000
HOUR_S = 3600.0
STATUS, TRADE = Stream("BTC-USD", "status"), Stream("BTC-USD", "trade")


def made(data: MarketData) -> Dialogue:
    security = SecurityLog()
    ears = Ears(
        ticks=lambda ticks, now: None,
        last_trade=lambda symbol, trade_id: None,
        skipped=lambda symbols: None,
        wants_book=lambda stream: None,
        event=lambda event: None,
    )
    name, rejects = f"{data.name}-1", Rejects(security)
    return Dialogue(name, data, rules=PoolRules(), ears=ears, security=security, rejects=rejects)


@pytest.fixture
def dialogue() -> Iterator[Dialogue]:
    data = KrakenMarketData(name="kraken", rest_url="http://127.0.0.1:1", stream_url="")
    with closing(data):
        yield made(data)


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


def test_a_kind_of_frame_that_is_new_is_no_fault_of_the_connection(dialogue: Dialogue) -> None:
    for second in range(1000):
        dialogue.read([b'{"channel":"of_tomorrow","data":[]}'], NOW_MS, float(second))
    assert dialogue.malformed_share == 0
    dialogue.read([b"<html>"], NOW_MS, 1000.0)
    assert dialogue.malformed_share > 0


def test_after_a_hole_all_books_are_begun_anew_in_two_messages() -> None:
    data = CoinbaseMarketData(name="coinbase", rest_url="http://127.0.0.1:1", stream_url="")
    with closing(data):
        dialogue = made(data)
        dialogue.subscribe([Stream(f"{base}-USD", "book") for base in ("BTC", "ETH", "SOL")], 0.0)
        dialogue.outbox.clear()
        for number in (0, 1, 5):
            frame: dict[str, object] = {
                "channel": "heartbeats",
                "sequence_num": number,
                "events": [],
            }
            dialogue.read([json.dumps(frame).encode()], NOW_MS, 1.0)
    assert dialogue.notices["skipped"] == 3
    ending, beginning = map(json.loads, dialogue.outbox)
    assert (ending["type"], beginning["type"]) == ("unsubscribe", "subscribe")
    assert beginning["product_ids"] == ["BTC-USD", "ETH-USD", "SOL-USD"]


def test_what_waits_for_the_pace_is_asked_again_only_five_seconds_after_it_was_sent() -> None:
    data = BinanceMarketData(name="binance", rest_url="http://127.0.0.1:1", stream_url="ws://x")
    first, second = Stream("BTC-USDT", "trade"), Stream("ETH-USDT", "trade")
    with closing(data):
        dialogue = made(data)
        dialogue.subscribe([first], 0.0)
        dialogue.subscribe([second], 0.0)
        dialogue.take(0.0)
        dialogue.take(20.0)
        dialogue.ask_again(20.5)
        assert ["ethusdt" in each for each in dialogue.outbox] == [False]
        dialogue.take(21.0)
        dialogue.ask_again(24.9)
        assert not dialogue.outbox
        dialogue.ask_again(25.1)
        assert ["ethusdt" in each for each in dialogue.outbox] == [True]
