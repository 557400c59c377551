"""An unmodified ccxt, written for Kraken, and our adapter read the same account alike."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import OrderKind, OrderState, Side
from botswarm.exchanges.kraken.nonces import Nonces
from tests.venues.conftest import MARKET, Bench

PAIR = "BTC/USDT"
STATES = {
    "open": (OrderState.LIVE, OrderState.PARTIAL),
    "closed": (OrderState.FILLED,),
    "canceled": (OrderState.CANCELED,),
}


@pytest.fixture(scope="module")
def bench(benches: dict[str, Bench]) -> Iterator[Bench]:
    chosen = benches["kraken"]
    yield chosen
    chosen.venue.cancel_all(MARKET)


@pytest.fixture(scope="module")
def client(bench: Bench) -> Iterator[Any]:
    """As its manual says to point it elsewhere; nothing of it is replaced."""
    card = bench.server.card
    kraken = ccxt.kraken({"apiKey": card.api_key, "secret": card.api_secret})
    kraken.urls["api"] = {
        **kraken.urls["api"],
        "public": card.kraken_rest_url,
        "private": card.kraken_rest_url,
    }
    kraken.enableRateLimit = False
    # Programs that share a key must share its nonces: the manual's way to bring one's own.
    kraken.nonce = Nonces(bench.folder, Secret(card.api_key), SystemClock()).next
    kraken.load_markets()
    yield kraken
    kraken.session.close()


def amount(number: object) -> Decimal:
    return Decimal(str(number))


def test_markets_have_the_same_steps_and_limits(client: Any, bench: Bench) -> None:
    assert {"BTC/USDT", "ETH/USDT", "SOL/USDT"} <= set(client.markets)
    theirs, ours = client.market(PAIR), bench.markets[MARKET]
    assert amount(theirs["precision"]["amount"]) == ours.lot_size
    assert amount(theirs["precision"]["price"]) == ours.tick_size
    assert amount(theirs["limits"]["amount"]["min"]) == ours.quantity_min
    assert amount(theirs["limits"]["cost"]["min"]) == ours.notional_min


def test_balances_are_the_same_also_while_an_order_holds_some(client: Any, bench: Bench) -> None:
    bench.accepted(bench.order())
    theirs = client.fetch_balance()
    assert {asset: amount(total) for asset, total in theirs["total"].items() if total} == {
        asset: total.normalize() for asset, total in bench.venue.balances().items()
    }
    assert theirs["USDT"]["used"] > 50


def test_an_order_of_ours_is_open_for_both_under_the_same_names(client: Any, bench: Bench) -> None:
    order = bench.order()
    report = bench.accepted(order)
    theirs = {each["clientOrderId"]: each for each in client.fetch_open_orders(PAIR)}
    seen = theirs[order.client_order_id]
    assert (seen["id"], seen["side"], seen["status"]) == (report.venue_order_id, "buy", "open")
    assert (amount(seen["price"]), amount(seen["amount"])) == (order.limit_price, order.quantity)
    assert set(theirs) == {each.client_order_id for each in bench.venue.open_orders(MARKET)}


def test_an_order_of_theirs_is_found_read_and_ended_by_ours(client: Any, bench: Bench) -> None:
    order = bench.order()
    placed = client.create_order(
        PAIR, "limit", "buy", 0.001, 50_000, {"clientOrderId": order.client_order_id}
    )
    report = bench.found(order, OrderState.LIVE)
    assert report.venue_order_id == placed["id"]
    bench.venue.cancel(order)
    assert client.fetch_order(placed["id"])["status"] == "canceled"
    assert bench.found(order, OrderState.CANCELED)


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_fills_and_fees_add_up_to_what_ccxt_reads(client: Any, bench: Bench, side: Side) -> None:
    order = bench.market_order(quantity=Decimal("0.004"), side=side)
    report = bench.accepted(order)
    bench.found(order, OrderState.FILLED)
    fills = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    mine = [
        trade
        for trade in client.fetch_my_trades(PAIR, params={"consolidate_taker": "false"})
        if trade["order"] == report.venue_order_id
    ]
    assert sorted(
        (amount(each["price"]), amount(each["amount"]), amount(each["fee"]["cost"]))
        for each in mine
    ) == sorted((fill.price, fill.quantity, fill.commission) for fill in fills)
    assert {each["fee"]["currency"] for each in mine} == {"USDT"}
    assert {each["side"] for each in mine} == {side.value}
    whole = client.fetch_order(report.venue_order_id)
    assert (whole["status"], amount(whole["filled"])) == ("closed", order.quantity)
    assert amount(whole["cost"]) == sum(fill.notional for fill in fills)
    assert amount(whole["fee"]["cost"]) == sum(fill.commission for fill in fills)


def test_an_order_that_takes_several_prices_is_one_trade_for_ccxt_and_many_for_us(
    client: Any, bench: Bench
) -> None:
    """By default the venue tells a taker's trades as one; the books want each by its number."""
    order = bench.market_order(quantity=Decimal("0.7"))
    report = bench.accepted(order)
    bench.found(order, OrderState.FILLED)
    ours = bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
    history = [
        fill
        for fill in bench.venue.fills(MARKET, after_trade_id=ours[0].trade_id - 1)
        if fill.client_order_id == order.client_order_id
    ]
    assert history == list(ours)
    (theirs,) = [
        trade for trade in client.fetch_my_trades(PAIR) if trade["order"] == report.venue_order_id
    ]
    assert amount(theirs["amount"]) == sum(fill.quantity for fill in ours) == order.quantity
    assert amount(theirs["fee"]["cost"]) == sum(fill.commission for fill in ours)
    bench.accepted(bench.market_order(side=Side.SELL, quantity=order.quantity))


def test_every_ended_order_has_the_same_state_for_both(client: Any, bench: Bench) -> None:
    ended = [bench.order(kind=OrderKind.POST_ONLY), bench.market_order()]
    for order in ended:
        bench.accepted(order)
    bench.venue.cancel(ended[0])
    theirs = {each["clientOrderId"]: each for each in client.fetch_closed_orders(PAIR)}
    for order in ended:
        seen = theirs[order.client_order_id]
        report = bench.found(order, *STATES[seen["status"]])
        assert amount(seen["filled"]) == report.filled_quantity


def test_errors_of_the_venue_are_the_errors_ccxt_knows(client: Any) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(PAIR, "limit", "buy", 80, 50_000)
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order("OAAAAA-AAAAA-AAAAAA")
    with pytest.raises(ccxt.InvalidOrder):
        client.create_order(PAIR, "limit", "buy", 0.000001, 50_000)


def test_a_wrong_secret_is_not_let_in(client: Any) -> None:
    right, client.secret = client.secret, "d3Jvbmc="
    try:
        with pytest.raises(ccxt.ExchangeError, match="EAPI:Invalid signature"):
            client.fetch_balance()
    finally:
        client.secret = right
