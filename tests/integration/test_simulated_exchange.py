"""The simulated exchange over its wires: Binance's protocols, its mishaps and its memory."""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import websocket

from botswarm.errors import Unreachable
from botswarm.exchanges.simulated.signatures import sign
from botswarm.testing.exchange import SimulatedExchangeServer
from botswarm.testing.servers import wait_until

ORDER = "/api/v3/order"
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer(options=["--orders-per-10s-max", "1000"]) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_armed(exchange: SimulatedExchangeServer) -> Iterator[None]:
    yield
    if exchange.running:
        exchange.misbehaviour("DELETE")


@contextmanager
def connected(url: str) -> Iterator[Any]:
    line = websocket.create_connection(url, timeout=5)
    try:
        yield line
    finally:
        line.close()
        # Its close does nothing to a line that the exchange has hung up.
        line.shutdown()  # type: ignore[no-untyped-call] # it ships without types


def stream(server: SimulatedExchangeServer, path: str) -> AbstractContextManager[Any]:
    return connected(server.card.stream_url + path)


def next_where(line: Any, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        message: dict[str, Any] = json.loads(line.recv())
        if wanted(message):
            return message
    raise AssertionError("what was waited for did not come")


def ask(line: Any, server: SimulatedExchangeServer, method: str, **parameters: Any) -> Any:
    line.send(json.dumps(ws_request(server, method, **parameters)))
    return next_where(line, lambda message: message.get("id") == method)


def ws_request(server: SimulatedExchangeServer, method: str, **parameters: Any) -> dict[str, Any]:
    card = server.card
    values = {"apiKey": card.api_key, "timestamp": int(time.time() * 1000)} | parameters
    payload = "&".join(f"{name}={value}" for name, value in sorted(values.items()))
    values["signature"] = sign(card.api_secret, payload)
    return {"id": method, "method": method, "params": values}


# --- orders over REST -------------------------------------------------------------------------


def test_an_order_lives_and_ends_as_documented(exchange: SimulatedExchangeServer) -> None:
    placed = exchange.order(newClientOrderId="life-1")
    assert placed.status == 200
    assert placed.body | {"orderId": 0, "transactTime": 0, "workingTime": 0} == {
        "symbol": "BTCUSDT",
        "orderId": 0,
        "orderListId": -1,
        "clientOrderId": "life-1",
        "transactTime": 0,
        "price": "50000.00000000",
        "origQty": "0.00100000",
        "executedQty": "0.00000000",
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingTime": 0,
        "fills": [],
    }
    named = {"symbol": "BTCUSDT", "origClientOrderId": "life-1"}
    assert exchange.signed("GET", ORDER, **named).body["status"] == "NEW"
    cancelled = exchange.signed("DELETE", ORDER, **named).body
    assert (cancelled["origClientOrderId"], cancelled["status"]) == ("life-1", "CANCELED")
    again = exchange.signed("DELETE", ORDER, **named)
    assert (again.status, again.body["code"]) == (400, -2011)
    missing = exchange.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="never")
    assert (missing.status, missing.body["code"]) == (400, -2013)


def test_parameters_may_stand_in_the_body_and_are_signed_with_the_query(
    exchange: SimulatedExchangeServer,
) -> None:
    card = exchange.card
    query = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
    body = f"quantity=0.001&price=50000&timestamp={int(time.time() * 1000)}"
    signature = sign(card.api_secret, query + body)
    headers = {
        "X-MBX-APIKEY": card.api_key,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    path = f"/api/v3/order/test?{query}"
    right = exchange.send("POST", path, headers=headers, body=f"{body}&signature={signature}")
    assert (right.status, right.body) == (200, {})
    forged = f"{body.replace('0.001', '0.002')}&signature={signature}"
    wrong = exchange.send("POST", path, headers=headers, body=forged)
    assert (wrong.status, wrong.body["code"]) == (400, -1022)


def test_who_is_not_let_in_is_told_why(exchange: SimulatedExchangeServer) -> None:
    query = exchange.sign()
    nobody = exchange.send("GET", f"/api/v3/account?{query}", headers={})
    assert (nobody.status, nobody.body["code"]) == (401, -2014)
    other = exchange.send("GET", f"/api/v3/account?{query}", headers={"X-MBX-APIKEY": "x"})
    assert (other.status, other.body["code"]) == (401, -2015)
    late = exchange.signed("GET", "/api/v3/account", timestamp=int(time.time() * 1000) - 6_000)
    assert late.body["code"] == -1021
    early = exchange.signed("GET", "/api/v3/account", timestamp=int(time.time() * 1000) + 2_000)
    assert early.body["code"] == -1021
    assert exchange.public("GET", "/api/v3/klines", symbol="BTCUSDT").body["code"] == -1102
    assert exchange.public("GET", "/api/v3/depth", symbol="DOGE").body["code"] == -1121
    assert exchange.public("GET", "/api/v4/all").status == 404


def test_limits_are_shown_and_counted(exchange: SimulatedExchangeServer) -> None:
    before = exchange.public("GET", "/api/v3/ping").headers["x-mbx-used-weight-1m"]
    exchange.public("GET", "/api/v3/exchangeInfo")
    after = exchange.public("GET", "/api/v3/ping").headers["x-mbx-used-weight-1m"]
    if int(after) > int(before):  # else a minute has begun in between
        assert int(after) - int(before) == 21
    placed = exchange.order()
    assert int(placed.headers["x-mbx-order-count-10s"]) >= 1
    shown = exchange.public("GET", "/api/v3/exchangeInfo").body["rateLimits"]
    assert [each["limit"] for each in shown] == [6_000, 1_000, 200_000, 300_000]


def test_balances_add_up_after_every_kind_of_order(exchange: SimulatedExchangeServer) -> None:
    def balances() -> dict[str, Decimal]:
        listed = exchange.signed("GET", "/api/v3/account").body["balances"]
        return {each["asset"]: Decimal(each["free"]) + Decimal(each["locked"]) for each in listed}

    before = balances()
    last = exchange.signed("GET", "/api/v3/myTrades", symbol="ETHUSDT", limit=1).body
    first_id = last[-1]["id"] + 1 if last else 0
    exchange.market_order(symbol="ETHUSDT", quantity="0.5")
    exchange.market_order(symbol="ETHUSDT", side="SELL", quantity="0.3")
    exchange.market_order(symbol="ETHUSDT", quantity=None, quoteOrderQty="100")
    exchange.order(symbol="ETHUSDT", price="9000", quantity="0.1", timeInForce="IOC")
    trades = exchange.signed("GET", "/api/v3/myTrades", symbol="ETHUSDT", fromId=first_id).body
    change = {"ETH": Decimal(0), "USDT": Decimal(0)}
    for trade in trades:
        sign_ = 1 if trade["isBuyer"] else -1
        change["ETH"] += sign_ * Decimal(trade["qty"])
        change["USDT"] -= sign_ * Decimal(trade["quoteQty"])
        change[trade["commissionAsset"]] -= Decimal(trade["commission"])
    assert len(trades) >= 4
    after = balances()
    assert {asset: after[asset] - before[asset] for asset in change} == change


# --- streams ----------------------------------------------------------------------------------


def test_every_stream_speaks_and_trades_have_no_gap(exchange: SimulatedExchangeServer) -> None:
    kinds = ("trade", "aggTrade", "bookTicker", "kline_1s", "depth@100ms", "depth", "depth5")
    names = [f"btcusdt@{kind}" for kind in (*kinds, "ticker", "miniTicker")]
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with stream(exchange, "/stream?streams=" + "/".join(names)) as line:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and any(len(each) < 3 for each in seen.values()):
            message = json.loads(line.recv())
            seen[message["stream"]].append(message["data"])
    assert {name: len(each) for name, each in seen.items() if len(each) < 3} == {}
    trades = [trade["t"] for trade in seen["btcusdt@trade"]]
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    aggregates = seen["btcusdt@aggTrade"]
    for before, after in pairwise(aggregates):
        assert (after["a"], after["f"]) == (before["a"] + 1, before["l"] + 1)
    for name in ("btcusdt@depth@100ms", "btcusdt@depth"):
        for before, after in pairwise(seen[name]):
            assert after["U"] == before["u"] + 1
    assert all(Decimal(each["b"]) < Decimal(each["a"]) for each in seen["btcusdt@bookTicker"])
    assert any(each["k"]["x"] for each in seen["btcusdt@kline_1s"])


def test_a_book_kept_from_the_stream_equals_the_one_asked_for(
    exchange: SimulatedExchangeServer,
) -> None:
    sides: dict[str, dict[str, str]] = {}
    with stream(exchange, "/ws/ethusdt@depth@100ms") as line:
        first = json.loads(line.recv())
        start = exchange.public("GET", "/api/v3/depth", symbol="ETHUSDT", limit=5000).body
        sides = {"b": dict(start["bids"]), "a": dict(start["asks"])}
        known, update = start["lastUpdateId"], first
        deadline = time.monotonic() + DEADLINE_S
        compared = 0
        while compared < 3 and time.monotonic() < deadline:
            if update["u"] > known:
                assert update["U"] <= known + 1
                for side in ("b", "a"):
                    for price, quantity in update[side]:
                        sides[side][price] = quantity
                        if Decimal(quantity) == 0:
                            del sides[side][price]
                known = update["u"]
                now = exchange.public("GET", "/api/v3/depth", symbol="ETHUSDT", limit=5000).body
                if now["lastUpdateId"] == known:
                    assert sides == {"b": dict(now["bids"]), "a": dict(now["asks"])}
                    compared += 1
            update = json.loads(line.recv())
    assert compared == 3


def test_subscriptions_change_while_connected(exchange: SimulatedExchangeServer) -> None:
    with stream(exchange, "/ws") as line:
        wish = {"method": "SUBSCRIBE", "params": ["btcusdt@depth5@100ms"], "id": 1}
        line.send(json.dumps(wish))
        assert json.loads(line.recv()) == {"result": None, "id": 1}
        assert "lastUpdateId" in json.loads(line.recv())
        line.send(json.dumps({"method": "SET_PROPERTY", "params": ["combined", True], "id": 2}))
        assert next_where(line, lambda m: "stream" in m)["stream"] == "btcusdt@depth5@100ms"
        line.send(json.dumps(wish | {"method": "UNSUBSCRIBE", "id": 3}))
        next_where(line, lambda m: m.get("id") == 3)
        line.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 4}))
        assert json.loads(line.recv()) == {"result": [], "id": 4}


def test_who_talks_too_much_is_cut_off(exchange: SimulatedExchangeServer) -> None:
    with stream(exchange, "/ws") as line:
        for number in range(6):
            line.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        opcodes = [line.recv_data()[0] for _ in range(6)]
        assert opcodes == [websocket.ABNF.OPCODE_TEXT] * 5 + [websocket.ABNF.OPCODE_CLOSE]


def test_a_thousand_and_twenty_four_streams_are_enough(exchange: SimulatedExchangeServer) -> None:
    with stream(exchange, "/ws") as line:
        names = [f"x{n}@trade" for n in range(1024)]
        line.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert json.loads(line.recv()) == {"result": None, "id": 1}
        line.send(json.dumps({"method": "SUBSCRIBE", "params": ["one@more"], "id": 2}))
        opcode, _ = line.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE


# --- WebSocket API ----------------------------------------------------------------------------


def test_orders_over_the_websocket_api_are_reported_to_who_listens(
    exchange: SimulatedExchangeServer,
) -> None:
    with connected(exchange.card.ws_api_url) as line:
        subscribed = ask(line, exchange, "userDataStream.subscribe.signature")
        assert subscribed["result"] == {"subscriptionId": 0}
        wish = {
            "symbol": "SOLUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "1",
            "price": "100",
            "newClientOrderId": "ws-1",
        }
        line.send(json.dumps(ws_request(exchange, "order.place", **wish)))
        report = next_where(line, lambda m: "event" in m)
        assert report["subscriptionId"] == 0
        event = report["event"]
        assert (event["e"], event["x"], event["X"], event["c"]) == (
            "executionReport",
            "NEW",
            "NEW",
            "ws-1",
        )
        position = next_where(line, lambda m: "event" in m)["event"]
        assert position["e"] == "outboundAccountPosition"
        assert {each["a"] for each in position["B"]} == {"SOL", "USDT"}
        placed = next_where(line, lambda m: m.get("id") == "order.place")
        assert (placed["status"], placed["result"]["status"]) == (200, "NEW")
        assert placed["rateLimits"][1]["count"] >= 1
        exchange.market_order(symbol="SOLUSDT", quantity="2", newClientOrderId="ws-2")
        fill = next_where(line, lambda m: m.get("event", {}).get("x") == "TRADE")["event"]
        assert (fill["c"], fill["N"], fill["r"]) == ("ws-2", "SOL", "NONE")
        assert Decimal(fill["n"]) == Decimal(fill["l"]) / 1000
        named = {"symbol": "SOLUSDT", "origClientOrderId": "ws-1"}
        ask_again = ask(line, exchange, "order.status", **named)
        assert ask_again["result"]["status"] == "NEW"
        line.send(json.dumps(ws_request(exchange, "order.cancel", **named)))
        gone = next_where(line, lambda m: m.get("event", {}).get("x") == "CANCELED")["event"]
        assert (gone["C"], gone["X"]) == ("ws-1", "CANCELED")
        assert gone["c"] != "ws-1"


def test_the_websocket_api_refuses_as_rest_does(exchange: SimulatedExchangeServer) -> None:
    with connected(exchange.card.ws_api_url) as line:
        assert ask(line, exchange, "no.such")["error"]["code"] == -1130
        assert ask(line, exchange, "userDataStream.start")["error"]["code"] == -1130
        forged = ws_request(exchange, "account.status")
        forged["params"]["signature"] = "0" * 64
        line.send(json.dumps(forged))
        answer = json.loads(line.recv())
        assert (answer["status"], answer["error"]["code"]) == (400, -1022)
        for text in ("{", "[]", '{"id":1}', '{"id":1,"method":"ping","params":[1]}'):
            line.send(text)
            assert json.loads(line.recv())["error"]["code"] == -1135
        assert ask(line, exchange, "ping")["result"] == {}


# --- mishaps ----------------------------------------------------------------------------------


def known(exchange: SimulatedExchangeServer, name: str) -> bool:
    found = exchange.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId=name)
    return found.status == 200


@pytest.mark.parametrize(
    ("kind", "is_executed"),
    [
        ("drop_request", False),
        ("drop_reply", True),
        ("truncate_reply", True),
        ("timeout_executed", True),
        ("timeout_not_executed", False),
        ("error_executed", True),
        ("error_not_executed", False),
        ("garbage_reply", True),
    ],
)
def test_a_mishap_happens_once_and_is_what_it_says(
    exchange: SimulatedExchangeServer, kind: str, is_executed: bool
) -> None:
    name = f"mishap-{kind}"
    armed = exchange.arm(kind)
    assert armed.body["armed"][0]["left"] == 1
    reply = None
    with suppress(OSError, http.client.HTTPException):
        reply = exchange.order(newClientOrderId=name)
    if kind.startswith("timeout"):
        assert reply is not None
        assert reply.body["code"] == -1007
    elif kind.startswith("error"):
        assert reply is not None
        assert reply.status == 503
    elif kind == "garbage_reply":
        assert reply is not None
        assert reply.status == 200
        assert b"<html>" in reply.body
    else:
        assert reply is None
    assert known(exchange, name) is is_executed
    entries = [e for e in exchange.journal("order") if e["client_order_id"] == name]
    assert len(entries) == is_executed
    assert exchange.misbehaviour("GET").body["armed"] == []
    assert exchange.order().status == 200


def test_a_request_held_beyond_its_window_is_refused_at_the_engine(
    exchange: SimulatedExchangeServer,
) -> None:
    exchange.arm("hold", seconds=0.4, times=2)
    late = exchange.order(newClientOrderId="held-late", recvWindow=200)
    assert late.body["code"] == -1021
    assert not known(exchange, "held-late")
    assert exchange.order(newClientOrderId="held", recvWindow=5000).status == 200


def test_the_same_bytes_delivered_twice_place_a_market_order_twice(
    exchange: SimulatedExchangeServer,
) -> None:
    exchange.arm("twice", times=2)
    exchange.market_order(quantity="0.001", newClientOrderId="twice-market")
    exchange.order(newClientOrderId="twice-limit")
    placed = [entry["client_order_id"] for entry in exchange.journal("order")]
    assert placed.count("twice-market") == 2
    assert placed.count("twice-limit") == 1


def test_a_new_order_may_be_unknown_to_queries_for_a_while(
    exchange: SimulatedExchangeServer,
) -> None:
    exchange.arm("query_lag", seconds=0.7)
    exchange.order(newClientOrderId="lagging")
    assert not known(exchange, "lagging")
    open_orders = exchange.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT").body
    assert "lagging" not in [order["clientOrderId"] for order in open_orders]
    wait_until(lambda: known(exchange, "lagging"), "the order to be found", DEADLINE_S)


def test_an_outage_of_the_feed_leaves_a_gap_and_the_connection(
    exchange: SimulatedExchangeServer,
) -> None:
    with stream(exchange, "/ws/btcusdt@trade") as line:
        before = json.loads(line.recv())["t"]
        exchange.arm("feed_outage", seconds=2)
        last, silent_at = before, time.monotonic()
        while (trade := json.loads(line.recv()))["t"] == last + 1:
            last, silent_at = trade["t"], time.monotonic()
        assert trade["t"] > last + 1
        assert time.monotonic() - silent_at > 1


def test_connections_are_cut_on_demand(exchange: SimulatedExchangeServer) -> None:
    with (
        stream(exchange, "/ws/btcusdt@trade") as market,
        connected(exchange.card.ws_api_url) as user,
    ):
        exchange.arm("disconnect_streams")
        with pytest.raises((OSError, websocket.WebSocketException)):
            next_where(market, lambda message: False)
        assert ask(user, exchange, "ping")["status"] == 200
        exchange.arm("shutdown")
        announced = json.loads(user.recv())
        assert announced["event"]["e"] == "serverShutdown"


def test_a_wrong_clock_refuses_right_timestamps(exchange: SimulatedExchangeServer) -> None:
    exchange.arm("clock_offset", seconds=-5)
    try:
        assert exchange.order().body["code"] == -1021
        told = exchange.public("GET", "/api/v3/time").body["serverTime"]
        assert abs(told - time.time() * 1000 + 5_000) < 1_000
    finally:
        exchange.arm("clock_offset", seconds=0)
    assert exchange.order().status == 200


def test_events_may_be_lost_or_come_twice(exchange: SimulatedExchangeServer) -> None:
    with connected(exchange.card.ws_api_url) as line:
        ask(line, exchange, "userDataStream.subscribe.signature")
        exchange.arm("lose_event")
        exchange.order(newClientOrderId="lost")
        exchange.arm("repeat_event")
        exchange.order(newClientOrderId="repeated")
        exchange.order(newClientOrderId="last")
        names = []
        while "last" not in names:
            event = json.loads(line.recv())["event"]
            if event["e"] == "executionReport":
                names.append(event["c"])
        assert names == ["repeated", "repeated", "last"]


def test_mishaps_need_the_secret(exchange: SimulatedExchangeServer) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert exchange.misbehaviour(method, secret="guessed").status == 401
    assert exchange.arm("burn").status == 400
    assert exchange.misbehaviour("GET").body["armed"] == []


# --- running ----------------------------------------------------------------------------------


def more_than(found: dict[str, int], count: int) -> bool:
    return len(found) > count


def account(server: SimulatedExchangeServer) -> Any:
    return server.signed("GET", "/api/v3/account").body["balances"]


def test_killed_at_any_moment_it_comes_back_with_everything_it_accepted() -> None:
    with SimulatedExchangeServer() as server:
        accepted: dict[str, int] = {}
        for round_ in range(3):
            stop = threading.Event()

            def trade(round_: int = round_, stop: threading.Event = stop) -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    name = f"r{round_}-{number}"
                    with suppress(OSError, http.client.HTTPException):
                        place = server.market_order if number % 3 else server.order
                        reply = place(newClientOrderId=name, quantity="0.0005")
                        if reply.status == 200:
                            accepted[name] = reply.body["orderId"]

            trader = threading.Thread(target=trade)
            trader.start()
            had = len(accepted)
            wait_until(partial(more_than, accepted, had + 8), "orders", DEADLINE_S)
            port = server.card.port
            server.kill()
            stop.set()
            trader.join()
            server.start()
            assert server.card.port == port
        written = {entry["client_order_id"]: entry["order_id"] for entry in server.journal("order")}
        assert accepted.items() <= written.items()
        listed = server.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT").body
        assert {order["clientOrderId"]: order["orderId"] for order in listed} == written
        trade_ids = [entry["trade_id"] for entry in server.journal("fill")]
        assert len(trade_ids) == len(set(trade_ids))
        assert trade_ids == sorted(trade_ids)
        resting = next(name for name in accepted if int(name.split("-")[1]) % 3 == 0)
        again = server.order(newClientOrderId=resting)
        assert again.body["msg"] == "Duplicate order sent."
        before = account(server)
        server.restart()
        assert account(server) == before


def test_a_clean_end_skips_no_trade_number() -> None:
    with SimulatedExchangeServer() as server:
        server.stop()
        last = server.journal("stop")[-1]["trade_ids"]["BTCUSDT"]
        server.start()
        wait_until(
            lambda: bool(server.public("GET", "/api/v3/trades", symbol="BTCUSDT").body),
            "a trade",
            DEADLINE_S,
        )
        first = server.public("GET", "/api/v3/trades", symbol="BTCUSDT", limit=1000).body[0]
        assert first["id"] == last + 1


def test_a_scenario_goes_on_where_it_was_unless_another_is_asked_for() -> None:
    with SimulatedExchangeServer(options=["--scenario", "trend"]) as server:
        server.restart()
        first, second = server.journal("start")
        assert second["epoch"] == first["epoch"] < second["at"]
        server.options = ["--scenario", "flash-crash"]
        server.restart()
        third = server.journal("start")[-1]
        assert third["epoch"] == third["at"] > second["at"]


def test_a_second_exchange_in_the_same_folder_or_on_the_same_port_is_refused(
    tmp_path: Path, exchange: SimulatedExchangeServer
) -> None:
    twin = SimulatedExchangeServer()
    twin.state_dir = exchange.state_dir
    with closing(twin), pytest.raises(Unreachable, match="another simulated exchange is running"):
        twin.start()
    rival = SimulatedExchangeServer(tmp_path)
    rival.port = exchange.port
    with closing(rival), pytest.raises(Unreachable, match="cannot listen on"):
        rival.start()


def test_it_is_there_at_once_and_costs_little() -> None:
    at = time.monotonic()
    with SimulatedExchangeServer() as server:
        assert time.monotonic() - at < 3, "about half a second on a machine that does nothing else"
        process = psutil.Process(server.pid)
        with stream(server, "/stream?streams=" + "/".join(every_stream())) as line:
            before, at = sum(process.cpu_times()[:2]), time.monotonic()
            while time.monotonic() < at + 3:
                line.recv()
            share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - at)
    assert share < 0.10, f"{share:.1%} of a core for three markets"


def every_stream() -> list[str]:
    kinds = ("trade", "aggTrade", "bookTicker", "kline_1s", "kline_1m", "depth@100ms")
    return [f"{symbol}@{kind}" for symbol in ("btcusdt", "ethusdt", "solusdt") for kind in kinds]


# --- keeping lines alive ----------------------------------------------------------------------

HURRIED = """
import random
import socket
import sys
from pathlib import Path
from botswarm.exchanges.simulated.options import ExchangeOptions
from botswarm.exchanges.simulated.server import serve

folder, port, ping_s, pong_s, lifetime_s = sys.argv[1:]
serve(
    ExchangeOptions(
        state_dir=Path(folder),
        port=int(port),
        ping_s=float(ping_s),
        pong_s=float(pong_s),
        lifetime_s=float(lifetime_s),
    )
)
"""


class HurriedExchange(SimulatedExchangeServer):
    """Pings every 0.4 s and gives up after 1.2 s; a line lives 4 s."""

    def _launch(self) -> None:
        times = ("0.4", "1.2", "4.0")
        self._run([sys.executable, "-c", HURRIED, self.state_dir, str(self.port), *times])


def closed_after_s(line: Any) -> float:
    """How long until the exchange hangs up on a client that reads, and answers pings."""
    at = time.monotonic()
    while time.monotonic() < at + DEADLINE_S:
        opcode, _ = line.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return time.monotonic() - at
    raise AssertionError("it never hung up")


def test_who_answers_pings_stays_until_the_lifetime_is_over_and_who_does_not_goes() -> None:
    with HurriedExchange() as server:
        with stream(server, "/ws/btcusdt@trade") as line:
            assert 3 < closed_after_s(line) < 6
        with stream(server, "/ws/btcusdt@trade") as line:
            line.pong = lambda payload="": None
            assert 1 < closed_after_s(line) < 3
        with stream(server, "/ws/btcusdt@trade") as line:
            answer = line.pong
            # Right in form, wrong in content: it keeps nothing alive.
            line.pong = lambda payload="": answer(b"something else")
            assert 1 < closed_after_s(line) < 3


# --- when something is wrong ------------------------------------------------------------------


def test_an_order_that_cannot_be_written_down_is_not_answered_and_did_not_happen() -> None:
    with SimulatedExchangeServer() as server:
        server.order(newClientOrderId="written")
        # Room for half a line: what a full disk leaves.
        size = server.journal_path.stat().st_size + 40
        psutil.Process(server.pid).rlimit(psutil.RLIMIT_FSIZE, (size, size))
        with pytest.raises((OSError, http.client.HTTPException)):
            server.order(newClientOrderId="lost")
        wait_until(lambda: not server.running, "the exchange to end", DEADLINE_S)
        last_words = server.log.read_text().splitlines()[-1]
        assert "Error [BSW-5000] cannot write" in last_words
        assert "make room on the disk" in last_words
        server.start()
        assert known(server, "written")
        assert not known(server, "lost")
        assert server.order(newClientOrderId="lost").status == 200


def test_a_journal_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path) -> None:
    server = SimulatedExchangeServer(tmp_path)
    server.state_dir.mkdir()
    server.journal_path.write_text('{"type":"fill","symbol":"BTCUSDT","order_id":1}\n')
    with closing(server), pytest.raises(Unreachable, match="line 1 of the exchange's journal"):
        server.start()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("seed", range(5))
def test_nonsense_on_the_wire_ends_its_connection_and_nothing_else(
    exchange: SimulatedExchangeServer, seed: int
) -> None:
    chance = random.Random(seed)
    upgrade = (
        b"GET /ws-api/v3 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    request = f"POST {ORDER}?{exchange.sign(symbol='BTCUSDT')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    address = (exchange.host, exchange.card.port)
    for number in range(20):
        data = bytearray(request * 2 if number % 2 else upgrade)
        if number % 2:
            for _ in range(8):
                data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            data += chance.randbytes(200)
        with suppress(OSError), socket.create_connection(address, timeout=5) as raw:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65_536):
                pass
    assert exchange.public("GET", "/api/v3/ping").status == 200
    assert "unexpected" not in exchange.log.read_text()
