"""What holds of an order when several have spoken: persons, limits, the system, and a share."""

from __future__ import annotations

import sqlite3
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from botswarm.config import Secret
from botswarm.domain.permission import Approved, Exposure, Refused, TradingState, Verdict
from botswarm.errors import Refused as No
from botswarm.ledger import migrate
from botswarm.ledger.halting import Halting
from botswarm.ledger.halts import Cause, Halt, place_of, strategy_scope
from botswarm.ledger.models import AuditRow, TradingStateRow
from botswarm.ledger.plain import WAIT_S
from botswarm.ledger.rehearsals import put_back
from botswarm.ledger.restores import Restores
from botswarm.ledger.store import Ledger
from tests.ledger.conftest import ACCOUNT, NOW, SYMBOL, VENUE, a_bot, an_order
from tests.standing import reconciled, swarm_of

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
LATER = NOW + timedelta(minutes=5)


def says(ledger: Ledger, state: TradingState, scope: str = "swarm", **more: Any) -> Halt:
    given: dict[str, Any] = {"reason": "test", "actor": "test", "now": NOW} | more
    return ledger.halts.set(scope, state, **given)


def holds(ledger: Ledger, *, bot: str = "alpha", seconds: float = 0) -> TradingState:
    """What an order is judged by, in the very transaction that claims it."""
    now = NOW + timedelta(seconds=seconds)
    order = an_order(bot=bot, created_at=now, signal_expires_at=now + timedelta(seconds=10))
    ledger.orders.add(order, now)
    seen: list[TradingState] = []

    def judge(order: Any, exposure: Exposure) -> Verdict:
        seen.append(exposure.trading_state)
        return Approved(order)

    ledger.books.judge(order.id, judge, now)
    place = {"venue": VENUE, "account": ACCOUNT, "symbol": SYMBOL}
    assert seen == [ledger.halts.strictest(**place, bot=bot, now=now)]
    return seen[0]


def test_a_halt_of_a_strategy_holds_for_its_bots_and_for_no_others(ledger: Ledger) -> None:
    mine = ledger.bots.create(a_bot(), NOW, actor="test")
    ledger.bots.create(a_bot(name="beta", strategy="grid"), NOW, actor="test")
    says(ledger, HALTED, strategy_scope(mine.strategy))
    assert holds(ledger) is HALTED
    assert holds(ledger, bot="beta") is ACTIVE
    assert holds(ledger, bot="nobody made it") is ACTIVE


def test_what_the_system_holds_ends_by_itself_and_not_before(ledger: Ledger) -> None:
    says(ledger, HALTED, cause=Cause.SYSTEM, until=NOW + timedelta(seconds=5))
    assert holds(ledger, seconds=4) is HALTED
    assert holds(ledger, seconds=5) is ACTIVE


def test_the_system_lets_go_of_what_it_holds_itself_and_of_nothing_else(ledger: Ledger) -> None:
    says(ledger, REDUCING, cause=Cause.SYSTEM)
    assert says(ledger, ACTIVE, cause=Cause.SYSTEM).state is ACTIVE
    for cause in (Cause.PERSON, Cause.LIMIT):
        says(ledger, HALTED, cause=cause, is_human=cause is Cause.PERSON)
        for other in Cause:
            with pytest.raises(No, match="may not relax"):
                says(ledger, ACTIVE, cause=other)
        says(ledger, ACTIVE, is_human=True)
    assert holds(ledger) is ACTIVE


@pytest.mark.parametrize("cause", [Cause.PERSON, Cause.LIMIT])
def test_a_rule_beside_a_halt_neither_shortens_nor_loosens_it(ledger: Ledger, cause: Cause) -> None:
    says(ledger, REDUCING, cause=cause, is_human=cause is Cause.PERSON)
    after = says(ledger, HALTED, cause=Cause.SYSTEM, until=NOW + timedelta(seconds=5))
    assert (after.cause, after.until) == (cause, None)
    assert holds(ledger, seconds=60) is HALTED
    with pytest.raises(No):
        says(ledger, ACTIVE, cause=Cause.SYSTEM)


def test_a_halt_that_a_person_gave_an_end_ends_then(ledger: Ledger) -> None:
    says(ledger, HALTED, is_human=True, until=NOW + timedelta(seconds=30))
    says(ledger, HALTED, cause=Cause.SYSTEM, until=NOW + timedelta(seconds=5))
    assert holds(ledger, seconds=29) is HALTED
    assert holds(ledger, seconds=30) is ACTIVE


def test_an_end_is_in_the_future_and_never_of_a_limits_halt(ledger: Ledger) -> None:
    with pytest.raises(No, match="not in the future"):
        says(ledger, HALTED, is_human=True, until=NOW)
    with pytest.raises(ValueError, match="ends by a person only"):
        says(ledger, HALTED, cause=Cause.LIMIT, until=LATER)
    with pytest.raises(ValueError, match="share"):
        says(ledger, ACTIVE, "bot:alpha", is_human=True, share=50)


def test_what_looks_again_and_again_writes_once(ledger: Ledger) -> None:
    halt = {"reason": "too much lost", "actor": "limit:daily_loss", "cause": Cause.LIMIT}

    def restrict(state: TradingState, **more: Any) -> Halt | None:
        return ledger.halts.restrict("bot:alpha", state, **(halt | {"now": NOW} | more))

    assert restrict(REDUCING) is not None
    assert restrict(REDUCING) is None
    assert restrict(HALTED) is not None
    assert restrict(HALTED, now=LATER, reason="still") is None
    assert restrict(REDUCING) is None
    (said,) = (each for each in ledger.halts.all() if each.scope == "bot:alpha")
    assert (said.state, said.reason, said.cause) == (HALTED, "too much lost", Cause.LIMIT)
    entries = select(AuditRow.id).where(AuditRow.subject == "bot:alpha")
    assert len(ledger.database.read(lambda session: session.scalars(entries).all())) == 2


def test_bots_beyond_the_swarms_share_only_reduce(ledger: Ledger) -> None:
    says(ledger, ACTIVE, is_human=True, share=25)
    names = [f"bot{number}" for number in range(12)]
    assert {place_of(name) < 25 for name in names} == {True, False}
    for name in names:
        assert holds(ledger, bot=name) is (ACTIVE if place_of(name) < 25 else REDUCING)
    # A halt in between, and its end, leave the share as it was.
    says(ledger, HALTED, cause=Cause.LIMIT)
    assert says(ledger, ACTIVE, is_human=True).share == 25
    assert says(ledger, ACTIVE, share=10, cause=Cause.SYSTEM).share == 10
    with pytest.raises(No, match="may not open swarm to 50 %"):
        says(ledger, ACTIVE, share=50, cause=Cause.SYSTEM)
    assert says(ledger, ACTIVE, is_human=True, share=100).share is None
    assert {holds(ledger, bot=name) for name in names} == {ACTIVE}


def test_a_share_of_a_hundred_bots_is_nearly_so_many() -> None:
    inside = sum(place_of(f"bot-{number}") < 25 for number in range(4000))
    assert 900 < inside < 1100


@pytest.mark.parametrize("scope", ["swarm", f"account:{VENUE}:{ACCOUNT}", "bot:alpha"])
def test_a_state_in_words_that_nobody_knows_lets_nothing_pass(ledger: Ledger, scope: str) -> None:
    says(ledger, ACTIVE, scope, is_human=True)
    change = update(TradingStateRow).where(TradingStateRow.scope == scope)
    ledger.database.write(lambda session: session.execute(change.values(state="aktiv")))
    assert holds(ledger) is HALTED
    assert {each.state for each in ledger.halts.all() if each.scope == scope} == {HALTED}


def test_an_order_that_is_begun_learns_of_a_halt_that_was_committed_meanwhile(
    ledger: Ledger,
) -> None:
    order = an_order()
    assert not ledger.books.is_halted(order, NOW)
    says(ledger, HALTED, "bot:alpha", is_human=True)
    assert ledger.books.is_halted(order, NOW)
    ledger.orders.add(order, NOW)
    refused = ledger.books.judge(
        order.id,
        lambda order, exposure: Refused(order, exposure.trading_state.value),
        NOW,
    )
    assert isinstance(refused, Refused)


@pytest.mark.parametrize("before", [None, ACTIVE, REDUCING])
def test_a_halt_said_in_a_hurry_is_written_down_like_any_other(
    ledger: Ledger, before: TradingState | None
) -> None:
    scopes = ["swarm", "bot:alpha"]
    for scope in scopes:
        if before is not None:
            until = None if before is ACTIVE else LATER
            says(ledger, before, scope, is_human=True, until=until)
    if before is ACTIVE:
        says(ledger, ACTIVE, is_human=True, share=25)
    url = Secret(ledger.database.url.render_as_string(hide_password=False))
    Halting(url).halt(scopes, reason="fire", actor="ada", now=NOW)
    in_a_hurry = rows_of(ledger)
    for scope in scopes:
        says(ledger, HALTED, scope, reason="fire", actor="ada", is_human=True)
    in_words = rows_of(ledger)
    assert in_a_hurry[0] == in_words[0]
    # What was before differs: this time it was halted already.
    for said, usual in zip(in_a_hurry[1], in_words[1], strict=True):
        assert said.keys() == usual.keys()
        assert said == usual | {"before": said["before"]}
    if before is not None:
        assert in_a_hurry[1][0]["before"]["state"] == before.value
        assert in_a_hurry[1][0]["before"].keys() == in_words[1][0]["before"].keys()
    assert holds(ledger) is HALTED


def test_a_drill_puts_back_what_held_by_whoever_held_it_and_nothing_that_was_said_since(
    ledger: Ledger,
) -> None:
    lost, passing, free, since = (f"account:simulated:{name}" for name in "abcd")
    restrict = partial(ledger.halts.restrict, state=REDUCING, reason="lost", now=NOW)
    restrict(lost, actor="limit:daily_loss", cause=Cause.LIMIT)
    restrict(passing, actor="sweep:protections", cause=Cause.SYSTEM, until=LATER)
    before = {each.scope: each for each in ledger.halts.all()}
    url = Secret(ledger.database.url.render_as_string(hide_password=False))
    scopes, later = [lost, passing, free, since], NOW + timedelta(seconds=9)
    Halting(url).halt(scopes, reason="a drill", actor="ada", now=later)
    says(ledger, HALTED, since, reason="fire", actor="bob", is_human=True, now=later)
    put_back(ledger.database, scopes, before, drill="a drill", actor="ada", now=later)
    after = {each.scope: each for each in ledger.halts.all()}
    assert [after[scope] for scope in (lost, passing)] == [before[lost], before[passing]]
    assert (after[free].state, after[free].actor) == (ACTIVE, "ada")
    assert (after[since].state, after[since].actor) == (HALTED, "bob")
    entries = rows_of(ledger)[1]
    assert {each["reason"] for each in entries} == {"the drill is over"}
    assert {each["actor"] for each in entries} == {"ada"}


@pytest.mark.parametrize(
    ("cause", "after"), [(Cause.SYSTEM, ACTIVE), (Cause.LIMIT, HALTED), (Cause.PERSON, HALTED)]
)
def test_of_a_restored_ledger_only_what_the_system_held_is_let_go_and_it_is_looked_at_once(
    quick_ledger: Ledger, cause: Cause, after: TradingState
) -> None:
    restrict, restores = quick_ledger.halts.restrict, Restores(quick_ledger.database)
    restrict("swarm", REDUCING, reason="x", actor="processes", now=NOW, cause=cause)
    restores.hold("b1", "ada", NOW)
    reconciled(quick_ledger, NOW + timedelta(seconds=1))
    later = NOW + timedelta(seconds=2)
    assert restores.release(later) == "b1"
    assert restores.waiting() is None
    swarm = swarm_of(quick_ledger)
    assert (swarm.state, swarm.cause) == (after, cause)


def test_a_halt_said_in_a_hurry_waits_for_another_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    ledger = Ledger(url)
    migrate.migrate(ledger.database)
    other = sqlite3.connect(tmp_path / "busy.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    # Longer than one try waits, so that there has to be another.
    timer = threading.Timer(WAIT_S + 0.3, other.execute, ["ROLLBACK"])
    timer.start()
    Halting(Secret(url)).halt(["swarm"], reason="fire", actor="ada", now=NOW)
    timer.join()
    other.close()
    assert ledger.halts.all()[0].state is HALTED
    ledger.close()


def rows_of(ledger: Ledger) -> tuple[list[Halt], list[dict[str, Any]]]:
    """What holds, and the last two entries of the audit."""
    columns = [each for each in AuditRow.__table__.columns if each.name != "id"]
    entries = select(*columns).order_by(AuditRow.id.desc()).limit(2)
    found = ledger.database.read(
        lambda session: [dict(row) for row in session.execute(entries).mappings()]
    )
    return ledger.halts.all(), sorted(found, key=lambda each: str(each["subject"]))
