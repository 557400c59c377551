"""What Coinbase and Kraken tell by REST: pauses, errors in good answers, and steps back in time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from botswarm.domain.market import Candle, Trade
from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges import backfill, candles
from botswarm.exchanges.coinbase.market import CoinbaseExchangeMarketData, CoinbaseMarketData
from botswarm.exchanges.kraken import symbols
from botswarm.exchanges.kraken.market import KrakenMarketData
from botswarm.exchanges.rest import Pace
from botswarm.testing.servers import free_port

NOW_S = 1_775_572_330
"""Within the minute that began ten seconds before."""
MINUTE_S = NOW_S - NOW_S % 60
Answer = Callable[[str, dict[str, str]], Any]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that says what ``answer`` gives for a path and its query; text goes as it is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            told = answer(parts.path, query)
            body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(200 if self.headers["User-Agent"] else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def kraken(result: Any, errors: tuple[str, ...] = ()) -> Iterator[KrakenMarketData]:
    def answer(path: str, query: dict[str, str]) -> Any:
        if path == "/0/public/Time":
            return {"error": [], "result": {"unixtime": NOW_S}}
        return {"error": list(errors), "result": result(query) if callable(result) else result}

    with serving(answer) as url, closing(_kraken(url)) as data:
        yield data


def _kraken(url: str) -> KrakenMarketData:
    return KrakenMarketData(name="kraken", rest_url=url, stream_url="")


def row(open_s: int, price: str, volume: str = "1.0") -> list[Any]:
    return [open_s, price, price, price, price, price, volume, 3]


def test_kraken_s_unfinished_candle_is_left_out_and_a_pause_is_a_flat_line() -> None:
    rows = [row(MINUTE_S, "9"), row(MINUTE_S - 60, "8.50"), row(MINUTE_S - 240, "8.25")]
    with kraken({"XXBTZUSD": rows, "last": NOW_S}) as data:
        told = data.candles("BTC-USD", "1m", limit=4)
    assert [(each.open_ms // 1000 - MINUTE_S, str(each.close)) for each in told] == [
        (-240, "8.25"),
        (-180, "8.25"),
        (-120, "8.25"),
        (-60, "8.50"),
    ]
    assert [(each.volume, each.trades) for each in told[1:3]] == [(Decimal(0), 0)] * 2


def test_kraken_s_errors_stand_in_good_answers() -> None:
    with kraken(None, ("EAPI:Rate limit exceeded",)) as data:
        with pytest.raises(Unreachable) as unreachable:
            data.latest_trades("BTC-USD", limit=5)
        assert "EAPI:Rate limit exceeded" in unreachable.value.cause
        assert unreachable.value.cure


PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    },
    "XDGUSD": {
        "altname": "XDGUSD",
        "wsname": "XDG/USD",
        "pair_decimals": 7,
        "lot_decimals": 8,
        "status": "post_only",
    },
    "ETHUSD.d": {"altname": "ETHUSD.d", "pair_decimals": 2, "lot_decimals": 8},
}


def test_kraken_s_old_names_become_everybody_s() -> None:
    with kraken(PAIRS) as data:
        bitcoin, doge = data.instruments()
    assert (bitcoin.symbol, bitcoin.tick_size, bitcoin.lot_size) == (
        "BTC-USD",
        Decimal("0.1"),
        Decimal("1E-8"),
    )
    assert (bitcoin.quantity_min, bitcoin.notional_min) == (Decimal("0.00005"), Decimal("0.5"))
    assert (doge.symbol, doge.tick_size, doge.is_trading) == ("DOGE-USD", Decimal("1E-7"), False)
    assert symbols.to_rest("BTC-USD") == "XBTUSD"
    assert symbols.to_rest("ETH-BTC") == "ETHXBT"


def test_kraken_s_missed_trades_are_found_by_stepping_back_in_time() -> None:
    """Five a second, a thousand a page, and the gap is 2,500 trades ago."""
    asked = []

    def trades(query: dict[str, str]) -> Any:
        asked.append(query.get("since"))
        first = 9001
        if "since" in query:
            first = max(1, (int(query["since"]) // 10**9 - 1_775_000_000) * 5 + 1)
        last = min(first + 999, 10_000)
        rows = [
            ["1.5", "2", 1_775_000_000 + (number - 1) // 5 + 0.25, "b", "l", "", number]
            for number in range(first, last + 1)
        ]
        return {"XXBTZUSD": rows, "last": "1"}

    with kraken(trades) as data:
        told = data.trades_between("BTC-USD", 7500, 7520)
    assert [trade.trade_id for trade in told] == list(range(7500, 7521))
    assert told[0].taker_side is Side.BUY
    assert told[0].exchange_ms % 1000 == 250
    assert len(asked) == 2


def trade(number: int) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=number,
        price=Decimal(1),
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=number * 1000,
        received_ms=0,
    )


def test_stepping_back_ends_after_a_few_requests_however_far_the_gap_is() -> None:
    asked = []

    def page(since_ms: int | None) -> list[Trade]:
        asked.append(since_ms)
        # A venue that has forgotten all but its newest trades, whatever is asked.
        return [trade(number) for number in range(9000, 9010)]

    assert backfill.between(5, 9, page, 1000) == []
    assert len(asked) <= backfill.STEPS_MAX


@pytest.mark.parametrize(
    "body",
    [
        "<html>attention required</html>",
        "",
        "[" * 100_000,
        '{"error":[],"result":{"XXBTZUSD":[["1","1",NaN,"b","l","",1]],"last":"1"}}',
        '{"error":[],"result":{"XXBTZUSD":[["-1","1",1.5,"b","l","",1]],"last":"1"}}',
        '{"error":[],"result":{"XXBTZUSD":[["1","1",1e99999999,"b","l","",1]],"last":"1"}}',
        '{"error":[],"result":{"XXBTZUSD":[["1","1",1.5,"x","l","",1]],"last":"1"}}',
        '{"error":[],"result":{"XXBTZUSD":{},"last":"1"}}',
        '{"error":[],"result":{"XXBTZUSD":[],"XETHZUSD":[]}}',
        '{"error":[],"result":[]}',
        '{"error":[]}',
        "[]",
        "7",
    ],
)
def test_an_answer_that_cannot_be_read_is_unreachable_with_a_cure(body: str) -> None:
    with (
        serving(lambda path, query: body) as url,
        closing(_kraken(url)) as data,
        pytest.raises(Unreachable) as unreachable,
    ):
        data.latest_trades("BTC-USD", limit=5)
    assert unreachable.value.cure
    assert len(unreachable.value.cause) < 500


def test_coinbase_exchange_s_candles_come_newest_first_as_numbers() -> None:
    def answer(path: str, query: dict[str, str]) -> Any:
        if path == "/time":
            return f'{{"iso":"2026-04-07T14:32:10Z","epoch":{NOW_S}.201}}'
        assert path == "/products/BTC-USD/candles"
        assert query["granularity"] == "60"
        rows = [
            f"[{MINUTE_S - back},1.00,3.00,2.50,2.00,{volume}]"
            for back, volume in ((0, "7"), (60, "0.10"), (180, "5e-8"))
            if int(query["start"]) <= MINUTE_S - back <= int(query["end"])
        ]
        return f"[{','.join(rows)}]"

    with serving(answer) as url:
        data = CoinbaseExchangeMarketData(name="c", rest_url=url, stream_url="")
        with closing(data):
            told = data.candles("BTC-USD", "1m", limit=700)
    assert [each.open_ms // 1000 - MINUTE_S for each in told] == [-180, -120, -60]
    first, flat, last = told
    assert (first.open, first.high, first.low, first.close) == tuple(
        map(Decimal, ("2.50", "3.00", "1.00", "2.00"))
    )
    assert (str(last.volume), first.volume, flat.volume) == ("0.10", Decimal("5E-8"), Decimal(0))
    assert str(last.open) == "2.50"


def test_coinbase_exchange_s_trades_are_asked_for_by_id() -> None:
    def answer(path: str, query: dict[str, str]) -> Any:
        assert path == "/products/BTC-USD/trades"
        last, count = int(query["after"]) - 1, int(query["limit"])
        return [
            {
                "trade_id": number,
                "side": "sell",
                "size": "0.10",
                "price": "5.00",
                "time": "2026-04-07T14:30:00.5Z",
            }
            for number in range(last, last - count, -1)
        ]

    with serving(answer) as url:
        data = CoinbaseExchangeMarketData(name="c", rest_url=url, stream_url="")
        with closing(data):
            told = data.trades_between("BTC-USD", 100, 105)
            many = data.trades_between("BTC-USD", 100, 9_000)
            assert data.trades_between("BTC-USD", 9, 8) == []
    assert [trade.trade_id for trade in told] == [100, 101, 102, 103, 104, 105]
    assert {trade.taker_side for trade in told} == {Side.BUY}
    assert [trade.trade_id for trade in many] == list(range(100, 1100))


def test_advanced_trade_asks_for_the_book_that_dollars_and_coins_share() -> None:
    paths = []

    def answer(path: str, query: dict[str, str]) -> Any:
        paths.append(path)
        return {"trades": [], "best_bid": "", "best_ask": ""}

    with serving(answer) as url:
        data = CoinbaseMarketData(name="c", rest_url=url, stream_url="")
        with closing(data):
            assert data.latest_trades("BTC-USDC", limit=5) == []
    assert paths == ["/api/v3/brokerage/market/products/BTC-USD/ticker"]


def candle(open_s: int, price: int, timeframe: str = "1h") -> Candle:
    value = Decimal(price)
    return Candle(
        venue="v",
        symbol="A-B",
        timeframe=timeframe,
        open_ms=open_s * 1000,
        open=value,
        high=value + 1,
        low=value - 1,
        close=value,
        volume=Decimal(2),
        trades=3,
        is_closed=True,
    )


def test_candles_of_four_hours_are_put_together_only_from_whole_ones() -> None:
    hours = [candle(hour * 3600, 10 + hour) for hour in range(2, 9)]
    (only,) = candles.merged(hours, "4h")
    assert (only.open_ms, only.open, only.close) == (4 * 3_600_000, Decimal(14), Decimal(17))
    assert (only.high, only.low) == (Decimal(18), Decimal(13))
    assert (only.volume, only.trades, only.timeframe) == (Decimal(8), 12, "4h")


def test_candles_of_trades_leave_out_the_first_which_may_be_a_part() -> None:
    told = [trade(number) for number in (10, 11, 13)]
    made = candles.of_trades(told, "1s", 14_000, 10)
    assert [(each.open_ms, each.trades) for each in made] == [(11_000, 1), (12_000, 0), (13_000, 1)]


def test_a_venue_that_tells_nonsense_makes_no_endless_list() -> None:
    made = candles.whole([candle(60, 5, "1m")], "1m", 1_800_000_000_000, 500)
    assert len(made) <= 500


def test_requests_keep_their_pace_after_the_first_few() -> None:
    pace = Pace(50, 3)
    began = time.monotonic()
    for _ in range(8):
        pace.wait("v")
    assert time.monotonic() - began >= 4 * 0.02


def test_who_would_wait_too_long_is_told_so() -> None:
    with pytest.raises(Unreachable):
        Pace(0.01, 0).wait("v")
