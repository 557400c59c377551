"""Accounts at venues: their keys go in and never come out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from botswarm.cli import account_keys
from botswarm.cli.account_limits import limits
from botswarm.cli.command import Group
from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.trading_arm import live_accounts
from botswarm.domain.amount import plain
from botswarm.errors import NotFound, Refused

if TYPE_CHECKING:
    from botswarm.cli.account_test import Tested
    from botswarm.config import Settings
    from botswarm.exchanges.accounts import Account
    from botswarm.exchanges.base import TradingVenue
    from botswarm.exchanges.registry import AccountKind
    from botswarm.keys.ring import ApiKeys, KeyRing
    from botswarm.ledger.exchange_keys import KeptKey
    from botswarm.ledger.store import Ledger

KINDS = ("paper", "testnet", "live")
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")

named = click.argument("account", metavar="VENUE:NAME")
from_file = click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    help=f"Where the key is, as {account_keys.SHAPE} or as Coinbase gives it out; - is a pipe.",
)
passphrase = click.option(
    "--passphrase", "with_passphrase", is_flag=True, help="Ask for a passphrase, too."
)
no_test = click.option("--no-test", is_flag=True, help="Do not ask the venue about it.")


@click.group(cls=Group)
def account() -> None:
    """Keep exchange keys, test them, and see balances."""


account.add_command(limits)


@account.command("add")
@named
@click.option("--kind", type=click.Choice(KINDS), required=True, help="Whose money it is.")
@from_file
@passphrase
@no_test
@click.pass_obj
def add(
    session: Session,
    account: str,
    kind: str,
    from_file: Path | None,
    with_passphrase: bool,
    no_test: bool,
) -> Answer:
    """Keep the key of an account, sealed; asked for without echo, from a file or from a pipe.

    The venue is asked first what the key may do: one that may withdraw is refused.
    """
    place = _place(account)
    _check_has_keys(place)
    keys = account_keys.read(session, from_file, with_passphrase=with_passphrase)
    with _opened(session) as (settings, ledger, ring):
        tested = None if no_test else _test(settings, ledger, place, keys)
        if tested is not None and tested.objection is not None:
            raise tested.objection
        now = datetime.now(UTC)
        kept = ring.add(place.venue, place.name, kind, keys, now=now, actor=_person())
        _note(ledger, place, tested, now)
    return Answer(data=_described(kept, tested), text=f"The key of {place} is kept.")


@account.command("rotate")
@named
@from_file
@passphrase
@no_test
@click.pass_obj
def rotate(
    session: Session,
    account: str,
    from_file: Path | None,
    with_passphrase: bool,
    no_test: bool,
) -> Answer:
    """Put another key in the place of an account's, and test it before.

    Order workers that run take it when they start the next time; revoke the old one after that.
    """
    place = _place(account)
    keys = account_keys.read(session, from_file, with_passphrase=with_passphrase)
    with _opened(session) as (settings, ledger, ring):
        ledger.exchange_keys.get(place.venue, place.name)
        tested = None if no_test else _test(settings, ledger, place, keys)
        if tested is not None and tested.objection is not None:
            raise tested.objection
        now = datetime.now(UTC)
        kept = ring.rotate(place.venue, place.name, keys, now=now, actor=_person())
        _note(ledger, place, tested, now)
    text = f"The key of {place} is now number {kept.version}."
    following = ["restart the order workers, then revoke the old key at the venue"]
    return Answer(data=_described(kept, tested), text=text, next=following)


@account.command("list")
@click.pass_obj
def list_accounts(session: Session) -> Answer:
    """List the accounts: whose money, where their keys come from, what their last test said."""
    from botswarm.exchanges.accounts import Account, accounts
    from botswarm.exchanges.registry import account_kind

    with _opened(session) as (settings, ledger, ring):
        kept = {Account(each.venue, each.account): each for each in ring.kept()}
        found = accounts(settings, kept)
        kinds = {each: account_kind(settings, each.venue, each.name) for each in found}
        armed = dict(live_accounts(settings, ledger, datetime.now(UTC)))
    data, rows = [], []
    for each in found:
        said = armed.get(str(each))
        data.append({**_listed(each, kinds[each], kept.get(each)), "armed": said})
        rows.append((*_row(each, kinds[each], kept.get(each)), said or "-"))
    heads = ["ACCOUNT", "KIND", "KEY", "SINCE", "LAST TEST", "REAL MONEY"]
    return Answer(data=data, text=in_columns(heads, rows))


@account.command("test")
@named
@click.pass_obj
def test_account(session: Session, account: str) -> Answer:
    """Ask the venue what an account's key may do, what time it is, and what is there.

    Exit 6 for a key that may withdraw or may not trade, 3 where the clocks are too far apart.
    """
    place = _place(account)
    with _opened(session) as (settings, ledger, ring):
        keys = ring.find(place.venue, place.name)
        tested = _test(settings, ledger, place, keys, must_know=False)
        _note(ledger, place, tested, datetime.now(UTC))
    return Answer(
        data=tested.data(), text=in_columns(["", ""], tested.words()), failure=tested.objection
    )


@account.command("balance")
@named
@click.pass_obj
def balance(session: Session, account: str) -> Answer:
    """Show what an account has by the venue's word, and what by the ledger."""
    place = _place(account)
    with _opened(session) as (settings, ledger, ring):
        with _venue(settings, ledger, place, ring.find(place.venue, place.name)) as venue:
            theirs = venue.balances()
        reckoned = ledger.reconciliations.reckon(place.venue, place.name, datetime.now(UTC))
        ours = reckoned.balances
    assets = sorted({*theirs, *ours})
    data = [
        {
            "asset": asset,
            "venue": f"{theirs[asset]:f}" if asset in theirs else None,
            "ledger": f"{ours[asset]:f}" if asset in ours else None,
        }
        for asset in assets
    ]
    rows = [
        (
            asset,
            plain(theirs[asset]) if asset in theirs else "-",
            plain(ours[asset]) if asset in ours else "-",
        )
        for asset in assets
    ]
    heads = ["ASSET", "AT THE VENUE", "BY THE LEDGER"]
    return Answer(data=data, text=in_columns(heads, rows) if rows else "Nothing is there.")


@account.command("remove")
@named
@click.option("--reason", default="removed from the command line", help="Kept in the audit log.")
@click.pass_obj
def remove(session: Session, account: str, reason: str) -> Answer:
    """Forget the key of an account. Its orders and fills stay in the ledger.

    Refused while an order of it is open. Revoke the key at the venue, too.
    """
    place = _place(account)
    with _opened(session) as (_, ledger, _):
        ledger.exchange_keys.get(place.venue, place.name)
        if not session.yes:
            raise NotConfirmed(
                f"this would forget the key of {place}, and nobody confirmed it",
                cure="if that is meant, add --yes",
            )
        now = datetime.now(UTC)
        ledger.exchange_keys.remove(
            place.venue, place.name, now=now, actor=_person(), reason=reason
        )
    return Answer(data={"account": str(place)}, text=f"The key of {place} is forgotten.")


# --- what they have in common ---------------------------------------------------------------------


@contextmanager
def _opened(session: Session) -> Iterator[tuple[Settings, Ledger, KeyRing]]:
    from botswarm.keys.ring import KeyRing
    from botswarm.ledger.store import Ledger

    settings = session.settings()
    ledger = Ledger(settings.database_url)
    try:
        yield settings, ledger, KeyRing(settings, ledger.exchange_keys)
    finally:
        ledger.close()


def _place(text: str) -> Account:
    from botswarm.exchanges.accounts import (
        Account,
        check_takes_orders,
        is_at_prices_of_another,
    )

    venue, colon, name = text.partition(":")
    if not (colon and NAME.fullmatch(name)):
        raise click.UsageError(f"{text!r} is no account; write it as binance:spot")
    place = Account(venue, name)
    if not is_at_prices_of_another(place):
        check_takes_orders(venue)
    return place


def _check_has_keys(place: Account) -> None:
    from botswarm.exchanges.accounts import is_at_prices_of_another

    if is_at_prices_of_another(place):
        raise Refused(
            f"{place} trades on paper, without keys: the name is kept for that",
            cure=f"choose another name; or start it: botswarm run paper --venue {place.venue}",
        )


@contextmanager
def _venue(
    settings: Settings, ledger: Ledger, place: Account, keys: ApiKeys | None
) -> Iterator[TradingVenue]:
    from botswarm.clock import SystemClock
    from botswarm.exchanges.accounts import trading_venue

    venue = trading_venue(settings, SystemClock(), place, keys, ledger.armings.was_armed)
    try:
        yield venue
    finally:
        venue.close()


def _test(
    settings: Settings,
    ledger: Ledger,
    place: Account,
    keys: ApiKeys | None,
    *,
    must_know: bool = True,
) -> Tested:
    from botswarm.cli.account_test import ask
    from botswarm.clock import SystemClock

    with _venue(settings, ledger, place, keys) as venue:
        return ask(venue, SystemClock(), must_know=must_know)


def _note(ledger: Ledger, place: Account, tested: Tested | None, now: datetime) -> None:
    if tested is None:
        return
    said = tested.summary() | {"objection": tested.objection and tested.objection.cause}
    # One of the settings has no row to write it into.
    with contextlib.suppress(NotFound):
        ledger.exchange_keys.note_test(place.venue, place.name, said, now)


def _described(kept: KeptKey, tested: Tested | None) -> dict[str, object]:
    said = {"account": f"{kept.venue}:{kept.account}", "kind": kept.kind, "version": kept.version}
    return {**said, "test": None if tested is None else tested.data()}


def _listed(place: Account, kind: AccountKind, kept: KeptKey | None) -> dict[str, object]:
    if kept is None:
        return {"account": str(place), "from": "settings", "kind": kind.value}
    return {
        "account": str(place),
        "from": "ledger",
        "kind": kept.kind,
        "version": kept.version,
        "created_at": kept.created_at.isoformat(),
        "changed_at": kept.changed_at.isoformat(),
        "tested_at": kept.tested_at and kept.tested_at.isoformat(),
        "test": kept.test,
        "master_id": kept.envelope.master_id,
    }


def _row(place: Account, kind: AccountKind, kept: KeptKey | None) -> tuple[str, ...]:
    if kept is None:
        return str(place), kind.value, "of the settings", "-", "-"
    test = "never"
    if kept.tested_at is not None:
        objection = (kept.test or {}).get("objection")
        test = f"{kept.tested_at:%Y-%m-%d %H:%M}: {objection or 'well'}"
    return str(place), kept.kind, f"no. {kept.version}", f"{kept.changed_at:%Y-%m-%d}", test


def _person() -> str:
    from botswarm.cli.trading import person

    return person()
