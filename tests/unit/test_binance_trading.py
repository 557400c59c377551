"""Signing, error codes, clocks and connections: what stands between an order and Binance."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st

from botswarm.clock import StoppedClock, SystemClock
from botswarm.config import Secret
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.account_stream import StreamEnded
from botswarm.exchanges.allowance import Unlimited
from botswarm.exchanges.base import Accepted, Declined, Unclear
from botswarm.exchanges.binance import order_socket, user_data
from botswarm.exchanges.binance.errors import MEANING, meaning_of
from botswarm.exchanges.binance.order_socket import OrderSocket
from botswarm.exchanges.binance.signing import encoded, signature, signed
from botswarm.exchanges.binance.symbols import instrument
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.exchanges.board import Board
from botswarm.exchanges.meaning import Meaning
from botswarm.exchanges.offset import OffsetTracker
from botswarm.exchanges.shared_allowance import SharedAllowance
from botswarm.exchanges.transport import NoAnswer, NotSent, Response, Transport
from botswarm.testing.servers import free_port

D = Decimal
KEY = Secret("vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A")
SECRET = Secret("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# --- signing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("LTCBTC", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        # Full-width digits: what is signed is the percent-encoded text.
        (
            "\uff11\uff12\uff13\uff14\uff15\uff16",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
    ],
)
def test_the_documented_examples_are_signed_as_documented(symbol: str, expected: str) -> None:
    parameters = {
        "symbol": symbol,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "0.1",
        "recvWindow": "5000",
        "timestamp": "1499827319559",
    }
    assert signature(encoded(parameters), SECRET) == expected
    assert signed(parameters, SECRET).endswith(f"&signature={expected}")


@given(st.dictionaries(st.text("abcXYZ", min_size=1), st.text(), max_size=5))
def test_what_is_signed_is_ascii_and_reads_back(parameters: dict[str, str]) -> None:
    query = encoded(parameters)
    assert query.isascii()
    assert dict(parse_qsl(query, keep_blank_values=True)) == parameters


# --- error codes ---------------------------------------------------------------------------------

DOCUMENTED = """
-1000 -1001 -1002 -1003 -1006 -1007 -1008 -1013 -1014 -1015 -1016 -1020 -1021 -1022 -1033 -1034
-1035 -1100 -1101 -1102 -1103 -1104 -1105 -1106 -1108 -1111 -1112 -1114 -1115 -1116 -1117 -1118
-1119 -1120 -1121 -1122 -1125 -1127 -1128 -1130 -1134 -1135 -1139 -1145 -1151 -1152 -1153 -1155
-1158 -1160 -1161 -1165 -1166 -1168 -1169 -1170 -1171 -1172 -1173 -1174 -1175 -1176 -1177 -1178
-1179 -1180 -1181 -1182 -1183 -1184 -1185 -1186 -1187 -1188 -1189 -1190 -1191 -1194 -1196 -1197
-1198 -1199 -1010 -2010 -2011 -2013 -2014 -2015 -2016 -2021 -2022 -2026
"""


@pytest.mark.parametrize("code", [int(each) for each in DOCUMENTED.split()])
def test_every_documented_code_has_a_meaning(code: int) -> None:
    assert code in MEANING


@pytest.mark.parametrize(
    ("status", "code", "message", "meaning"),
    [
        (400, -2010, "Account has insufficient balance for requested action.", "NOT_PLACED"),
        (400, -2010, "Duplicate order sent.", "UNKNOWN"),
        (400, -1013, "Filter failure: LOT_SIZE", "NOT_PLACED"),
        (400, -1021, "Timestamp for this request is outside of the recvWindow.", "LATER"),
        (400, -1007, "Timeout waiting for response from backend server.", "UNKNOWN"),
        (400, -2013, "Order does not exist.", "NOT_FOUND"),
        (400, -9999, "A code of the future.", "UNKNOWN"),
        (400, None, "", "UNKNOWN"),
        (403, None, "", "LATER"),
        (418, -1003, "Way too much request weight used; IP banned.", "LATER"),
        (429, None, "", "LATER"),
        (409, -2021, "Order cancel-replace partially failed.", "UNKNOWN"),
        (302, None, "", "UNKNOWN"),
        # A server error outranks whatever its body says.
        (503, -2010, "Account has insufficient balance for requested action.", "UNKNOWN"),
        (500, -1013, "Filter failure: LOT_SIZE", "UNKNOWN"),
    ],
)
def test_an_answer_means_what_the_table_says(
    status: int, code: int | None, message: str, meaning: str
) -> None:
    assert meaning_of(status, code, message) is Meaning[meaning]


@given(st.integers(0, 999), st.none() | st.integers(), st.text())
def test_only_a_documented_refusal_below_500_says_not_placed(
    status: int, code: int | None, message: str
) -> None:
    if meaning_of(status, code, message) in (Meaning.NOT_PLACED, Meaning.LATER):
        assert 400 <= status < 500
        assert code in MEANING or status in (403, 418, 429)


# --- clocks --------------------------------------------------------------------------------------


class Venue:
    """A clock somewhere else, ``offset`` away from ours, asked over a slow line."""

    def __init__(self, clock: StoppedClock, offset: float, line_s: float = 0.0) -> None:
        self.clock, self.offset, self.line_s = clock, offset, line_s
        self.asked = 0

    def time(self) -> datetime:
        self.asked += 1
        self.clock.advance(self.line_s / 2)
        said = self.clock.now() + timedelta(seconds=self.offset)
        self.clock.advance(self.line_s / 2)
        return said


def test_the_offset_is_measured_in_the_middle_of_the_round_trip() -> None:
    clock = StoppedClock(NOW)
    venue = Venue(clock, 0.3, line_s=0.4)
    tracker = OffsetTracker(clock, venue.time)
    venues = tracker.to_venue(clock.now()) - clock.now()
    # It asked while now was being computed, so now is what it was before.
    assert tracker.to_venue(NOW) == NOW + timedelta(seconds=0.3)
    assert venues <= timedelta(seconds=0.3)
    assert venue.asked == 1


@pytest.mark.parametrize(("offset", "is_fine"), [(0.99, True), (1.01, False), (-1.01, False)])
def test_no_order_is_stamped_when_the_clocks_are_more_than_a_second_apart(
    offset: float, is_fine: bool
) -> None:
    clock = StoppedClock(NOW)
    tracker = OffsetTracker(clock, Venue(clock, offset).time)
    if is_fine:
        tracker.check()
    else:
        with pytest.raises(Refused, match="away from this machine's"):
            tracker.check()
    assert tracker.to_venue(NOW) == NOW + timedelta(seconds=offset)


def test_the_offset_is_measured_anew_after_a_minute_a_jump_and_an_objection() -> None:
    clock = StoppedClock(NOW)
    venue = Venue(clock, 0.1)
    tracker = OffsetTracker(clock, venue.time)
    for _ in range(3):
        tracker.check()
    assert venue.asked == 1
    clock.advance(61)
    tracker.check()
    assert venue.asked == 2
    clock._now += timedelta(hours=1)  # the wall clock only: somebody set it
    tracker.check()
    assert venue.asked == 3
    tracker.forget()
    tracker.check()
    assert venue.asked == 4


# --- connections ---------------------------------------------------------------------------------


class Script(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[Any], None]
    requests: list[str]

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        type(self).answer(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def say(
        self, status: int, body: object = None, *, raw: bytes | None = None, **headers: str
    ) -> None:
        data = json.dumps(body).encode() if raw is None else raw
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(answer: Callable[[Script], None]) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Script,), {"answer": staticmethod(answer), "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.requests  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_connection_is_used_again_until_it_is_closed() -> None:
    ports = set()

    def answer(request: Script) -> None:
        ports.add(request.client_address[1])
        request.say(200, {})

    with serving(answer) as (url, _):
        transport = Transport(url)
        for _ in range(3):
            assert transport.request("GET", "/", {}).status == 200
        assert len(ports) == 1
        transport.close()


def test_a_connection_closed_while_it_rested_is_not_used_again() -> None:
    def answer(request: Script) -> None:
        request.say(200, {})
        # The server gives up on it without having said so.
        request.close_connection = True

    with serving(answer) as (url, requests):
        transport = Transport(url)
        for _ in range(5):
            assert transport.request("GET", "/", {}).status == 200
            time.sleep(0.02)
        assert len(requests) == 5
        transport.close()


def test_a_request_without_an_answer_is_made_once() -> None:
    def answer(request: Script) -> None:
        request.connection.shutdown(socket.SHUT_RDWR)
        request.close_connection = True

    with serving(answer) as (url, requests):
        with pytest.raises(NoAnswer):
            Transport(url).request("POST", "/order", {})
        time.sleep(0.1)
        assert len(requests) == 1


def test_where_nobody_listens_nothing_was_sent() -> None:
    with pytest.raises(NotSent, match="cannot be reached"):
        Transport(f"http://127.0.0.1:{free_port()}").request("POST", "/order", {})


@pytest.mark.parametrize("status", [418, 429])
def test_after_a_ban_nothing_is_sent_until_it_ends(status: int) -> None:
    def answer(request: Script) -> None:
        request.say(status, {"code": -1003, "msg": "slow down"}, Retry_After="30")

    with serving(answer) as (url, requests):
        transport = Transport(url, SharedAllowance("binance", (), Board()))
        assert transport.request("GET", "/", {}).status == status
        with pytest.raises(NotSent, match="another 30 s"):
            transport.request("GET", "/", {})
        assert len(requests) == 1
        transport.close()


# --- answers -------------------------------------------------------------------------------------

RULES = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "0", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "9000", "stepSize": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0", "maxQty": "100", "stepSize": "0"},
        {"filterType": "NOTIONAL", "minNotional": "5", "maxNotional": "9000000"},
    ],
}
BTC = instrument("binance", RULES)
ORDER = Order(
    id="01234567-89ab-cdef-0123-456789abcdef",
    bot="turtle",
    venue="binance",
    account="spot",
    symbol="BTC-USDT",
    side=Side.BUY,
    kind=OrderKind.LIMIT,
    quantity=D("1E-3"),
    limit_price=D("100.00"),
    time_in_force=TimeInForce.IOC,
    reference_price=D(100),
    state=OrderState.APPROVED,
    created_at=NOW,
    signal_expires_at=NOW + timedelta(seconds=10),
)
SAID = {
    "symbol": "BTCUSDT",
    "orderId": 28,
    "clientOrderId": ORDER.client_order_id,
    "transactTime": 1507725176595,
    "origQty": "0.00100000",
    "executedQty": "0.00100000",
    "status": "FILLED",
    "side": "BUY",
    "fills": [
        {
            "price": "100.0",
            "qty": "0.001",
            "commission": "0",
            "commissionAsset": "BNB",
            "tradeId": 5,
        }
    ],
}


@contextmanager
def binance(order_answer: Callable[[Script], None]) -> Iterator[tuple[BinanceTrading, list[str]]]:
    def answer(request: Script) -> None:
        if request.path.startswith("/api/v3/time"):
            request.say(200, {"serverTime": int(time.time() * 1000)})
        else:
            order_answer(request)

    with serving(answer) as (url, requests):
        venue = BinanceTrading(
            name="binance", account="spot", url=url, key=KEY, secret=SECRET, clock=SystemClock()
        )
        try:
            yield venue, requests
        finally:
            venue.close()


def test_filters_become_one_instrument_that_satisfies_all_of_them() -> None:
    assert (BTC.symbol, BTC.tick_size, BTC.lot_size) == ("BTC-USDT", D("0.01"), D("0.001"))
    assert (BTC.quantity_min, BTC.quantity_max, BTC.notional_min) == (D("0.001"), D(100), D(5))
    assert BTC.is_trading


def test_the_signed_request_says_what_the_order_says_and_nothing_is_added_later() -> None:
    with binance(lambda request: request.say(200, SAID)) as (venue, requests):
        request = venue.sign(ORDER, BTC, datetime.now(UTC))
        answer = venue.send(request)
    method, _, target = request.payload.decode().partition(" ")
    sent = dict(parse_qsl(urlsplit(target).query))
    assert (method, requests[-1]) == ("POST", target)
    assert (sent["quantity"], sent["price"], sent["timeInForce"]) == ("0.001", "100.00", "IOC")
    assert (sent["newClientOrderId"], sent["recvWindow"]) == (ORDER.client_order_id, "2000")
    assert int(sent["timestamp"]) == round(request.signed_at.timestamp() * 1000)
    assert request.fence_at - request.signed_at == timedelta(seconds=14)
    unsigned, _, signed_by = urlsplit(target).query.partition("&signature=")
    assert signature(unsigned, SECRET) == signed_by
    assert SECRET.reveal() not in target
    assert KEY.reveal() not in target
    assert isinstance(answer, Accepted)
    assert answer.report.state is OrderState.FILLED
    (fill,) = answer.report.fills
    assert (fill.trade_id, fill.quantity, fill.symbol) == (5, D("0.001"), "BTC-USDT")


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (lambda r: r.say(200, SAID), Accepted),
        (lambda r: r.say(200, SAID | {"clientOrderId": "somebody-elses"}), Unclear),
        (lambda r: r.say(200, SAID | {"status": "A_NEW_ONE"}), Unclear),
        (lambda r: r.say(200, SAID | {"executedQty": "NaN"}), Unclear),
        (lambda r: r.say(200, SAID | {"executedQty": "-1"}), Unclear),
        (lambda r: r.say(200, []), Unclear),
        (lambda r: r.say(200, raw=b"<html>maintenance</html>"), Unclear),
        (lambda r: r.say(200, raw=json.dumps(SAID).encode()[:-30]), Unclear),
        (lambda r: r.say(200, raw=b"[" * 100_000), Unclear),
        (lambda r: r.say(200, raw=b"\xff\xfe"), Unclear),
        (lambda r: r.say(503, {"code": -1007, "msg": "Timeout"}), Unclear),
        (lambda r: r.say(502, raw=b"bad gateway"), Unclear),
        (lambda r: r.say(400, {"code": -1007, "msg": "Timeout"}), Unclear),
        (lambda r: r.say(400, {"code": -2010, "msg": "Duplicate order sent."}), Unclear),
        (lambda r: r.say(400, raw=b"what?"), Unclear),
        (lambda r: r.say(400, {"code": -2010, "msg": "no balance"}), Declined),
        (lambda r: r.say(400, {"code": -1013, "msg": "Filter failure: LOT_SIZE"}), Declined),
        (lambda r: r.say(401, {"code": -2015, "msg": "Invalid API-key"}), Declined),
        (lambda r: r.say(403, raw=b"firewall"), Declined),
        (lambda r: r.say(429, {"code": -1015, "msg": "Too many"}, Retry_After="1"), Declined),
    ],
)
def test_every_answer_to_an_order_is_of_one_of_three_kinds(
    say: Callable[[Script], None], kind: type
) -> None:
    with binance(say) as (venue, requests):
        answer = venue.send(venue.sign(ORDER, BTC, datetime.now(UTC)))
        assert isinstance(answer, kind), answer
        assert sum("/order?" in each for each in requests) == 1


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (lambda r: r.say(400, {"code": -2013, "msg": "Order does not exist."}), None),
        (lambda r: r.say(400, {"code": -2026, "msg": "Archived."}), OrderState.EXPIRED),
        (lambda r: r.say(200, SAID | {"status": "CANCELED"}), OrderState.CANCELED),
        (lambda r: r.say(200, SAID | {"status": "EXPIRED_IN_MATCH"}), OrderState.EXPIRED),
    ],
)
def test_a_question_about_an_order_is_answered_or_it_is_not_found(
    say: Callable[[Script], None], expected: OrderState | None
) -> None:
    with binance(say) as (venue, _):
        report = venue.query(ORDER)
        assert (None if report is None else report.state) is expected


@pytest.mark.parametrize(
    "say",
    [
        lambda r: r.say(503, raw=b""),
        lambda r: r.say(400, {"code": -1003, "msg": "Too many"}),
        lambda r: r.say(200, raw=b"{"),
        lambda r: r.say(200, {"orderId": 1}),
    ],
)
def test_a_question_without_a_readable_answer_proves_nothing(
    say: Callable[[Script], None],
) -> None:
    with binance(say) as (venue, _), pytest.raises(Unreachable):
        venue.query(ORDER)


# --- the account's own stream --------------------------------------------------------------------

EXECUTION: dict[str, Any] = {
    "e": "executionReport",
    "s": "BTCUSDT",
    "c": ORDER.client_order_id,
    "C": "",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "i": 28,
    "z": "0.50000000",
    "m": True,
}


def event(**changes: object) -> str:
    return json.dumps({"subscriptionId": 0, "event": EXECUTION | changes})


def test_an_execution_report_names_the_order_and_what_is_filled() -> None:
    said = user_data.parse(event())
    assert said is not None
    assert said.report.client_order_id == ORDER.client_order_id
    assert Order.id_of(said.report.client_order_id) == ORDER.id
    assert (said.is_news, said.report.state) == (True, OrderState.PARTIAL)
    assert said.report.filled_quantity == D("0.5")


@pytest.mark.parametrize("changes", [{"x": "NEW"}, {"m": False}])
def test_what_the_answer_to_the_placement_tells_is_no_news(changes: dict[str, object]) -> None:
    said = user_data.parse(event(**changes))
    assert said is not None
    assert not said.is_news


def test_a_cancellation_is_about_the_original_order() -> None:
    said = user_data.parse(event(x="CANCELED", X="CANCELED", c="cancel-1", C=ORDER.client_order_id))
    assert said is not None
    assert said.report.client_order_id == ORDER.client_order_id


@pytest.mark.parametrize(
    "frame",
    [
        '{"subscriptionId":0,"event":{"e":"outboundAccountPosition"}}',
        '{"id":"1","status":200,"result":{}}',
        event(X="A_NEW_STATE"),
        event(z="NaN"),
        json.dumps({"event": {"e": "executionReport"}}),
    ],
)
def test_frames_that_tell_nothing_of_an_order_are_passed_over(frame: str) -> None:
    assert user_data.parse(frame) is None


@pytest.mark.parametrize(
    "frame", ['{"event":{"e":"serverShutdown"}}', '{"event":{"e":"eventStreamTerminated"}}', "[]"]
)
def test_a_stream_that_says_it_ends_is_left(frame: str) -> None:
    with pytest.raises(StreamEnded):
        user_data.parse(frame)


def test_no_other_than_our_own_ids_are_taken_for_ours() -> None:
    for theirs in ("", "web_123", "x" * 32, ORDER.client_order_id.upper() + "A", "0" * 31):
        assert Order.id_of(theirs) is None
    assert re.fullmatch("[a-zA-Z0-9-_]{1,36}", ORDER.client_order_id)


class CutOff(user_data.UserData):
    """Its subscription is taken and its connection cut at once, again and again."""

    connected = 0

    def _subscribed(self) -> Any:
        self.connected += 1
        ours, theirs = socket.socketpair()
        theirs.close()
        connection = websocket.WebSocket()
        connection.sock = ours
        return connection


def test_a_stream_that_is_cut_off_at_once_is_asked_for_ever_more_slowly() -> None:
    stream = CutOff(url="ws://127.0.0.1", key=KEY, secret=SECRET, clock=SystemClock())
    stop, rung = threading.Event(), []
    listener = threading.Thread(
        target=stream.run, args=(lambda _: None, lambda: rung.append(1), stop)
    )
    listener.start()
    time.sleep(2.5)
    stop.set()
    listener.join(timeout=5)
    assert not listener.is_alive()
    # 300 connections in five minutes are the venue's budget, for everything at this address.
    assert 2 <= stream.connected <= 5
    # Each time something may have been missed.
    assert len(rung) == stream.connected


# --- the road of the WebSocket API ----------------------------------------------------------------


def test_what_is_frozen_for_the_socket_is_signed_by_name_and_carries_no_key() -> None:
    def answer(request: Script) -> None:
        request.say(200, {"serverTime": int(NOW.timestamp() * 1000)})

    with serving(answer) as (url, _), listening() as order_url:
        venue = BinanceTrading(
            name="binance",
            account="spot",
            url=url,
            order_url=order_url,
            key=KEY,
            secret=SECRET,
            clock=StoppedClock(NOW),
        )
        request = venue.sign(ORDER, instrument("binance", RULES), NOW)
        venue.close()
    method, _, text = request.payload.decode().partition(" ")
    asked = json.loads(text)
    given = asked.pop("signature")
    assert method == "order.place"
    assert KEY.reveal() not in text
    named = {"apiKey": KEY.reveal(), **{name: str(value) for name, value in asked.items()}}
    assert given == signature(encoded(dict(sorted(named.items()))), SECRET)
    assert type(asked["timestamp"]) is int
    assert type(asked["recvWindow"]) is int


def socket_answer(**told: object) -> Response:
    return order_socket._as_of_rest(told)


def test_an_answer_over_the_socket_reads_like_one_of_rest() -> None:
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "count": 70},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "count": 12},
        {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "count": 4043},
        {"rateLimitType": "RAW_REQUESTS"},
        "nonsense",
    ]
    found = socket_answer(id="1", status=200, result={"orderId": 12}, rateLimits=limits)
    assert json.loads(found.body) == {"orderId": 12}
    assert found.headers == {
        "x-mbx-used-weight-1m": "70",
        "x-mbx-order-count-10s": "12",
        "x-mbx-order-count-1d": "4043",
    }


def test_a_ban_over_the_socket_lasts_until_the_moment_it_names() -> None:
    data = {"serverTime": 1_000_000, "retryAfter": 1_090_500}
    found = socket_answer(status=418, error={"code": -1003, "msg": "banned", "data": data})
    assert (found.status, found.headers["retry-after"]) == (418, "91")
    assert json.loads(found.body)["code"] == -1003


@pytest.mark.parametrize("theirs", ["noon", [1], {"a": 1}, 1e400, True, None])
def test_a_ban_whose_server_tells_no_time_is_read_by_our_own_clock(theirs: object) -> None:
    data = {"serverTime": theirs, "retryAfter": int(time.time() * 1000) + 60_000}
    found = socket_answer(status=429, error={"code": -1003, "msg": "slow", "data": data})
    assert 0 < int(found.headers["retry-after"]) <= 60


@pytest.mark.parametrize("told", [{}, {"status": "200"}, {"status": True, "result": {}}])
def test_an_answer_of_no_shape_is_a_success_that_cannot_be_read(told: dict[str, Any]) -> None:
    found = socket_answer(**told)
    assert (found.status, found.body) == (200, b"")


class Sayer:
    """A connection that was asked something and says these frames."""

    sock = None

    def __init__(self, *frames: str) -> None:
        self.frames = list(frames)
        self.is_closed = False

    def send(self, message: str) -> None:
        self.sent = json.loads(message)

    def settimeout(self, seconds: float) -> None:
        pass

    def recv(self) -> str:
        return self.frames.pop(0) if self.frames else ""

    def shutdown(self) -> None:
        self.is_closed = True


def asked(*frames: str) -> tuple[Response, Sayer, OrderSocket]:
    road, sayer = OrderSocket("ws://127.0.0.1:1", KEY, Unlimited()), Sayer(*frames)
    road._pool.take = lambda: sayer  # type: ignore[assignment, method-assign, return-value]
    return road.request("order.place", {"symbol": "BTCUSDT"}), sayer, road


TAKEN_BY_SOCKET = '{"id":"1","status":200,"result":{"orderId":1}}'


def test_only_the_answer_to_the_request_is_taken_for_one() -> None:
    other = '{"id":"77","status":400,"error":{"code":-2010,"msg":"of another request"}}'
    found, sayer, road = asked(other, '{"event":{"e":"outboundAccountPosition"}}', TAKEN_BY_SOCKET)
    assert found.status == 200
    assert sayer.sent["params"] == {"symbol": "BTCUSDT", "apiKey": KEY.reveal()}
    assert not sayer.is_closed
    assert road._pool.resting


def test_a_connection_that_will_end_is_not_used_again() -> None:
    found, sayer, road = asked('{"event":{"e":"serverShutdown","E":1}}', TAKEN_BY_SOCKET)
    assert found.status == 200
    assert sayer.is_closed
    assert not road._pool.resting


@pytest.mark.parametrize(
    "frames", [(), ("<html>",), ("[1]",), ('{"id":null,"status":400,"error":{}}',), ("[" * 10_000,)]
)
def test_what_is_no_answer_leaves_the_outcome_unknown(frames: tuple[str, ...]) -> None:
    with pytest.raises(NoAnswer):
        asked(*frames)


@contextmanager
def listening() -> Iterator[str]:
    """A WebSocket server that shakes hands and says nothing."""
    server = socket.socket()
    server.bind(("127.0.0.1", free_port()))
    server.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                clients.append(client)
                head = client.recv(4096).decode()
                key = re.findall(r"Sec-WebSocket-Key: (\S+)", head)[0]
                digest = hashlib.sha1(
                    key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False
                ).digest()
                accept = base64.b64encode(digest).decode()
                client.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
                )

    clients: list[socket.socket] = []
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in clients:
            client.close()
        thread.join(5)
