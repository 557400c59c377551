"""A venue through ccxt: what its words mean, and what is never taken for proof."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.cli.account_test import ask
from botswarm.clock import StoppedClock
from botswarm.config import Secret
from botswarm.domain.order import OrderKind, OrderState, TimeInForce
from botswarm.errors import NotFound, Refused, Unreachable
from botswarm.exchanges.allowance import Purpose
from botswarm.exchanges.base import Accepted, Answer, Declined, SignedRequest, Unclear
from botswarm.exchanges.ccxt_venue import asking, errors, trading, words
from botswarm.exchanges.ccxt_venue.trading import CcxtTrading
from botswarm.exchanges.meaning import Meaning
from botswarm.testing.servers import free_port
from tests.orders.conftest import an_order

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORDER = an_order()


def a_venue(name: str = "ccxt-binance", **given: Any) -> CcxtTrading:
    values: dict[str, Any] = {
        "name": name,
        "account": "spot",
        "key": Secret("key"),
        "secret": Secret("secret"),
        "clock": StoppedClock(NOW),
        "urls": {"public": "http://127.0.0.1:1", "private": "http://127.0.0.1:1"},
        "keeps_pace": False,
    }
    return CcxtTrading(**values | given)


# --- errors ---------------------------------------------------------------------------------------


def every_class(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(every_class(each) for each in kind.__subclasses__()))


# What it says of addresses, of its own streams and of margin comes of nothing that we ask.
NEVER_ASKED = {
    *("InvalidAddress", "AddressPending", "UnsubscribeError", "ExchangeClosedByUser"),
    *("InvalidProxySettings", "MarginModeAlreadySet"),
}


def test_every_class_of_errors_that_ccxt_has_is_in_the_table() -> None:
    ours = {kind.__name__ for kind in every_class(ccxt.BaseError) if "ccxt" in kind.__module__}
    assert ours - NEVER_ASKED <= set(errors.MEANING)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ccxt.InsufficientFunds("no"), Meaning.NOT_PLACED),
        (ccxt.InvalidOrder("no"), Meaning.NOT_PLACED),
        (ccxt.RateLimitExceeded("slow down"), Meaning.LATER),
        (ccxt.OrderNotFound("where?"), Meaning.NOT_FOUND),
        (ccxt.RequestTimeout("hm"), Meaning.UNKNOWN),
        (ccxt.ExchangeError("something"), Meaning.UNKNOWN),
        (ccxt.OnMaintenance("later"), Meaning.UNKNOWN),
        (ccxt.DuplicateOrderId("there"), Meaning.UNKNOWN),
        # ccxt sorts what Binance says of a name that is taken under orders that are not valid.
        (ccxt.InvalidOrder('binance {"msg":"Duplicate order sent."}'), Meaning.UNKNOWN),
        (ccxt.BadRequest("clientOrderId is in use"), Meaning.UNKNOWN),
        (KeyError("a parser tripped"), Meaning.UNKNOWN),
    ],
)
def test_an_error_means_what_the_table_says(error: Exception, meaning: Meaning) -> None:
    assert errors.meaning_of(error) is meaning


# --- words ----------------------------------------------------------------------------------------


def a_row(**changes: object) -> dict[str, object]:
    row = {
        "id": "7",
        "clientOrderId": ORDER.client_order_id,
        "status": "open",
        "filled": "0",
        "amount": "2",
    }
    return row | changes


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, OrderState.LIVE),
        ({"status": None, "filled": None}, OrderState.LIVE),
        ({"filled": "0.5"}, OrderState.PARTIAL),
        ({"status": "closed", "filled": "2"}, OrderState.FILLED),
        # Closed is whatever is not open any more.
        ({"status": "closed", "filled": "0.5"}, OrderState.EXPIRED),
        ({"status": "canceled", "filled": "0.5"}, OrderState.CANCELED),
        ({"status": "expired"}, OrderState.EXPIRED),
        ({"status": "rejected"}, OrderState.EXPIRED),
    ],
)
def test_an_order_is_read_as_it_stands(changes: dict[str, object], state: OrderState) -> None:
    assert words.report(a_row(**changes)).state is state


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None},
        {"id": ""},
        {"status": "a status of the future"},
        {"status": "closed", "filled": None},
        {"filled": "-1"},
        {"filled": "NaN"},
    ],
)
def test_an_order_that_cannot_be_read_is_no_report(changes: dict[str, object]) -> None:
    with pytest.raises(words.UNREADABLE):
        words.report(a_row(**changes))


@given(st.integers(0, 12))
def test_digits_and_steps_say_the_same_precision(digits: int) -> None:
    step = Decimal(1).scaleb(-digits)
    assert words._step(str(digits), 2) == words._step(f"{step:f}", words.TICK_SIZE) == step


def test_what_a_venue_takes_is_what_ccxt_knows_of_it() -> None:
    rules = words.rules({"spot": {"createOrder": {"timeInForce": {"IOC": True, "PO": True}}}})
    assert OrderKind.POST_ONLY in rules.kinds
    assert rules.times_in_force == {TimeInForce.GTC, TimeInForce.IOC}
    least = words.rules({})
    assert least.kinds == {OrderKind.MARKET, OrderKind.LIMIT}
    assert least.times_in_force == {TimeInForce.GTC}
    assert not least.is_resend_safe
    assert "never sent again" in least.guarantees


def test_fees_of_several_assets_cannot_be_told_in_one() -> None:
    one = {"fees": [{"cost": "1", "currency": "USDT"}, {"cost": "2", "currency": "USDT"}]}
    assert words.commission(one, "BTC") == (Decimal(3), "USDT")
    assert words.commission({"fee": None}, "USDT") == (Decimal(0), "USDT")
    two = {"fees": [{"cost": "1", "currency": "USDT"}, {"cost": "2", "currency": "BNB"}]}
    with pytest.raises(ValueError, match="BNB, USDT"):
        words.commission(two, "USDT")


def test_a_stop_order_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Refused, match="through ccxt"):
        words.wish(an_order(kind=OrderKind.STOP, limit_price=None, stop_price=Decimal(1)))


# --- sending --------------------------------------------------------------------------------------


class Client:
    """In the place of ccxt's: one answer to whatever is placed."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.placed = 0

    def create_order(self, **wish: object) -> object:
        self.placed += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def amount_to_precision(self, symbol: str, amount: str) -> str:
        return amount

    def price_to_precision(self, symbol: str, price: str) -> str:
        return f"{Decimal(price):.2f}"


def sent(
    client: Client,
    *,
    late: timedelta = timedelta(0),
    clock: StoppedClock | None = None,
    keys: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Answer:
    venue = a_venue(clock=clock or StoppedClock(NOW), **keys or {})
    venue._client = client
    wish = words.wish(an_order(id=ORDER.id, **changes))
    at = NOW - late
    request = SignedRequest(
        payload=json.dumps(wish).encode(), signed_at=at, fence_at=at + trading.NEVER
    )
    return venue.send(request)


def test_an_order_that_was_taken_is_known_by_both_names() -> None:
    answer = sent(Client(a_row()))
    assert isinstance(answer, Accepted)
    assert answer.report.venue_order_id == "7"


def test_an_answer_without_our_name_is_taken_for_the_answer_to_our_request() -> None:
    answer = sent(Client(a_row(clientOrderId=None, status=None, filled=None)))
    assert isinstance(answer, Accepted)
    assert answer.report.client_order_id == ORDER.client_order_id


@pytest.mark.parametrize(
    "told",
    [
        a_row(clientOrderId="another"),
        a_row(id=None),
        None,
        "text",
        ccxt.RequestTimeout("hm"),
        ccxt.ExchangeError("something"),
        ccxt.InvalidOrder("Duplicate order sent."),
        RuntimeError("a parser tripped"),
    ],
)
def test_what_proves_nothing_is_unclear(told: object) -> None:
    assert isinstance(sent(Client(told)), Unclear)


@pytest.mark.parametrize("kind", [ccxt.RequestTimeout, ccxt.InvalidOrder])
def test_what_is_said_of_an_error_never_holds_a_key(kind: type[Exception]) -> None:
    # ccxt names the address it asked, and some venues want the key in it.
    words = "GET https://venue/v1/order?AccessKeyId=public-part&Signature=signing-part"
    keys: dict[str, Any] = {"key": Secret("public-part"), "secret": Secret("signing-part")}
    answer = sent(Client(kind(words)), keys=keys)
    assert not isinstance(answer, Accepted)
    assert "public-" not in answer.reason
    assert "signing-" not in answer.reason

    venue = a_venue(**keys)
    with pytest.raises(Unreachable) as caught:
        venue._ask("orders", lambda client: _raising(kind(words)), Purpose.QUERY, True)
    assert "public-" not in caught.value.cause


def _raising(error: Exception) -> None:
    raise error


def test_a_refusal_that_ccxt_knows_is_declined() -> None:
    answer = sent(Client(ccxt.InsufficientFunds("not enough")))
    assert isinstance(answer, Declined)
    assert answer.code == "InsufficientFunds"


def test_who_slept_between_committing_and_sending_does_not_send_any_more() -> None:
    client = Client(a_row())
    assert isinstance(sent(client, late=timedelta(seconds=6)), Declined)
    assert client.placed == 0


class SlowClient(Client):
    """Somebody else's turn took long."""

    def __init__(self, clock: StoppedClock) -> None:
        super().__init__(a_row())
        self.clock = clock

    def amount_to_precision(self, symbol: str, amount: str) -> str:
        self.clock.advance(6)
        return amount


def test_who_waited_long_for_its_turn_does_not_send_any_more() -> None:
    clock = StoppedClock(NOW)
    client = SlowClient(clock)
    assert isinstance(sent(client, clock=clock), Declined)
    assert client.placed == 0


class ForgetfulClient(Client):
    def amount_to_precision(self, symbol: str, amount: str) -> str:
        raise ccxt.ExchangeError("markets not loaded")


def test_what_ccxt_cannot_even_write_was_not_sent() -> None:
    client = ForgetfulClient(a_row())
    answer = sent(client)
    assert isinstance(answer, Declined)
    assert "markets not loaded" in answer.reason
    assert client.placed == 0


def test_what_ccxt_would_round_is_not_sent() -> None:
    client = Client(a_row())
    answer = sent(client, limit_price=Decimal("50000.001"))
    assert isinstance(answer, Declined)
    assert "50000.001 to 50000.00" in answer.reason
    assert client.placed == 0


def failing(port: int) -> Exception:
    """What ccxt raises when it asks there."""
    url = f"http://127.0.0.1:{port}"
    venue = a_venue(urls={"public": url, "private": url})
    with pytest.raises(ccxt.BaseError) as caught:
        venue._client.fetch_time()
    venue.close()
    error: Exception = caught.value
    return error


def test_where_no_connection_can_be_made_nothing_was_sent() -> None:
    error = failing(free_port())
    assert errors.was_never_sent(error)
    answer = sent(Client(error))
    assert isinstance(answer, Declined)
    assert answer.code == "not sent"


def test_where_a_connection_stood_it_may_have_been_sent() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
        server.listen()

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        error = failing(server.getsockname()[1])
        thread.join()
    assert not errors.was_never_sent(error)
    assert isinstance(sent(Client(error)), Unclear)


def test_its_fence_never_passes_so_nothing_is_ever_sent_again() -> None:
    venue = a_venue()
    venue._client.markets = {"BTC/USDT": {}}
    venue._client.has["fetchTime"] = False
    request = venue.sign(ORDER, None, NOW)  # type: ignore[arg-type]
    assert request.fence_at > NOW + timedelta(days=36_000)


class Asked(CcxtTrading):
    """Its server answers these without a server."""

    def server_time(self) -> datetime:
        return self._clock.now()

    def balances(self) -> dict[str, Decimal]:
        return {"USDT": Decimal(5)}


def test_a_kept_account_is_tested_although_its_rights_cannot_be_asked() -> None:
    given: dict[str, Any] = {"name": "ccxt-binance", "account": "spot", "urls": {}}
    venue = Asked(key=Secret("key"), secret=Secret("secret"), clock=StoppedClock(NOW), **given)
    with pytest.raises(Refused, match="cannot be asked"):
        ask(venue, StoppedClock(NOW))
    tested = ask(venue, StoppedClock(NOW), must_know=False)
    assert tested.objection is None
    assert tested.data()["can_withdraw"] is None
    assert ("may withdraw", "the venue does not say") in tested.words()
    assert ("assets", "USDT") in tested.words()


# --- which venues ---------------------------------------------------------------------------------


def test_a_venue_with_a_sandbox_is_traded_there() -> None:
    venue = a_venue("ccxt-binance", urls=None)
    assert "testnet" in json.dumps(venue._client.urls["api"])


def test_a_venue_without_play_money_is_refused() -> None:
    with pytest.raises(Refused, match="no play money"):
        a_venue("ccxt-kraken", urls=None)


def test_a_venue_that_ccxt_does_not_know_is_not_found() -> None:
    with pytest.raises(NotFound, match="ccxt knows no venue 'nowhere'"):
        a_venue("ccxt-nowhere")


def test_without_ccxt_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(asking, "import_module", absent)
    with pytest.raises(NotFound) as caught:
        a_venue()
    assert "botswarm[ccxt]" in str(caught.value.cure)
