"""What is Kraken's alone: nonces of many processes, tokens, numbered events and counters."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.clock import SystemClock
from botswarm.config import Secret
from botswarm.domain.order import OrderKind, OrderState, TimeInForce
from botswarm.exchanges.base import Accepted, Declined, SignedRequest, TradingVenue, Unclear
from botswarm.exchanges.kraken import placing
from botswarm.exchanges.kraken.nonces import Nonces
from botswarm.exchanges.meaning import Meaning, VenueSaidNo
from botswarm.testing.exchange import SimulatedExchangeServer
from tests.venues.conftest import MARKET, SOON_S, Bench, Listener
from tests.venues.doors import DOORS

(KRAKEN,) = [door for door in DOORS if door.name == "kraken"]


@pytest.fixture
def bench(benches: dict[str, Bench]) -> Iterator[Bench]:
    chosen = benches["kraken"]
    yield chosen
    chosen.server.misbehaviour("DELETE")
    chosen.venue.cancel_all(MARKET)


@pytest.fixture(scope="module")
def strict() -> Iterator[SimulatedExchangeServer]:
    with SimulatedExchangeServer(options=["--kraken-tier", "starter"]) as running:
        yield running


# --- nonces --------------------------------------------------------------------------------------


def ask_often(data: Path, folder: Path, times: int, told: Any) -> None:
    """A process of its own, with the same key and the same state folder as the others."""
    venue = KRAKEN.venue(SimulatedExchangeServer(data), folder)
    try:
        failures = []
        for _ in range(times):
            try:
                venue.balances()
            except Exception as error:
                failures.append(repr(error))
        told.put(failures)
    finally:
        venue.close()


def test_no_question_of_many_processes_with_one_key_fails_for_its_nonce(bench: Bench) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    given = (bench.server.data, bench.folder, 30, told)
    asking = [context.Process(target=ask_often, args=given) for _ in range(2)]
    for process in asking:
        process.start()
    failures = [told.get(timeout=90) for _ in asking]
    for process in asking:
        process.join(90)
    assert failures == [[], []]


def test_a_nonce_that_others_have_passed_is_followed_by_a_larger_one(
    bench: Bench, tmp_path: Path
) -> None:
    """Another folder knows nothing of ours, as after a machine was set up anew."""
    key = Secret(bench.server.card.api_key)
    soon = int(time.time() * 1000) + 1_500
    assert Nonces(tmp_path / "ahead", key, SystemClock()).next(at_least=soon) >= soon
    ahead = bench.door.venue(bench.server, tmp_path / "ahead")
    behind = bench.door.venue(bench.server, tmp_path / "behind")
    try:
        assert ahead.balances()
        assert behind.balances()
    finally:
        ahead.close()
        behind.close()
    # Those of this module go on too, from however far behind.
    assert bench.venue.balances()


# --- sessions ------------------------------------------------------------------------------------


def test_a_session_that_a_restarted_venue_does_not_know_is_begun_anew(
    bench: Bench, strict: SimulatedExchangeServer, tmp_path: Path
) -> None:
    venue = KRAKEN.venue(strict, tmp_path)

    def sign() -> SignedRequest:
        order = bench.order()
        return venue.sign(order, bench.markets[MARKET], order.created_at)

    try:
        request = sign()
        strict.stop()
        strict.start()
        declined = venue.send(request)
        assert isinstance(declined, Declined), declined
        assert "Invalid session" in declined.code
        assert isinstance(venue.send(sign()), Accepted)
    finally:
        venue.close()


def test_a_killed_exchange_comes_back_with_orders_balances_and_fees(
    bench: Bench, tmp_path: Path
) -> None:
    server = SimulatedExchangeServer(tmp_path, options=["--kraken-tier", "unlimited"])
    server.start()
    venue = KRAKEN.venue(server, tmp_path)
    try:
        orders = bench.order(), bench.market_order(quantity=Decimal("0.3"))
        for order in orders:
            request = venue.sign(order, bench.markets[MARKET], order.created_at)
            assert isinstance(venue.send(request), Accepted)
        before = [venue.query(order) for order in orders], venue.balances()
        server.kill()
        server.start()
        assert ([venue.query(order) for order in orders], venue.balances()) == before
        # What the open order holds is held again, with its fee, and given back in the end.
        venue.cancel(orders[0])
        assert venue.balances() == before[1]
    finally:
        venue.close()
        server.stop()


def test_a_frozen_request_shows_no_secret(bench: Bench) -> None:
    order = bench.order()
    for force in (TimeInForce.GTC, TimeInForce.FOK):
        changed = bench.order(id=order.id, time_in_force=force)
        request = bench.venue.sign(changed, bench.markets[MARKET], changed.created_at)
        card = bench.server.card
        for secret in (card.api_key, card.api_secret, "token", "nonce"):
            assert secret.encode() not in request.payload


# --- names ---------------------------------------------------------------------------------------


def test_an_order_whose_number_is_known_is_found_by_it_in_any_state(bench: Bench) -> None:
    for order, state in (
        (bench.order(), OrderState.LIVE),
        (bench.market_order(), OrderState.FILLED),
    ):
        number = bench.accepted(order).venue_order_id
        known = replace(order, venue_order_id=number)
        assert bench.found(known, state) == bench.venue.query(order)
        # A number that is not there, or another order's, finds nothing wrong.
        for wrong in ("OAAAAA-AAAAA-AAAAAA", number):
            other = bench.order(venue_order_id=wrong)
            assert bench.venue.query(other) is None


# --- the stream ----------------------------------------------------------------------------------


@pytest.fixture
def stream(bench: Bench, tmp_path: Path) -> Iterator[Listener]:
    made, heard, stop = KRAKEN.stream(bench.server, bench.folder), Listener(), threading.Event()
    connected = heard.connected.put
    thread = threading.Thread(
        target=made.run, args=(heard.events.put, lambda: connected(0.0), stop), daemon=True
    )
    thread.start()
    heard.connected.get(timeout=SOON_S)
    yield heard
    stop.set()
    bench.server.arm("disconnect_users")
    thread.join(SOON_S)


def test_a_lost_event_is_noticed_by_the_number_of_the_next(bench: Bench, stream: Listener) -> None:
    bench.fault("lose_event")
    bench.accepted(bench.order())
    # The connection is made anew, and whoever listens looks at everything.
    stream.connected.get(timeout=SOON_S)
    order = bench.order()
    bench.accepted(order)
    assert stream.of(order, lambda event: event.report.state is OrderState.LIVE)


def test_an_event_told_twice_rings_once(bench: Bench, stream: Listener) -> None:
    bench.fault("repeat_event", times=2)
    order = bench.order(kind=OrderKind.POST_ONLY)
    bench.accepted(order)
    bench.venue.cancel(order)
    events = stream.of(order, lambda event: event.report.state is OrderState.CANCELED)
    assert len(events) == 3  # pending, new, canceled


# --- counters ------------------------------------------------------------------------------------


@pytest.fixture
def hasty(strict: SimulatedExchangeServer, tmp_path: Path) -> Iterator[TradingVenue]:
    """Somebody who asks as often as he likes."""
    made = KRAKEN.venue(strict, tmp_path)
    yield made
    made.close()


def test_too_many_orders_of_a_market_are_declined_and_another_market_is_open(
    strict: SimulatedExchangeServer, hasty: TradingVenue, bench: Bench
) -> None:
    def send(symbol: str, **changes: Any) -> object:
        order = bench.order(symbol=symbol, **changes)
        return hasty.send(hasty.sign(order, bench.markets[symbol], order.created_at))

    answers: list[object] = []
    while not answers or isinstance(answers[-1], Accepted):
        assert len(answers) < 200
        answers.append(send(MARKET))
    assert isinstance(answers[-1], Declined), answers[-1]
    assert answers[-1].code == "EOrder:Rate limit exceeded"
    elsewhere = send("ETH-USDT", quantity=Decimal("0.01"), limit_price=Decimal(2_000))
    assert isinstance(elsewhere, Accepted)


def test_what_is_asked_too_often_is_refused_for_now(hasty: TradingVenue) -> None:
    def ask_often() -> None:
        for _ in range(40):
            hasty.balances()

    with pytest.raises(VenueSaidNo, match="EAPI:Rate limit exceeded") as caught:
        ask_often()
    assert caught.value.meaning is Meaning.LATER


# --- roads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop_reply", "garbage_reply", "timeout_executed"])
def test_fill_or_kill_loses_its_answer_like_any_other(bench: Bench, kind: str) -> None:
    order = bench.order(time_in_force=TimeInForce.FOK, limit_price=Decimal(200_000))
    bench.fault(kind, on="place")
    assert isinstance(bench.send(order), Unclear)
    assert bench.found(order, OrderState.FILLED).filled_quantity == order.quantity
    assert len(bench.journal("order", order)) == 1


def test_late_fill_or_kill_never_executes(bench: Bench) -> None:
    order = bench.order(time_in_force=TimeInForce.FOK, limit_price=Decimal(200_000))
    late = bench.send(order, order.created_at - placing.DEADLINE * 2)
    assert isinstance(late, Unclear)
    assert bench.venue.query(order) is None
    assert not bench.journal("order", order)


def test_nothing_was_sent_where_nobody_listens(bench: Bench, tmp_path: Path) -> None:
    """Declined as not sent: the same order may go out later, by the same name."""
    server = SimulatedExchangeServer(options=["--kraken-tier", "unlimited"])
    server.start()
    venue = KRAKEN.venue(server, tmp_path)
    try:
        order = bench.order()
        request = venue.sign(order, bench.markets[MARKET], order.created_at)
        server.stop()
        venue.close()
        answer = venue.send(request)
        assert isinstance(answer, Declined)
        assert answer.code == "not sent"
    finally:
        venue.close()
        server.stop()
