"""The judge of the kill campaign sees every kind of failure it is there for."""

from __future__ import annotations

import pytest

from tests.campaign.kill_oracle import Attempt, Delivery, Oracle, hops_of


@pytest.fixture
def oracle() -> Oracle:
    oracle = Oracle({"q": "q", "q.dead": "q", "other": "other"}, survives_transient=())
    oracle.note_attempt("m", Attempt(("q",), persistent=True, round=1))
    return oracle


def delivery(
    *, queue: str = "q", redelivered: bool = False, hops: int = 0, round_: int = 1
) -> Delivery:
    return Delivery("m", queue, redelivered, hops, round_, intact=True)


def test_a_confirmed_message_nobody_acked_is_lost(oracle: Oracle) -> None:
    oracle.note_confirms(["m"])
    oracle.note_delivery(delivery())
    assert oracle.lost().count == 1
    oracle.note_ack("m", "q.dead")
    assert oracle.lost().count == 0


def test_a_message_must_come_back_in_each_queue_it_was_published_to() -> None:
    oracle = Oracle({"a": "a", "b": "b"}, survives_transient=())
    oracle.note_attempt("m", Attempt(("a", "b"), persistent=True, round=1))
    oracle.note_confirms(["m"])
    oracle.note_ack("m", "a")
    assert oracle.lost().examples == ["m of round 1 from b"]


def test_an_unconfirmed_message_may_vanish(oracle: Oracle) -> None:
    assert oracle.lost().count == 0


def test_a_second_delivery_needs_its_mark(oracle: Oracle) -> None:
    oracle.note_delivery(delivery())
    oracle.note_delivery(delivery(redelivered=True))
    assert oracle.duplicated.count == 0
    oracle.note_delivery(delivery())
    assert oracle.duplicated.count == 1


def test_a_message_that_was_dead_lettered_is_another_one(oracle: Oracle) -> None:
    oracle.note_delivery(delivery())
    oracle.note_delivery(delivery(hops=2))
    assert oracle.duplicated.count == 0
    oracle.note_delivery(delivery(hops=2))
    assert oracle.duplicated.count == 1


def test_what_was_never_published_there_is_unexpected(oracle: Oracle) -> None:
    oracle.note_delivery(delivery(queue="other"))
    oracle.note_delivery(Delivery("stranger", "q", False, 0, 1, intact=True))
    oracle.note_delivery(Delivery("m", "q", False, 0, 1, intact=False))
    assert oracle.unexpected.count == 3


def test_a_transient_message_must_not_outlive_the_broker() -> None:
    oracle = Oracle({"q": "q"}, survives_transient=())
    oracle.note_attempt("m", Attempt(("q",), persistent=False, round=1))
    oracle.note_delivery(delivery())
    assert oracle.unexpected.count == 0
    oracle.note_delivery(delivery(redelivered=True, round_=2))
    assert oracle.unexpected.count == 1


def test_hops_are_the_sum_of_the_deaths() -> None:
    assert hops_of(None) == 0
    assert hops_of({"x-death": [{"count": 2}, {"count": 1}]}) == 3
