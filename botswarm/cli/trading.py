"""Stop and resume trading: of the swarm, or of one account, bot or market."""

from __future__ import annotations

import os
import pwd
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from botswarm.cli import trading_arm
from botswarm.cli.command import Group
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.domain.permission import TradingState
    from botswarm.ledger.halts import Halt, Halts


@click.group(cls=Group)
def trading() -> None:
    """See whether orders may be sent, halt them, and let them go on."""


@trading.command("status")
@click.pass_obj
def show_status(session: Session) -> Answer:
    """Print what holds for the swarm, and for whatever something else was said about.

    The strictest that applies to an order wins. What is not listed is active.
    """
    halts = _halts(session).all()
    rows = [
        (each.scope, each.state.value, f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor, each.reason)
        for each in halts
    ]
    return Answer(
        data=[_described(each) for each in halts],
        text=in_columns(["SCOPE", "STATE", "SINCE", "BY", "REASON"], rows),
    )


@trading.command("halt")
@click.option("--bot", metavar="NAME", help="Of this bot only.")
@click.option("--market", metavar="VENUE:SYMBOL", help="In this market only.")
@click.option("--account", metavar="VENUE:ACCOUNT", help="Of this account only.")
@click.option("--reducing", is_flag=True, help="Still let orders pass that shrink a position.")
@click.option("--reason", default="halted from the command line", help="Kept in the audit log.")
@click.pass_obj
def halt(
    session: Session,
    bot: str | None,
    market: str | None,
    account: str | None,
    reducing: bool,
    reason: str,
) -> Answer:
    """Let no further order be sent, of the whole swarm unless told otherwise.

    It holds for orders that were judged but not sent yet, and survives every restart. Orders
    that rest at the venue stay there.
    """
    from botswarm.domain.permission import TradingState

    state = TradingState.REDUCING if reducing else TradingState.HALTED
    return _set(session, _scope(bot, market, account), state, reason)


@trading.command("resume")
@click.option("--bot", metavar="NAME", help="Of this bot only.")
@click.option("--market", metavar="VENUE:SYMBOL", help="In this market only.")
@click.option("--account", metavar="VENUE:ACCOUNT", help="Of this account only.")
@click.option("--reason", default="resumed from the command line", help="Kept in the audit log.")
@click.pass_obj
def resume(
    session: Session, bot: str | None, market: str | None, account: str | None, reason: str
) -> Answer:
    """Let orders be sent again. Asks for the word "resume"; scripts confirm with --yes."""
    from botswarm.domain.permission import TradingState

    scope = _scope(bot, market, account)
    _confirm(session, scope)
    return _set(session, scope, TradingState.ACTIVE, reason)


def _set(session: Session, scope: str, state: TradingState, reason: str) -> Answer:
    done = _halts(session).set(
        scope,
        state,
        reason=reason,
        actor=person(),
        now=datetime.now(UTC),
        is_human=True,
    )
    return Answer(data=_described(done), text=f"{scope}: {state}")


def _scope(bot: str | None, market: str | None, account: str | None) -> str:
    from botswarm.ledger import halts

    if sum(each is not None for each in (bot, market, account)) > 1:
        raise click.UsageError("name one of --bot, --market and --account")
    if bot is not None:
        return halts.bot_scope(bot)
    if market is not None:
        venue, symbol = _pair(market, "--market", "simulated:BTC-USDT")
        return halts.market_scope(venue, symbol.upper())
    if account is not None:
        return halts.account_scope(*_pair(account, "--account", "simulated:paper"))
    return halts.SWARM


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    venue, colon, name = text.partition(":")
    if not (venue and colon and name):
        raise click.UsageError(f"{option} is {text!r}; write it as {example}")
    return venue, name


def _confirm(session: Session, scope: str) -> None:
    if session.yes:
        return
    if session.no_input or session.json or not sys.stdin.isatty():
        raise NotConfirmed(
            f"this would let orders of {scope} be sent again, and nobody confirmed it",
            cure="if that is meant, add --yes",
        )
    question = f"Orders of {scope} would be sent again. Type resume to go on"
    if click.prompt(question, default="", show_default=False, err=True) != "resume":
        raise NotConfirmed("the word was not typed: nothing was done", cure="type it, or --yes")


def person() -> str:
    """Who is asked about it later; by the system's word, which a variable cannot forge."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _described(each: Halt) -> dict[str, object]:
    return {
        "scope": each.scope,
        "state": each.state.value,
        "reason": each.reason,
        "actor": each.actor,
        "at": each.at.isoformat(),
    }


def _halts(session: Session) -> Halts:
    from botswarm.ledger.store import Ledger

    return Ledger(session.settings().database_url).halts


trading.add_command(trading_arm.arm)
trading.add_command(trading_arm.disarm)
