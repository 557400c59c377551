"""A live price is written exactly, and read back only if it can be true."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Side
from botswarm.errors import Malformed, Unreachable
from botswarm.feed.board import Board
from botswarm.live.price import (
    BYTES_MAX,
    LivePrice,
    decode,
    decode_contents,
    encode,
    prices_of,
)
from botswarm.market.wire import Digest, MarketDigest
from botswarm.testing.servers import wait_until

NOW = 1_795_173_265_000
amounts = st.decimals(
    min_value=Decimal("0.00000001"), max_value=Decimal(10) ** 12, places=8, allow_nan=False
)


def a_price(
    symbol: str = "BTC-USDT", *, sequence: int = 7, price: Decimal = Decimal("100410.10")
) -> LivePrice:
    trade = Trade(
        venue="v",
        symbol=symbol,
        trade_id=1,
        price=price,
        quantity=Decimal("0.01200"),
        taker_side=Side.SELL,
        exchange_ms=NOW - 300,
        received_ms=NOW - 290,
    )
    quote = Quote(
        venue="v",
        symbol=symbol,
        sequence=3,
        bid=price,
        bid_quantity=Decimal("1.0"),
        ask=price,
        ask_quantity=Decimal(0),
        exchange_ms=NOW - 200,
        received_ms=NOW - 190,
    )
    return LivePrice(venue="v", symbol=symbol, sequence=sequence, trade=trade, quote=quote)


def a_digest(*prices: LivePrice) -> Digest:
    markets = tuple(
        MarketDigest(symbol=each.symbol, sequence=each.sequence, trade=each.trade, quote=each.quote)
        for each in prices
    )
    return Digest(venue="v", sent_ms=NOW, markets=markets)


@given(price=amounts, sequence=st.integers(0, 2**62))
def test_what_is_written_is_read_back_to_the_last_digit(price: Decimal, sequence: int) -> None:
    written = a_price(price=price, sequence=sequence)
    body = encode(written)
    assert len(body) < BYTES_MAX / 2
    assert decode(body, "v", "BTC-USDT", NOW) == written


def test_a_price_is_as_old_as_its_newest_tick_and_stale_after_ten_seconds() -> None:
    price = a_price()
    assert price.exchange_ms == NOW - 200
    assert price.age_s(NOW) == pytest.approx(0.2)
    assert price.age_s(NOW - 4000) == 0  # the venue's clock is a little ahead
    assert [price.is_stale(NOW - 200 + ms) for ms in (10_000, 10_001)] == [False, True]


def test_a_market_without_trade_and_quote_has_no_price() -> None:
    empty = MarketDigest(symbol="A-B", sequence=1, trade=None, quote=None)
    assert prices_of(Digest(venue="v", sent_ms=NOW, markets=(empty,))) == []
    assert prices_of(a_digest(a_price())) == [a_price()]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_price_or_malformed_and_nothing_else(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body, "v", "BTC-USDT", NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
PATHS = [
    *([name] for name in ("v", "venue", "symbol", "sequence", "trade", "quote")),
    *(["trade", name] for name in Trade.__slots__),
    *(["quote", name] for name in Quote.__slots__),
]


@given(path=st.sampled_from(PATHS), value=json_values)
def test_a_price_with_one_field_replaced_is_a_possible_price_or_malformed(
    path: list[str], value: Any
) -> None:
    body = json.dumps(with_field(path, value)).encode()
    try:
        found = decode(body, "v", "BTC-USDT", NOW)
    except Malformed:
        return
    assert (found.venue, found.symbol) == ("v", "BTC-USDT")
    assert found.age_s(NOW) >= 0
    for tick in (found.trade, found.quote):
        assert tick is None or tick.symbol == "BTC-USDT"
    if found.trade is not None:
        assert Decimal(0) < found.trade.price < Decimal(10) ** 40


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((["trade", "price"], value) for value in ("NaN", "-NaN", "Infinity", "-1", "0", "x")),
        *((["trade", "price"], value) for value in ("1E+999999999", "1E-999999999", "9" * 31)),
        (["quote", "bid"], "-0.01"),
        (["quote", "ask"], "sNaN"),
        *((["trade", "exchange_ms"], value) for value in (0, -1, NOW + 5001, 10**30, "1", 1.5)),
        (["quote", "exchange_ms"], NOW + 3_600_000),
        (["trade", "symbol"], "ETH-USDT"),
        (["symbol"], "ETH-USDT"),
        (["venue"], "w"),
        (["v"], 2),
        (["sequence"], -1),
        (["sequence"], 2**63),
        (["trade", "taker_side"], "both"),
    ],
)
def test_a_price_that_cannot_be_is_malformed(path: list[str], value: Any) -> None:
    decode(json.dumps(with_field([], None)).encode(), "v", "BTC-USDT", NOW)
    with pytest.raises(Malformed):
        decode(json.dumps(with_field(path, value)).encode(), "v", "BTC-USDT", NOW)


def with_field(path: list[str], value: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(encode(a_price()))
    place = fields
    for name in path[:-1]:
        place = place[name]
    if path:
        place[path[-1]] = value
    return fields


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"7", b"\xff", b'["a", 1]', b"[null]", b'[""]', b"[" * 100_000),
        *(b'["\\u001b[2J"]', b'["A\\nB"]', b'["' + b"A" * 51 + b'"]'),
    ],
)
def test_a_list_of_markets_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_contents(body)


@pytest.mark.parametrize("opening", [b'{"x":' + b"[" * 4000, b'{"trade":' + b'{"x":' * 800])
def test_a_price_nested_without_end_is_malformed(opening: bytes) -> None:
    with pytest.raises(Malformed):
        decode(opening, "v", "BTC-USDT", NOW)


# --- the board --------------------------------------------------------------------------------


class Wall:
    """What the board writes on; the test says when it can."""

    def __init__(self) -> None:
        self.is_up = False
        self.tries = 0
        self.written: list[tuple[list[LivePrice], list[str]]] = []

    def write(self, prices: Any, contents: Any) -> None:
        self.tries += 1
        if not self.is_up:
            raise Unreachable("no wall")
        self.written.append((list(prices), sorted(contents)))


def test_only_the_newest_price_of_each_market_waits_for_a_board_that_cannot_be_written() -> None:
    wall = Wall()
    board = Board(wall.write)
    board.start()
    for number in range(1, 2001):
        board.hear(a_digest(a_price(sequence=number), a_price("ETH-USDT", sequence=number)))
    wait_until(lambda: board.failed > 0, "a try", 5)
    assert wall.tries < 5  # it steps back: two thousand digests are not two thousand tries
    assert len(board._waiting) <= 2
    wall.is_up = True
    wait_until(lambda: board.written > 0, "the board to be written", 10)
    board.stop()
    prices, contents = wall.written[0]
    assert {(each.symbol, each.sequence) for each in prices} == {
        *(("BTC-USDT", 2000), ("ETH-USDT", 2000)),
    }
    assert contents == ["BTC-USDT", "ETH-USDT"]
    assert board.replaced >= 3990


def test_a_market_that_fell_silent_is_taken_off_the_board() -> None:
    now = [0.0]
    wall = Wall()
    wall.is_up = True
    board = Board(wall.write, lambda: now[0])
    board.start()
    board.hear(a_digest(a_price("OLD-USDT")))
    wait_until(lambda: board.written == 1, "the first price", 5)
    now[0] = 31.0
    board.hear(a_digest(a_price()))
    wait_until(lambda: board.written == 2, "the second price", 5)
    board.stop()
    assert [contents for _, contents in wall.written] == [["OLD-USDT"], ["BTC-USDT"]]
