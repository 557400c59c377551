"""The order path in simulated time holds, and the simulation sees where it does not."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from botswarm.chaos.simulation.cases import VENUES, Accident, Case, all_cases, play_case
from botswarm.chaos.simulation.links import Outcome
from botswarm.chaos.simulation.play import MARKET, Play, Result
from botswarm.chaos.simulation.runner import simulate_seeds, trace
from botswarm.chaos.simulation.seeds import play_seed
from botswarm.domain.fill import Fill
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import Exposure
from botswarm.testing.books import Attempt, FakeBooks
from botswarm.testing.venue import Fate
from botswarm.trading import settle

FIXED = range(30)


def test_no_order_is_lost_or_doubled_in_known_histories() -> None:
    tally = simulate_seeds(FIXED, 50, 1, lambda line: None)
    assert tally.failures == []
    assert tally.counts["executed"] > 500
    assert tally.counts["deaths"] > 100
    assert tally.counts["refused_late"] > 10


def test_no_order_is_lost_or_doubled_in_new_histories() -> None:
    first = random.SystemRandom().randrange(10**6, 2**53)
    tally = simulate_seeds(range(first, first + 30), 50, 1, lambda line: None)
    assert tally.failures == []


@pytest.mark.parametrize("number", range(3))
def test_dying_at_any_point_with_any_answer_does_no_harm(number: int) -> None:
    """A third of the answers at each venue; ``botswarm chaos simulate`` plays them all."""
    cases = list(
        all_cases(
            sorted(VENUES)[number],
            outcomes=list(Outcome)[number::3],
            patiences_s=(3600.0,),
            accidents=(Accident.DEATH,),
        )
    )
    assert [str(case) for case, result in cases if result.violations] == []
    assert len(cases) > 300


def test_the_same_seed_is_the_same_history_to_the_last_step() -> None:
    first, second = trace(7), trace(7)
    assert first == second
    assert trace(8)[1] != first[1]


# --- what is broken on purpose is seen ------------------------------------------------------------


class WithoutClaim(FakeBooks):
    """Whoever comes may send, whoever else already did."""

    def begin(self, order_id: str, *road: Any) -> Any:
        with self._lock:
            order = self.orders[order_id]
            if order.state is not OrderState.READY:
                self.orders[order_id] = dataclasses.replace(order, state=OrderState.READY)
            judge, freeze, now, _ = road
            return super().begin(order_id, judge, freeze, now)


class WithoutDedupe(FakeBooks):
    """A fill that is told twice is booked twice."""

    def book(self, fills: Sequence[Fill], now: datetime) -> int:
        for fill in fills:
            self.fills.pop((fill.venue, fill.symbol, fill.trade_id), None)
        return super().book(fills, now)


class WithoutReservation(FakeBooks):
    """What others may have at the venue already does not count."""

    def _exposure(self, order: Order, now: datetime) -> Exposure:
        known = super()._exposure(order, now)
        return dataclasses.replace(known, account_open_notional=Decimal(0))


class WithoutFsync(FakeBooks):
    """What was committed last is gone when the power goes."""

    last: tuple[Order, list[Attempt]] | None = None

    def begin(self, order_id: str, *road: Any) -> Any:
        self.last = self.orders[order_id], list(self.attempts.get(order_id, []))
        return super().begin(order_id, *road)

    def lose_power(self) -> None:
        if self.last is not None:
            order, attempts = self.last
            self.orders[order.id], self.attempts[order.id] = order, attempts
            self.last = None


def violations_of(results: Sequence[Result]) -> set[str]:
    return {each.invariant for result in results for each in result.violations}


def played(books: type[FakeBooks], seeds: range = FIXED) -> list[Result]:
    def make(**arguments: Any) -> Play:
        return Play(**arguments, books=books([MARKET]))

    return [play_seed(seed, make=make) for seed in seeds]


def test_without_the_claim_an_order_is_doubled() -> None:
    assert "I1" in violations_of(played(WithoutClaim))


def test_without_the_reservation_more_may_be_live_than_the_limit() -> None:
    assert "I10" in violations_of(played(WithoutReservation))


def test_an_order_that_covers_a_short_position_passes_a_limit_that_is_reached() -> None:
    """In this history a buy makes a position smaller while others have used up the limit."""
    assert violations_of([play_seed(11_469)]) == set()


def test_without_the_deduplication_of_fills_more_is_booked_than_was_traded() -> None:
    assert "I4" in violations_of(played(WithoutDedupe))


def test_without_the_wait_for_the_fence_nothing_is_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settle, "EMPTY_ROUNDS_APART_S", 0.0)
    impatient = {
        name: dataclasses.replace(semantics, fence=timedelta(0))
        for name, semantics in VENUES.items()
    }
    monkeypatch.setattr("botswarm.chaos.simulation.cases.VENUES", impatient)
    case = Case("binance", Outcome.HELD, Fate.FILLS, 0.0, 3600.0, Accident.DEATH, 10_000)
    late = dataclasses.replace(case, outcome=Outcome.ENGINE_LATE)
    assert {"I1", "I6"} & violations_of([play_case(each)[0] for each in (case, late)])


def test_with_half_the_wait_an_order_that_is_found_late_is_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine takes ten seconds, its store fifteen more: then ten between rounds is too few."""
    monkeypatch.setattr(settle, "EMPTY_ROUNDS_APART_S", 10.0)
    cases = (
        Case("binance", Outcome.ENGINE_LATE, Fate.FILLS, 15.0, 3600.0, Accident.DEATH, point)
        for point in range(1, 40)
    )
    assert "I1" in violations_of([play_case(case)[0] for case in cases])


def test_a_ledger_that_forgets_its_commits_is_found_out() -> None:
    def make(**arguments: Any) -> Play:
        books = WithoutFsync([MARKET])
        return Play(**arguments, books=books, on_death=books.lose_power)

    results = [play_seed(seed, make=make) for seed in FIXED]
    assert violations_of(results) & {"I1", "I3", "I7"}
