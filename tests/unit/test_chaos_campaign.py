"""The campaign's judge sees every kind of breach it is there for, and its schedule replays."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.chaos.campaign.evidence import Event, Evidence, Order, Sent, unexpected
from botswarm.chaos.campaign.invariants import CHECKS, judge
from botswarm.chaos.campaign.load import Tally, wish
from botswarm.chaos.campaign.main import FAULTS, chosen
from botswarm.chaos.campaign.plan import LANES, Fault, counted, plan, rounds_within
from botswarm.chaos.campaign.report import counts_of
from botswarm.chaos.campaign.runner import Note, Timeline
from botswarm.chaos.campaign.stage import Stage
from botswarm.domain.instrument import Instrument
from botswarm.errors import NotFound
from botswarm.ledger.verify import Verification
from botswarm.testing.exchange import Reply

AT = 1_800_000_000.0
ID = "00000000-0000-4000-8000-000000000001"
CLIENT = ID.replace("-", "")
STATES = ("ready", "approved", "sending", "unknown", "filled")


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(AT + seconds, UTC)


def a_sent(**said: str) -> Sent:
    told = {"side": "BUY", "quantity": "0.002", "price": "100.00", "recvWindow": "2000"}
    at = {"timestamp": str(int(AT * 1000))}
    return Sent(1, moment(0), moment(14), {**told, **at, **said})


def evidence() -> Evidence:
    """One order that was filled after its outcome had been in doubt."""
    entry: dict[str, object] = {"account": "paper", "symbol": "BTCUSDT", "side": "buy"}
    entry |= {"client_order_id": CLIENT, "order_id": 1}
    fill = {"type": "fill", "quantity": "0.002", "at": int(AT * 1000) + 30, "status": "FILLED"}
    return Evidence(
        orders={
            ID: Order(
                id=ID,
                client_order_id=CLIENT,
                symbol="BTC-USDT",
                side="buy",
                state="filled",
                is_open=False,
                quantity=Decimal("0.002"),
                filled=Decimal("0.002"),
                signal_expires_at=moment(60),
            )
        },
        events={
            ID: [
                Event(number, before, after)
                for number, (before, after) in enumerate(
                    zip([None, *STATES], STATES, strict=False), start=1
                )
            ]
        },
        attempts={ID: [a_sent()]},
        fills=[("simulated", "paper", 7, "BTC-USDT", ID)],
        roles=["orders-1", "beat"],
        builds={"one": ["orders-1@chaos", "beat"]},
        money={"BTC": Decimal("0.002"), "USDT": Decimal("-0.2")},
        journal={
            CLIENT: [
                {**entry, "type": "order", "quantity": "0.002", "at": int(AT * 1000) + 20},
                {**entry, **fill},
            ]
        },
        rejects=Counter(),
        deposits={"BTC": Decimal(1), "USDT": Decimal(100)},
        balances={"BTC": Decimal("1.002"), "USDT": Decimal("99.8")},
        verification=Verification(),
        instruments={
            "BTC-USDT": Instrument(
                venue="simulated",
                symbol="BTC-USDT",
                base="BTC",
                quote="USDT",
                tick_size=Decimal("0.01"),
                lot_size=Decimal("0.001"),
                quantity_min=Decimal("0.001"),
                quantity_max=Decimal(9000),
                notional_min=Decimal("0.1"),
                is_trading=True,
            )
        },
        tally=Tally(attempted=1, acknowledged={ID}),
        notes=[],
        timeline=Timeline([(AT - 0.25, 2), (AT + 0.25, 3), (AT + 20, 5)]),
        skews=[],
        settings={"fsync": "on"},
        began=AT,
    )


def order(found: Evidence, **changes: Any) -> None:
    found.orders = {ID: replace(found.orders[ID], **changes)}


def sent(found: Evidence, **said: str) -> None:
    found.attempts = {ID: [a_sent(**said)]}


def finding(check: str) -> Callable[[Evidence], None]:
    return lambda found: found.verification.find(check, "something", "is wrong")


def given_up_early(found: Evidence) -> None:
    found.events = {ID: [*found.events[ID][:4], Event(5, "unknown", "approved")]}
    found.timeline.rows[-1] = (AT + 5, 5)


def signed_by_a_wrong_clock(found: Evidence) -> None:
    found.attempts = {ID: [replace(a_sent(), signed_at=moment(3600))]}


def only_the_cache_was_broken(found: Evidence) -> None:
    found.notes = [Note("F15", 0, 100.0, 20.0, "hang")]


def cancelled_with_more(found: Evidence) -> None:
    told = {"type": "cancel", "filled": "0.001", "order_id": 1, "at": int(AT * 1000) + 40}
    found.journal = {CLIENT: [*found.journal[CLIENT], told]}


def taken_twice_and_both_ended(found: Evidence) -> None:
    """Nothing of the first was filled: only that there were two tells of it."""
    first = {**found.journal[CLIENT][0], "order_id": 2}
    gone = {**first, "type": "expire", "filled": "0.002"}
    found.journal = {CLIENT: [first, gone, *found.journal[CLIENT]]}


def live_after_all_was_ended(found: Evidence) -> None:
    found.journal = {CLIENT: found.journal[CLIENT][:1]}


def ended_by_the_venue_later(found: Evidence) -> None:
    late = {**found.journal[CLIENT][1], "at": int(AT * 1000) + 25_000}
    found.journal = {CLIENT: [found.journal[CLIENT][0], late]}


def given_up_before_the_second_fence(found: Evidence) -> None:
    """The first attempt never came into doubt: the fence is that of the second."""
    states = ("ready", "approved", "sending", "live", "sending", "unknown", "approved")
    found.events = {
        ID: [
            Event(number, before, after)
            for number, (before, after) in enumerate(
                zip([None, *states], states, strict=False), start=1
            )
        ]
    }
    found.attempts = {ID: [a_sent(), replace(a_sent(), number=2, fence_at=moment(44))]}
    found.timeline.rows[-1] = (AT + 20, 7)


def hardly_anything_moved_without_the_cache(found: Evidence) -> None:
    found.notes = [
        *(Note("F15", number, 100.0 * number, 9.0, "hang") for number in range(1, 4)),
        *(Note("F12", number, 100.0 * number, 2.0, "postmaster") for number in range(1, 4)),
    ]
    found.timeline.rows[:] = [
        (AT + second, second if second % 100 > 9 else second - second % 100)
        for second in range(1, 320)
    ]


BREACHES: dict[str, Callable[[Evidence], object]] = {
    "I1": finding("doubled"),
    "I29": lambda found: setattr(found, "builds", {"one": ["orders-1"], "other": ["beat"]}),
    "I2": lambda found: order(found, state="unknown"),
    "I3": finding("unknown"),
    "I4": lambda found: setattr(found, "balances", {"BTC": Decimal(1), "USDT": Decimal("99.8")}),
    "I5": lambda found: setattr(found, "fills", [*found.fills, *found.fills]),
    "I6": given_up_early,
    "I7": lambda found: sent(found, quantity="0.003"),
    "I8": cancelled_with_more,
    "I9": lambda found: sent(found, quantity="0.0025"),
    "I13": lambda found: setattr(found, "storms", [{"asked": 500}]),
    "I18": lambda found: setattr(found, "feed_mb", [900.0]),
    "I19": finding("chain"),
    "I20": lambda found: found.tally.acknowledged.add("another"),
    "I21": signed_by_a_wrong_clock,
    "I22": lambda found: setattr(found, "notes", [Note("F28", 0, 1, 1, "damaged, UNNOTICED")]),
    "I23": only_the_cache_was_broken,
    "I27": lambda found: setattr(found, "attempts", {}),
    "I28": lambda found: setattr(found, "drained_s", 61.0),
    "errors": lambda found: setattr(found, "unexpected", Counter(IntegrityError=1)),
    "I30": lambda found: setattr(found, "stops", [30.1]),
}


def test_an_order_that_went_right_breaks_no_promise() -> None:
    assert {name: breaches for name, breaches in judge(evidence()).items() if breaches} == {}


@pytest.mark.parametrize("name", CHECKS)
def test_every_promise_can_be_seen_broken(name: str) -> None:
    found = evidence()
    BREACHES[name](found)
    assert judge(found)[name], f"{name} was broken, and nobody saw it"


HARDER: dict[str, tuple[str, Callable[[Evidence], object]]] = {
    "two orders of one intent that both ended": ("I1", taken_twice_and_both_ended),
    "an order that is live when all were ended": ("I3", live_after_all_was_ended),
    "an order that the ledger ended first": ("I3", ended_by_the_venue_later),
    "a second attempt given up before its own fence": ("I6", given_up_before_the_second_fence),
    "a finding that no promise names": ("I19", finding("balances")),
    "a cache that is missed while other things break": (
        "I23",
        hardly_anything_moved_without_the_cache,
    ),
    "a process that nobody heard of": (
        "I29",
        lambda found: setattr(found, "roles", ["orders-1", "beat", "feed"]),
    ),
}


@pytest.mark.parametrize("what", HARDER)
def test_a_promise_is_seen_broken_also_by(what: str) -> None:
    found = evidence()
    name, breach = HARDER[what]
    breach(found)
    assert judge(found)[name], f"{what}, and nobody saw it"


def test_the_counts_know_what_was_ended_again_and_what_is_left() -> None:
    found = evidence()
    taken_twice_and_both_ended(found)
    assert counts_of(found)[0]["doubled"] == 1
    live_after_all_was_ended(found)
    assert counts_of(found)[0]["orphaned"] == 1


def test_errors_are_counted_wherever_they_end_something() -> None:
    def line(message: str, error: str) -> str:
        return json.dumps({"level": "error", "message": message, "pid": 1, "error": error})

    told = [
        line("Task workers.orders.place[1] raised unexpected: KeyError('a')", "KeyError: a"),
        line("Unrecoverable error: ValueError('file descriptor is None')", "ValueError: no"),
        line("user data of simulated:paper: a defect; listening again", "InternalError: (541)"),
        line("uncaught exception", "AttributeError: collect [app.py:1 in send]"),
        line("Couldn't ack 3, reason:...", "RecoverableConnectionError: closed"),
    ]
    assert [*unexpected(told)] == ["KeyError", "ValueError", "InternalError", "AttributeError"]


def test_what_an_exchange_counted_outlives_it() -> None:
    class Counting:
        def stream_counts(self) -> object:
            return {"storms": [{"asked": 3}]}

        def misbehaviour(self, _: str) -> Reply:
            return Reply(200, {}, {"refused": {"-1003": 4}})

    here: Any = object.__new__(Stage)
    here.exchange, here.storms, here.refused = Counting(), [], Counter()
    here.note_exchange()
    here.note_exchange()
    assert (here.refused["-1003"], len(here.storms)) == (8, 2)


def test_a_schedule_follows_from_its_seed_and_never_touches_one_thing_twice_at_once() -> None:
    strikes = plan(FAULTS, rounds=20, seconds=5400, seed=4)
    assert strikes == plan(FAULTS, rounds=20, seconds=5400, seed=4)
    assert strikes != plan(FAULTS, rounds=20, seconds=5400, seed=5)
    assert set(counted(strikes).values()) == {20}
    for place, one in enumerate(strikes):
        lasts = [two for two in strikes[place + 1 :] if two.at_s < one.at_s + one.lasts_s]
        assert len(lasts) < 2 * LANES
        assert not [two for two in lasts if set(two.fault.holds) & set(one.fault.holds)]


def test_the_whole_list_fits_twenty_times_into_an_hour_and_a_half() -> None:
    codes = {fault.code for fault in FAULTS}
    assert codes == {f"F{number}" for number in range(2, 30)}
    assert rounds_within(FAULTS, 90 * 60, seed=1) >= 20
    assert max(strike.at_s for strike in plan(FAULTS, rounds=20, seconds=5400, seed=1)) < 5400


def test_an_order_follows_from_seed_and_number() -> None:
    prices = {"BTC-USDT": Decimal(100_000), "ETH-USDT": Decimal(4_000), "SOL-USDT": Decimal(200)}
    one = [wish(1, number, prices, moment(0)) for number in range(500)]
    assert one == [wish(1, number, prices, moment(0)) for number in range(500)]
    assert len({each.order.id for each in one}) == 500
    share = sum(each.mishap is not None for each in one) / 500
    assert 0.35 < share < 0.5


def test_a_fault_that_is_not_known_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="F99") as caught:
        chosen(["F2", "F99"])
    assert "F12" in caught.value.cure


def test_a_plan_shorter_than_its_time_is_spread_over_it(tmp_path: Path) -> None:
    fault = Fault(code="F1", words="", strike=lambda *_: "", about_s=1, holds=("x",))
    strikes = plan([fault], rounds=10, seconds=400, seed=1)
    assert 300 < strikes[-1].at_s < 400
    assert isinstance(strikes[0].dice(1), random.Random)
