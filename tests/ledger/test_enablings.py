"""Enablings in the ledger: what they measure, how far they open, and who may overrule them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from botswarm.domain.enabling import Enabling, EnablingState, Figures, Plan, Watched
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import Exposure, TradingState, Verdict
from botswarm.domain.permission import Refused as No
from botswarm.domain.standing import Mark
from botswarm.errors import NotFound, Refused
from botswarm.ledger import risk_events
from botswarm.ledger.enabling_figures import measure
from botswarm.ledger.halts import SWARM, Cause, place_of
from botswarm.ledger.models import AuditRow, OrderRow
from botswarm.ledger.risk_standings import keep
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import NOW, a_bot, a_fill, an_order, sent
from tests.ledger.limiting import at_risk
from tests.ledger.test_processes import ONE, OTHER, signed
from tests.standing import swarm_of
from workers.enabling import look

S = EnablingState
ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
PLAN = Plan(stages=(10, 25, 100), hold=timedelta(seconds=20))
SECOND = timedelta(seconds=1)
D = Decimal


def begun(ledger: Ledger, plan: Plan = PLAN, now: datetime = NOW) -> Enabling:
    return ledger.enablings.begin(plan, actor="alice", reason="monday", now=now)


def looked(ledger: Ledger, until: timedelta, since: datetime = NOW) -> Enabling | None:
    """As beat would have it: every two seconds."""
    done, at = None, since
    while at < since + until:
        at += 2 * SECOND
        done = look(ledger.database, at)
    return done


def latest(ledger: Ledger) -> Enabling:
    return ledger.enablings.latest()[0]


def orders(ledger: Ledger, *states: OrderState, at: datetime = NOW + SECOND) -> None:
    """As they ended, each in a way that has happened."""
    for state in states:
        order = sent(ledger, created_at=at, bot="a bot")
        if state is OrderState.UNKNOWN:
            ledger.books.record(order.id, OrderState.UNKNOWN, at)
            # An error stays one, also when it was found out what became of it.
            ledger.books.record(order.id, OrderState.CANCELED, at)
        else:
            ledger.books.record(order.id, state, at)


def measured(ledger: Ledger, now: datetime) -> Figures:
    enabling = latest(ledger)
    return ledger.database.read(lambda session: measure(session, enabling, {}, now))


def test_it_opens_stage_by_stage_to_all_bots_on_schedule(ledger: Ledger) -> None:
    ledger.halts.set(SWARM, HALTED, reason="night", actor="alice", now=NOW, is_human=True)
    assert begun(ledger).share == 10
    assert (swarm_of(ledger).state, swarm_of(ledger).share) == (ACTIVE, 10)
    seen = []
    for second in range(2, 62, 2):
        done = look(ledger.database, NOW + second * SECOND)
        assert done is not None
        seen.append((second, done.share, done.state))
    assert [(second, share) for second, share, _ in seen if second in (18, 20, 38, 40)] == [
        (18, 10),
        (20, 25),
        (38, 25),
        (40, 100),
    ]
    assert seen[-1][1:] == (100, S.DONE)
    assert swarm_of(ledger).share is None
    assert look(ledger.database, NOW + 90 * SECOND) is None


def test_only_bots_of_the_share_may_grow_positions(ledger: Ledger) -> None:
    begun(ledger)
    names = [f"bot {number}" for number in range(60)]
    free = {name for name in names if may_grow(ledger, name)}
    assert free == {name for name in names if place_of(name) < 10}
    assert 0 < len(free) < 20
    looked(ledger, timedelta(seconds=20))
    assert free < {name for name in names if may_grow(ledger, name)}


def may_grow(ledger: Ledger, bot: str) -> bool:
    return ACTIVE is ledger.halts.strictest(
        venue="simulated", account="paper", bot=bot, symbol="BTC-USDT", now=NOW
    )


def test_a_burst_of_errors_makes_it_step_back_at_the_next_look_and_stay_there(
    ledger: Ledger,
) -> None:
    begun(ledger)
    looked(ledger, timedelta(seconds=20))
    assert swarm_of(ledger).share == 25
    at = NOW + 21 * SECOND
    orders(ledger, *[OrderState.CANCELED] * 9, *[OrderState.UNKNOWN] * 3, at=at)
    back = look(ledger.database, NOW + 22 * SECOND)
    assert back is not None
    assert (back.state, back.share, swarm_of(ledger).share) == (S.STEPPED_BACK, 10, 10)
    assert back.words == (
        "stepped back from 25 % to 10 %: error_rate is 25 % of the last 12 orders, over 5 %"
    )
    later = looked(ledger, timedelta(seconds=60), NOW + 22 * SECOND)
    assert later is not None
    assert (later.state, later.share) == (S.STEPPED_BACK, 10)
    events = ledger.database.read(lambda session: risk_events.since(session, 0, kind="enabling"))
    assert [(each.severity.value, each.value) for each in events] == [
        ("info", Decimal(10)),
        ("info", Decimal(25)),
        ("breach", Decimal(10)),
    ]
    assert (events[-1].numbers or {})["figures"]["error_rate"] == "25"


def test_a_step_back_beneath_a_hold_of_the_system_is_audited_and_leaves_the_hold(
    ledger: Ledger,
) -> None:
    begun(ledger)
    looked(ledger, timedelta(seconds=20))
    at = NOW + 21 * SECOND
    ledger.halts.restrict(
        SWARM, REDUCING, reason="restoring", actor="backup", now=at, cause=Cause.SYSTEM
    )
    orders(ledger, *[OrderState.CANCELED] * 9, *[OrderState.UNKNOWN] * 3, at=at)
    back = look(ledger.database, NOW + 22 * SECOND)
    assert back is not None
    held = swarm_of(ledger)
    assert (back.state, held.state, held.share) == (S.STEPPED_BACK, REDUCING, 10)
    assert (held.actor, held.reason) == ("backup", "restoring")
    last = ledger.database.read(
        lambda session: session.scalars(select(AuditRow).order_by(AuditRow.id.desc())).first()
    )
    assert last is not None
    assert last.actor == f"enabling {back.id} of alice"
    assert last.before is not None
    assert last.after is not None
    assert (last.before["share"], last.after["share"], last.after["state"]) == (25, 10, "reducing")


def test_errors_at_the_first_stage_leave_no_bot_that_may_grow(ledger: Ledger) -> None:
    begun(ledger)
    orders(ledger, *[OrderState.REJECTED] * 6)
    failed = look(ledger.database, NOW + 2 * SECOND)
    assert failed is not None
    assert (failed.state, swarm_of(ledger).share) == (S.FAILED, 0)
    assert not any(may_grow(ledger, f"bot {number}") for number in range(200))


def test_shares_are_of_the_orders_of_this_stage(ledger: Ledger) -> None:
    begun(ledger)
    orders(ledger, *[OrderState.REJECTED] * 20, at=NOW - SECOND)
    assert measured(ledger, NOW + SECOND).rejects is None
    orders(ledger, *[OrderState.REJECTED] * 4)
    orders(ledger, OrderState.CANCELED)
    figures = measured(ledger, NOW + SECOND)
    assert (figures.orders, figures.rejects, figures.error_rate) == (5, D(80), D(0))


def test_orders_that_grew_old_on_their_way_are_errors_and_refused_ones_are_none(
    ledger: Ledger,
) -> None:
    begun(ledger)
    at = NOW + SECOND
    orders(ledger, *[OrderState.CANCELED] * 5, at=at)
    for _ in range(5):
        stale = an_order(created_at=at, signal_expires_at=at + SECOND)
        ledger.orders.add(stale, at)
        assert ledger.books.judge(stale.id, _never, at + 5 * SECOND) is not None
    beyond = an_order(created_at=at)
    ledger.orders.add(beyond, at)
    ledger.books.judge(beyond.id, _never, at)
    figures = measured(ledger, NOW + 9 * SECOND)
    assert (figures.orders, figures.error_rate) == (10, D(50))


def _never(order: Order, _: Exposure) -> Verdict:
    return No(order, "its bot is beyond the share")


def test_slippage_is_how_much_worse_they_traded_than_they_meant_to_by_worth(
    ledger: Ledger,
) -> None:
    begun(ledger)
    at = NOW + SECOND
    # Three quarters bought 2 % dearer, and a quarter sold 4 % dearer: to their favour.
    for number, (side, price) in enumerate(
        [(Side.BUY, 102), (Side.BUY, 102), (Side.BUY, 102), (Side.SELL, 104)]
    ):
        order = sent(ledger, side=side, created_at=at)
        fill = a_fill(order, number + 1, price=Decimal(price), quantity=Decimal(1))
        ledger.books.record(order.id, OrderState.FILLED, at, fills=[fill])
    # Orders that did not fill say nothing of it.
    orders(ledger, OrderState.CANCELED)
    assert measured(ledger, at).slippage is None
    order = sent(ledger, created_at=at)
    fill = a_fill(order, 9, price=Decimal(100), quantity=Decimal(4))
    ledger.books.record(order.id, OrderState.FILLED, at, fills=[fill])
    assert measured(ledger, at).slippage == Decimal("0.25")


def test_the_venue_that_is_silent_for_longest_is_named(ledger: Ledger) -> None:
    begun(ledger)
    assert measured(ledger, NOW + 50 * SECOND).data_age == 0
    ledger.bots.create(a_bot(), NOW, actor="test")
    ledger.bots.create(a_bot(name="beta", venue="kraken", account="main"), NOW, actor="test")
    marks = [
        Mark(venue="simulated", symbol=symbol, price=Decimal(1), at=NOW + age * SECOND)
        for symbol, age in (("BTC-USDT", 40), ("ETH-USDT", 1))
    ]
    ledger.marks.save(marks, NOW + 40 * SECOND)
    figures = measured(ledger, NOW + 50 * SECOND)
    # Of kraken nothing was ever heard: as if it fell silent when the stage began.
    assert (figures.silent, figures.data_age) == ("kraken", D(50))
    kraken = Mark(venue="kraken", symbol="BTC-USDT", price=Decimal(1), at=NOW + 45 * SECOND)
    ledger.marks.save([kraken], NOW + 50 * SECOND)
    figures = measured(ledger, NOW + 50 * SECOND)
    assert (figures.silent, figures.data_age) == ("simulated", D(10))


def reckoned(ledger: Ledger, quote: str, result: str, at: datetime) -> None:
    standing = at_risk(SWARM, quote=quote, at=at, realised=Decimal(result))
    ledger.database.write(lambda session: keep(session, [standing]))


def test_losses_count_from_the_beginning_in_each_quote_asset(ledger: Ledger) -> None:
    plan = Plan(stages=(10, 100), hold=SECOND * 60, abort_on={Watched.LOSS: Decimal(50)})
    reckoned(ledger, "USDT", "-1000", NOW)
    begun(ledger, plan)
    reckoned(ledger, "USDT", "-1049", NOW + SECOND)
    # What another asset had lost before it was met is not held against this one.
    reckoned(ledger, "EUR", "-700", NOW + SECOND)
    well = look(ledger.database, NOW + 2 * SECOND)
    assert well is not None
    assert well.figures is not None
    assert (well.state, well.figures.loss) == (S.RUNNING, D(49))
    reckoned(ledger, "EUR", "-751", NOW + 3 * SECOND)
    failed = look(ledger.database, NOW + 4 * SECOND)
    assert failed is not None
    assert failed.state is S.FAILED
    assert "loss is 51, over 50" in (failed.words or "")


def test_while_no_sweep_reckons_losses_it_waits(ledger: Ledger) -> None:
    plan = Plan(stages=(10, 100), hold=SECOND, abort_on={Watched.LOSS: Decimal(50)})
    reckoned(ledger, "USDT", "0", NOW - timedelta(minutes=2))
    begun(ledger, plan)
    done = looked(ledger, timedelta(seconds=10))
    assert done is not None
    assert (done.share, done.words) == (10, "waits: nobody knows loss")


# --- who may say otherwise ------------------------------------------------------------------------


def test_a_person_who_halts_ends_it_and_it_opens_nothing_again(ledger: Ledger) -> None:
    begun(ledger)
    ledger.halts.set(SWARM, HALTED, reason="no", actor="bob", now=NOW + SECOND, is_human=True)
    ended = looked(ledger, timedelta(seconds=2))
    assert ended is not None
    assert (ended.state, ended.words) == (S.OVERRULED, "trading is halted: no")
    looked(ledger, timedelta(seconds=90))
    assert swarm_of(ledger).state is HALTED


def test_what_the_system_holds_is_waited_for_and_then_the_stage_is_held_anew(
    ledger: Ledger,
) -> None:
    begun(ledger)
    ledger.halts.restrict(
        SWARM,
        REDUCING,
        reason="restoring",
        actor="backup",
        now=NOW,
        cause=Cause.SYSTEM,
        until=NOW + 15 * SECOND,
    )
    waiting = looked(ledger, timedelta(seconds=14))
    assert waiting is not None
    assert (waiting.state, waiting.share) == (S.RUNNING, 10)
    assert (waiting.words or "").startswith("waits: trading is reducing")
    held = looked(ledger, timedelta(seconds=16), NOW + 14 * SECOND)
    assert held is not None
    assert held.share == 10
    opened = looked(ledger, timedelta(seconds=6), NOW + 30 * SECOND)
    assert opened is not None
    assert opened.share == 25


def test_only_what_a_person_began_opens_trading_further(ledger: Ledger) -> None:
    ledger.halts.set(SWARM, ACTIVE, reason="go", actor="alice", now=NOW, is_human=True, share=10)
    with pytest.raises(Refused, match="may not open swarm to 50 %"):
        ledger.halts.set(
            SWARM, ACTIVE, reason="more", actor="x", now=NOW, cause=Cause.SYSTEM, share=50
        )


def test_it_does_not_begin_while_processes_differ(ledger: Ledger) -> None:
    ledger.halts.set(SWARM, HALTED, reason="night", actor="alice", now=NOW, is_human=True)
    signed(ledger, ONE, OTHER)
    with pytest.raises(Refused, match="processes differ"):
        begun(ledger)
    assert ledger.enablings.latest() == []
    with pytest.raises(Refused, match="processes differ"):
        ledger.enablings.open_all(actor="alice", reason="go", now=NOW)
    with pytest.raises(Refused, match="do not rise to 100"):
        begun(ledger, Plan(stages=(10,), hold=SECOND))


def test_it_opens_no_further_while_processes_differ(ledger: Ledger) -> None:
    begun(ledger)
    signed(ledger, ONE, OTHER)
    done = looked(ledger, timedelta(seconds=24))
    assert done is not None
    assert done.share == 10
    assert (done.words or "").startswith("waits: processes differ")


def test_another_one_takes_the_place_of_the_first_and_all_at_once_of_both(ledger: Ledger) -> None:
    begun(ledger)
    second = begun(ledger, Plan(stages=(50, 100), hold=SECOND))
    assert [each.state for each in ledger.enablings.latest()] == [S.RUNNING, S.OVERRULED]
    assert swarm_of(ledger).share == 50
    ledger.enablings.open_all(actor="bob", reason="enough", now=NOW)
    assert swarm_of(ledger).share is None
    assert (latest(ledger).id, latest(ledger).state) == (second.id, S.OVERRULED)


def test_a_cancelled_one_leaves_trading_as_far_open_as_it_is(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="no enabling is under way"):
        ledger.enablings.cancel(actor="bob", reason="no", now=NOW)
    begun(ledger)
    ledger.enablings.cancel(actor="bob", reason="lunch", now=NOW)
    assert looked(ledger, timedelta(seconds=60)) is None
    assert (swarm_of(ledger).state, swarm_of(ledger).share) == (ACTIVE, 10)
    actions = ledger.database.read(lambda session: list(session.scalars(select(AuditRow.action))))
    assert "enabling.cancel" in actions


# --- whatever restarts ----------------------------------------------------------------------------


def test_the_next_process_goes_on_where_the_last_one_was(ledger: Ledger) -> None:
    plan = Plan(stages=(25, 100), hold=20 * SECOND, abort_on={Watched.LOSS: Decimal("12.5")})
    before = begun(ledger, plan)
    looked(ledger, timedelta(seconds=10))
    again = Ledger(ledger.database.url.render_as_string(hide_password=False))
    try:
        assert again.enablings.latest()[0].plan == plan
        done = looked(again, timedelta(seconds=10), NOW + 10 * SECOND)
    finally:
        again.close()
    assert done is not None
    assert (done.id, done.share) == (before.id, 100)


def test_after_an_outage_the_stage_is_held_anew(ledger: Ledger) -> None:
    begun(ledger)
    looked(ledger, timedelta(seconds=10))
    back = look(ledger.database, NOW + timedelta(minutes=10))
    assert back is not None
    assert (back.share, back.stage_at) == (10, NOW + timedelta(minutes=10))


def test_many_that_look_at_once_open_one_stage(ledger: Ledger) -> None:
    begun(ledger)
    looked(ledger, timedelta(seconds=18))
    at = NOW + 20 * SECOND
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: look(ledger.database, at), range(6)))
    assert latest(ledger).share == 25
    events = ledger.database.read(lambda session: risk_events.since(session, 0, kind="enabling"))
    assert len(events) == 2


def test_what_was_measured_of_one_is_not_held_against_the_next(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(ledger)
    orders(ledger, *[OrderState.REJECTED] * 6)
    read = ledger.database.read

    def read_and_begin_anew(work: Any) -> Any:
        measured_ = read(work)
        monkeypatch.undo()
        begun(ledger, now=NOW + 2 * SECOND)
        return measured_

    monkeypatch.setattr(ledger.database, "read", read_and_begin_anew)
    assert look(ledger.database, NOW + 2 * SECOND) is None
    assert (latest(ledger).state, swarm_of(ledger).share) == (S.RUNNING, 10)


def test_looking_reads_no_more_than_the_latest_orders(ledger: Ledger) -> None:
    begun(ledger)
    orders(ledger, *[OrderState.REJECTED] * 3, *[OrderState.CANCELED] * 4)
    rows = ledger.database.read(lambda session: list(session.scalars(select(OrderRow.id))))
    assert measured(ledger, NOW + SECOND).orders == len(rows) == 7
