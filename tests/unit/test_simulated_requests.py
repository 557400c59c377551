"""Whatever is asked of the exchange, it answers in Binance's words and stays sound."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from botswarm.clock import StoppedClock
from botswarm.exchanges.simulated.exchange import MONEY_OF_ALL
from botswarm.exchanges.simulated.gateway import Gateway
from botswarm.exchanges.simulated.http import Request
from botswarm.exchanges.simulated.journal import FILE, Journal
from botswarm.exchanges.simulated.limits import RateLimits
from botswarm.exchanges.simulated.operations import REST, WS_API
from botswarm.exchanges.simulated.options import ExchangeOptions
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.signatures import Credentials, sign
from botswarm.exchanges.simulated.users import UserLine
from botswarm.exchanges.simulated.websocket import WebSocket

SECRET = "secret"
BOUNDLESS = RateLimits(weight_per_minute=10**9, orders_per_10s=10**9, orders_per_day=10**9)
VALUES: dict[str, list[str]] = {
    "symbol": ["BTCUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "btcusdt", "DOGE", ""],
    "symbols": ['["BTCUSDT","SOLUSDT"]', "[]", "[", '["X"]', "BTCUSDT"],
    "side": ["BUY", "SELL", "BUY", "SELL", "HOLD"],
    "type": ["LIMIT", "MARKET", "LIMIT_MAKER", "LIMIT", "MARKET", "STOP_LOSS", "X"],
    "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    "quantity": ["0.001", "0.01", "1", "0", "100000", "0.00000001", "1e5", "-1", "9" * 20, "NaN"],
    "quoteOrderQty": ["10", "1000", "0.00000001", "99999999", "9" * 20 + "." + "9" * 20, "x"],
    "price": ["100000", "1", "999999", "99000.01", "0", "100000.001", "9" * 20, "Infinity"],
    "newClientOrderId": ["a", "b", "c", "not one", "x" * 37, ""],
    "origClientOrderId": ["a", "b", "c", "zz"],
    "orderId": ["1", "2", "3", "99999999999999999999", "-1", "x"],
    "limit": ["1", "5", "1000", "99999999", "0", "x"],
    "fromId": ["0", "1", "99999999999999999999"],
    "startTime": ["0", "1763635200000", "99999999999999999999"],
    "endTime": ["0", "1763635200000", "99999999999999999999"],
    "interval": ["1s", "1m", "1d", "1w", ""],
    "newOrderRespType": ["ACK", "RESULT", "FULL", "X"],
    "selfTradePreventionMode": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "X"],
    "cancelRestrictions": ["ONLY_NEW", "ONLY_PARTIALLY_FILLED", "X"],
    "recvWindow": ["5000", "60001", "-1", "NaN"],
    "omitZeroBalances": ["true", "maybe"],
    "stopPrice": ["1"],
    "ünïcode": ["日本"],
}
LIKELY = {
    "place": ("symbol", "side", "type", "quantity"),
    "cancel": ("symbol", "origClientOrderId"),
    "query": ("symbol",),
    "market": ("symbol", "interval"),
}


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = StoppedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.journal = Journal(folder / FILE)
        options = ExchangeOptions(state_dir=folder, limits=BOUNDLESS)
        self.service = Service(options, self.journal, self.clock)
        self.service.step()
        self.gateway = Gateway(self.service, Credentials("key", SECRET, "paper"))

    def close(self) -> None:
        self.journal.close()

    def wish(self, chance: random.Random, action: str) -> dict[str, str]:
        names = set(LIKELY[action]) | set(chance.sample(sorted(VALUES), chance.randrange(4)))
        if action == "place" and chance.random() < 0.7:
            names |= {"price", "timeInForce"}
        # Now and then what makes sense, so that some of it gets as far as the engine.
        first = 3 if chance.random() < 0.7 else None
        wish = {name: chance.choice(VALUES[name][:first]) for name in sorted(names)}
        return wish | {"timestamp": str(self.service.now_ms())}

    def check(self) -> None:
        exchange = self.service.exchange
        for asset in ("BTC", "ETH", "SOL", "USDT"):
            assert exchange.accounts.sum(asset) == MONEY_OF_ALL
        for account in exchange.accounts.by_name.values():
            assert all(amount >= 0 for amount in account.free.values())
            assert all(amount >= 0 for amount in account.locked.values())
        for market in exchange.markets.values():
            bid, ask = market.book.bids.best, market.book.asks.best
            assert bid is None or ask is None or bid < ask


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(World(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("seed", range(3))
def test_every_rest_request_is_answered_and_no_money_is_made(
    world: World, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)
    codes: dict[int, int] = {}

    async def ask() -> None:
        for number in range(1_500):
            (method, path), operation = chance.choice(list(REST.items()))
            if chance.random() < 0.4:
                (method, path), operation = ("POST", "/api/v3/order"), REST["POST", "/api/v3/order"]
            query = urlencode(world.wish(chance, operation.action))
            if operation.is_signed:
                query += f"&signature={sign(SECRET, query)}"
            request = Request(method, path, query, {"x-mbx-apikey": "key"}, "", "1")
            response, delivery = await world.gateway.rest(request)
            body = json.loads(response.body)
            code = body.get("code", 0) if isinstance(body, dict) else 0
            codes[code] = codes.get(code, 0) + 1
            assert delivery == "whole"
            assert response.status == (200 if code == 0 else 400), (path, query, body)
            if number % 5 == 0:
                world.clock.advance(0.1)
                world.service.step()
                world.check()

    asyncio.run(ask())
    assert codes[0] > 400
    assert codes.keys() >= {-1102, -1013, -1100, -1104, -1121, -2010, -2011, -2013}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


class Sink:
    """Stands where a WebSocket's writer does; what is sent is not looked at."""

    transport = type("Transport", (), {"get_write_buffer_size": staticmethod(lambda: 0)})()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        assert data


def test_every_websocket_request_is_answered_with_its_own_id(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(1)
    line = UserLine(WebSocket(None, Sink()), 0.0)  # type: ignore[arg-type] # nothing is read

    async def ask() -> int:
        done = 0
        for number in range(1_500):
            method, operation = chance.choice(list(WS_API.items()))
            values = world.wish(chance, operation.action) | {"apiKey": "key"}
            payload = "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(values.items()))
            values["signature"] = sign(SECRET, payload)
            message = {"id": number, "method": method, "params": values}
            answer, _ = await world.gateway.ws_api(line, "1", json.dumps(message))
            body = json.loads(answer)
            assert body["id"] == number
            assert body["status"] in (200, 400), body
            done += body["status"] == 200
        return done

    assert asyncio.run(ask()) > 300
    world.check()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_who_takes_a_whole_side_leaves_an_empty_one_and_a_market_that_goes_on(
    world: World,
) -> None:
    world.service.exchange.deposit("paper", "USDT", Decimal(10_000_000))

    async def ask(method: str, path: str, **wish: str) -> object:
        query = urlencode(wish | {"timestamp": str(world.service.now_ms())})
        signed = f"{query}&signature={sign(SECRET, query)}"
        request = Request(method, path, signed, {"x-mbx-apikey": "key"}, "", "1")
        return json.loads((await world.gateway.rest(request))[0].body)

    bought = asyncio.run(
        ask("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="50")
    )
    assert isinstance(bought, dict)
    assert bought["status"] == "EXPIRED"
    assert Decimal(bought["executedQty"]) > 1
    best = asyncio.run(ask("GET", "/api/v3/ticker/bookTicker", symbol="BTCUSDT"))
    assert isinstance(best, dict)
    assert best["askQty"] == "0.00000000"
    world.clock.advance(0.1)
    world.service.step()
    assert world.service.exchange.markets["BTCUSDT"].book.asks.best
    world.check()
