"""``botswarm ledger reconcile``: hold accounts against their venues, and accept what differs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.account_choice import configured, opened
from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.failures import NotReconciled
from botswarm.cli.numbers import ROW
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError, TimedOut

if TYPE_CHECKING:
    from botswarm.domain.reconciliation import Difference, Reconciliation
    from botswarm.exchanges.accounts import Account
    from botswarm.ledger.differences import Raised
    from botswarm.ledger.reconciling import AccountStand
    from botswarm.ledger.store import Ledger

HOW = {True: " as paid in or out", False: " as a correction"}
HEADS = ["ID", "ACCOUNT", "KIND", "WHAT", "DIFFERENCE", "SINCE"]


@click.command("reconcile", cls=Command)
@click.option("--account", metavar="VENUE:ACCOUNT", help="Only this one; else all.")
@click.option("--last", is_flag=True, help="Say what stands, and ask no venue.")
@click.option("--accept", type=ROW, metavar="ID", help="End this difference by your word.")
@click.option("--external", is_flag=True, help="With --accept: it was paid in, or out.")
@click.option("--reason", help="Why, with --accept; kept in the audit log.")
@click.pass_obj
def reconcile(
    session: Session,
    account: str | None,
    last: bool,
    accept: int | None,
    external: bool,
    reason: str | None,
) -> Answer:
    """Compare what the ledger says of an account with what its venue says, to the last digit.

    What can be proven is repaired: fills nobody had heard of, orders the venue has lost, and what
    other people do there. The rest stands and stops trading on that account until it is gone, or
    until --accept books it. A difference takes two looks, 15 s apart. Exits with 3 when something
    stands, and with 7 when the account kept moving. May run while the swarm trades.
    """
    if accept is not None:
        if not reason:
            raise click.UsageError("--accept needs a --reason; it is kept in the audit log")
        return _accepted(ledger_of(session), accept, reason, external)
    if reason or external:
        raise click.UsageError("--reason and --external go with --accept")
    ledger = ledger_of(session)
    chosen = _chosen(session, ledger, account)
    done = [] if last else [_compared(session, ledger, each) for each in chosen]
    stands = [
        stand
        for stand in ledger.reconciliations.stands()
        if (stand.venue, stand.account) in {(each.venue, each.name) for each in chosen}
    ]
    data = {"accounts": [_stand(each) for each in stands], "found": [_found(each) for each in done]}
    return Answer(data=data, text=_in_words(stands, done), failure=_failure(stands, done, last))


def _chosen(session: Session, ledger: Ledger, account: str | None) -> Sequence[Account]:
    from botswarm.exchanges.accounts import Account

    if account is None:
        return configured(session.settings(), ledger)
    venue, colon, name = account.partition(":")
    if not (venue and colon and name):
        raise click.UsageError(f"--account is {account!r}; write it as binance:spot")
    return [Account(venue, name)]


def _compared(session: Session, ledger: Ledger, account: Account) -> Reconciliation:
    from botswarm.clock import SystemClock
    from botswarm.exchanges import accounts
    from botswarm.trading.reconcile import reconcile as compare

    settings, clock = session.settings(), SystemClock()
    keys, was_armed = opened(settings, ledger, account), ledger.armings.was_armed
    venue = accounts.trading_venue(settings, clock, account, keys, was_armed)

    def wait(seconds: float) -> None:
        if not session.json:
            click.echo(f"{account} does not agree; looking again in {seconds:g} s", err=True)
        time.sleep(seconds)

    try:
        ledger.books.save_instruments(venue.instruments())
        return compare(ledger.books, ledger.reconciliations, venue, clock, wait)
    finally:
        venue.close()


def _accepted(ledger: Ledger, number: int, reason: str, is_external: bool) -> Answer:
    ended = ledger.reconciliations.accept(
        number, actor=actor(), reason=reason, now=now(), is_external=is_external
    )
    place = f"{ended.venue}:{ended.account}"
    booked = "" if ended.asset is None else f" {_amount(ended)} was booked{HOW[is_external]}."
    return Answer(
        data={"accepted": _amounts_plain(ended), "reason": reason},
        text=f"Accepted: {ended.subject} of {place}.{booked}",
        next=[f"botswarm ledger reconcile --account {place}"],
    )


# --- in words -------------------------------------------------------------------------------------


def _failure(
    stands: Sequence[AccountStand], done: Sequence[Reconciliation], last: bool
) -> BotswarmError | None:
    raised = sum(len(stand.raised) for stand in stands)
    unknown = [f"{stand.venue}:{stand.account}" for stand in stands if not stand.standing.is_clean]
    if raised:
        return NotReconciled(
            f"{raised} difference{'s'[: raised != 1]} stand{'s'[: raised == 1]} between ledger "
            "and venue, and no order passes there",
            cure="find out why (docs/reconciliation.md), then: "
            "botswarm ledger reconcile --accept ID --reason WHY",
        )
    if any(each.undecided for each in done):
        return TimedOut(
            "the account kept moving, so nothing was decided", cure="run it again in a moment"
        )
    if last and unknown:
        return NotReconciled(
            f"nobody has compared {', '.join(unknown)} with its venue yet",
            cure="run: botswarm ledger reconcile",
        )
    return None


def _in_words(stands: Sequence[AccountStand], done: Sequence[Reconciliation]) -> str:
    rows = [
        (
            f"{stand.venue}:{stand.account}",
            "agrees" if stand.standing.is_clean else "does not agree",
            _moment(stand.standing.reconciled_at),
            _moment(stand.standing.opened_at),
        )
        for stand in stands
    ]
    parts = [in_columns(["ACCOUNT", "WITH ITS VENUE", "COMPARED", "OPENED"], rows)]
    facts = [each for one in done for each in one.differences if each.fate.value != "raised"]
    if facts:
        told = [(each.fate.value, each.kind.value, each.subject, each.words) for each in facts]
        parts.append(in_columns(["DONE", "KIND", "WHAT", ""], told))
    moving = [each for one in done for each in one.undecided]
    if moving:
        parts.append(in_columns(["MOVING", ""], [(each.subject, each.words) for each in moving]))
    raised = [each for stand in stands for each in stand.raised]
    if raised:
        parts.append(in_columns(HEADS, [_row(each) for each in raised]))
    return "\n\n".join(parts)


def _row(each: Raised) -> tuple[object, ...]:
    place = f"{each.venue}:{each.account}"
    return each.id, place, each.kind, each.subject, each.words, _moment(each.first_at)


def _moment(at: Any) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _amount(each: Raised) -> str:
    return "" if each.amount is None else f"{each.amount:f} {each.asset}"


def _stand(stand: AccountStand) -> dict[str, object]:
    standing = stand.standing
    return {
        "account": f"{stand.venue}:{stand.account}",
        "clean": standing.is_clean,
        "reconciled_at": standing.reconciled_at,
        "opened_at": standing.opened_at,
        "last": stand.last,
        "raised": [_amounts_plain(each) for each in stand.raised],
    }


def _found(done: Reconciliation) -> dict[str, object]:
    return {
        "account": f"{done.venue}:{done.account}",
        "at": done.at,
        "agrees": done.agrees,
        "counts": dict(done.counts),
        "differences": [_amounts_plain(each) for each in done.differences],
        "undecided": [_amounts_plain(each) for each in done.undecided],
    }


def _amounts_plain(each: Raised | Difference) -> dict[str, object]:
    return asdict(each) | {"amount": None if each.amount is None else f"{each.amount:f}"}
