"""Trades: every fill that was booked, to look at and to take elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.account_choice import kinds
from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Group
from botswarm.cli.exporting import export, export_options
from botswarm.cli.moments import MOMENT
from botswarm.cli.order_words import account_of, fill_data, market_of
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain

if TYPE_CHECKING:
    from botswarm.ledger.trades import Traded, Wanted

LIST_MAX = 10_000
COLUMNS = (
    *("at", "venue", "account", "symbol", "trade_id", "bot", "order_id", "client_order_id"),
    *("side", "price", "quantity", "notional", "commission", "commission_asset"),
    *("is_external", "booked_at", "account_kind"),
)


@click.group(cls=Group)
def trade() -> None:
    """List trades, and export them for accounts, taxes and spreadsheets."""


def _choosing(function: Any) -> Any:
    for option in (
        click.option("--until", type=MOMENT, help="Traded before then."),
        click.option("--since", type=MOMENT, help="Traded then or later."),
        click.option("--account", metavar="VENUE:ACCOUNT", help="Only of this account."),
        click.option("--market", metavar="VENUE:SYMBOL", help="Only in this market."),
        click.option("--bot", metavar="NAME", help="Only of this bot."),
    ):
        function = option(function)
    return function


@trade.command("list")
@_choosing
@click.option(
    "--limit",
    type=click.IntRange(1, LIST_MAX),
    default=50,
    show_default=True,
    help="At most so many, the latest first.",
)
@click.pass_obj
def list_trades(session: Session, /, limit: int, **options: Any) -> Answer:
    """List the latest trades, those first that were booked last.

    Trades of orders that are not ours are external: they are kept, and belong to no bot.
    """
    found = ledger_of(session).trades.latest(_wanted(**options), limit)
    kind_of = kinds(session.settings())
    rows = [
        (
            f"{each.fill.at:%Y-%m-%d %H:%M:%S}",
            each.bot or "(external)",
            kind_of(each.fill.venue, each.account),
            f"{each.fill.venue}:{each.fill.symbol}",
            each.fill.side.value,
            plain(each.fill.quantity),
            plain(each.fill.price),
            f"{plain(each.fill.commission)} {each.fill.commission_asset}",
            each.fill.trade_id,
            each.order_id,
        )
        for each in found
    ]
    heads = [
        "AT",
        "BOT",
        "KIND",
        "MARKET",
        "SIDE",
        "QUANTITY",
        "PRICE",
        "COMMISSION",
        "TRADE",
        "ORDER",
    ]
    text = in_columns(heads, rows) if rows else "No trades."
    return Answer(data=[_data(each, kind_of) for each in found], text=text)


@trade.command("export")
@_choosing
@export_options
@click.pass_obj
def export_trades(
    session: Session, /, form: str, out: Path | None, **options: Any
) -> Answer | None:
    """Write every trade that fits, in the order of booking, to its last digit."""
    found = ledger_of(session).trades.all(_wanted(**options))
    kind_of = kinds(session.settings())
    return export((_data(each, kind_of) for each in found), COLUMNS, form, out)


def _wanted(
    bot: str | None,
    market: str | None,
    account: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Wanted:
    from botswarm.ledger.trades import Wanted

    venue, symbol = market_of(market)
    other, name = account_of(account)
    return Wanted(
        bot=bot, venue=venue or other, account=name, symbol=symbol, since=since, until=until
    )


def _data(each: Traded, kind_of: Callable[[str, str], str]) -> dict[str, object]:
    fill = each.fill
    return {
        **fill_data(fill),
        "venue": fill.venue,
        "account": each.account,
        "account_kind": kind_of(fill.venue, each.account),
        "symbol": fill.symbol,
        "side": fill.side.value,
        "notional": f"{fill.notional:f}",
        "bot": each.bot,
        "order_id": each.order_id,
        "client_order_id": fill.client_order_id,
        "is_external": each.bot is None,
        "booked_at": each.booked_at.isoformat(),
    }
