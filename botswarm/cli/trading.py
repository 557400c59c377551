"""Stop and resume trading: of the swarm, or of one account, market, strategy or bot."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli import trading_arm, trading_drill, trading_enable, trading_stop
from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Group
from botswarm.cli.order_cancel import confirm
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.trading_scope import ending, scope_of, scoped, until_of
from botswarm.cli.typed import have_typed

if TYPE_CHECKING:
    from botswarm.domain.permission import TradingState
    from botswarm.ledger.halts import Halt
    from botswarm.ledger.restores import Waiting
    from botswarm.trading.stop_file import StopFile


@click.group(cls=Group)
def trading() -> None:
    """See whether orders may be sent, halt them, and let them go on."""


@trading.command("status")
@click.pass_obj
def show_status(session: Session) -> Answer:
    """Print what holds for the swarm, and for whatever something else was said about.

    The strictest that applies to an order wins. What is not listed is active.
    """
    from botswarm.ledger.restores import Restores

    settings, now = session.settings(), datetime.now(UTC)
    ledger = ledger_of(session)
    halts = ledger.halts.all()
    rows = [
        (
            each.scope,
            _state(each, now),
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            "-" if each.until is None else f"{each.until:%Y-%m-%d %H:%M:%S}",
            f"{each.actor} ({each.cause})",
            each.reason,
        )
        for each in halts
    ]
    orders = trading_stop.under_way(ledger)
    live = trading_arm.live_accounts(settings, ledger, now)
    pulled = _stop_file(session).read()
    restored = Restores(ledger.database).waiting()
    lines = [
        in_columns(["SCOPE", "STATE", "SINCE", "UNTIL", "BY", "REASON"], rows),
        f"orders: {trading_stop.in_words(orders)}",
        *(f"{name}: real money, {words}" for name, words in live),
        *([] if restored is None else [_waits(restored)]),
    ]
    warnings = []
    if pulled is not None:
        warnings = [f"an emergency stop of {pulled.at:%Y-%m-%d %H:%M:%S} lies in the state folder"]
    return Answer(
        data={
            "states": [_described(each, now) for each in halts],
            "orders": orders,
            "live_accounts": dict(live),
            "stop_file": None if pulled is None else pulled.at.isoformat(),
            "restored": None
            if restored is None
            else {"backup": restored.backup, "waits_for": restored.words},
        },
        text="\n".join(lines),
        warnings=warnings,
    )


def _waits(restored: Waiting) -> str:
    waits_for = restored.words or "nothing, it is let go in seconds"
    return f"restored from backup {restored.backup}, waits for: {waits_for}"


@trading.command("halt")
@scoped
@ending
@click.option("--reducing", is_flag=True, help="Still let orders pass that shrink a position.")
@click.option("--reason", default="halted from the command line", help="Kept in the audit log.")
@click.pass_obj
def halt(session: Session, /, reducing: bool, reason: str, **options: Any) -> Answer:
    """Let no further order be sent, of the whole swarm unless told otherwise.

    It holds for orders that were judged but not sent yet, and survives every restart. Orders
    that rest at the venue stay there. Without an end it holds until somebody resumes. What would
    loosen or shorten a halt that holds already is asked about.
    """
    from botswarm.domain.permission import TradingState
    from botswarm.ledger.scopes import doubts

    ledger, scope, until = ledger_of(session), scope_of(options), until_of(options)
    state = TradingState.REDUCING if reducing else TradingState.HALTED
    held = next((each for each in ledger.halts.all() if each.scope == scope), None)
    if held is not None and (loosened := _loosened(held, state, until)) is not None:
        confirm(session, loosened, f"{scope}: {held.state}, {held.reason}")
    warnings = doubts(ledger.database, scope)
    done = ledger.halts.set(
        scope,
        state,
        reason=reason,
        actor=person(),
        now=datetime.now(UTC),
        is_human=True,
        until=until,
    )
    ends = "" if until is None else f" until {until:%Y-%m-%d %H:%M:%S}"
    text = f"{scope}: {done.state}{ends}"
    return Answer(data=_described(done, done.at), text=text, warnings=warnings)


def _loosened(held: Halt, state: TradingState, until: datetime | None) -> str | None:
    """What it would take away from a halt that holds, in words."""
    from botswarm.ledger.halts import STRICTNESS

    now = datetime.now(UTC)
    strictness = STRICTNESS[held.state_at(now)]
    if STRICTNESS[state] < strictness:
        return f"let orders pass that shrink a position of {held.scope}, which is {held.state}"
    ends_earlier = until is not None and (held.until is None or until < held.until)
    if strictness and until is not None and ends_earlier:
        return f"let {held.scope}, which {held.actor} holds, go on at {until:%Y-%m-%d %H:%M:%S}"
    return None


@trading.command("resume")
@scoped
@click.option("--reason", default="resumed from the command line", help="Kept in the audit log.")
@click.pass_obj
def resume(session: Session, /, reason: str, **options: Any) -> Answer:
    """Let orders be sent again. Asks for the word "resume"; scripts confirm with --yes.

    A share of the swarm's bots that was set stays as it is: botswarm trading enable opens it.
    """
    from botswarm.domain.permission import TradingState
    from botswarm.ledger.halts import SWARM
    from botswarm.ledger.scopes import doubts

    ledger, scope = ledger_of(session), scope_of(options)
    have_typed(session, "resume", f"let orders of {scope} be sent again")
    warnings = doubts(ledger.database, scope)
    done = ledger.halts.set(
        scope,
        TradingState.ACTIVE,
        reason=reason,
        actor=person(),
        now=datetime.now(UTC),
        is_human=True,
    )
    text, following = f"{scope}: {done.state}", []
    if scope == SWARM:
        _stop_file(session).lift()
    if done.share is not None:
        text += f", for {done.share} % of its bots; the others only reduce"
        following = ["botswarm trading enable"]
    return Answer(data=_described(done, done.at), text=text, next=following, warnings=warnings)


def person() -> str:
    """Who is asked about it later; by the system's word, which a variable cannot forge."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _state(each: Halt, now: datetime) -> str:
    state = each.state_at(now).value
    return state if each.share is None else f"{state}, {each.share} %"


def _described(each: Halt, now: datetime) -> dict[str, object]:
    return {
        "scope": each.scope,
        "state": each.state_at(now).value,
        "reason": each.reason,
        "actor": each.actor,
        "cause": each.cause.value,
        "at": each.at.isoformat(),
        "until": None if each.until is None else each.until.isoformat(),
        "share": each.share,
    }


def _stop_file(session: Session) -> StopFile:
    from botswarm.trading.stop_file import StopFile

    return StopFile.of(session.settings().state_dir)


trading.add_command(trading_enable.enable)
trading.add_command(trading_arm.arm)
trading.add_command(trading_arm.disarm)
trading.add_command(trading_stop.stop)
trading.add_command(trading_stop.emergency_stop)
trading.add_command(trading_drill.drill)
