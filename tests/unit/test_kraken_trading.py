"""Kraken's orders without a server: signatures, nonces, error texts, frozen requests, rows."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.clock import StoppedClock, SystemClock
from botswarm.config import Secret
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Refused, Unreachable
from botswarm.exchanges.account_stream import StreamEnded
from botswarm.exchanges.kraken import answers, placing
from botswarm.exchanges.kraken.errors import MEANING, meaning_of
from botswarm.exchanges.kraken.executions import Executions
from botswarm.exchanges.kraken.nonces import Nonces
from botswarm.exchanges.kraken.signing import signature
from botswarm.exchanges.kraken.trading_socket import TradingSocket
from botswarm.exchanges.meaning import Meaning
from botswarm.exchanges.simulated.kraken_guard import signature as venues_signature

D = Decimal
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
KEY = Secret("a key")
SECRET = Secret(
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
)
VECTOR = "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
BODY = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"

# --- signing -------------------------------------------------------------------------------------


def test_the_venues_own_example_is_signed_as_it_says() -> None:
    assert signature("/0/private/AddOrder", 1616492376594, BODY, SECRET) == VECTOR


def test_the_simulated_exchange_expects_the_venues_own_example_too() -> None:
    assert venues_signature(SECRET.reveal(), "/0/private/AddOrder", "1616492376594", BODY) == VECTOR


def test_a_secret_that_is_no_base64_is_refused_without_being_shown() -> None:
    with pytest.raises(Refused, match="not base64") as caught:
        signature("/0/private/Balance", 1, "nonce=1", Secret("%not base64%"))
    assert "%not" not in str(caught.value) + caught.value.cure


# --- nonces --------------------------------------------------------------------------------------


def draw(folder: Path, count: int, found: Any) -> None:
    nonces = Nonces(folder, KEY, SystemClock())
    found.put([nonces.next() for _ in range(count)])


def test_nonces_of_many_processes_rise_strictly_and_none_is_drawn_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    drawing = [context.Process(target=draw, args=(tmp_path, 200, found)) for _ in range(3)]
    for process in drawing:
        process.start()
    lists = [found.get(timeout=60) for _ in drawing]
    for process in drawing:
        process.join(60)
    assert all(each == sorted(each) for each in lists)
    assert len({nonce for each in lists for nonce in each}) == 600


def test_nonces_go_on_rising_over_restarts_and_when_the_clock_is_set_back(tmp_path: Path) -> None:
    first = Nonces(tmp_path, KEY, StoppedClock(NOW))
    drawn = [first.next(), first.next()]
    assert drawn[0] == int(NOW.timestamp() * 1000)
    later = Nonces(tmp_path, KEY, StoppedClock(NOW - timedelta(days=1)))
    drawn += [later.next(), later.next(at_least=drawn[0] + 5_000), later.next()]
    assert drawn == sorted(set(drawn))


def test_each_key_has_nonces_of_its_own_and_its_name_is_not_in_theirs(tmp_path: Path) -> None:
    Nonces(tmp_path, Secret("one-key"), StoppedClock(NOW)).next(at_least=10**15)
    assert Nonces(tmp_path, Secret("other-key"), StoppedClock(NOW)).next() < 10**14
    assert not any("key" in path.name for path in tmp_path.iterdir())


def hold_a_turn(folder: Path, has_it: Any) -> None:
    with Nonces(folder, KEY, SystemClock()).turn():
        has_it.set()
        time.sleep(600)


def test_one_who_is_stopped_in_its_turn_holds_the_others_up_for_moments_only(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    has_it = context.Event()
    holder = context.Process(target=hold_a_turn, args=(tmp_path, has_it), daemon=True)
    holder.start()
    assert holder.pid is not None
    try:
        assert has_it.wait(60)
        os.kill(holder.pid, signal.SIGSTOP)
        with Nonces(tmp_path, KEY, SystemClock()).turn() as nonce:
            assert nonce > 0
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.join(60)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match="cannot write"):
        Nonces(tmp_path / "file", KEY, SystemClock()).next()


# --- error texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("EOrder:Insufficient funds", Meaning.NOT_PLACED),
        ("EGeneral:Invalid arguments:volume", Meaning.NOT_PLACED),
        ("EOrder:Invalid price:Invalid price argument", Meaning.NOT_PLACED),
        ("Currency pair not supported ABC/DEF", Meaning.NOT_PLACED),
        ("EAPI:Invalid key", Meaning.NOT_PLACED),
        ("EAPI:Rate limit exceeded", Meaning.LATER),
        ("EOrder:Rate limit exceeded", Meaning.LATER),
        ("EService:Market in cancel_only mode", Meaning.LATER),
        ("EService:Throttled:1795192538", Meaning.LATER),
        ("EService:Unavailable", Meaning.UNKNOWN),
        ("EService:Deadline elapsed", Meaning.UNKNOWN),
        ("EGeneral:Internal error:1234", Meaning.UNKNOWN),
        ("EGeneral:Invalid arguments", Meaning.UNKNOWN),
        ("EOrder:Unknown order", Meaning.UNKNOWN),
        # Whatever the words for it are: an order of this id may be there.
        ("EOrder:cl_ord_id already in use", Meaning.UNKNOWN),
        ("EGeneral:Invalid arguments:cl_ord_id", Meaning.UNKNOWN),
        ("EOrder:Duplicate order", Meaning.UNKNOWN),
        ("EOrder:Something new", Meaning.UNKNOWN),
        ("", Meaning.UNKNOWN),
    ],
)
def test_each_error_means_what_its_text_proves(error: str, meaning: Meaning) -> None:
    assert meaning_of([error]) is meaning


@given(st.text())
def test_what_no_table_knows_is_unknown(error: str) -> None:
    if not any(error.startswith(known) for known in MEANING):
        assert meaning_of([error]) is Meaning.UNKNOWN


def test_of_several_errors_the_one_that_leaves_most_open_counts() -> None:
    several = ["EOrder:Insufficient funds", "EService:Busy", "EAPI:Rate limit exceeded"]
    assert meaning_of(several) is Meaning.UNKNOWN
    assert meaning_of(several[::2]) is Meaning.LATER
    assert meaning_of([]) is Meaning.UNKNOWN


# --- frozen requests -----------------------------------------------------------------------------


class Ponging:
    """A connection that answers a ping with these fields."""

    sock = None

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        self.is_closed = False

    def send(self, message: bytes) -> None:
        self.number = json.loads(message)["req_id"]

    def settimeout(self, seconds: float) -> None:
        pass

    def recv(self) -> str:
        return json.dumps({"method": "pong", "req_id": self.number, **self.fields})

    def shutdown(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(
    "fields", [{}, {"time_out": "soon"}, {"time_out": None}, {"time_out": "2026-01-02T03:04:05"}]
)
def test_a_pong_without_a_time_is_no_answer(
    fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, connection = TradingSocket("ws://127.0.0.1:1", lambda: "token"), Ponging(**fields)
    monkeypatch.setattr(socket._pool, "take", lambda: connection)
    with pytest.raises(Unreachable):
        socket.server_time()
    assert connection.is_closed


def an_order(**changes: Any) -> Order:
    values: dict[str, Any] = {
        "id": "0d2b7a6c-0f0e-4d3a-9a51-0f6f2a4b8c1d",
        "bot": "turtle",
        "venue": "kraken",
        "account": "main",
        "symbol": "BTC-USD",
        "side": Side.BUY,
        "kind": OrderKind.LIMIT,
        "quantity": D("0.10000000"),
        "limit_price": D("37500.10"),
        "time_in_force": TimeInForce.GTC,
        "reference_price": D(37_500),
        "state": OrderState.APPROVED,
        "created_at": NOW,
        "signal_expires_at": NOW + timedelta(seconds=10),
    }
    return Order(**values | changes)


def frozen(**changes: Any) -> dict[str, Any]:
    said = json.loads(placing.for_socket(an_order(**changes), NOW), parse_float=str)
    assert said["method"] == "add_order"
    parameters: dict[str, Any] = said["params"]
    return parameters


def test_a_frozen_request_carries_everything_but_the_sessions_token() -> None:
    assert frozen() == {
        "order_type": "limit",
        "side": "buy",
        "order_qty": "0.10000000",
        "symbol": "BTC/USD",
        "cl_ord_id": "0d2b7a6c0f0e4d3a9a510f6f2a4b8c1d",
        "deadline": "2026-01-02T03:04:05.678Z",
        "fee_preference": "quote",
        "stp_type": "cancel_oldest",
        "limit_price": "37500.10",
        "time_in_force": "gtc",
    }


def test_each_kind_of_order_is_said_in_the_venues_words() -> None:
    market = frozen(kind=OrderKind.MARKET, limit_price=None)
    assert (market["order_type"], "limit_price" in market) == ("market", False)
    post_only = frozen(kind=OrderKind.POST_ONLY, time_in_force=TimeInForce.IOC)
    assert (post_only["post_only"], post_only["time_in_force"]) == (True, "gtc")
    stop = frozen(kind=OrderKind.STOP, limit_price=None, stop_price=D(30_000))
    assert stop["triggers"] == {"reference": "last", "price": 30_000}
    both = frozen(kind=OrderKind.STOP_LIMIT, stop_price=D(30_000))
    assert (both["order_type"], both["limit_price"]) == ("stop-loss-limit", "37500.10")


def test_fill_or_kill_goes_by_rest_where_limits_stand_in_other_fields() -> None:
    order = an_order(time_in_force=TimeInForce.FOK)
    assert placing.is_by_rest(order)
    assert not placing.is_by_rest(an_order(time_in_force=TimeInForce.IOC))
    assert not placing.is_by_rest(an_order(kind=OrderKind.MARKET, time_in_force=TimeInForce.FOK))
    said = placing.for_rest(order, "XBTUSD", NOW).decode()
    assert said.startswith("AddOrder?pair=XBTUSD&type=buy&ordertype=limit&volume=0.10000000")
    assert "price=37500.10" in said
    assert "nonce" not in said
    stop = an_order(kind=OrderKind.STOP_LIMIT, stop_price=D(30_000))
    assert "price=30000&price2=37500.10" in placing.for_rest(stop, "XBTUSD", NOW).decode()


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("pending", "0", OrderState.LIVE),
        ("open", "0.00000000", OrderState.LIVE),
        ("open", "0.5", OrderState.PARTIAL),
        ("closed", "1.00000000", OrderState.FILLED),
        ("closed", "0.5", OrderState.CANCELED),
        ("canceled", "0.5", OrderState.CANCELED),
        ("expired", "0", OrderState.EXPIRED),
    ],
)
def test_a_row_is_read_as_the_state_it_proves(status: str, filled: str, state: OrderState) -> None:
    row = {"status": status, "vol": "1", "vol_exec": filled, "cl_ord_id": "abc"}
    report = answers.report("OABC", row)
    assert (report.state, report.filled_quantity) == (state, D(filled))


def test_an_order_that_others_placed_without_a_name_goes_by_the_venues() -> None:
    row = {"status": "open", "vol": "1", "vol_exec": "0", "cl_ord_id": None}
    assert answers.report("OABC", row).client_order_id == "OABC"
    assert Order.id_of("OABC") is None


def test_of_orders_of_one_name_the_newest_counts() -> None:
    rows = {"OA": {"opentm": D("1700000000.1")}, "OB": {"opentm": D("1700000000.2")}}
    assert answers.newest(rows) == ("OB", rows["OB"])
    assert answers.newest({}) is None


def test_assets_of_2013_get_the_names_that_everybody_uses() -> None:
    told = {
        "XXBT": {"balance": "1.5", "hold_trade": "0.5"},
        "XBT": {"balance": "0.5", "hold_trade": "0"},
        "ZUSD": {"balance": "10.0000", "hold_trade": "0"},
        "XXDG": {"balance": "7", "hold_trade": "0"},
        "USDT": {"balance": "0.0000", "hold_trade": "0"},
        "ETH2.S": {"balance": "3", "hold_trade": "0"},
    }
    expected = {"BTC": D(2), "USD": D(10), "DOGE": D(7), "ETH2.S": D(3)}
    assert answers.balances(told) == expected


def test_a_trade_without_a_number_is_not_booked_under_a_guessed_one() -> None:
    with pytest.raises(Unreachable, match="no number"):
        answers.fill("kraken", "BTC-USD", {"ordertxid": "OA"}, "abc")


# --- the stream ----------------------------------------------------------------------------------


def a_stream(tmp_path: Path) -> Executions:
    return Executions(
        url="http://127.0.0.1:1",
        stream_url="ws://127.0.0.1:1",
        key=KEY,
        secret=SECRET,
        clock=SystemClock(),
        state_dir=tmp_path,
    )


def told(sequence: int, kind: str = "update", **row: Any) -> str:
    frame = {"channel": "executions", "type": kind, "data": [row], "sequence": sequence}
    return json.dumps(frame)


def test_changes_are_told_of_the_order_that_an_earlier_frame_named(tmp_path: Path) -> None:
    stream = a_stream(tmp_path)
    first: dict[str, Any] = {"order_id": "OA", "cl_ord_id": "abc", "exec_type": "pending_new"}
    (placed,) = stream.read(told(1, **first, order_status="pending_new"))
    trade: dict[str, Any] = {"order_id": "OA", "exec_type": "trade", "cum_qty": 0.5}
    (traded,) = stream.read(told(2, **trade, order_status="partially_filled"))
    (ended,) = stream.read(told(3, order_id="OA", exec_type="canceled", order_status="canceled"))
    assert (placed.is_news, traded.is_news, ended.is_news) == (False, True, True)
    assert {each.report.client_order_id for each in (placed, traded, ended)} == {"abc"}
    assert (ended.report.state, ended.report.filled_quantity) == (OrderState.CANCELED, D("0.5"))


def test_a_hole_in_the_sequence_ends_the_connection_and_a_repeat_says_nothing(
    tmp_path: Path,
) -> None:
    stream = a_stream(tmp_path)
    row: dict[str, Any] = {"order_id": "OA", "cl_ord_id": "abc"}
    row |= {"exec_type": "new", "order_status": "new"}
    assert not list(stream.read(told(1, "snapshot", **row)))
    assert len(list(stream.read(told(2, **row)))) == 1
    assert not list(stream.read(told(2, **row)))
    with pytest.raises(StreamEnded, match="frame 3 is missing"):
        list(stream.read(told(4, **row)))


@pytest.mark.parametrize(
    "frame",
    [
        '{"channel":"heartbeat"}',
        '{"channel":"status","type":"update","data":[{"system":"online"}]}',
        told(1, order_id="OA", exec_type="trade"),
        told(1, order_id="OA", exec_type="trade", order_status="odd"),
        told(1, order_id="OB", exec_type="canceled", order_status="canceled"),
    ],
)
def test_what_names_no_order_of_ours_rings_no_bell(frame: str, tmp_path: Path) -> None:
    assert not list(a_stream(tmp_path).read(frame))
