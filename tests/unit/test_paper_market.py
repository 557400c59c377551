"""Orders on paper against ticks that are given by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Book, Level, Quote, Status, Trade, Trading
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.accounts import Fees
from botswarm.exchanges.simulated.exchange import Fact, Traded
from botswarm.exchanges.simulated.live import LiveMarket
from botswarm.exchanges.simulated.orders import Force, NewOrder, OrderType
from botswarm.exchanges.simulated.orders import Status as State

NOW = 1_000_000
SYMBOL = "BTC-USDT"
INSTRUMENT = Instrument(
    venue="kraken",
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    quantity_min=Decimal("0.001"),
    quantity_max=Decimal(1000),
    notional_min=Decimal(5),
)


def d(number: float | str) -> Decimal:
    return Decimal(str(number))


class Paper:
    """A market, and one customer of it."""

    def __init__(self) -> None:
        self.market = LiveMarket("kraken", [INSTRUMENT], stale_ms=5000)
        self.exchange = self.market.exchange
        self.exchange.open_account("paper", Fees(maker=d("0.001"), taker=d("0.002")))
        for asset in ("BTC", "USDT"):
            self.exchange.deposit("paper", asset, d(1_000_000))
        self.now_ms = NOW
        self.sequence = 0

    def hears(self, *ticks: Book | Quote | Trade | Status) -> list[Fact]:
        self.market.hear(ticks)
        return self.market.step(self.now_ms, self.now_ms)

    def book(self, bids: list[tuple[object, object]], asks: list[tuple[object, object]]) -> None:
        self.sequence += 1
        self.hears(
            Book(
                venue="kraken",
                symbol=SYMBOL,
                sequence=self.sequence,
                bids=levels(bids),
                asks=levels(asks),
                exchange_ms=self.now_ms,
                received_ms=self.now_ms,
            )
        )

    def quote(self, bid: object, bid_quantity: object, ask: object, ask_quantity: object) -> None:
        self.sequence += 1
        self.hears(
            Quote(
                venue="kraken",
                symbol=SYMBOL,
                sequence=self.sequence,
                bid=d(str(bid)),
                bid_quantity=d(str(bid_quantity)),
                ask=d(str(ask)),
                ask_quantity=d(str(ask_quantity)),
                exchange_ms=self.now_ms,
                received_ms=self.now_ms,
            )
        )

    def trade(self, price: object, quantity: object, taker: Side, trade_id: int = 0) -> list[Fact]:
        self.now_ms += 10
        self.sequence += 1
        return self.hears(
            Trade(
                venue="kraken",
                symbol=SYMBOL,
                trade_id=trade_id or self.sequence,
                price=d(str(price)),
                quantity=d(str(quantity)),
                taker_side=taker,
                exchange_ms=self.now_ms,
                received_ms=self.now_ms,
            )
        )

    def order(self, side: Side, quantity: object, price: object = None, **more: object) -> Any:
        values: dict[str, object] = {
            "account": "paper",
            "symbol": "BTCUSDT",
            "side": side,
            "type": OrderType.MARKET if price is None else OrderType.LIMIT,
            "client_order_id": f"o{self.exchange.last_order_id}",
            "quantity": d(str(quantity)),
            "price": None if price is None else d(str(price)),
        }
        placed, self.facts = self.exchange.place(NewOrder(**values | more), self.now_ms)  # type: ignore[arg-type]
        return placed

    def fills(self) -> list[Any]:
        return [(each.price, each.quantity) for each in self.facts if isinstance(each, Traded)]


def levels(pairs: list[tuple[object, object]]) -> tuple[Level, ...]:
    return tuple((d(str(price)), d(str(quantity))) for price, quantity in pairs)


@pytest.fixture
def paper() -> Paper:
    made = Paper()
    made.book([(99, 2), (98, 5)], [(101, 1), (102, 3)])
    return made


def test_a_market_order_walks_the_venues_book_and_what_it_cannot_have_expires(
    paper: Paper,
) -> None:
    order = paper.order(Side.BUY, 6)
    assert paper.fills() == [(101, 1), (102, 3)]
    assert (order.status, order.filled) == (State.EXPIRED, 4)


def test_a_limit_order_takes_what_is_there_and_rests_with_the_rest(paper: Paper) -> None:
    order = paper.order(Side.BUY, 3, 101)
    assert (paper.fills(), order.status) == ([(101, 1)], State.PARTIALLY_FILLED)
    paper.trade("100.9", 5, Side.SELL)
    assert (order.status, order.filled, order.filled_quote) == (State.FILLED, 3, 303)


def test_what_was_taken_is_not_there_again_until_the_venue_shows_more(paper: Paper) -> None:
    paper.order(Side.BUY, "0.4", force=Force.IOC)
    paper.book([(99, 2)], [(101, 1), (102, 3)])
    paper.order(Side.BUY, 1)
    assert paper.fills() == [(101, d("0.6")), (102, d("0.4"))]
    paper.book([(99, 2)], [(101, "1.5"), (102, 3)])
    paper.order(Side.BUY, 1)
    assert paper.fills() == [(101, d("0.5")), (102, d("0.5"))]


def test_a_quote_that_is_newer_than_the_book_takes_away_what_stood_before_it(
    paper: Paper,
) -> None:
    paper.quote(99, 2, 102, "0.5")
    paper.order(Side.BUY, 1)
    assert paper.fills() == [(102, d("0.5"))]


def test_a_resting_order_waits_for_those_who_stood_there_before(paper: Paper) -> None:
    order = paper.order(Side.BUY, 1, 99)
    paper.trade(99, "1.5", Side.SELL)
    assert order.filled == 0
    paper.trade(99, 1, Side.SELL)
    assert order.filled == d("0.5")
    paper.trade(99, 1, Side.BUY)
    assert order.filled == d("0.5")
    paper.trade("98.9", "0.2", Side.SELL)
    assert order.filled == d("0.7")
    assert order.filled_quote == 99 * d("0.7")


def test_of_several_the_better_price_and_then_the_earlier_is_filled_first(paper: Paper) -> None:
    late = paper.order(Side.SELL, 1, 101)
    better = paper.order(Side.SELL, 1, 100)
    paper.trade(103, "1.5", Side.BUY)
    assert (better.filled, late.filled) == (1, d("0.5"))


def test_a_trade_that_is_told_twice_fills_once(paper: Paper) -> None:
    order = paper.order(Side.BUY, 5, 100)
    paper.trade(100, 1, Side.SELL, trade_id=900)
    paper.trade(100, 1, Side.SELL, trade_id=900)
    assert order.filled == 1


def test_without_a_fresh_price_no_order_is_taken_and_nothing_fills(paper: Paper) -> None:
    order = paper.order(Side.BUY, 1, 100)
    assert paper.market.objection("BTCUSDT", NOW + 5000) == ""
    assert "6.0 s old" in paper.market.objection("BTCUSDT", NOW + 6000)
    late = Trade(
        venue="kraken",
        symbol=SYMBOL,
        trade_id=5000,
        price=d(90),
        quantity=d(9),
        taker_side=Side.SELL,
        exchange_ms=NOW + 100,
        received_ms=NOW + 100,
    )
    paper.now_ms = NOW + 6000
    assert (paper.hears(late), order.filled, paper.market.late) == ([], 0, 1)


def test_before_the_first_price_and_while_the_venue_halts_no_order_is_taken(paper: Paper) -> None:
    fresh = LiveMarket("kraken", [INSTRUMENT], stale_ms=5000)
    assert "is the feed running" in fresh.objection("BTCUSDT", NOW)
    halted = Status(
        venue="kraken",
        symbol=SYMBOL,
        trading=Trading.HALTED,
        exchange_ms=NOW,
        received_ms=NOW,
        words="maintenance",
    )
    paper.hears(halted)
    assert "maintenance" in paper.market.objection("BTCUSDT", NOW)


def test_a_stop_order_wakes_when_the_venue_trades_at_its_price(paper: Paper) -> None:
    order = paper.order(Side.SELL, 1, "98", type=OrderType.STOP_LOSS_LIMIT, stop_price=d("98.5"))
    paper.trade("98.6", 1, Side.SELL)
    assert not order.is_working
    paper.trade("98.5", 1, Side.SELL)
    assert (order.status, order.filled_quote) == (State.FILLED, 99)


def test_a_crossed_book_is_not_believed(paper: Paper) -> None:
    paper.book([(105, 9)], [(90, 9)])
    assert paper.market.crossed == 1
    paper.order(Side.BUY, "0.5")
    assert paper.fills() == [(101, d("0.5"))]


def test_money_stays_what_it_was_but_for_the_fees(paper: Paper) -> None:
    before = paper.exchange.accounts.sum("USDT"), paper.exchange.accounts.sum("BTC")
    paper.order(Side.BUY, 4)
    paper.order(Side.SELL, "1.5")
    paper.order(Side.BUY, 1, 99)
    paper.trade(98, 5, Side.SELL)
    account = paper.exchange.accounts["paper"]
    assert (paper.exchange.accounts.sum("USDT"), paper.exchange.accounts.sum("BTC")) == before
    assert account.locked["USDT"] == account.locked["BTC"] == 0
