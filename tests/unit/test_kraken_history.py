"""Fills out of a history that tells fifty at a time, newest first, of all markets together."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.errors import Unreachable
from botswarm.exchanges.kraken.answers import Names
from botswarm.exchanges.kraken.history import HISTORY_PAGE, History
from botswarm.exchanges.kraken.private import PrivateRest

NAMES = Names(
    {
        "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD"},
        "XETHZUSD": {"altname": "ETHUSD", "wsname": "ETH/USD"},
    }
)
PAIRS = ("XXBTZUSD", "XETHZUSD")


class Told:
    """The venue's history, which grows while it is asked."""

    def __init__(self, markets: list[int], *, grows_by: int = 0) -> None:
        """``markets`` are those of the trades, oldest first."""
        self.trades: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.grows_by = grows_by
        for market in markets:
            self.trade(market)

    def trade(self, market: int) -> None:
        of_market = sum(each["pair"] == PAIRS[market] for each in self.trades)
        self.trades.append(
            {
                "ordertxid": f"O{len(self.trades) % 7}",
                "pair": PAIRS[market],
                "time": Decimal(1_700_000_000) + len(self.trades) // 3,
                "type": "buy",
                "price": "10.0",
                "fee": "0.01",
                "vol": "1.00000000",
                "trade_id": 1000 * (market + 1) + of_market,
            }
        )

    def ask(self, question: str, parameters: Mapping[str, str], *_: object) -> Any:
        self.asked.append((question, parameters))
        if question == "TradesHistory":
            return self._page(int(parameters["ofs"]), int(parameters.get("start", 0)))
        assert question == "QueryOrders"
        return {
            name: {"status": "closed", "vol": "1", "vol_exec": "1", "cl_ord_id": f"c{name}"}
            for name in parameters["txid"].split(",")
        }

    def _page(self, offset: int, start: int) -> Any:
        found = [each for each in reversed(self.trades) if each["time"] > start]
        page = found[offset : offset + HISTORY_PAGE]
        told = {
            "trades": {f"T{self.trades.index(each)}": each for each in page},
            "count": len(found),
        }
        for _ in range(self.grows_by):
            self.trade(len(self.trades) % 2)
        return told


def history(told: Told) -> History:
    return History("kraken", cast("PrivateRest", told))


def ids(told: Told, market: int) -> list[int]:
    return [each["trade_id"] for each in told.trades if each["pair"] == PAIRS[market]]


def read_all(asked: History, symbol: str) -> list[int]:
    """As whoever settles does it: from the last known on, until there are no more."""
    found: list[int] = []
    while page := asked.fills(symbol, NAMES, found[-1] if found else None, None):
        found += [fill.trade_id for fill in page]
    return found


@given(st.lists(st.integers(0, 1), max_size=180))
def test_all_fills_of_a_market_are_told_once_and_in_order(markets: list[int]) -> None:
    told = Told(markets)
    assert read_all(history(told), "BTC-USD") == ids(told, 0)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=180), st.data())
def test_who_knows_some_is_told_all_that_came_after(
    markets: list[int], data: st.DataObject
) -> None:
    told = Told(markets)
    known = data.draw(st.sampled_from([999, *ids(told, 0)]))
    found = history(told).fills("BTC-USD", NAMES, known, None)
    assert [fill.trade_id for fill in found] == [each for each in ids(told, 0) if each > known]


@pytest.mark.parametrize("grows_by", [1, 30])
def test_trades_that_come_between_two_pages_hide_none(grows_by: int) -> None:
    """They push the others on to the next page, where those are told a second time."""
    told = Told([0, 1] * 100, grows_by=grows_by)
    before = ids(told, 0)
    found = [fill.trade_id for fill in history(told).fills("BTC-USD", NAMES, before[3], None)]
    assert set(before[4:]) <= set(found)
    assert found == sorted(set(found))


def test_what_was_seen_here_before_narrows_the_next_question() -> None:
    told = Told([0, 1] * 100)
    asked = history(told)
    last = read_all(asked, "BTC-USD")[-1]
    told.asked.clear()
    told.trade(0)
    assert [fill.trade_id for fill in asked.fills("BTC-USD", NAMES, last, None)] == [last + 1]
    ((_, parameters),) = [each for each in told.asked if each[0] == "TradesHistory"]
    assert int(parameters["start"]) >= 1_700_000_000


def test_names_of_orders_are_asked_for_once_and_together() -> None:
    told = Told([0] * 40)
    asked = history(told)
    fills = asked.fills("BTC-USD", NAMES, 0, None)
    assert {fill.client_order_id for fill in fills} == {f"cO{number}" for number in range(7)}
    asked.fills("BTC-USD", NAMES, 0, None)
    assert [question for question, _ in told.asked].count("QueryOrders") == 1


def test_a_trade_of_another_shape_is_the_venues_fault_and_says_so() -> None:
    told = Told([0])
    del told.trades[0]["vol"]
    with pytest.raises(Unreachable, match="cannot be read"):
        history(told).fills("BTC-USD", NAMES, 0, None)


class OneOrder:
    """Of one order, with as many trades as it is said to have."""

    def __init__(self, trades: int) -> None:
        self.told = Told([0] * trades)
        self.questions: list[str] = []

    def ask(self, question: str, parameters: Mapping[str, str], *_: object) -> Any:
        self.questions.append(question)
        names = [f"T{number}" for number in range(len(self.told.trades))]
        if question == "QueryOrders":
            row = {"status": "open", "vol": "100", "vol_exec": "1", "cl_ord_id": "abc"}
            return {parameters["txid"]: {**row, "trades": names}}
        assert question == "QueryTrades"
        wanted = parameters["txid"].split(",")
        assert len(wanted) <= 20
        rows = dict(zip(names, self.told.trades, strict=True))
        return {name: {**rows[name], "ordertxid": "OA"} for name in wanted}


def test_trades_of_an_order_cost_one_question_and_one_for_each_twenty() -> None:
    venue = OneOrder(45)
    asked = History("kraken", cast("PrivateRest", venue))
    assert asked.order("OA").filled_quantity == 1
    fills = asked.fills("BTC-USD", NAMES, None, "OA")
    assert len(fills) == 45
    assert {fill.client_order_id for fill in fills} == {"abc"}
    # Until there are no more: what was told a moment ago is not asked for again.
    assert not asked.fills("BTC-USD", NAMES, fills[-1].trade_id, "OA")
    assert venue.questions == ["QueryOrders", *["QueryTrades"] * 3]


def test_a_trade_that_came_since_is_asked_for_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venue = OneOrder(2)
    asked = History("kraken", cast("PrivateRest", venue))
    assert len(asked.fills("BTC-USD", NAMES, None, "OA")) == 2
    venue.told.trade(0)
    monkeypatch.setattr("botswarm.exchanges.kraken.history.NAMES_FRESH_S", 0.0)
    assert len(asked.fills("BTC-USD", NAMES, None, "OA")) == 3
    assert venue.questions == ["QueryOrders", "QueryTrades"] * 2
