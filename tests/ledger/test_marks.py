"""What markets are worth is written down by whoever follows them, and only what is newer counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import OrderKind, Side
from botswarm.domain.standing import Mark
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.ledger.store import Ledger
from botswarm.market.book import MarketBook
from botswarm.market.wire import Digest, MarketDigest
from tests.ledger.conftest import NOW, SYMBOL, VENUE
from tests.ledger.sweeping import Stopped
from workers.marks import Marker

D = Decimal
MARK = Mark(venue=VENUE, symbol=SYMBOL, price=D(100), at=NOW)


def test_the_newest_price_stands_whoever_says_an_older_one_later(ledger: Ledger) -> None:
    ledger.marks.save([MARK], NOW)
    ledger.marks.save([replace(MARK, price=D(90), at=NOW - timedelta(seconds=1))], NOW)
    assert ledger.marks.all() == {(VENUE, SYMBOL): MARK}
    newer = replace(MARK, price=D(110), bid=D(109), ask=D(111), at=NOW + timedelta(seconds=1))
    ledger.marks.save([newer], NOW)
    assert ledger.marks.all() == {(VENUE, SYMBOL): newer}


def test_a_price_of_the_future_is_not_kept_and_gives_way_where_it_was(ledger: Ledger) -> None:
    later = replace(MARK, at=NOW + timedelta(hours=1))
    ledger.marks.save([later], NOW)
    assert ledger.marks.all() == {}
    ledger.marks.save([later], later.at)
    ledger.marks.save([MARK], NOW)
    assert ledger.marks.all() == {(VENUE, SYMBOL): MARK}


def told(price: str | None, bid: str | None, ask: str | None, sequence: int = 1) -> Digest:
    at_ms = int(NOW.timestamp() * 1000) + sequence
    shared = {"venue": VENUE, "symbol": SYMBOL, "exchange_ms": at_ms, "received_ms": at_ms}
    trade = quote = None
    if price is not None:
        trade = Trade(trade_id=1, price=D(price), quantity=D(1), taker_side=Side.BUY, **shared)  # type: ignore[arg-type]
    if bid is not None and ask is not None:
        quote = Quote(
            sequence=sequence,
            bid=D(bid),
            bid_quantity=D(1),
            ask=D(ask),
            ask_quantity=D(1),
            **shared,  # type: ignore[arg-type]
        )
    market = MarketDigest(symbol=SYMBOL, sequence=sequence, trade=trade, quote=quote)
    return Digest(venue=VENUE, sent_ms=at_ms, markets=(market,))


def test_a_market_is_worth_its_last_trade_held_within_the_book() -> None:
    for price, bid, ask, worth in (
        ("100", None, None, "100"),
        ("100", "99", "101", "100"),
        ("80", "99", "101", "99"),
        ("120", "99", "101", "101"),
        (None, "99", "101", "100"),
        ("100", "102", "101", "100"),
    ):
        book = MarketBook()
        book.apply(told(price, bid, ask))
        (mark,) = book.marks()
        assert mark.price == D(worth), (price, bid, ask)
    assert MarketBook().marks() == []


def test_a_worker_writes_what_has_moved_and_nothing_twice(quick_ledger: Ledger) -> None:
    book, clock = MarketBook(), Stopped()
    marker = Marker(book, quick_ledger.marks, clock)
    assert marker.write() == 0
    book.apply(told("100", "99", "101"))
    assert (marker.write(), marker.write()) == (1, 0)
    book.apply(told("101", "100", "102", sequence=2000))
    assert marker.write() == 1
    mark = quick_ledger.marks.all()[VENUE, SYMBOL]
    assert (mark.price, mark.bid, mark.ask) == (D(101), D(100), D(102))
    assert mark.at == datetime.fromtimestamp(NOW.timestamp() + 2, UTC)


def test_which_orders_a_venue_takes_is_known_without_asking_it() -> None:
    def kinds(venue: str, name: str = "spot") -> frozenset[OrderKind] | None:
        return accounts.kinds(Account(venue, name))

    assert OrderKind.STOP in (kinds("simulated", "paper") or ())
    assert OrderKind.STOP in (kinds("kraken") or ())
    assert OrderKind.STOP not in (kinds("coinbase") or (OrderKind.STOP,))
    assert OrderKind.STOP in (kinds("coinbase", "paper") or ())
    assert kinds("ccxt-okx") is None
    assert kinds("nowhere") == frozenset()
