"""Binance's frames become ticks exactly, and whatever is not a frame is Unreadable."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Candle, Quote, Tick, Trade
from botswarm.domain.order import Side
from botswarm.errors import Unreachable
from botswarm.exchanges.binance.market import BinanceMarketData
from botswarm.exchanges.binance.session import CHANNELS
from botswarm.exchanges.streams import Session, Stream, Unreadable

MARKETS = ("NKN-USDT", "BTC-USDT")
RECEIVED_MS = 1_700_000_000_000

# Recorded from the venue (2021) or printed in its documentation of today.
TRADE = (
    '{"stream":"nknusdt@trade","data":{"e":"trade","E":1672515782136,"s":"NKNUSDT","t":12345,'
    '"p":"0.35280000","q":"58.00000000","T":1672515782135,"m":true,"M":true}}'
)
OLD_TRADE = (
    '{"e":"trade","E":1672515782136,"s":"NKNUSDT","t":12345,"p":"0.001","q":"100","b":88,"a":50,'
    '"T":1672515782136,"m":false,"M":true}'
)
QUOTE = (
    '{"stream":"nknusdt@bookTicker","data":{"u":499869768,"s":"NKNUSDT","b":"0.35210000",'
    '"B":"672.00000000","a":"0.35260000","A":"3199.00000000"}}'
)
KLINE = (
    '{"stream":"nknusdt@kline_1m","data":{"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{'
    '"t":1633998480000,"T":1633998539999,"s":"NKNUSDT","i":"1m","f":19862761,"L":19862790,'
    '"o":"0.35270000","c":"0.35280000","h":"0.35290000","l":"0.35220000","v":"25877.00000000",'
    '"n":30,"x":false,"q":"9116.04600000","V":"58.00000000","Q":"20.46240000","B":"0"}}}'
)
AGG_TRADE = (
    '{"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT",'
    '"a":15683430,"p":"0.35280000","q":"58.00000000","f":19862790,"l":19862790,'
    '"T":1633998523963,"m":false,"M":true,"st":1}}'
)
DEPTH = (
    '{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT",'
    '"U":499869750,"u":499869752,"b":[["0.35130000","6195.00000000"]],"a":[]}}'
)
PARTIAL_DEPTH = '{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}'
SHUTDOWN = '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}'
ANSWER = '{"result":null,"id":312}'
RECORDED = [TRADE, OLD_TRADE, QUOTE, KLINE, AGG_TRADE, DEPTH, PARTIAL_DEPTH, SHUTDOWN, ANSWER]


def instrument(symbol: str) -> Instrument:
    base, quote = symbol.split("-")
    one = Decimal(1)
    return Instrument(
        venue="binance",
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=one,
        lot_size=one,
        quantity_min=one,
        quantity_max=one,
        notional_min=one,
    )


data = BinanceMarketData(
    name="binance",
    rest_url="http://127.0.0.1:1",
    stream_url="ws://127.0.0.1:1",
    instruments=[instrument(symbol) for symbol in MARKETS],
)


def only(frame: str) -> Tick:
    (tick,) = session().read(frame, RECEIVED_MS)
    assert isinstance(tick, Tick)
    return tick


def session() -> Session:
    made = data.session()
    made.subscribe([Stream(symbol, channel) for symbol in MARKETS for channel in CHANNELS])
    return made


def test_a_trade_keeps_every_digit_and_names_the_taker_s_side() -> None:
    assert only(TRADE) == Trade(
        venue="binance",
        symbol="NKN-USDT",
        trade_id=12345,
        price=Decimal("0.35280000"),
        quantity=Decimal("58.00000000"),
        taker_side=Side.SELL,
        exchange_ms=1672515782135,
        received_ms=RECEIVED_MS,
    )
    assert str(only(TRADE).price) == "0.35280000"  # type: ignore[union-attr]


def test_a_trade_of_the_old_shape_is_read_too() -> None:
    trade = only(OLD_TRADE)
    assert isinstance(trade, Trade)
    assert (trade.taker_side, trade.quantity) == (Side.BUY, Decimal(100))


def test_the_best_prices_have_no_event_name_and_take_our_time() -> None:
    quote = only(QUOTE)
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.ask) == (Decimal("0.35210000"), Decimal("0.35260000"))
    assert (quote.bid_quantity, quote.ask_quantity) == (Decimal(672), Decimal(3199))
    assert (quote.sequence, quote.exchange_ms) == (499869768, RECEIVED_MS)


def test_a_candle_is_open_until_the_venue_says_it_is_closed() -> None:
    candle = only(KLINE)
    assert isinstance(candle, Candle)
    assert (candle.open_ms, candle.timeframe, candle.is_closed) == (1633998480000, "1m", False)
    assert (candle.open, candle.high, candle.low, candle.close) == tuple(
        map(Decimal, ("0.3527", "0.3529", "0.3522", "0.3528"))
    )
    assert (candle.volume, candle.trades) == (Decimal(25877), 30)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "null",
        "[]",
        "{}",
        "CloudFlare WebSocket proxy restarting",
        TRADE.replace("NKNUSDT", "DOGEUSDT"),
        TRADE.replace("0.35280000", "NaN"),
        TRADE.replace("0.35280000", "-1"),
        TRADE.replace("0.35280000", "0"),
        TRADE.replace("0.35280000", "1e400"),
        TRADE.replace('"0.35280000"', "0.3528"),
        TRADE.replace("12345", str(2**70)),
        TRADE.replace("1672515782135", "99999999999999"),
        TRADE.replace('"m":true', '"m":1'),
        QUOTE.replace("499869768", '"499869768"'),
        KLINE.replace('"i":"1m"', '"i":"7m"'),
    ],
)
def test_what_cannot_be_true_is_malformed(frame: str) -> None:
    with pytest.raises(Unreadable):
        session().read(frame, RECEIVED_MS)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NKNUSDT", "trade", "kline", "1m", "-0", "1e999999999", "Infinity", "sNaN"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(list("eEstTpqmubBaAkioc")), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(st.data())
def test_a_frame_with_any_field_replaced_is_read_or_malformed(chosen: st.DataObject) -> None:
    frame = json.loads(chosen.draw(st.sampled_from(RECORDED)))
    place = frame
    while True:
        key = chosen.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and chosen.draw(st.booleans())):
            break
        place = place[key]
    if chosen.draw(st.booleans()):
        del place[key]
    else:
        place[key] = chosen.draw(values)
    survives(json.dumps(frame))


@given(st.data())
def test_a_frame_with_any_bytes_replaced_is_read_or_malformed(chosen: st.DataObject) -> None:
    frame = bytearray(chosen.draw(st.sampled_from(RECORDED)).encode())
    for _ in range(chosen.draw(st.integers(1, 4))):
        start = chosen.draw(st.integers(0, len(frame)))
        frame[start : start + chosen.draw(st.integers(0, 5))] = chosen.draw(st.binary(max_size=5))
    survives(bytes(frame))


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_malformed_at_worst(frame: str | bytes) -> None:
    survives(frame)


def survives(frame: str | bytes) -> None:
    try:
        heard = session().read(frame, RECEIVED_MS)
    except Unreadable:
        return
    for tick in heard:
        assert not isinstance(tick, Tick) or tick.symbol in MARKETS
        if isinstance(tick, Trade):
            assert tick.price > 0
            assert tick.quantity > 0
            assert tick.exchange_ms <= RECEIVED_MS + 3_600_000


# --- REST -------------------------------------------------------------------------------------

ROW = [0, "1", "2", "0.5", "1.5", "10", 0, "15", 3, "5", "7", "0"]
MINUTE_MS = 60_000


class Answers(BaseHTTPRequestHandler):
    told: ClassVar[dict[str, object]] = {}

    def do_GET(self) -> None:
        body = json.dumps(self.told.get(self.path.partition("?")[0])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def venue() -> Iterator[BinanceMarketData]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        made = BinanceMarketData(name="binance", rest_url=url, stream_url="ws://127.0.0.1:1")
        yield made
        made.close()
        server.shutdown()


def test_a_pause_is_a_flat_line_but_not_since_1970(venue: BinanceMarketData) -> None:
    now_ms = RECEIVED_MS - RECEIVED_MS % MINUTE_MS
    opens = [now_ms - minutes * MINUTE_MS for minutes in (4, 2, 1, 0)]
    Answers.told = {
        "/api/v3/klines": [ROW, *([at, *ROW[1:]] for at in opens)],
        "/api/v3/time": {"serverTime": now_ms + 1},
    }
    candles = venue.candles("BTC-USDT", "1m", limit=100)
    assert [(now_ms - each.open_ms) // MINUTE_MS for each in candles] == [4, 3, 2, 1]
    assert [each.trades for each in candles] == [3, 0, 3, 3]


@pytest.mark.parametrize(
    "told", [None, [], {}, {"symbols": [{}]}, {"symbols": 5}, {"symbols": [{"filters": 1}]}]
)
def test_an_answer_of_another_shape_is_an_error_with_a_cure(
    venue: BinanceMarketData, told: object
) -> None:
    paths = ("exchangeInfo", "klines", "time", "trades", "historicalTrades", "depth")
    Answers.told = {f"/api/v3/{path}": told if told != [] else 7 for path in paths}
    asked: list[Callable[[], object]] = [
        venue.instruments,
        venue.statuses,
        lambda: venue.candles("BTC-USDT", "1m", limit=5),
        lambda: venue.latest_trades("BTC-USDT", limit=5),
        lambda: venue.trades_between("BTC-USDT", 1, 5),
        lambda: venue.book("BTC-USDT"),
    ]
    for ask in asked:
        with pytest.raises(Unreachable) as failed:
            ask()
        assert failed.value.cure
