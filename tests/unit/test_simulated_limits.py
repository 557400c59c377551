"""Signatures, time windows and limits, by the exchange's own documents."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from botswarm.errors import Unreachable
from botswarm.exchanges.simulated import journal, record
from botswarm.exchanges.simulated.faults import KINDS, REQUEST_FAULTS, Faults
from botswarm.exchanges.simulated.http import BadRequest, read_request
from botswarm.exchanges.simulated.journal import Journal
from botswarm.exchanges.simulated.limits import (
    BAN_FIRST_MS,
    REFUSED_BEFORE_BAN,
    AddressLimits,
    OrderLimits,
    RateLimits,
    Recent,
    Storm,
)
from botswarm.exchanges.simulated.parameters import Parameters, read_new_order
from botswarm.exchanges.simulated.refusal import Refusal
from botswarm.exchanges.simulated.signatures import Credentials, Window, sign, unsigned
from botswarm.exchanges.simulated.streams import StreamConnection, StreamHub
from botswarm.exchanges.simulated.websocket import WebSocket, encode_frame

DOCUMENTED_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"


def test_signatures_equal_the_documented_ones() -> None:
    payload = (
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
        "&recvWindow=5000&timestamp=1499827319559"
    )
    expected = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert sign(DOCUMENTED_SECRET, payload) == expected
    abroad = payload.replace("LTCBTC", "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96")
    expected = "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"
    assert sign(DOCUMENTED_SECRET, abroad) == expected


def test_a_signature_is_checked_in_either_case_and_not_over_itself() -> None:
    credentials = Credentials("key", DOCUMENTED_SECRET, "paper")
    right = sign(DOCUMENTED_SECRET, "a=1&b=2")
    assert unsigned(f"a=1&signature={right}&b=2") == "a=1&b=2"
    credentials.check_signature("a=1&b=2", right.upper())
    for wrong in (sign("other", "a=1&b=2"), right[:-1], "é"):
        with pytest.raises(Refusal, match="-1022"):
            credentials.check_signature("a=1&b=2", wrong)


@pytest.mark.parametrize(
    ("timestamp", "window", "now_ms", "accepted"),
    [
        (10_000, None, 15_000, True),
        (10_000, None, 15_001, False),
        (10_000, "100", 10_101, False),
        (10_000, "100.5", 10_100, True),
        (10_000, None, 9_001, True),
        (10_000, None, 9_000, False),
        (1_763_635_200_000_000, None, 1_763_635_200_000, True),
    ],
)
def test_the_time_window_is_the_documented_one(
    timestamp: int, window: str | None, now_ms: int, accepted: bool
) -> None:
    values = {"timestamp": str(timestamp)} | ({"recvWindow": window} if window else {})
    read = Window.read(values.get)
    if accepted:
        read.check(now_ms)
    else:
        with pytest.raises(Refusal, match="-1021"):
            read.check(now_ms)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, -1102),
        ({"timestamp": "soon"}, -1100),
        ({"timestamp": "1", "recvWindow": "60001"}, -1131),
        ({"timestamp": "1", "recvWindow": "NaN"}, -1131),
        ({"timestamp": "1", "recvWindow": "x"}, -1100),
    ],
)
def test_a_window_that_cannot_be_read_is_refused(values: dict[str, str], code: int) -> None:
    with pytest.raises(Refusal) as refused:
        Window.read(values.get)
    assert refused.value.code == code


# --- parameters -------------------------------------------------------------------------------

ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "1",
    "price": "5",
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"symbol": None}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"type": "GUESS"}, -1116),
        ({"type": "TAKE_PROFIT"}, -1116),
        ({"type": "STOP_LOSS"}, -1106),
        ({"timeInForce": None}, -1102),
        ({"timeInForce": "GTX"}, -1115),
        ({"quantity": "-1"}, -1100),
        ({"quantity": "1e3"}, -1100),
        ({"quantity": "NaN"}, -1100),
        ({"quantity": None}, -1102),
        ({"price": None}, -1102),
        ({"price": ""}, -1105),
        ({"type": "MARKET"}, -1106),
        ({"type": "MARKET", "timeInForce": None, "price": None, "quoteOrderQty": "1"}, -1128),
        ({"newClientOrderId": "not one"}, -1100),
        ({"newClientOrderId": "x" * 37}, -1100),
        ({"selfTradePreventionMode": "DECREMENT"}, -1130),
    ],
)
def test_an_order_that_cannot_be_read_is_refused_with_its_code(
    change: dict[str, str | None], code: int
) -> None:
    wish = {name: value for name, value in {**ORDER, **change}.items() if value is not None}
    with pytest.raises(Refusal) as refused:
        read_new_order(Parameters(wish.items()), "paper")
    assert refused.value.code == code


def test_a_parameter_that_nobody_reads_or_that_comes_twice_is_refused() -> None:
    parameters = Parameters([*ORDER.items(), ("icebergQty", "1"), ("timestamp", "1")])
    order = read_new_order(parameters, "paper")
    assert order.price == Decimal(5)
    with pytest.raises(Refusal, match=r"-1104.*read '7' parameter\(s\) but was sent '8'"):
        parameters.check_all_read()
    with pytest.raises(Refusal, match="-1101"):
        Parameters([("a", "1"), ("a", "2")])


# --- limits -----------------------------------------------------------------------------------


def test_too_much_weight_is_429_until_the_minute_ends_and_418_for_who_goes_on() -> None:
    address = AddressLimits(RateLimits(weight_per_minute=100))
    address.spend(100, 61_000)
    with pytest.raises(Refusal) as refused:
        address.spend(1, 62_000)
    assert (refused.value.status, refused.value.code) == (429, -1003)
    assert refused.value.headers == {"Retry-After": "58"}
    for _ in range(REFUSED_BEFORE_BAN - 1):
        with pytest.raises(Refusal):
            address.spend(1, 62_000)
    with pytest.raises(Refusal) as refused:
        address.spend(1, 62_000)
    assert refused.value.status == 418
    assert refused.value.headers == {"Retry-After": "120"}
    with pytest.raises(Refusal):
        address.spend(1, 62_000 + BAN_FIRST_MS - 1)
    address.spend(1, 62_000 + BAN_FIRST_MS)


def test_a_second_ban_is_longer() -> None:
    address = AddressLimits(RateLimits(weight_per_minute=1))
    lengths, now_ms = [], 0
    for _ in range(2):
        while now_ms >= address.banned_until_ms:
            try:
                address.spend(1, now_ms)
            except Refusal:
                continue
        lengths.append(address.banned_until_ms - now_ms)
        now_ms = address.banned_until_ms
    assert lengths == [BAN_FIRST_MS, 2 * BAN_FIRST_MS]


def test_orders_are_counted_and_a_first_fill_gives_one_back() -> None:
    limits = OrderLimits(RateLimits(orders_per_10s=2, orders_per_day=100))
    limits.count(1_000)
    limits.count(1_000)
    with pytest.raises(Refusal, match="-1015") as refused:
        limits.count(2_000)
    assert refused.value.headers == {"Retry-After": "8"}
    limits.first_fill(2_000)
    limits.count(2_000)
    assert limits.headers(2_000) == {
        "X-MBX-ORDER-COUNT-10S": "2",
        "X-MBX-ORDER-COUNT-1D": "2",
    }
    limits.count(10_000)


def test_more_messages_than_a_second_allows_are_noticed() -> None:
    recent = Recent(5, 1000)
    assert [recent.admits(ms) for ms in (0, 1, 2, 3, 4, 5)] == [True] * 5 + [False]
    assert recent.admits(1_005)


# --- faults -----------------------------------------------------------------------------------


def test_a_fault_strikes_where_and_as_often_as_it_was_armed() -> None:
    faults = Faults()
    faults.arm({"kind": "drop_reply", "on": "place", "times": 2})
    assert faults.take(REQUEST_FAULTS, "cancel") is None
    assert [bool(faults.take(REQUEST_FAULTS, "place")) for _ in range(3)] == [True, True, False]
    assert faults.described() == {"armed": [], "fired": {"drop_reply": 2}, "refused": {}}


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"kind": "burn"},
        {"kind": "slow", "on": "tuesdays"},
        {"kind": "slow", "times": 0},
        {"kind": "slow", "times": True},
        {"kind": "slow", "seconds": -1},
        {"kind": "slow", "seconds": "1"},
        {"kind": "slow", "seconds": float("nan")},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, object]) -> None:
    with pytest.raises(Refusal, match="-1130"):
        Faults().arm(wish)


def test_every_fault_is_described_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/simulated-exchange.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


# --- files ------------------------------------------------------------------------------------


def test_half_a_line_at_the_end_of_the_journal_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"type":"start"}\n{"type":"or')
    assert [entry["type"] for entry in journal.read(path)] == ["start"]
    opened = Journal(path)
    opened.write([{"type": "stop", "amount": Decimal("1E+2")}])
    opened.close()
    assert path.read_text() == '{"type":"start"}\n{"type": "stop", "amount": "100"}\n'


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(Unreachable, match="another simulated exchange is running"):
        Journal(tmp_path / "journal.jsonl")
    first.close()
    Journal(tmp_path / "journal.jsonl").close()


def test_a_journal_with_a_damaged_line_is_not_read_past_it(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"type":"start"}\n{"type":"ord\n{"type":"stop"}\n')
    with pytest.raises(Unreachable, match=r"line 2 of .* is not JSON"):
        list(journal.read(tmp_path / "j"))


def test_the_address_card_is_read_back_and_private(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    card = record.ExchangeRecord(
        host="127.0.0.1",
        port=1,
        rest_url="r",
        stream_url="s",
        ws_api_url="w",
        api_key="k",
        api_secret="hidden",
        pid=1,
        started_at="now",
    )
    record.write(tmp_path, card)
    assert record.read(tmp_path) == card
    assert (tmp_path / record.FILE).stat().st_mode & 0o777 == 0o600
    assert "hidden" not in repr(card)
    (tmp_path / record.FILE).write_text("{")
    assert record.read(tmp_path) is None


# --- bytes ------------------------------------------------------------------------------------


def read_bytes(data: bytes) -> object:
    async def read() -> object:
        reader = asyncio.StreamReader(limit=32 * 1024)
        reader.feed_data(data)
        reader.feed_eof()
        return await read_request(reader, "127.0.0.1")

    return asyncio.run(read())


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_as_we_know_it_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read_bytes(data)


def test_half_a_request_is_none() -> None:
    assert read_bytes(b"GET / HTTP/1.1\r\nHost") is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_say_their_length_in_the_shortest_way(size: int) -> None:
    frame = encode_frame(b"x" * size)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame) == head + size
    assert frame[0] == 0x81


class Wire:
    """Stands where the socket's writer does and keeps what is sent."""

    transport = type("Transport", (), {"get_write_buffer_size": staticmethod(lambda: 0)})()

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True


def ask(text: str) -> dict[str, object]:
    wire = Wire()
    socket = WebSocket(None, wire)  # type: ignore[arg-type] # nothing is read here
    connection = StreamConnection(StreamHub(), socket, 0.0, is_combined=False)
    connection.on_message(text)
    return dict(json.loads(wire.sent[0][2 if len(wire.sent[0]) < 128 else 4 :]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":1}', {"result": None, "id": 1}),
        ('{"method":"LIST_SUBSCRIPTIONS","id":"x1"}', {"result": [], "id": "x1"}),
        ('{"method":"SET_PROPERTY","params":["combined",true],"id":5}', {"result": None, "id": 5}),
        ('{"method":"GET_PROPERTY","params":["combined"],"id":2}', {"result": False, "id": 2}),
        (
            '{"method":"SET_PROPERTY","params":["colour",true],"id":5}',
            {"code": 0, "msg": "Unknown property", "id": 5},
        ),
        ("{", {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 2"}),
    ],
)
def test_control_messages_are_answered_as_documented(
    text: str, expected: dict[str, object]
) -> None:
    assert ask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        '{"method":"SHOUT","id":1}',
        '{"method":"SUBSCRIBE","params":"a","id":1}',
        '{"method":"SUBSCRIBE","params":[1],"id":1}',
        '{"method":"SUBSCRIBE","params":[],"id":1.5}',
        '{"method":"SUBSCRIBE","params":[],"id":"not-one"}',
        '{"method":{},"id":1}',
    ],
)
def test_a_request_that_cannot_be_read_is_answered_with_code_2(text: str) -> None:
    assert ask(text)["code"] == 2


def test_in_a_storm_everybody_is_told_until_when_and_counted_and_afterwards_nobody() -> None:
    storm = Storm(is_ban=True, at_ms=1_000, until_ms=4_000)
    with pytest.raises(Refusal) as caught:
        storm.refuse(1_500)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (418, "3")
    storm.refuse(4_000)
    assert storm.asked == 1
    with pytest.raises(Refusal) as caught:
        Storm(is_ban=False, at_ms=0, until_ms=1_000).refuse(0)
    assert caught.value.status == 429
