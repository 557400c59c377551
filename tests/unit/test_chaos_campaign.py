"""The campaign's judge sees every kind of breach it is there for, and its schedule replays."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from botswarm.chaos.campaign.evidence import Event, Evidence, Order, Sent
from botswarm.chaos.campaign.invariants import CHECKS, judge
from botswarm.chaos.campaign.load import Tally, wish
from botswarm.chaos.campaign.main import FAULTS, chosen
from botswarm.chaos.campaign.plan import LANES, Fault, counted, plan, rounds_within
from botswarm.chaos.campaign.runner import Note, Timeline
from botswarm.domain.instrument import Instrument
from botswarm.errors import NotFound
from botswarm.ledger.verify import Verification

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
    entry = {"account": "paper", "symbol": "BTCUSDT", "side": "buy", "client_order_id": CLIENT}
    fill = {"type": "fill", "quantity": "0.002", "at": int(AT * 1000) + 30}
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
        builds={"one": ["orders-1", "beat"]},
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
    told = {"type": "cancel", "filled": "0.001", "side": "buy", "at": int(AT * 1000) + 40}
    found.journal = {CLIENT: [*found.journal[CLIENT], told]}


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
