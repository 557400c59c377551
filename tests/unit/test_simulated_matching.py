"""The matching engine: who trades with whom, and that money is never made or lost."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.domain.order import Side
from botswarm.exchanges.simulated.accounts import Fees
from botswarm.exchanges.simulated.exchange import MONEY_OF_ALL, Ended, Exchange, Fact, Traded
from botswarm.exchanges.simulated.filters import MarketRules
from botswarm.exchanges.simulated.history import entries_of, restore
from botswarm.exchanges.simulated.orders import (
    Force,
    NewOrder,
    OrderType,
    SelfTrade,
    Status,
    VenueOrder,
)
from botswarm.exchanges.simulated.refusal import Refusal

RULES = MarketRules(
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    open_orders_max=20,
)
FEES = Fees(maker=Decimal("0.00075"), taker=Decimal("0.001"))
NAMES = ("ann", "bob", "cyd")
ASSETS = ("BTC", "USDT")


class Floor:
    """An exchange with three customers, and the journal it would have written."""

    def __init__(self) -> None:
        self.exchange = Exchange([RULES], {"BTCUSDT": Decimal(100)})
        self.entries: list[dict[str, Any]] = []
        self.now_ms = 1_000
        self._names = 0
        for name in NAMES:
            self.exchange.open_account(name, FEES)
            for asset, amount in (("BTC", Decimal(10)), ("USDT", Decimal(1_000))):
                self.exchange.deposit(name, asset, amount)
                self.entries.append(
                    {"type": "deposit", "account": name, "asset": asset, "amount": amount}
                )

    @property
    def market(self) -> Any:
        return self.exchange.markets["BTCUSDT"]

    def place(
        self,
        account: str,
        side: Side,
        quantity: str | None,
        price: str | None = None,
        *,
        kind: OrderType | None = None,
        **more: Any,
    ) -> tuple[VenueOrder, list[Fact]]:
        self.now_ms += 1
        self._names += 1
        request = NewOrder(
            account=account,
            symbol="BTCUSDT",
            side=side,
            type=kind or (OrderType.LIMIT if price else OrderType.MARKET),
            client_order_id=more.pop("client_order_id", f"order-{self._names}"),
            quantity=Decimal(quantity) if quantity else None,
            price=Decimal(price) if price else None,
            **more,
        )
        order, facts = self.exchange.place(request, self.now_ms)
        self.entries += entries_of(facts)
        return order, list(facts)

    def cancel(self, order: VenueOrder) -> None:
        self.now_ms += 1
        _, facts = self.exchange.cancel(order, self.now_ms)
        self.entries += entries_of(facts)

    def balances(self) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
        accounts = self.exchange.accounts
        return {
            (name, asset): (accounts[name].free[asset], accounts[name].locked[asset])
            for name in NAMES
            for asset in ASSETS
        }


@pytest.fixture
def floor() -> Floor:
    return Floor()


def trades(facts: list[Fact]) -> list[tuple[str, Decimal, Decimal]]:
    return [
        (fact.maker.order.client_order_id, fact.price, fact.quantity)
        for fact in facts
        if isinstance(fact, Traded)
    ]


# --- who trades with whom ---------------------------------------------------------------------


def test_the_better_price_comes_first_and_then_the_earlier_order(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "101", client_order_id="dear")
    floor.place("ann", Side.SELL, "1", "100", client_order_id="early")
    floor.place("ann", Side.SELL, "1", "100", client_order_id="late")
    _, facts = floor.place("bob", Side.BUY, "2.5", "105")
    assert trades(facts) == [
        ("early", Decimal(100), Decimal(1)),
        ("late", Decimal(100), Decimal(1)),
        ("dear", Decimal(101), Decimal("0.5")),
    ]


def test_the_best_bid_comes_first_for_a_seller(floor: Floor) -> None:
    floor.place("ann", Side.BUY, "1", "99", client_order_id="low")
    floor.place("ann", Side.BUY, "1", "100", client_order_id="high")
    _, facts = floor.place("bob", Side.SELL, "1.5", "95")
    assert trades(facts) == [
        ("high", Decimal(100), Decimal(1)),
        ("low", Decimal(99), Decimal("0.5")),
    ]
    assert floor.market.book.bids.depth(5) == [(Decimal(99), Decimal("0.5"))]


def test_a_partly_filled_order_keeps_its_place(floor: Floor) -> None:
    floor.place("ann", Side.BUY, "2", "100", client_order_id="first")
    floor.place("cyd", Side.BUY, "2", "100", client_order_id="second")
    floor.place("bob", Side.SELL, "1", "100")
    _, facts = floor.place("bob", Side.SELL, "1", "100")
    assert trades(facts) == [("first", Decimal(100), Decimal(1))]


def test_a_buyer_pays_the_sellers_price_and_gets_the_rest_of_the_lock_back(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "90")
    order, _ = floor.place("bob", Side.BUY, "2", "100")
    assert order.status is Status.PARTIALLY_FILLED
    free, locked = floor.balances()["bob", "USDT"]
    assert (free, locked) == (Decimal(1_000 - 90 - 100), Decimal(100))


def test_the_fee_comes_out_of_what_was_received(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    floor.place("bob", Side.BUY, "1", "100")
    assert floor.balances()["bob", "BTC"][0] == Decimal("10.999")
    assert floor.balances()["ann", "USDT"][0] == Decimal("1099.925")


def test_a_fee_in_the_quote_asset_comes_on_top_of_what_a_buyer_pays(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    floor.place("bob", Side.BUY, "2", "100", fee_in_quote=True)
    assert floor.balances()["bob", "BTC"][0] == Decimal(11)
    # One paid for with a thousandth on top; the other waits, and so does its fee.
    assert floor.balances()["bob", "USDT"] == (Decimal("799.8"), Decimal("100.1"))
    with pytest.raises(Refusal, match="insufficient"):
        floor.place("bob", Side.BUY, "7.998", "100", fee_in_quote=True)


def test_an_order_for_now_or_never_leaves_nothing_behind(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    order, _ = floor.place("bob", Side.BUY, "2", "100", force=Force.IOC)
    assert (order.status, order.filled) == (Status.EXPIRED, Decimal(1))
    assert floor.market.book.bids.best is None


def test_an_order_for_all_or_nothing_takes_all_or_nothing(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    killed, _ = floor.place("bob", Side.BUY, "2", "100", force=Force.FOK)
    assert (killed.status, killed.filled) == (Status.EXPIRED, Decimal(0))
    filled, _ = floor.place("bob", Side.BUY, "1", "100", force=Force.FOK)
    assert filled.status is Status.FILLED


def test_a_maker_only_order_that_would_take_is_refused_and_changes_nothing(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    before = floor.balances()
    with pytest.raises(Refusal, match="-2010 Order would immediately match and take"):
        floor.place("bob", Side.BUY, "1", "100", kind=OrderType.LIMIT_MAKER)
    assert floor.balances() == before
    order, _ = floor.place("bob", Side.BUY, "1", "99.99", kind=OrderType.LIMIT_MAKER)
    assert order.status is Status.NEW


def test_a_market_order_ends_where_the_book_ends(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    order, facts = floor.place("bob", Side.BUY, "3")
    assert (order.status, order.filled) == (Status.EXPIRED, Decimal(1))
    assert isinstance(facts[-1], Ended)


def test_a_market_order_by_worth_never_spends_more(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    floor.place("ann", Side.SELL, "5", "103")
    order, _ = floor.place("bob", Side.BUY, None, quote_quantity=Decimal("250"))
    assert order.status is Status.FILLED
    assert Decimal(249) < order.filled_quote <= Decimal(250)
    free, locked = floor.balances()["bob", "USDT"]
    assert (free, locked) == (1_000 - order.filled_quote, Decimal(0))


@pytest.mark.parametrize(
    ("mode", "maker_status", "taker_status"),
    [
        (SelfTrade.EXPIRE_MAKER, Status.EXPIRED_IN_MATCH, Status.NEW),
        (SelfTrade.EXPIRE_TAKER, Status.NEW, Status.EXPIRED_IN_MATCH),
        (SelfTrade.EXPIRE_BOTH, Status.EXPIRED_IN_MATCH, Status.EXPIRED_IN_MATCH),
        (SelfTrade.NONE, Status.FILLED, Status.FILLED),
    ],
)
def test_who_meets_oneself_is_kept_from_trading_as_asked(
    floor: Floor, mode: SelfTrade, maker_status: Status, taker_status: Status
) -> None:
    maker, _ = floor.place("ann", Side.SELL, "1", "100")
    taker, _ = floor.place("ann", Side.BUY, "1", "100", self_trade=mode)
    assert (maker.status, taker.status) == (maker_status, taker_status)
    check_all(floor)


def test_ones_own_order_behind_a_full_fill_is_left_alone(floor: Floor) -> None:
    floor.place("bob", Side.SELL, "1", "100")
    own, _ = floor.place("ann", Side.SELL, "1", "100")
    floor.place("ann", Side.BUY, "1", "100")
    assert own.status is Status.NEW


def test_a_client_id_is_taken_while_its_order_is_open_and_free_afterwards(floor: Floor) -> None:
    order, _ = floor.place("ann", Side.BUY, "1", "100", client_order_id="mine")
    with pytest.raises(Refusal, match="-2010 Duplicate order sent"):
        floor.place("ann", Side.BUY, "1", "100", client_order_id="mine")
    floor.place("bob", Side.BUY, "1", "100", client_order_id="mine")
    floor.cancel(order)
    again, _ = floor.place("ann", Side.BUY, "1", "100", client_order_id="mine")
    assert floor.exchange.find("ann", "BTCUSDT", client_id="mine") is again


def test_what_cannot_be_paid_for_is_refused_and_changes_nothing(floor: Floor) -> None:
    floor.place("cyd", Side.SELL, "10", "101")
    before = floor.balances()
    for wish in (("BUY", "10.1", "100"), ("SELL", "10.1", "100"), ("BUY", "9.95", None)):
        side, quantity, price = wish
        with pytest.raises(Refusal, match="-2010 Account has insufficient balance"):
            floor.place("ann", Side(side.lower()), quantity, price)
    assert floor.balances() == before
    assert floor.exchange.open_orders("ann") == []


def test_a_cancelled_order_cannot_be_cancelled_again(floor: Floor) -> None:
    order, _ = floor.place("ann", Side.BUY, "1", "100")
    floor.cancel(order)
    with pytest.raises(Refusal, match="-2011 Unknown order sent"):
        floor.cancel(order)


@pytest.mark.parametrize(
    ("quantity", "price", "words"),
    [
        ("0.000001", "100", "Filter failure: LOT_SIZE"),
        ("0.100001", "100", "Filter failure: LOT_SIZE"),
        ("9001", "0.01", "Filter failure: LOT_SIZE"),
        ("1001", None, "Filter failure: MARKET_LOT_SIZE"),
        ("1", "100.001", "Filter failure: PRICE_FILTER"),
        ("1", "1000000.01", "Filter failure: PRICE_FILTER"),
        ("0.04", "100", "Filter failure: NOTIONAL"),
        ("0.04", None, "Filter failure: NOTIONAL"),
        ("9000", "1001", "Filter failure: NOTIONAL"),
        ("0", "100", "Invalid quantity."),
        ("1", "0.000000001", "Parameter 'price' has too much precision."),
    ],
)
def test_each_filter_refuses_what_breaks_it(
    floor: Floor, quantity: str, price: str | None, words: str
) -> None:
    with pytest.raises(Refusal) as refused:
        floor.place("ann", Side.BUY, quantity, price)
    assert refused.value.text == words
    assert refused.value.code == (-1111 if "precision" in words else -1013)


def test_a_market_takes_so_many_open_orders_and_no_more(floor: Floor) -> None:
    for _ in range(RULES.open_orders_max):
        floor.place("ann", Side.SELL, "0.1", "100")
    with pytest.raises(Refusal, match="MAX_NUM_ORDERS"):
        floor.place("ann", Side.SELL, "0.1", "100")
    floor.place("bob", Side.SELL, "0.1", "100")


# --- orders that wait for a price -------------------------------------------------------------


def test_a_stop_sells_at_market_once_its_price_has_come_and_not_before(floor: Floor) -> None:
    floor.place("ann", Side.BUY, "1", "99", client_order_id="bid 99")
    floor.place("ann", Side.BUY, "1", "97", client_order_id="bid 97")
    stop, facts = floor.place(
        "bob", Side.SELL, "1", kind=OrderType.STOP_LOSS, stop_price=Decimal(99)
    )
    assert not trades(facts)
    assert (stop.is_working, stop.status) == (False, Status.NEW)
    _, facts = floor.place("cyd", Side.SELL, "1")
    assert trades(facts) == [
        ("bid 99", Decimal(99), Decimal(1)),
        ("bid 97", Decimal(97), Decimal(1)),
    ]
    assert (stop.is_working, stop.status) == (True, Status.FILLED)


def test_a_stop_limit_rests_at_its_limit_once_its_price_has_come(floor: Floor) -> None:
    floor.place("ann", Side.BUY, "1", "99")
    stop, _ = floor.place(
        "bob",
        Side.SELL,
        "1",
        "98.5",
        kind=OrderType.STOP_LOSS_LIMIT,
        stop_price=Decimal(99),
        client_order_id="stop",
    )
    floor.place("cyd", Side.SELL, "1")
    assert (stop.is_working, stop.status) == (True, Status.NEW)
    assert floor.market.book.asks.depth(1) == [(Decimal("98.5"), Decimal(1))]


def test_one_stop_may_set_off_the_next(floor: Floor) -> None:
    for price in ("99", "97", "95"):
        floor.place("ann", Side.BUY, "1", price)
    first, _ = floor.place("bob", Side.SELL, "1", kind=OrderType.STOP_LOSS, stop_price=Decimal(99))
    second, _ = floor.place("bob", Side.SELL, "1", kind=OrderType.STOP_LOSS, stop_price=Decimal(97))
    _, facts = floor.place("cyd", Side.SELL, "1")
    assert [price for _, price, _ in trades(facts)] == [99, 97, 95]
    assert first.status is second.status is Status.FILLED


def test_a_stop_whose_price_is_there_already_is_refused(floor: Floor) -> None:
    for side, price in ((Side.SELL, "100"), (Side.BUY, "100")):
        with pytest.raises(Refusal, match="trigger immediately"):
            floor.place("bob", side, "1", kind=OrderType.STOP_LOSS, stop_price=Decimal(price))
    assert floor.balances()["bob", "BTC"] == (Decimal(10), Decimal(0))


def test_a_waiting_stop_can_be_cancelled_and_gives_back_what_it_held(floor: Floor) -> None:
    stop, _ = floor.place("bob", Side.BUY, "1", kind=OrderType.STOP_LOSS, stop_price=Decimal(101))
    assert floor.balances()["bob", "USDT"] == (Decimal(899), Decimal(101))
    floor.cancel(stop)
    assert floor.balances()["bob", "USDT"] == (Decimal(1_000), Decimal(0))
    floor.place("ann", Side.SELL, "1", "101")
    _, facts = floor.place("cyd", Side.BUY, "1")
    assert len(trades(facts)) == 1


def test_a_stop_that_cannot_pay_the_price_it_meets_expires(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "101")
    floor.place("ann", Side.SELL, "9", "150")
    stop, _ = floor.place("bob", Side.BUY, "9", kind=OrderType.STOP_LOSS, stop_price=Decimal(101))
    floor.place("cyd", Side.BUY, "1")
    assert (stop.status, stop.filled) == (Status.EXPIRED, Decimal(0))
    assert floor.balances()["bob", "USDT"] == (Decimal(1_000), Decimal(0))


# --- money ------------------------------------------------------------------------------------

prices = st.integers(9_900, 10_100).map(lambda cents: Decimal(cents) / 100)
quantities = st.integers(6_000, 400_000).map(lambda lots: Decimal(lots) * RULES.lot_size)
place_actions = st.tuples(
    st.just("place"),
    st.sampled_from(NAMES),
    st.sampled_from(Side),
    st.sampled_from(OrderType),
    quantities,
    prices,
    st.sampled_from(Force),
    st.sampled_from(SelfTrade),
    st.booleans(),
    prices,
    st.booleans(),
)
cancel_actions = st.tuples(st.just("cancel"), st.integers(0, 30))
histories = st.lists(st.one_of(place_actions, place_actions, cancel_actions), max_size=60)


def play(floor: Floor, action: tuple[Any, ...]) -> None:
    if action[0] == "cancel":
        open_orders = [order for name in NAMES for order in floor.exchange.open_orders(name)]
        if open_orders:
            floor.cancel(open_orders[action[1] % len(open_orders)])
        return
    _, account, side, kind, quantity, price, force, self_trade, by_worth, *rest = action
    stop_price, fee_in_quote = rest
    more: dict[str, Any] = {"self_trade": self_trade, "fee_in_quote": fee_in_quote}
    if kind in (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT):
        more["force"] = force
    if kind.waits_for_a_price:
        more["stop_price"] = stop_price
    if kind is OrderType.MARKET and by_worth:
        floor.place(
            account,
            side,
            None,
            kind=kind,
            quote_quantity=(quantity * price).quantize(price),
            **more,
        )
        return
    asked = str(price) if kind.is_priced else None
    floor.place(account, side, str(quantity), asked, kind=kind, **more)


def check_all(floor: Floor) -> None:
    exchange, book = floor.exchange, floor.market.book
    for asset in ASSETS:
        assert exchange.accounts.sum(asset) == MONEY_OF_ALL, f"{asset} was made or lost"
    best_bid, best_ask = book.bids.best, book.asks.best
    assert best_bid is None or best_ask is None or best_bid < best_ask, "the book is crossed"
    for (name, asset), (free, locked) in floor.balances().items():
        needed = sum(
            exchange.cost(order, order.open_quantity * (order.price or order.stop_price))
            if order.side is Side.BUY
            else order.open_quantity
            for order in exchange.open_orders(name)
            if asset == ("USDT" if order.side is Side.BUY else "BTC")
        )
        assert free >= 0, f"{name} owes {asset}"
        held = sum(
            order.locked
            for order in exchange.open_orders(name)
            if asset == ("USDT" if order.side is Side.BUY else "BTC")
        )
        assert held == locked, f"{name}'s orders hold {held} {asset} of {locked} locked"
        assert locked == needed, f"{name} has {locked} {asset} locked, orders need {needed}"
    for half in (book.bids, book.asks):
        assert half.prices == sorted(half.levels)
        for price, level in half.levels.items():
            assert half.totals[price] == sum(order.open_quantity for order in level.values()) > 0
            assert all(order.status.is_open for order in level.values())


@settings(max_examples=150, deadline=None)
@given(histories)
def test_money_is_conserved_to_the_last_digit_whatever_is_ordered(
    history: list[tuple[Any, ...]],
) -> None:
    floor = Floor()
    for action in history:
        before = copy.deepcopy((floor.balances(), floor.market.book.bids.totals))
        try:
            play(floor, action)
        except Refusal:
            assert (floor.balances(), floor.market.book.bids.totals) == before
        check_all(floor)


@settings(max_examples=100, deadline=None)
@given(histories, histories)
def test_the_journal_rebuilds_the_exchange_it_was_written_by(
    history: list[tuple[Any, ...]], future: list[tuple[Any, ...]]
) -> None:
    floor = Floor()
    play_all(floor, history)
    lines = [json.loads(json.dumps(entry, default=str)) for entry in floor.entries]
    again = Floor()
    again.now_ms, again._names = floor.now_ms, floor._names
    again.exchange = Exchange([RULES], {"BTCUSDT": Decimal(100)})
    restored = restore(again.exchange, lines, dict.fromkeys(NAMES, FEES), 1)
    again.market.last_trade_id, again.market.last_price = (
        floor.market.last_trade_id,
        floor.market.last_price,
    )
    assert not restored.repairs
    assert_equal(again, floor)
    play_all(floor, future)
    play_all(again, future)
    assert_equal(again, floor)


def play_all(floor: Floor, history: list[tuple[Any, ...]]) -> None:
    for action in history:
        try:
            play(floor, action)
        except Refusal:
            continue


def assert_equal(again: Floor, floor: Floor) -> None:
    assert again.balances() == floor.balances()
    for asset in ASSETS:
        earned = (each.exchange.accounts.earned[asset] for each in (again, floor))
        assert next(earned) == next(earned)
    for old, new in (
        (floor.market.book.bids, again.market.book.bids),
        (floor.market.book.asks, again.market.book.asks),
    ):
        assert [(p, list(level)) for p, level in sorted(old.levels.items())] == [
            (p, list(level)) for p, level in sorted(new.levels.items())
        ]
        assert old.totals == new.totals
    assert again.exchange.last_order_id == floor.exchange.last_order_id
    assert again.market.trades == floor.market.trades
    check_all(again)


def test_an_order_whose_end_was_torn_off_the_journal_expires(floor: Floor) -> None:
    floor.place("ann", Side.SELL, "1", "100")
    floor.place("bob", Side.BUY, "1")
    torn = [
        json.loads(json.dumps(entry, default=str))
        for entry in floor.entries
        if entry["type"] != "fill"
    ]
    exchange = Exchange([RULES], {"BTCUSDT": Decimal(100)})
    restored = restore(exchange, torn, dict.fromkeys(NAMES, FEES), 1)
    assert [entry["type"] for entry in entries_of(restored.repairs)] == ["expire"]
    assert [order.account for order in exchange.open_orders("ann")] == ["ann"]
    assert exchange.open_orders("bob") == []


def test_the_oldest_ended_orders_are_forgotten_and_open_ones_never(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botswarm.exchanges.simulated.exchange.ORDERS_KEPT", 5)
    monkeypatch.setattr("botswarm.exchanges.simulated.exchange.TRADES_KEPT", 4)
    resting, _ = floor.place("ann", Side.BUY, "1", "50", client_order_id="resting")
    for number in range(10):
        floor.place("bob", Side.SELL, "0.1", "60", client_order_id=f"ask-{number}")
        floor.place("cyd", Side.BUY, "0.1", "60", client_order_id=f"bid-{number}")
    assert len(floor.market.orders) == 5
    assert floor.exchange.find("ann", "BTCUSDT", client_id="resting") is resting
    assert floor.exchange.find("bob", "BTCUSDT", client_id="ask-0") is None
    assert floor.exchange.find("bob", "BTCUSDT", client_id="ask-9") is not None
    assert 4 <= len(floor.market.trades["bob"]) < 6
    assert floor.market.trades["bob"][-1].trade_id == 10
