"""``trading arm|disarm``: accounts of real money are off until a person says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from botswarm.cli.bot_choice import actor, now
from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.typed import have_typed

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.ledger.armings import Arming
    from botswarm.ledger.store import Ledger

named = click.argument("account", metavar="VENUE:NAME")


@click.command("arm", cls=Command)
@named
@click.option("--reason", required=True, help="Who asks for it, and why now.")
@click.option(
    "--for", "hours", type=click.IntRange(1, 8760), metavar="HOURS", help="Then it ends by itself."
)
@click.pass_obj
def arm(session: Session, account: str, reason: str, hours: int | None) -> Answer:
    """Let orders of real money be sent from an account. Asks for its name; scripts say --yes.

    Without this no order leaves for it, and no address of real money is even spoken to. Bots of
    such an account are armed one by one besides: botswarm bot arm. Accounts on paper, testnets
    and sandboxes need none of it.
    """
    settings, (venue, name) = session.settings(), _place(account)
    if not _is_live(settings, venue, name):
        text = f"{account} is no real money: it needs no arming."
        return Answer(data={"account": account, "is_needed": False}, text=text)
    _check_takes_orders(venue)
    have_typed(session, account, f"let orders of {account} move real money")
    at = now()
    until = None if hours is None else at + timedelta(hours=hours)
    said = _ledger(settings).armings.arm(
        venue, name, actor=actor(), reason=reason, now=at, until=until
    )
    words = f"until {said.until:%Y-%m-%d %H:%M}Z" if said.until else "until somebody disarms it"
    return Answer(
        data={**described(said, at), "is_needed": True},
        text=f"{account} is armed for real money {words}.",
        next=[f"botswarm account test {account}", "botswarm bot arm NAME --reason WHY"],
    )


@click.command("disarm", cls=Command)
@named
@click.option("--reason", default="disarmed from the command line", help="Kept in the audit log.")
@click.pass_obj
def disarm(session: Session, account: str, reason: str) -> Answer:
    """Take that back at once: from now on only what shrinks a position leaves, and cancels."""
    # Never asked: whoever wants real money left alone gets it at once.
    settings, (venue, name) = session.settings(), _place(account)
    said = _ledger(settings).armings.disarm(venue, name, actor=actor(), reason=reason, now=now())
    if said is None:
        return Answer(
            data={"account": account, "is_armed": False}, text=f"{account} was never armed."
        )
    return Answer(data=described(said, now()), text=f"{account} is not armed any more.")


def in_words(said: Arming | None, at: datetime) -> str:
    if said is None:
        return "not armed"
    if not said.is_armed(at):
        return f"not armed since {said.until:%Y-%m-%d %H:%M}Z"
    until = f", until {said.until:%Y-%m-%d %H:%M}Z" if said.until else ""
    return f"armed since {said.at:%Y-%m-%d %H:%M}Z by {said.by}{until}"


def described(said: Arming, at: datetime) -> dict[str, object]:
    return {
        "account": f"{said.venue}:{said.account}",
        "is_armed": said.is_armed(at),
        "since": said.at.isoformat(),
        "until": said.until and said.until.isoformat(),
        "by": said.by,
    }


def live_accounts(settings: Settings, ledger: Ledger, at: datetime) -> Sequence[tuple[str, str]]:
    """Those of real money, with what was said of each."""
    from botswarm.cli.account_choice import configured

    said = {(each.venue, each.account): each for each in ledger.armings.all()}
    places = {(each.venue, each.name) for each in configured(settings, ledger)} | said.keys()
    return [
        (f"{venue}:{name}", in_words(said.get((venue, name)), at))
        for venue, name in sorted(places)
        if _is_live(settings, venue, name)
    ]


def _is_live(settings: Settings, venue: str, name: str) -> bool:
    from botswarm.exchanges.registry import is_live

    return is_live(settings, venue, name)


def _check_takes_orders(venue: str) -> None:
    from botswarm.exchanges.accounts import check_takes_orders

    check_takes_orders(venue)


def _place(text: str) -> tuple[str, str]:
    venue, colon, name = text.partition(":")
    if not (venue and colon and name):
        raise click.UsageError(f"{text!r} is no account; write it as binance:spot")
    return venue, name


def _ledger(settings: Settings) -> Ledger:
    from botswarm.ledger.store import Ledger

    return Ledger(settings.database_url)
