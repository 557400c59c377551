"""What becomes of an enabling at each look, by what is measured and what holds otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botswarm.domain.enabling import Enabling, EnablingState, Figures, Plan, Watched
from botswarm.domain.permission import TradingState
from botswarm.risk.enabling import GAP_MAX, Step, Swarm, decide

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
HOLD = timedelta(minutes=15)
S = EnablingState
ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
LIMITS = {**Plan(hold=HOLD).abort_on, Watched.LOSS: Decimal(100)}
WELL = Figures(orders=100, error_rate=Decimal(0), rejects=Decimal(0), data_age=Decimal(1))
REJECTED = replace(WELL, rejects=Decimal(50), rejected=50)


def held(share: int = 25, *, for_: timedelta = HOLD / 2, state: S = S.RUNNING) -> Enabling:
    return Enabling(
        id=1,
        at=NOW - timedelta(hours=1),
        actor="alice",
        reason="monday",
        plan=Plan(hold=HOLD, abort_on=LIMITS),
        state=state,
        share=share,
        stage_at=NOW - for_,
        evaluated_at=NOW - timedelta(seconds=2),
    )


def opened(share: int = 25, **changes: Any) -> Swarm:
    return replace(Swarm(state=ACTIVE, share=share), **changes)


def look(enabling: Enabling, figures: Figures = WELL, swarm: Swarm | None = None) -> Step:
    return decide(enabling, swarm or opened(enabling.share), figures, NOW)


def test_a_stage_is_held_for_its_time_and_then_the_next_one_begins() -> None:
    early = look(held(for_=HOLD - timedelta(seconds=1)))
    assert (early.share, early.stage_at) == (25, NOW - HOLD + timedelta(seconds=1))
    due = look(held(for_=HOLD))
    assert (due.state, due.share, due.stage_at) == (S.RUNNING, 50, NOW)


def test_all_stages_lead_to_all_bots_and_the_last_one_is_watched_too() -> None:
    shares = []
    enabling = held(10, for_=HOLD)
    while not enabling.state.is_over:
        shares.append(enabling.share)
        step = look(enabling)
        enabling = replace(enabling, share=step.share, state=step.state, stage_at=NOW - HOLD)
    assert (shares, enabling.state) == ([10, 25, 50, 100], S.DONE)
    assert look(held(100, for_=HOLD / 2)).state is S.RUNNING


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (
            replace(WELL, error_rate=Decimal("5.01"), errors=6),
            "error_rate is 5.01 % of the last 100 orders",
        ),
        (
            replace(WELL, rejects=Decimal(40), rejected=40),
            "rejects is 40 % of the last 100 orders, over 5 %",
        ),
        (replace(WELL, slippage=Decimal("1.5")), "slippage is 1.5 % of the last 100 orders"),
        (replace(WELL, losses={"USDT": Decimal(101)}), "loss is 101, over 100"),
        (
            replace(WELL, data_age=Decimal(61), silent="kraken"),
            "data_age is 61 s at kraken, over 60 s",
        ),
    ],
)
def test_what_is_over_its_limit_makes_it_step_back_at_once_and_say_why(
    figures: Figures, words: str
) -> None:
    # Also when the next stage would be due.
    step = look(held(25, for_=HOLD), figures)
    assert (step.state, step.share, step.stage_at) == (S.STEPPED_BACK, 10, NOW)
    assert (step.words or "").startswith("stepped back from 25 % to 10 %: ")
    assert words in (step.words or "")


def test_exactly_the_limit_is_within_it() -> None:
    at_limit = replace(WELL, error_rate=Decimal(5), errors=5, losses={"USDT": Decimal(100)})
    assert look(held(), at_limit).share == 25


def test_who_stepped_back_is_watched_and_opened_no_further() -> None:
    step = look(held(10, for_=10 * HOLD, state=S.STEPPED_BACK))
    assert (step.state, step.share) == (S.STEPPED_BACK, 10)
    worse = look(held(10, state=S.STEPPED_BACK), REJECTED)
    assert (worse.state, worse.share) == (S.FAILED, 0)


def test_the_first_stage_steps_back_to_nothing() -> None:
    step = look(held(10), REJECTED)
    assert (step.state, step.share) == (S.FAILED, 0)


@pytest.mark.parametrize(("many", "share"), [(2, 25), (3, 10)])
def test_one_or_two_orders_in_trouble_are_no_burst_whatever_their_share(
    many: int, share: int
) -> None:
    all_of_them = Figures(orders=many, error_rate=Decimal(100), errors=many, data_age=Decimal(1))
    assert look(held(25), all_of_them).share == share


@pytest.mark.parametrize("state", [REDUCING, HALTED])
def test_a_person_or_a_limit_that_halts_ends_it(state: TradingState) -> None:
    step = look(held(for_=HOLD), swarm=opened(state=state, reason="a bad feeling"))
    assert (step.state, step.share) == (S.OVERRULED, 25)
    assert "a bad feeling" in (step.words or "")


def test_whoever_opens_trading_otherwise_ends_it() -> None:
    assert look(held(25), swarm=opened(100)).state is S.OVERRULED


def test_while_the_system_holds_trading_back_no_time_passes() -> None:
    swarm = opened(state=REDUCING, is_held_by_system=True, reason="processes differ")
    step = look(held(for_=HOLD), swarm=swarm)
    assert (step.state, step.share, step.stage_at) == (S.RUNNING, 25, NOW)
    assert (step.words or "").startswith("waits: ")
    back = look(held(for_=HOLD), REJECTED, swarm)
    assert back.share == 10


def test_nothing_is_opened_while_something_objects() -> None:
    step = look(held(for_=HOLD), swarm=opened(objection="processes differ: a, b"))
    assert (step.share, step.stage_at) == (25, NOW)


def test_time_that_nobody_watched_does_not_count() -> None:
    late = replace(held(for_=HOLD), evaluated_at=NOW - GAP_MAX - timedelta(seconds=1))
    step = look(late)
    assert (step.share, step.stage_at) == (25, NOW)
    assert "nobody watched for 31 s" in (step.words or "")
    future = replace(held(), stage_at=NOW + timedelta(hours=1))
    assert look(future).stage_at == NOW


@pytest.mark.parametrize("unknown", [{"losses": None}, {"data_age": None}])
def test_what_nobody_knows_opens_nothing(unknown: dict[str, Any]) -> None:
    step = look(held(for_=HOLD), replace(WELL, **unknown))
    assert (step.share, step.stage_at) == (25, NOW)
    assert "nobody knows" in (step.words or "")


def test_few_orders_are_no_reason_to_wait() -> None:
    assert look(held(for_=HOLD), replace(WELL, error_rate=None, rejects=None)).share == 50


@given(
    share=st.sampled_from([10, 25, 50, 100]),
    minutes=st.integers(-60, 60),
    error_rate=st.none() | st.decimals(0, 100, places=2),
    loss=st.none() | st.decimals(-500, 500, places=2),
    swarm=st.builds(
        Swarm,
        state=st.sampled_from(TradingState),
        share=st.sampled_from([0, 10, 25, 50, 100]),
        is_held_by_system=st.booleans(),
        objection=st.none() | st.just("no"),
    ),
    state=st.sampled_from([S.RUNNING, S.STEPPED_BACK]),
)
def test_it_never_opens_further_unless_all_is_known_and_well(
    share: int,
    minutes: int,
    error_rate: Decimal | None,
    loss: Decimal | None,
    swarm: Swarm,
    state: S,
) -> None:
    losses = None if loss is None else {"USDT": loss}
    figures = replace(WELL, error_rate=error_rate, errors=9, losses=losses)
    before = held(share, for_=timedelta(minutes=minutes), state=state)
    step = decide(before, swarm, figures, NOW)
    if step.share > share:
        assert state is S.RUNNING
        assert swarm.state is ACTIVE
        assert swarm.share == share
        assert swarm.objection is None
        assert minutes >= 15
        assert loss is not None
        assert loss <= 100
        assert error_rate is None or error_rate <= 5


@pytest.mark.parametrize(
    ("stages", "hold", "is_fine"),
    [
        ((10, 25, 50, 100), HOLD, True),
        ((100,), HOLD, True),
        ((), HOLD, False),
        ((10, 10, 100), HOLD, False),
        ((50, 25, 100), HOLD, False),
        ((10, 50), HOLD, False),
        ((0, 100), HOLD, False),
        ((10, 200), HOLD, False),
        ((10, 100), timedelta(0), False),
    ],
)
def test_stages_rise_to_all_bots_and_take_their_time(
    stages: tuple[int, ...], hold: timedelta, is_fine: bool
) -> None:
    assert (Plan(stages=stages, hold=hold).problem() is None) is is_fine
