"""Unmodified ccxt, written for Binance and Coinbase, reads the same accounts as our adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.exchanges.base import Declined
from botswarm.exchanges.simulated.record import ExchangeRecord
from tests.venues.conftest import MARKET, Bench

PAIR = "BTC/USDT"
D = Decimal


def _binance(card: ExchangeRecord) -> Any:
    client = ccxt.binance(
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
    client.urls["api"] = {
        **client.urls["api"],
        "public": f"{card.rest_url}/api/v3",
        "private": f"{card.rest_url}/api/v3",
        "sapi": f"{card.rest_url}/sapi/v1",
    }
    return client


def _coinbase(card: ExchangeRecord) -> Any:
    client = ccxt.coinbase({"apiKey": card.coinbase_api_key, "secret": card.coinbase_api_secret})
    client.urls["api"] = {**client.urls["api"], "rest": card.coinbase_rest_url}
    return client


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How ccxt's class of a venue is told what is the same for all others."""

    name: str
    made: Callable[[ExchangeRecord], Any]
    name_of: str
    """Of the client order id, in its own parameters."""
    balance: Mapping[str, object]


READERS = (
    Reader(name="binance", made=_binance, name_of="newClientOrderId", balance={}),
    # Its usual way are the wallets of another of the venue's products.
    Reader(name="coinbase", made=_coinbase, name_of="client_order_id", balance={"v3": True}),
)


@dataclass(frozen=True, slots=True)
class Both:
    """Of one account: what reads it here, and ccxt."""

    reader: Reader
    bench: Bench
    client: Any

    def totals(self) -> dict[str, Decimal]:
        told = self.client.fetch_balance(dict(self.reader.balance))["total"]
        return {asset: D(total) for asset, total in told.items() if D(total)}

    def settled(self, order: Order, *states: OrderState) -> tuple[str, list[Fill]]:
        report = self.bench.found(order, *states)
        fills = self.bench.venue.fills(MARKET, venue_order_id=report.venue_order_id)
        return report.venue_order_id, list(fills)


@pytest.fixture(scope="module", params=READERS, ids=lambda reader: reader.name)
def both(request: pytest.FixtureRequest, benches: dict[str, Bench]) -> Iterator[Both]:
    """As ccxt's manual says to point it elsewhere; nothing of it is replaced."""
    reader: Reader = request.param
    bench = benches[reader.name]
    client = reader.made(bench.server.card)
    client.has["fetchCurrencies"] = False
    client.enableRateLimit = False
    # Numbers as they are written, where ccxt would make them binary.
    client.number = str
    client.load_markets()
    yield Both(reader, bench, client)
    client.session.close()
    bench.venue.cancel_all(MARKET)


def test_markets_have_the_same_steps_and_limits(both: Both) -> None:
    theirs, ours = both.client.market(PAIR), both.bench.markets[MARKET]
    assert D(theirs["precision"]["amount"]) == ours.lot_size
    assert D(theirs["precision"]["price"]) == ours.tick_size
    assert D(theirs["limits"]["amount"]["min"]) == ours.quantity_min
    assert D(theirs["limits"]["cost"]["min"]) == ours.notional_min


def test_balances_are_the_same_also_while_an_order_holds_some(both: Both) -> None:
    both.bench.accepted(both.bench.order())
    assert both.totals() == both.bench.venue.balances()
    assert D(both.client.fetch_balance(dict(both.reader.balance))["USDT"]["used"]) >= 50


def test_an_order_of_ours_is_open_for_both_under_the_same_names(both: Both) -> None:
    order = both.bench.order()
    report = both.bench.accepted(order)
    theirs = _until_open(both, order)
    seen = theirs[order.client_order_id]
    assert (seen["id"], seen["side"], seen["status"]) == (report.venue_order_id, "buy", "open")
    assert (D(seen["price"]), D(seen["amount"])) == (order.limit_price, order.quantity)
    assert D(seen["filled"]) == 0
    assert set(theirs) == {each.client_order_id for each in both.bench.venue.open_orders(MARKET)}


def test_an_order_of_theirs_is_found_read_and_ended_by_ours(both: Both) -> None:
    order = both.bench.order()
    placed = both.client.create_order(
        PAIR, "limit", "buy", "0.001", "50000", {both.reader.name_of: order.client_order_id}
    )
    assert both.bench.found(order, OrderState.LIVE).venue_order_id == placed["id"]
    both.bench.venue.cancel(order)
    assert both.client.fetch_order(placed["id"], PAIR)["status"] == "canceled"
    assert both.bench.found(order, OrderState.CANCELED)


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
@pytest.mark.parametrize("quantity", [D("0.004"), D("0.6")], ids=["one price", "several"])
def test_fills_and_fees_are_the_same_one_by_one(both: Both, side: Side, quantity: Decimal) -> None:
    before = both.totals()
    order = both.bench.market_order(quantity=quantity, side=side)
    both.bench.accepted(order)
    order_id, fills = both.settled(order, OrderState.FILLED)
    trades = [trade for trade in both.client.fetch_my_trades(PAIR) if trade["order"] == order_id]
    assert sorted(
        (D(t["price"]), D(t["amount"]), D(t["fee"]["cost"]), t["fee"]["currency"], t["side"])
        for t in trades
    ) == sorted(
        (f.price, f.quantity, f.commission, f.commission_asset, f.side.value) for f in fills
    )
    assert {t["timestamp"] for t in trades} == {int(f.at.timestamp() * 1000) for f in fills}
    whole = both.client.fetch_order(order_id, PAIR)
    assert (whole["status"], D(whole["filled"])) == ("closed", order.quantity)
    assert sum(fill.quantity for fill in fills) == order.quantity
    _balances_moved_by(both, before, fills)


def _balances_moved_by(both: Both, before: Mapping[str, Decimal], fills: list[Fill]) -> None:
    after = both.totals()
    moved = dict.fromkeys(("BTC", "USDT"), D(0))
    for fill in fills:
        moved["BTC"] += fill.side.sign * fill.quantity
        moved["USDT"] -= fill.side.sign * fill.notional
        moved[fill.commission_asset] -= fill.commission
    assert {asset: after[asset] - before[asset] for asset in moved} == moved


def test_every_way_to_end_is_read_alike(both: Both) -> None:
    ended = [
        (both.bench.order(kind=OrderKind.POST_ONLY), "canceled"),
        (both.bench.order(time_in_force=TimeInForce.IOC), ("canceled", "expired")),
        (both.bench.market_order(), "closed"),
    ]
    for order, _ in ended:
        both.bench.accepted(order)
    both.bench.venue.cancel(ended[0][0])
    for order, status in ended:
        order_id, fills = both.settled(
            order, OrderState.FILLED, OrderState.CANCELED, OrderState.EXPIRED
        )
        seen = both.client.fetch_order(order_id, PAIR)
        assert seen["status"] in status
        assert D(seen["filled"]) == sum((fill.quantity for fill in fills), D(0))


def test_errors_of_the_venue_are_the_errors_ccxt_knows(both: Both) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        both.client.create_order(PAIR, "limit", "buy", "80", "50000")
    assert isinstance(both.bench.send(both.bench.order(quantity=D(80))), Declined)


def test_a_wrong_key_is_not_let_in(both: Both) -> None:
    right, both.client.apiKey = both.client.apiKey, "somebody-else"
    try:
        # ccxt takes Binance's word for it to be one about too many requests.
        with pytest.raises((ccxt.AuthenticationError, ccxt.DDoSProtection)):
            both.client.fetch_balance(dict(both.reader.balance))
    finally:
        both.client.apiKey = right


def _until_open(both: Both, order: Order) -> dict[str, Any]:
    """What is new is pending at first, and not among the open ones of ccxt."""
    for _ in range(600):
        found = {each["clientOrderId"]: each for each in both.client.fetch_open_orders(PAIR)}
        if order.client_order_id in found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{order.client_order_id} is not open for ccxt")
