"""``trading stop`` and ``emergency-stop``: no new orders, and the end of those there are."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Command
from botswarm.cli.emergency import Press, Pressed
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.ledgerless import LeftWord
from botswarm.cli.order_wait import patience_option
from botswarm.cli.session import Answer, Session
from botswarm.cli.urgency import started_at
from botswarm.errors import BotswarmError, TimedOut, Unreachable

if TYPE_CHECKING:
    from botswarm.ledger.store import Ledger

POLL_S = 0.1
DRAIN_S = 30.0
ENDING_S = 15.0
NOT_SENT = ("ready", "approved")
ON_THE_WAY = ("sending", "unknown")
FRESH_S = 60.0


def under_way(ledger: Ledger) -> dict[str, int]:
    """How many orders wait to be sent, are on their way, and rest at a venue."""
    found = {"waiting": 0, "on_the_way": 0, "resting": 0}
    for order in ledger.orders.under_way():
        if order.state.value in NOT_SENT:
            found["waiting"] += 1
        elif order.state.value in ON_THE_WAY:
            found["on_the_way"] += 1
        else:
            found["resting"] += 1
    return found


def in_words(found: Mapping[str, int]) -> str:
    return (
        f"{found['waiting']} wait to be sent, {found['on_the_way']} are on their way, "
        f"{found['resting']} rest at a venue"
    )


@click.command("stop", cls=Command)
@click.option("--drain", is_flag=True, help="Wait until no order is on its way any more.")
@patience_option(DRAIN_S, "So long; exit 7 if that was not enough.")
@click.option("--reason", default="stopped from the command line", help="Kept in the audit log.")
@click.pass_obj
def stop(session: Session, drain: bool, wait_s: float, reason: str) -> Answer:
    """Stop trading in good order: the swarm is halted, and what is on its way comes to its end.

    Orders that rest at a venue stay there; emergency-stop --cancel ends them. Bots go on looking
    and decide nothing. Only a person resumes.
    """
    from botswarm.cli.trading import person
    from botswarm.domain.permission import TradingState
    from botswarm.ledger.halts import SWARM
    from botswarm.ledger.store import Ledger

    ledger = Ledger(session.settings().database_url)
    began = time.monotonic()
    ledger.halts.set(
        SWARM,
        TradingState.HALTED,
        reason=reason,
        actor=person(),
        now=datetime.now(UTC),
        is_human=True,
    )
    found = under_way(ledger)
    while drain and _is_moving(found) and time.monotonic() - began < wait_s:
        time.sleep(POLL_S)
        found = under_way(ledger)
    took_s = round(time.monotonic() - began, 3)
    failure = None
    if drain and _is_moving(found):
        failure = TimedOut(
            f"after {wait_s:g} s {in_words(found)}",
            cure="they come to their end where an order worker runs; see: botswarm order list",
        )
    words = f"The swarm is halted; {in_words(found)}."
    if drain and failure is None:
        words += f" Nothing is on its way after {took_s:g} s."
    following = ["botswarm trading resume"]
    if found["resting"]:
        following.insert(0, "botswarm trading emergency-stop --cancel")
    return Answer(
        data={"state": "halted", "orders": found, "is_drained": not _is_moving(found),
              "took_s": took_s},
        text=words,
        next=following,
        failure=failure,
    )  # fmt: skip


def _is_moving(found: Mapping[str, int]) -> bool:
    return bool(found["waiting"] or found["on_the_way"])


# --- the button -----------------------------------------------------------------------------------


@click.command("emergency-stop", cls=Command)
@click.option("--cancel", is_flag=True, help="End every open order at the venues, too.")
@click.option("--flatten", is_flag=True, help="End them, and close every position at market.")
@patience_option(
    ENDING_S, "So long it is waited until it is in force and nothing is open; exit 7 if not."
)
@click.option("--reason", default="emergency stop", help="Kept in the audit log.")
@click.pass_obj
def emergency_stop(
    session: Session, cancel: bool, flatten: bool, wait_s: float, reason: str
) -> Answer:
    """Halt the swarm at once, and say how long each step took.

    It asks nothing, and needs the ledger only: neither broker nor Redis nor any worker. Without
    the ledger it leaves a stop file for the order workers of this machine, which end what is open
    at the venues by themselves. --flatten asks before it trades; scripts say --yes.
    """
    from botswarm.cli.trading import person
    from botswarm.ledger.halting import SWARM

    began = _began()
    press = Press(
        session.settings(),
        kind="emergency",
        scopes=[SWARM],
        places=None,
        actor=person(),
        reason=reason,
        began=began,
        say=lambda words: _say(session, words),
    )
    word = LeftWord(press, is_cancelling=cancel or flatten)
    try:
        done = press.halt(word.pull)
        if cancel or flatten:
            press.cancel(wait_s)
        else:
            press.wait_until_in_force(wait_s)
    except (Unreachable, TimedOut) as error:
        return word.answer(error)
    word.take_back()
    if flatten:
        from botswarm.cli.flattening import flatten as close_positions

        _confirm_flatten(session)
        close_positions(press, wait_s)
    press.finish()
    done.resting = under_way(press.ledger)["resting"]
    return _answer(press, done, is_cancelling=cancel or flatten, is_flattening=flatten)


def _began() -> float:
    """When the button was pressed: the interpreter had to start, too."""
    began = started_at()
    return began if time.monotonic() - began < FRESH_S else time.monotonic()


def _say(session: Session, words: str) -> None:
    if not (session.quiet or session.json):
        click.echo(words, err=True)


def _confirm_flatten(session: Session) -> None:
    if session.yes:
        return
    if session.no_input or session.json or not sys.stdin.isatty():
        raise NotConfirmed(
            "trading is halted and the orders are ended; nobody confirmed that every position is"
            " to be closed at market",
            cure="if that is meant, add --yes",
        )
    if not click.confirm("Close every position at market now?", default=False, err=True):
        raise NotConfirmed(
            "trading is halted and the orders are ended; no position was closed",
            cure="see: botswarm position list",
        )


def _answer(press: Press, done: Pressed, *, is_cancelling: bool, is_flattening: bool) -> Answer:
    lines = [f"halted after {done.said_ms} ms, {_in_force(press, done)}"]
    if is_cancelling:
        lines += [_of_account(each) for each in done.accounts] or ["no order was open anywhere"]
    if is_flattening and done.flat_ms is not None:
        lines.append(f"flat after {done.flat_ms} ms")
    following = ["botswarm trading status", "botswarm trading resume"]
    warnings = []
    if done.may_arrive:
        warnings.append(
            f"{done.may_arrive} orders were signed before for venues that refuse nothing for being"
            " late: where they turn up, order workers look after them"
        )
    if done.unprotected and not is_flattening:
        warnings += [
            f"{done.unprotected} of them were stops that protected positions, which stand without"
            " now: emergency-stop --flatten closes them"
        ]
    if not is_cancelling and done.resting:
        lines.append(f"{done.resting} orders rest at venues")
        following.insert(0, "botswarm trading emergency-stop --cancel")
    return Answer(
        data=done.data(),
        text="\n".join(lines),
        warnings=warnings,
        next=following,
        failure=_failure(press, done),
    )


def _in_force(press: Press, done: Pressed) -> str:
    if done.in_force_ms is not None:
        return f"in force after {done.in_force_ms} ms"
    return (
        f"NOT in force yet: {len(press.force.left)} orders that were signed before may still be "
        f"taken, for {press.force.left_s():.1f} s more at most"
    )


def _of_account(each: Any) -> str:
    if each.failure:
        return f"{each.name}: {each.failure}"
    words = f"{each.name}: nothing was open"
    if (ended := each.ended) is not None:
        when = "not yet" if each.cancelled_ms is None else f"after {each.cancelled_ms} ms"
        words = f"{each.name}: {ended.asked} orders cancelled, nothing open {when}"
        if ended.in_doubt:
            words += f"; {ended.in_doubt} of which nobody knows whether they are there"
    if each.held:
        held = ", ".join(f"{name}: {why}" for name, why in each.held.items())
        words += f"; still held: {held}"
    return words


def _failure(press: Press, done: Pressed) -> BotswarmError | None:
    if press.is_clean:
        return None
    bad = [_of_account(each) for each in done.accounts if not each.is_clean]
    if done.in_force_ms is None:
        bad.insert(0, _in_force(press, done))
    return TimedOut(
        f"trading is halted, and not everything came to its end: {'; '.join(bad)}",
        cure="order workers go on with it; look again: botswarm trading emergency-stop --cancel",
    )
