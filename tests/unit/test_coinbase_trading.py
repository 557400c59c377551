"""Tokens, refusals, numbers of trades and the account's stream: what Coinbase says of an order."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from botswarm.clock import StoppedClock
from botswarm.config import Secret
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.errors import Refused
from botswarm.exchanges.account_stream import StreamEnded
from botswarm.exchanges.base import Accepted, Declined, SignedRequest, Unclear
from botswarm.exchanges.coinbase import order_errors, orders
from botswarm.exchanges.coinbase.tokens import Signer
from botswarm.exchanges.coinbase.trading import CoinbaseTrading
from botswarm.exchanges.coinbase.user_data import CoinbaseUserData
from botswarm.exchanges.meaning import Meaning
from botswarm.exchanges.numbering import moment_of, named_trades
from botswarm.exchanges.transport import Response
from tests.orders.conftest import an_order

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = "organizations/one/apiKeys/two"
CURVE_KEY = ec.derive_private_key(4711, ec.SECP256R1())
PEM = CURVE_KEY.private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
).decode()
EDWARDS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SEED_AND_PUBLIC = base64.b64encode(
    bytes(range(32)) + EDWARDS_KEY.public_key().public_bytes_raw()
).decode()

# --- tokens ---------------------------------------------------------------------------------------


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    head, body, signature = token.split(".")
    said = f"{head}.{body}".encode()
    return json.loads(decoded(head)), json.loads(decoded(body)), said, decoded(signature)


def verify_curve(said: bytes, signature: bytes) -> None:
    assert len(signature) == 64
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    CURVE_KEY.public_key().verify(encode_dss_signature(r, s), said, ec.ECDSA(hashes.SHA256()))


def a_token(secret: str, uri: str | None = "POST host/path") -> str:
    return Signer(Secret(NAME), Secret(secret)).token(at_s=1_000, lifetime_s=10, uri=uri)


@pytest.mark.parametrize("pem", [PEM, PEM.replace("\n", "\\n")], ids=["lines", "one line"])
def test_a_token_is_for_one_request_and_ten_seconds(pem: str) -> None:
    header, claims, said, signature = parts(a_token(pem))
    verify_curve(said, signature)
    assert (header["alg"], header["kid"]) == ("ES256", NAME)
    assert claims["uri"] == "POST host/path"
    assert (claims["sub"], claims["iss"]) == (NAME, "cdp")
    assert claims["exp"] == 1_010
    assert claims["nbf"] <= 1_000
    with pytest.raises(InvalidSignature):
        verify_curve(said + b"x", signature)


def test_an_ed25519_key_signs_too() -> None:
    header, _, said, signature = parts(a_token(SEED_AND_PUBLIC))
    EDWARDS_KEY.public_key().verify(signature, said)
    assert header["alg"] == "EdDSA"


def test_two_tokens_of_one_moment_differ() -> None:
    assert a_token(PEM) != a_token(PEM)


def test_a_token_of_a_stream_names_no_request() -> None:
    assert "uri" not in parts(a_token(PEM, uri=None))[1]


@pytest.mark.parametrize("secret", ["hunter2", "", "-----BEGIN EC PRIVATE KEY-----\nhunter2\n"])
def test_what_is_no_private_key_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(Refused) as caught:
        Signer(Secret(NAME), Secret(secret))
    assert "hunter2" not in f"{caught.value} {caught.value.cure}"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasons", "meaning"),
    [
        (["INSUFFICIENT_FUND"], Meaning.NOT_PLACED),
        (["UNKNOWN_FAILURE_REASON", "PREVIEW_INSUFFICIENT_FUND"], Meaning.NOT_PLACED),
        (["INVALID_LIMIT_PRICE_POST_ONLY", "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY"], "NOT_PLACED"),
        (["RFQ_RATE_LIMITED"], Meaning.LATER),
        # An order of this id is there: that is no refusal.
        (["DUPLICATE_CLIENT_ORDER_ID"], Meaning.UNKNOWN),
        (["UNKNOWN_FAILURE_REASON"], Meaning.UNKNOWN),
        (["UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON", ""], Meaning.UNKNOWN),
        (["A_WORD_OF_THE_FUTURE"], Meaning.UNKNOWN),
        (["INSUFFICIENT_FUND", "A_WORD_OF_THE_FUTURE"], Meaning.UNKNOWN),
        ([], Meaning.UNKNOWN),
    ],
)
def test_a_refusal_means_what_the_table_says(reasons: list[str], meaning: Meaning | str) -> None:
    expected = meaning if isinstance(meaning, Meaning) else Meaning[meaning]
    assert order_errors.of_placement(reasons) is expected


@given(st.lists(st.text() | st.sampled_from(sorted(order_errors.PLACING)), max_size=3))
def test_only_words_of_the_table_say_that_nothing_was_placed(reasons: list[str]) -> None:
    if order_errors.of_placement(reasons).is_definite:
        told = [each.removeprefix("PREVIEW_") for each in reasons]
        told = [each for each in told if each not in order_errors.SILENT]
        assert told
        assert set(told) <= set(order_errors.PLACING)


@pytest.mark.parametrize(
    ("status", "word", "details", "meaning"),
    [
        (400, "INVALID_ARGUMENT", "base_size is required", "NOT_PLACED"),
        (401, "", "Unauthorized", "LATER"),
        (403, "PERMISSION_DENIED", "", "NOT_PLACED"),
        (404, "NOT_FOUND", "", "NOT_FOUND"),
        (400, "unknown", "order with this orderID was not found", "NOT_FOUND"),
        (429, "rate_limit_exceeded", "", "LATER"),
        (400, "A_WORD_OF_THE_FUTURE", "", "UNKNOWN"),
        (400, "", "", "UNKNOWN"),
        (302, "", "", "UNKNOWN"),
        # A server error outranks whatever its body says.
        (500, "INVALID_ARGUMENT", "", "UNKNOWN"),
        (504, "DEADLINE_EXCEEDED", "", "UNKNOWN"),
    ],
)
def test_an_error_means_what_the_table_says(
    status: int, word: str, details: str, meaning: str
) -> None:
    assert order_errors.of_request(status, word, details) is Meaning[meaning]


# --- answers to a placement -----------------------------------------------------------------------


class Said:
    """In the place of the connection: one answer to whatever is posted."""

    def __init__(self, status: int, body: object) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.response = Response(status, data)

    def post(self, path: str, token: str, body: bytes) -> Response:
        return self.response

    def note(self, response: Response) -> None:
        pass


ORDER = an_order()
TAKEN = {
    "success": True,
    "success_response": {"order_id": "v-1", "client_order_id": ORDER.client_order_id},
}


def a_venue() -> CoinbaseTrading:
    return CoinbaseTrading(
        name="coinbase",
        account="main",
        url="http://127.0.0.1:1",
        key=Secret(NAME),
        secret=Secret(PEM),
        clock=StoppedClock(NOW),
    )


def answer_to(status: int, body: object) -> object:
    venue = a_venue()
    venue._rest = Said(status, body)  # type: ignore[assignment]
    said = json.dumps({"client_order_id": ORDER.client_order_id}).encode()
    return venue.send(SignedRequest(payload=b"token\n" + said, signed_at=NOW, fence_at=NOW))


def refused(**error: str) -> dict[str, object]:
    return {"success": False, "error_response": error}


def test_an_order_that_was_taken_is_live_whatever_became_of_it_since() -> None:
    answer = answer_to(200, TAKEN)
    assert isinstance(answer, Accepted)
    assert answer.report.state is OrderState.LIVE
    assert answer.report.venue_order_id == "v-1"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>We will be right back</html>"),
        (200, b'{"success": true, "success_resp'),
        (200, {"success": True}),
        (200, {"success": "yes", **{k: v for k, v in TAKEN.items() if k != "success"}}),
        (200, TAKEN | {"success_response": {"order_id": "v-1", "client_order_id": "another"}}),
        (200, TAKEN | {"success_response": {"order_id": "", "client_order_id": "another"}}),
        (200, refused(error="UNKNOWN_FAILURE_REASON")),
        (200, refused(new_order_failure_reason="DUPLICATE_CLIENT_ORDER_ID")),
        (200, []),
        (200, b"[" * 100_000),
        (500, b""),
        (503, {"error": "UNAVAILABLE"}),
        (400, {"error": "A_WORD_OF_THE_FUTURE"}),
        (302, b""),
    ],
)
def test_an_answer_that_proves_nothing_is_unclear(status: int, body: object) -> None:
    assert isinstance(answer_to(status, body), Unclear)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (
            200,
            refused(
                error="UNKNOWN_FAILURE_REASON", preview_failure_reason="PREVIEW_INSUFFICIENT_FUND"
            ),
            "PREVIEW_INSUFFICIENT_FUND",
        ),
        (200, refused(new_order_failure_reason="INVALID_LIMIT_PRICE_POST_ONLY"), None),
        (400, {"error": "INVALID_ARGUMENT", "message": "no"}, "INVALID_ARGUMENT"),
        (401, b"Unauthorized\n", "401"),
        (429, {"error": "rate_limit_exceeded"}, "rate_limit_exceeded"),
    ],
)
def test_an_answer_that_proves_it_is_a_refusal(status: int, body: object, code: str | None) -> None:
    answer = answer_to(status, body)
    assert isinstance(answer, Declined)
    assert code in (None, answer.code)


class Fills:
    """In the place of the connection: one page of fills."""

    def __init__(self, *rows: Mapping[str, object]) -> None:
        self.rows = rows

    def pages(self, path: str, query: object, rows: str) -> Iterator[Sequence[object]]:
        yield self.rows


def a_fill(kind: str, name: str) -> dict[str, object]:
    return {
        "entry_id": f"entry of {name}",
        "trade_id": name,
        "order_id": "v-1",
        "trade_time": "2026-01-02T03:04:05.678901Z",
        "trade_type": kind,
        "price": "100",
        "size": "0.5",
        "commission": "0.3",
        "product_id": "BTC-USDT",
        "size_in_quote": False,
        "side": "BUY",
    }


def test_a_correction_is_no_trade_and_is_told_to_people_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    venue = a_venue()
    rows = (a_fill("FILL", "one"), a_fill("REVERSAL", "two"))
    venue._rest = Fills(*rows)  # type: ignore[assignment]
    venue._ids.keep(ORDER.client_order_id, "v-1")
    for _ in range(2):
        (fill,) = venue.fills("BTC-USDT")
        assert (fill.client_order_id, fill.commission_asset) == (ORDER.client_order_id, "USDT")
    assert [record.getMessage() for record in caplog.records] == [
        "coinbase tells a REVERSAL of the trade two, order v-1"
    ]


# --- orders ---------------------------------------------------------------------------------------

LIMIT = {"base_size": "0.001", "limit_price": "50000"}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, {"limit_limit_gtc": LIMIT | {"post_only": False}}),
        ({"time_in_force": TimeInForce.IOC}, {"sor_limit_ioc": LIMIT}),
        ({"time_in_force": TimeInForce.FOK}, {"limit_limit_fok": LIMIT}),
        ({"kind": OrderKind.POST_ONLY}, {"limit_limit_gtc": LIMIT | {"post_only": True}}),
        (
            {"kind": OrderKind.MARKET, "limit_price": None},
            {"market_market_ioc": {"base_size": "0.001"}},
        ),
        (
            {"kind": OrderKind.STOP_LIMIT, "stop_price": Decimal("49999.50")},
            {
                "stop_limit_stop_limit_gtc": LIMIT
                | {"stop_price": "49999.50", "stop_direction": "STOP_DIRECTION_STOP_UP"}
            },
        ),
    ],
)
def test_an_order_is_asked_for_in_the_venues_words(
    changes: Mapping[str, Any], wanted: object
) -> None:
    assert orders.configuration(an_order(**changes)) == wanted


def test_a_sale_is_triggered_from_above() -> None:
    order = an_order(side=Side.SELL, kind=OrderKind.STOP_LIMIT, stop_price=Decimal(40_000))
    ((_, asked),) = orders.configuration(order).items()
    assert asked["stop_direction"] == "STOP_DIRECTION_STOP_DOWN"


@pytest.mark.parametrize(
    "order",
    [
        an_order(kind=OrderKind.STOP, limit_price=None, stop_price=Decimal(1)),
        an_order(kind=OrderKind.STOP_LIMIT, stop_price=Decimal(1), time_in_force=TimeInForce.IOC),
    ],
    ids=["stop at market", "stop-limit ioc"],
)
def test_what_the_venue_does_not_have_is_refused_before_it_is_sent(order: Order) -> None:
    with pytest.raises(Refused, match="Coinbase has no"):
        orders.configuration(order)


# --- trades that are named ------------------------------------------------------------------------

NAMES = st.tuples(st.integers(0, 2**41), st.text(min_size=1))


@given(st.lists(NAMES, unique_by=lambda each: each[1]))
def test_a_named_trade_has_one_number_that_rises_with_its_time(
    trades: list[tuple[int, str]],
) -> None:
    numbers = named_trades(trades)
    assert len(set(numbers.values())) == len(trades)
    assert all(number < 2**63 for number in numbers.values())
    for at_ms, name in trades:
        assert moment_of(numbers[name]) in (at_ms, at_ms + 1)
    assert numbers == named_trades(reversed(trades))


def test_a_trade_keeps_its_number_whatever_stands_beside_it() -> None:
    alone = named_trades([(5, "one")])
    assert named_trades([(5, "one"), (5, "two"), (4, "three")])["one"] == alone["one"]


# --- the account's stream -------------------------------------------------------------------------


def a_stream() -> CoinbaseUserData:
    return CoinbaseUserData(
        url="ws://127.0.0.1:1", key=Secret(NAME), secret=Secret(PEM), clock=StoppedClock(NOW)
    )


def a_frame(number: int, *rows: Mapping[str, object], channel: str = "user") -> str:
    events = [{"type": "update", "orders": list(rows)}]
    return json.dumps({"channel": channel, "sequence_num": number, "events": events})


def a_row(status: str, filled: str = "0") -> dict[str, object]:
    return {
        "order_id": "v-1",
        "client_order_id": ORDER.client_order_id,
        "status": status,
        "cumulative_quantity": filled,
    }


def test_what_the_venue_tells_again_is_told_once() -> None:
    stream = a_stream()
    frames = [
        a_frame(0, a_row("PENDING")),
        a_frame(1, a_row("OPEN")),
        a_frame(2, a_row("OPEN", "0.5")),
        a_frame(3, a_row("OPEN", "0.5")),
        a_frame(4, channel="heartbeats"),
        a_frame(5, a_row("FILLED", "1")),
    ]
    events = [event for frame in frames for event in stream.read(frame)]
    assert [event.report.state for event in events] == [
        OrderState.LIVE,
        OrderState.PARTIAL,
        OrderState.FILLED,
    ]
    assert [event.is_news for event in events] == [False, True, True]


@pytest.mark.parametrize(
    "frame",
    [
        a_frame(2, a_row("OPEN")),  # 1 is missing
        a_frame(0, a_row("OPEN")),  # it comes again
        json.dumps({"type": "error", "message": "authentication failure"}),
        json.dumps({"channel": "user", "events": []}),
        json.dumps({"channel": "user", "sequence_num": 1, "events": 7}),
        json.dumps([1]),
    ],
)
def test_a_connection_that_cannot_be_trusted_is_left(frame: str) -> None:
    stream = a_stream()
    list(stream.read(a_frame(0)))
    with pytest.raises(StreamEnded):
        list(stream.read(frame))


@pytest.mark.parametrize(
    "row",
    [
        a_row("A_STATUS_OF_THE_FUTURE"),
        a_row("OPEN", "-1"),
        a_row("OPEN", "NaN"),
        {"status": "OPEN"},
    ],
)
def test_an_order_that_cannot_be_read_is_left_to_polling(row: dict[str, object]) -> None:
    frame = a_frame(0, row, a_row("OPEN"))
    assert [event.report.venue_order_id for event in a_stream().read(frame)] == ["v-1"]
