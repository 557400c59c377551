"""``botswarm order place``: a person's order, through the same gate and executor as any bot's."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.account_choice import configured
from botswarm.cli.bot_choice import ledger_of, now
from botswarm.cli.command import Command
from botswarm.cli.order_wait import is_known, late, refusal, wait_for, wait_option
from botswarm.cli.order_words import account_of, in_a_line, order_data, pair_of
from botswarm.cli.ringing import ring
from botswarm.cli.session import Answer, Session
from botswarm.errors import NotFound
from botswarm.ledger.bot import MANUAL

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.order import Order, OrderKind
    from botswarm.exchanges.accounts import Account
    from botswarm.ledger.store import Ledger


class Amount(click.ParamType[Decimal]):
    name = "AMOUNT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        try:
            found = Decimal(str(value))
        except InvalidOperation:
            found = Decimal("NaN")
        if not str(value).isascii() or not found.is_finite() or found <= 0:
            self.fail(f"{value!r} is no amount: write a number above zero", param, ctx)
        return found


@click.command("place", cls=Command)
@click.argument("market", metavar="MARKET")
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("quantity", type=Amount())
@click.option("--limit", type=Amount(), metavar="PRICE", help="At this price or better.")
@click.option("--stop", type=Amount(), metavar="PRICE", help="Once the market has come to it.")
@click.option("--tif", type=click.Choice(["gtc", "ioc", "fok"]), help="How long it may rest.")
@click.option("--post-only", is_flag=True, help="Rather refused than filled at once.")
@click.option("--reduce-only", is_flag=True, help="Refused where it would not shrink a position.")
@click.option("--replaces", metavar="ID", help="Cancel this order of yours, and go in its place.")
@click.option("--account", metavar="VENUE:ACCOUNT", help="Another than the venue's usual one.")
@click.option("--bot", default=MANUAL, show_default=True, metavar="NAME", help="For whom.")
@wait_option("Wait until it is known what became of it")
@click.pass_obj
def place(
    session: Session,
    market: str,
    side: str,
    quantity: Decimal,
    limit: Decimal | None,
    stop: Decimal | None,
    tif: str | None,
    post_only: bool,
    reduce_only: bool,
    replaces: str | None,
    account: str | None,
    bot: str,
    wait_s: float | None,
) -> Answer:
    """Place an order by hand; MARKET is VENUE:SYMBOL, or a symbol of the usual venue.

    It is written into the ledger and goes the way of every bot's order: gate, signed attempt,
    venue. Without --limit and --stop it is a market order.
    """
    from botswarm.domain.order import Side

    settings = session.settings()
    ledger = ledger_of(session)
    where, symbol = _where(settings, ledger, market, account)
    ledger.books.instrument(where.venue, symbol)  # a name that is wrong is said at once
    kind = _kind(limit, stop, post_only)
    order = _order(
        settings,
        where,
        symbol,
        Side(side),
        kind,
        quantity,
        limit_price=limit,
        stop_price=stop,
        time_in_force=_time_in_force(kind, tif),
        bot=bot,
        is_reduce_only=reduce_only,
        replaces=None if replaces is None else ledger.orders.get(replaces).id,
    )
    ledger.orders.add(order, now())
    warnings = ring(session, ledger, [order.id, order.replaces or order.id])
    following = [f"botswarm order show {order.id}"]
    if wait_s is None:
        text = f"{in_a_line(order)}: {order.id}"
        return Answer(data=order_data(order), text=text, warnings=warnings, next=following)
    (known,) = wait_for(ledger, [order.id], is_known, wait_s)
    return Answer(
        data=order_data(known),
        text=f"{in_a_line(known)} is {known.state}: {known.id}",
        warnings=warnings,
        next=following,
        failure=late([known], is_known, wait_s) or refusal(known),
    )


def _where(
    settings: Settings, ledger: Ledger, market: str, account: str | None
) -> tuple[Account, str]:
    from botswarm.exchanges import accounts
    from botswarm.exchanges.accounts import Account

    usual = accounts.default_account(settings)
    if ":" in market:
        venue, symbol = pair_of(market, "MARKET", "simulated:BTC-USDT")
    else:
        venue, symbol = usual.venue, market
    symbol = symbol.upper()
    named_venue, name = account_of(account)
    if named_venue is not None and name is not None:
        if named_venue != venue:
            raise click.UsageError(f"{market} is a market of {venue}, not of {named_venue}")
        return Account(venue, name), symbol
    if venue == usual.venue:
        return usual, symbol
    known = [each for each in configured(settings, ledger) if each.venue == venue]
    if len(known) != 1:
        raise NotFound(
            f"{venue} has {len(known) or 'no'} accounts here", cure="name one with --account"
        )
    return known[0], symbol


def _kind(limit: Decimal | None, stop: Decimal | None, post_only: bool) -> OrderKind:
    from botswarm.domain.order import OrderKind

    if post_only and (limit is None or stop is not None):
        raise click.UsageError("--post-only is for orders with --limit, and without --stop")
    if stop is not None:
        return OrderKind.STOP if limit is None else OrderKind.STOP_LIMIT
    if limit is None:
        return OrderKind.MARKET
    return OrderKind.POST_ONLY if post_only else OrderKind.LIMIT


def _time_in_force(kind: OrderKind, tif: str | None) -> Any:
    from botswarm.domain.order import OrderKind, TimeInForce

    if tif is None:
        return TimeInForce.GTC
    if not kind.has_limit or (kind is OrderKind.POST_ONLY and tif != "gtc"):
        raise click.UsageError(f"--tif {tif} is for orders with --limit, and without --post-only")
    return TimeInForce(tif)


def _order(
    settings: Settings,
    where: Account,
    symbol: str,
    side: Any,
    kind: OrderKind,
    quantity: Decimal,
    **given: Any,
) -> Order:
    from botswarm.domain.order import Order, OrderState

    began = now()
    return Order(
        id=str(uuid.uuid4()),
        venue=where.venue,
        account=where.name,
        symbol=symbol,
        side=side,
        kind=kind,
        quantity=quantity,
        reference_price=given["limit_price"] or last_price(settings, where.venue, symbol),
        state=OrderState.READY,
        created_at=began,
        signal_expires_at=began + timedelta(seconds=settings.limit_signal_age_max_s),
        **given,
    )


def last_price(settings: Settings, venue: str, symbol: str) -> Decimal:
    """Of the market's last trade; what a market order is judged by."""
    from botswarm.exchanges.registry import market_data

    try:
        prices = market_data(settings, venue)
    except NotFound as error:
        raise NotFound(f"nobody here follows the prices of {venue}", cure="give --limit") from error
    trades = prices.latest_trades(symbol, limit=1)
    if not trades:
        raise NotFound(
            f"{venue} tells no trade of {symbol}", cure="check the name, or give --limit"
        )
    return trades[-1].price
