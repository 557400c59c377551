"""An unmodified ccxt, written for Binance, trades on the simulated exchange."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import ccxt
import pytest

from botswarm.testing.exchange import SimulatedExchangeServer

MARKET = "BTC/USDT"


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: SimulatedExchangeServer) -> Iterator[Any]:
    """As its manual says to point it elsewhere; nothing of it is replaced."""
    card = server.card
    binance = ccxt.binance(
        {
            "apiKey": card.api_key,
            "secret": card.api_secret,
            "options": {
                "fetchCurrencies": False,
                "fetchMarkets": {"types": ["spot"]},
                "defaultType": "spot",
            },
        }
    )
    binance.urls["api"] = {
        **binance.urls["api"],
        "public": f"{card.rest_url}/api/v3",
        "private": f"{card.rest_url}/api/v3",
        "sapi": f"{card.rest_url}/sapi/v1",
    }
    binance.has["fetchCurrencies"] = False
    binance.load_markets()
    yield binance
    binance.session.close()


def test_markets_are_loaded_with_their_steps_and_limits(client: Any) -> None:
    assert set(client.markets) == {"BTC/USDT", "ETH/USDT", "SOL/USDT"}
    market = client.market(MARKET)
    assert market["precision"] == {"amount": 0.00001, "price": 0.01, "base": 1e-8, "quote": 1e-8}
    assert market["limits"]["amount"]["min"] == 0.00001
    assert market["limits"]["cost"]["min"] == 5


def test_the_book_is_ordered_and_not_crossed(client: Any) -> None:
    book = client.fetch_order_book(MARKET)
    bids, asks = [price for price, _ in book["bids"]], [price for price, _ in book["asks"]]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert len(bids) >= 5


def test_ticker_trades_and_candles_speak_of_the_same_market(client: Any) -> None:
    ticker = client.fetch_ticker(MARKET)
    assert 0 < ticker["low"] <= ticker["last"] <= ticker["high"]
    candles = client.fetch_ohlcv(MARKET, "1m", limit=200)
    assert len(candles) == 200
    assert all(after[0] - before[0] == 60_000 for before, after in pairwise(candles))
    assert all(low <= min(o, c) <= max(o, c) <= high for _, o, high, low, c, _ in candles)
    assert abs(candles[-1][4] / ticker["last"] - 1) < 0.01
    assert client.fetch_time() > 0


def test_an_order_is_placed_found_and_cancelled(client: Any) -> None:
    order = client.create_order(MARKET, "limit", "buy", 0.001, 50_000)
    assert order["status"] == "open"
    assert client.fetch_order(order["id"], MARKET)["price"] == 50_000
    assert order["id"] in [each["id"] for each in client.fetch_open_orders(MARKET)]
    before = client.fetch_balance()
    assert before["USDT"]["used"] == pytest.approx(50)
    assert client.cancel_order(order["id"], MARKET)["status"] == "canceled"
    assert client.fetch_order(order["id"], MARKET)["status"] == "canceled"
    assert client.fetch_balance()["USDT"]["used"] == 0


def test_a_market_order_fills_and_pays_its_fee_in_what_it_bought(client: Any) -> None:
    before = client.fetch_balance()["ETH"]["total"]
    order = client.create_order("ETH/USDT", "market", "buy", 0.5)
    assert order["status"] == "closed"
    trades = client.fetch_my_trades("ETH/USDT")
    mine = [trade for trade in trades if trade["order"] == order["id"]]
    assert sum(trade["amount"] for trade in mine) == pytest.approx(0.5)
    assert {trade["fee"]["currency"] for trade in mine} == {"ETH"}
    after = client.fetch_balance()["ETH"]["total"]
    assert after - before == pytest.approx(0.5 * 0.999)


def test_what_cannot_be_paid_for_is_insufficient_funds(client: Any) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(MARKET, "limit", "buy", 80, 50_000)


def test_what_breaks_a_filter_is_an_invalid_order(client: Any) -> None:
    with pytest.raises(ccxt.InvalidOrder, match="LOT_SIZE"):
        client.create_order(MARKET, "limit", "buy", 9_500, 50_000)
    # ccxt has no word of its own for this one.
    with pytest.raises(ccxt.BadRequest, match="NOTIONAL"):
        client.create_order(MARKET, "limit", "buy", 0.00001, 50_000)


def test_an_order_that_is_not_there_is_not_found(client: Any) -> None:
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order("987654321", MARKET)
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order("987654321", MARKET)


def test_a_wrong_secret_is_an_authentication_error(client: Any) -> None:
    right, client.secret = client.secret, "wrong"
    try:
        with pytest.raises(ccxt.AuthenticationError):
            client.fetch_balance()
    finally:
        client.secret = right
