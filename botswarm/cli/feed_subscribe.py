"""Ask the feed for further streams while it runs, and no more for those."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import click

from botswarm.cli.command import Command
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.trading import person
from botswarm.clock import SystemClock
from botswarm.domain.market import Channel
from botswarm.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from botswarm.ledger.subscriptions import Subscription, Subscriptions

CHANNELS = get_args(Channel)
FORM = re.compile(r"[^\s/:@,.#*-]{1,20}-[^\s/:@,.#*-]{1,20}")
_venue = click.option("--venue", metavar="NAME", help="By default the one that orders go to.")


@click.command(cls=Command)
@_venue
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice(CHANNELS),
    help="Trades and quotes always come along.",
)
@click.argument("markets", nargs=-1, metavar="[BASE-QUOTE]...")
@click.pass_obj
def subscribe(
    session: Session, venue: str | None, channels: tuple[str, ...], markets: tuple[str, ...]
) -> Answer:
    """Let the feed follow these markets from now on; without any, list what was asked for.

    It is kept in the ledger and followed by every feed of the venue within seconds, also after a
    restart. No other stream notices. Markets of running bots and those of BOTSWARM_FEED_MARKETS
    are followed anyway.
    """
    symbols = [market.upper() for market in markets]
    if odd := [symbol for symbol in symbols if not FORM.fullmatch(symbol)]:
        # A venue that cannot be asked just now would have any text kept as its market.
        raise click.UsageError(f"{odd[0][:50]!r} is no market: write BASE-QUOTE, such as BTC-USDT")
    kept, name = _subscriptions(session), _name(session, venue)
    if not markets:
        return _listed(kept.all(venue))
    _check(session, name, symbols)
    new = kept.add(
        name,
        symbols,
        channels or ("trade", "quote"),
        now=SystemClock().now(),
        actor=person(),
    )
    return Answer(
        data={"venue": name, "markets": symbols, "new": new},
        text=f"{name}: {new} new; the feed follows within a few seconds",
        next=["botswarm feed status"],
    )


@click.command(cls=Command)
@_venue
@click.option(
    "--channel", "channels", multiple=True, type=click.Choice(CHANNELS), help="Only these."
)
@click.argument("markets", nargs=-1, required=True, metavar="BASE-QUOTE...")
@click.pass_obj
def unsubscribe(
    session: Session, venue: str | None, channels: tuple[str, ...], markets: tuple[str, ...]
) -> Answer:
    """Let the feed no longer follow these markets, unless a bot or a setting needs them."""
    name = _name(session, venue)
    symbols = [market.upper() for market in markets]
    gone = _subscriptions(session).remove(name, symbols, channels or None)
    if not gone:
        raise NotFound(
            f"nobody asked for {', '.join(symbols)} of {name}",
            cure="see what was asked for: botswarm feed subscribe",
        )
    return Answer(
        data={"venue": name, "markets": symbols, "gone": gone},
        text=f"{name}: {gone} fewer; the feed follows within a few seconds",
    )


def _listed(found: Sequence[Subscription]) -> Answer:
    rows = [
        (each.venue, each.symbol, each.channel, f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor)
        for each in found
    ]
    data = [
        dict(zip(("venue", "symbol", "channel", "at", "actor"), row, strict=True)) for row in rows
    ]
    return Answer(data=data, text=in_columns(["VENUE", "MARKET", "CHANNEL", "SINCE", "BY"], rows))


def _name(session: Session, venue: str | None) -> str:
    from botswarm.exchanges.registry import venue_name, venues

    if venue is not None and venue not in venues():
        raise NotFound(
            f"there is no venue {venue!r}", cure=f"name one of these: {', '.join(venues())}"
        )
    return venue or venue_name(session.settings())


def _check(session: Session, venue: str, symbols: list[str]) -> None:
    """The ledger knows the markets that the feed was told of; the venue may have new ones."""
    from botswarm.exchanges.registry import market_data
    from botswarm.ledger.books import LedgerBooks
    from botswarm.ledger.session import Database

    settings = session.settings()
    books = LedgerBooks(Database(settings.database_url))
    unknown = set(symbols) - {each.symbol for each in books.instruments(venue)}
    if not unknown:
        return
    try:
        unknown -= {each.symbol for each in market_data(settings, venue).instruments()}
    except Unreachable as error:
        session.warnings.append(f"nobody could be asked whether {venue} has them: {error.cause}")
        return
    if unknown:
        raise NotFound(
            f"{venue} has no market {', '.join(sorted(unknown))}",
            cure="write it as BASE-QUOTE: BTC-USDT",
        )


def _subscriptions(session: Session) -> Subscriptions:
    from botswarm.ledger.session import Database
    from botswarm.ledger.subscriptions import Subscriptions

    return Subscriptions(Database(session.settings().database_url))
