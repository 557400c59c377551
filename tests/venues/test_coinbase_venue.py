"""What only Coinbase promises: names never taken twice, tokens for one request, named trades."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import OrderState, Side
from botswarm.exchanges.allowance import TooSoon
from botswarm.exchanges.base import Accepted, Declined
from botswarm.exchanges.board import Board
from botswarm.exchanges.coinbase import limits, private
from botswarm.exchanges.coinbase.tokens import Signer
from botswarm.exchanges.coinbase.trading import CoinbaseTrading
from botswarm.exchanges.shared_allowance import SharedAllowance
from botswarm.testing.exchange import Reply, SimulatedExchangeServer
from tests.integration.swarm import until
from tests.venues.conftest import MARKET, Bench, Listener, report_of
from tests.venues.doors import DOORS

ROOT = "/coinbase/api/v3/brokerage"
(COINBASE,) = [door for door in DOORS if door.name == "coinbase"]


@pytest.fixture
def bench(benches: dict[str, Bench]) -> Iterator[Bench]:
    chosen = benches["coinbase"]
    yield chosen
    chosen.server.misbehaviour("DELETE")
    chosen.venue.cancel_all(MARKET)


# --- names ----------------------------------------------------------------------------------------


def test_a_name_that_was_ever_taken_gives_the_order_it_was_taken_for(bench: Bench) -> None:
    """Also after it was filled, and whatever is asked for under it: a question, never an order."""
    order = bench.market_order(quantity=Decimal("0.001"))
    first = bench.accepted(order)
    bench.found(order, OrderState.FILLED)
    before = bench.venue.balances()
    again = bench.accepted(order)
    other = bench.accepted(replace(order, quantity=Decimal("0.002"), side=Side.SELL))
    assert {again.venue_order_id, other.venue_order_id} == {first.venue_order_id}
    assert bench.venue.balances() == before
    assert len(bench.journal("order", order)) == 1


def test_who_begins_anew_finds_an_order_by_its_name_through_many_pages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "PAGE", 2)
    orders = [bench.order() for _ in range(5)]
    reports = [bench.accepted(order) for order in orders]
    fresh = COINBASE.venue(bench.server, bench.folder)
    try:
        for order, report in zip(orders, reports, strict=True):
            found = fresh.query(order)
            assert found is not None
            assert found.venue_order_id == report.venue_order_id
        names = {report.client_order_id for report in fresh.open_orders(MARKET)}
        assert {order.client_order_id for order in orders} <= names
    finally:
        fresh.close()


def test_an_order_is_open_for_us_before_the_venue_calls_it_open(bench: Bench) -> None:
    order = bench.order()
    bench.accepted(order)
    told = ask(bench, "GET", f"{ROOT}/orders/historical/batch", "?order_status=PENDING").body
    names = {report.client_order_id for report in bench.venue.open_orders(MARKET)}
    assert order.client_order_id in names
    # On a slow machine it may have become open by the time it was asked.
    assert [row["status"] for row in told["orders"]] in ([], ["PENDING"])


def test_all_fills_are_found_whatever_the_size_of_a_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (Side.BUY, Side.SELL):
        order = bench.market_order(quantity=Decimal("0.5"), side=side)
        bench.accepted(order)
        bench.found(order, OrderState.FILLED)
    known = bench.venue.fills(MARKET)
    monkeypatch.setattr(private, "PAGE", 3)
    assert bench.venue.fills(MARKET) == known
    ids = [fill.trade_id for fill in known]
    assert ids == sorted(set(ids))
    middle = ids[len(ids) // 2]
    after = bench.venue.fills(MARKET, after_trade_id=middle)
    assert [fill.trade_id for fill in after] == [each for each in ids if each > middle]


# --- tokens ---------------------------------------------------------------------------------------


def ask(
    bench: Bench, method: str, path: str, query: str = "", *, token: str | None = None
) -> Reply:
    card = bench.server.card
    if token is None:
        signer = Signer(Secret(card.coinbase_api_key), Secret(card.coinbase_api_secret))
        token = signer.token(at_s=int(time.time()), lifetime_s=60, uri=f"{method} host{path}")
    headers = {"Authorization": f"Bearer {token}"}
    return bench.server.send(method, path + query, headers=headers)


def another_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    kind = PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, kind, NoEncryption()).decode()


def a_token(bench: Bench, *, secret: str = "", name: str = "", **given: Any) -> str:
    card = bench.server.card
    signer = Signer(
        Secret(name or card.coinbase_api_key), Secret(secret or card.coinbase_api_secret)
    )
    usual: dict[str, Any] = {
        "at_s": int(time.time()),
        "lifetime_s": 60,
        "uri": f"GET host{ROOT}/accounts",
    }
    return signer.token(**usual | given)


def unsigned(token: str) -> str:
    """The same claims, said by nobody."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


FORGED: dict[str, Callable[[Bench], str]] = {
    "none at all": lambda bench: "",
    "of another request": lambda bench: a_token(bench, uri=f"POST host{ROOT}/orders"),
    "of another path": lambda bench: a_token(bench, uri=f"GET host{ROOT}/orders"),
    "of no request": lambda bench: a_token(bench, uri=None),
    "too old": lambda bench: a_token(bench, at_s=int(time.time()) - 120),
    "not yet": lambda bench: a_token(bench, at_s=int(time.time()) + 120),
    "for too long": lambda bench: a_token(bench, lifetime_s=600),
    "by another key": lambda bench: a_token(bench, secret=another_key()),
    "of another name": lambda bench: a_token(bench, name="organizations/x/apiKeys/y"),
    "unsigned": lambda bench: unsigned(a_token(bench)),
    "cut": lambda bench: a_token(bench)[:-8],
}


def test_a_token_for_the_request_lets_it_in(bench: Bench) -> None:
    assert ask(bench, "GET", f"{ROOT}/accounts", token=a_token(bench)).status == 200


@pytest.mark.parametrize("forged", FORGED.values(), ids=list(FORGED))
def test_any_other_token_is_refused(bench: Bench, forged: Callable[[Bench], str]) -> None:
    assert ask(bench, "GET", f"{ROOT}/accounts", token=forged(bench)).status == 401


# --- limits ---------------------------------------------------------------------------------------


def test_whoever_is_too_fast_waits_for_a_second_and_not_for_a_minute(tmp_path: Path) -> None:
    with SimulatedExchangeServer(options=["--coinbase-per-s", "5"]) as server:
        card = server.card
        # What this process believes the limit to be is far from what it is.
        board = Board(tmp_path / "board")
        allowance = SharedAllowance("coinbase", limits.LIMITS, board, account="main")
        venue = CoinbaseTrading(
            name="coinbase",
            account="main",
            url=card.coinbase_rest_url,
            key=Secret(card.coinbase_api_key),
            secret=Secret(card.coinbase_api_secret),
            clock=SystemClock(),
            allowance=allowance,
        )
        try:
            markets = {each.symbol: each for each in venue.instruments()}
            bench = Bench(COINBASE, server, venue, markets, tmp_path)
            refused = _until_refused(bench)
            assert refused.code in ("rate_limit_exceeded", "not sent")
            began = time.monotonic()

            def placed() -> bool:
                try:
                    return isinstance(bench.send(bench.order()), Accepted)
                except TooSoon:
                    return False

            until(placed, "an order is placed again")
            assert time.monotonic() - began < 30
        finally:
            venue.close()


def _until_refused(bench: Bench) -> Declined:
    for _ in range(200):
        try:
            answer = bench.send(bench.order())
        except TooSoon as error:
            return Declined("not sent", error.cause)
        if isinstance(answer, Declined):
            return answer
    raise AssertionError("nobody minds how fast orders come")


def test_the_limits_that_are_kept_to_are_the_venues() -> None:
    assert {limit.name for limit in limits.LIMITS} >= {limits.PUBLIC, limits.PRIVATE}
    assert set(limits.ASKING) <= {limit.family for limit in limits.LIMITS}


# --- the stream -----------------------------------------------------------------------------------


def test_a_lost_event_is_noticed_by_the_count_and_everything_is_looked_at(
    bench: Bench, listener: Listener
) -> None:
    while not listener.connected.empty():
        listener.connected.get()
    bench.fault("lose_event")
    order = bench.order()
    bench.accepted(order)
    # The hole shows with the next frame, a heartbeat at the latest.
    assert listener.connected.get(timeout=30)
    bench.venue.cancel(order)
    assert listener.of(order, lambda event: event.report.state is OrderState.CANCELED)


def test_signing_is_by_the_second_and_told_to_the_millisecond(bench: Bench) -> None:
    now = datetime.now(UTC)
    request = bench.venue.sign(bench.order(), bench.markets[MARKET], now)
    claims = request.payload.split(b"\n")[0].split(b".")[1]
    told = json.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))
    assert told["exp"] - int(request.signed_at.timestamp()) == private.TOKEN_S
    assert request.fence_at.timestamp() > told["exp"]
    assert report_of(bench.venue.send(request))
