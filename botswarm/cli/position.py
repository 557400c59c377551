"""Positions: what each bot holds, and the orders that close it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.account_choice import kinds
from botswarm.cli.bot_choice import actor, ledger_of, now
from botswarm.cli.command import Group
from botswarm.cli.order_cancel import confirm
from botswarm.cli.order_place import last_price
from botswarm.cli.order_wait import is_known, is_over, late, refusal, wait_for, wait_option
from botswarm.cli.order_words import account_of, in_a_line, market_of, order_data
from botswarm.cli.ringing import ring, ring_these
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.domain.amount import plain
from botswarm.errors import BotswarmError, NotFound

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.order import Order
    from botswarm.ledger.orders import Held
    from botswarm.ledger.store import Ledger

CANCEL_WAIT_S = 30.0


@click.group(cls=Group)
def position() -> None:
    """List what the bots hold, and close it."""


def _choosing(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--account", metavar="VENUE:ACCOUNT", help="Only of this account."),
        click.option("--market", metavar="VENUE:SYMBOL", help="Only in this market."),
        click.option("--bot", metavar="NAME", help="Only of this bot."),
    ):
        function = option(function)
    return function


@position.command("list")
@_choosing
@click.option("--flat", "is_flat", is_flag=True, help="Those that hold nothing, too.")
@click.pass_obj
def list_positions(session: Session, /, is_flat: bool, **options: Any) -> Answer:
    """List what each bot holds, what it paid on average, and what it has earned so far.

    A position is the fold of all fills of a bot in a market, commissions taken off.
    """
    found = _held(ledger_of(session), is_flat=is_flat, **options)
    kind_of = kinds(session.settings())
    rows = [
        (
            each.bot,
            f"{each.venue}:{each.account}",
            kind_of(each.venue, each.account),
            each.symbol,
            plain(each.quantity),
            _average(each),
            plain(each.realised),
            f"{each.updated_at:%Y-%m-%d %H:%M:%S}",
        )
        for each in found
    ]
    heads = ["BOT", "ACCOUNT", "KIND", "MARKET", "QUANTITY", "AVERAGE PRICE", "REALISED", "CHANGED"]
    text = in_columns(heads, rows) if rows else "No positions."
    data = [{**_data(each), "account_kind": kind_of(each.venue, each.account)} for each in found]
    return Answer(data=data, text=text)


@dataclass(frozen=True, slots=True)
class Closing:
    held: Held
    quantity: Decimal
    """As the market takes it; nothing where it is dust, or on its way out already."""
    why_not: str | None


@position.command("close")
@_choosing
@click.option("--all", "is_all", is_flag=True, help="All positions there are.")
@click.option(
    "--cancel",
    "is_cancelling",
    is_flag=True,
    help="First end the bots' open orders there, which may hold what is to be sold.",
)
@click.option("--dry-run", "--preview", "is_preview", is_flag=True, help="Only say which.")
@wait_option("Wait until it is known what became of the orders")
@click.pass_obj
def close_positions(
    session: Session,
    /,
    is_all: bool,
    is_cancelling: bool,
    is_preview: bool,
    wait_s: float | None,
    **options: Any,
) -> Answer:
    """Close positions by market orders that may only reduce them, for the bots that hold them.

    Shows what that would be, and asks. A bot that runs may buy again: stop it first.
    """
    if not is_all and not any(options.values()):
        raise click.UsageError("nothing is named: give --bot, --market, --account or --all")
    settings, ledger = session.settings(), ledger_of(session)
    held = _held(ledger, is_flat=False, **options)
    closing = [closing_of(ledger, each, is_cancelling) for each in held]
    selling = [each for each in closing if each.quantity]
    if is_preview:
        return Answer(
            data={"would_close": [_closing_data(each) for each in closing]}, text=_table(closing)
        )
    if selling:
        confirm(session, f"close {_number(selling)}", _table(closing))
    warnings: list[str] = _running(ledger, selling)
    if is_cancelling and selling:
        warnings += _cancel_first(session, ledger, selling)
        closing = [closing_of(ledger, each.held, is_cancelling=False) for each in closing]
        selling = [each for each in closing if each.quantity]
    # All of them first: asking may take long, and orders grow old.
    prices = _prices(settings, ledger, selling, warnings)
    orders = [closing_order(settings, *each) for each in zip(selling, prices, strict=True)]
    for order in orders:
        ledger.orders.add(order, now())
    warnings += ring(session, ledger, [each.id for each in orders])
    known = wait_for(ledger, [each.id for each in orders], is_known, wait_s or 0)
    return Answer(
        data={
            "orders": [order_data(each) for each in known],
            "left": [_closing_data(each) for each in closing if not each.quantity],
        },
        text=_text(known, closing),
        warnings=warnings,
        next=["botswarm position list"],
        failure=None if wait_s is None else _failure(known, wait_s),
    )


# --- which, and how much --------------------------------------------------------------------------


def _held(
    ledger: Ledger,
    *,
    is_flat: bool,
    bot: str | None,
    market: str | None,
    account: str | None,
) -> list[Held]:
    venue, symbol = market_of(market)
    other, name = account_of(account)
    found = ledger.orders.positions(venue=venue or other, symbol=symbol, bot=bot)
    return [each for each in found if (is_flat or each.quantity) and name in (None, each.account)]


def closing_of(ledger: Ledger, held: Held, is_cancelling: bool) -> Closing:
    instrument = ledger.books.instrument(held.venue, held.symbol)
    under_way = ledger.orders.under_way(
        bot=held.bot, venue=held.venue, account=held.account, symbol=held.symbol
    )
    sign = 1 if held.quantity > 0 else -1
    taken = sum((each.open_quantity for each in under_way if each.side.sign == -sign), Decimal(0))
    free = abs(held.quantity) - (Decimal(0) if is_cancelling else taken)
    quantity = instrument.round_quantity(max(Decimal(0), free))
    if quantity >= instrument.quantity_min and quantity > 0:
        return Closing(held, quantity, None)
    if taken and not is_cancelling:
        return Closing(held, Decimal(0), "open orders take it already: --cancel ends them first")
    return Closing(held, Decimal(0), "dust: less than the market takes")


def _prices(
    settings: Settings, ledger: Ledger, selling: Sequence[Closing], warnings: list[str]
) -> list[Decimal]:
    """Of the last trades; where a venue tells none, what was known last: nobody is kept in."""
    mute, found = set[str](), list[Decimal]()
    for held in (each.held for each in selling):
        if held.venue not in mute:
            try:
                found.append(last_price(settings, held.venue, held.symbol))
                continue
            except BotswarmError as error:
                mute.add(held.venue)
                warnings.append(
                    f"{held.venue} tells no price ({error.cause}); judged by the last that is known"
                )
        found.append(price_known(ledger, held))
    return found


def price_known(ledger: Ledger, held: Held) -> Decimal:
    """What its market was last worth, or what was paid for it: what an order is judged by stands
    in no order's way that may only reduce.
    """
    from botswarm.ledger.columns import DECIMALS

    mark = ledger.marks.all().get((held.venue, held.symbol))
    return round(abs(held.cost / held.quantity), DECIMALS) if mark is None else mark.price


def closing_order(settings: Settings, closing: Closing, price: Decimal) -> Order:
    """``price`` is what it is judged by."""
    from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce

    held, began = closing.held, now()
    return Order(
        id=str(uuid.uuid4()),
        bot=held.bot,
        venue=held.venue,
        account=held.account,
        symbol=held.symbol,
        side=Side.closing(held.quantity),
        kind=OrderKind.MARKET,
        quantity=closing.quantity,
        limit_price=None,
        time_in_force=TimeInForce.GTC,
        reference_price=price,
        state=OrderState.READY,
        created_at=began,
        signal_expires_at=began + timedelta(seconds=settings.limit_signal_age_max_s),
        is_reduce_only=True,
    )


def _cancel_first(session: Session, ledger: Ledger, selling: Sequence[Closing]) -> list[str]:
    ids = [
        order.id
        for each in selling
        for order in ledger.orders.under_way(
            bot=each.held.bot,
            venue=each.held.venue,
            account=each.held.account,
            symbol=each.held.symbol,
        )
    ]
    wished = ledger.cancels.wish(ids, now(), actor=actor(), reason="its position is to be closed")
    warnings = ring_these(session, ledger, wished.doorbells)
    left = late(wait_for(ledger, ids, is_over, CANCEL_WAIT_S), is_over, CANCEL_WAIT_S)
    return warnings if left is None else [*warnings, left.cause]


def _running(ledger: Ledger, selling: Sequence[Closing]) -> list[str]:
    warnings = []
    for name in sorted({each.held.bot for each in selling}):
        try:
            if ledger.bots.get(name).state.value == "running":
                warnings.append(f"{name} is running and may buy again: botswarm bot stop {name}")
        except NotFound:
            continue  # deleted, or a person's own
    return warnings


def _failure(known: Sequence[Order], wait_s: float) -> Any:
    refused = [said for each in known if (said := refusal(each)) is not None]
    return late(known, is_known, wait_s) or next(iter(refused), None)


# --- words ----------------------------------------------------------------------------------------


def _average(each: Held) -> str | None:
    return f"{each.cost / each.quantity:.8g}" if each.quantity else None


def _data(each: Held) -> dict[str, object]:
    return {
        "bot": each.bot,
        "venue": each.venue,
        "account": each.account,
        "symbol": each.symbol,
        "quantity": f"{each.quantity:f}",
        "cost": f"{each.cost:f}",
        "average_price": f"{each.cost / each.quantity:f}" if each.quantity else None,
        "cash": f"{each.cash:f}",
        "realised": f"{each.realised:f}",
        "updated_at": each.updated_at.isoformat(),
    }


def _closing_data(each: Closing) -> dict[str, object]:
    return {
        "bot": each.held.bot,
        "venue": each.held.venue,
        "account": each.held.account,
        "symbol": each.held.symbol,
        "holds": f"{each.held.quantity:f}",
        "quantity": f"{each.quantity:f}",
        "why_not": each.why_not,
    }


def _table(closing: Sequence[Closing]) -> str:
    if not closing:
        return "No positions."
    rows = [
        (
            each.held.bot,
            f"{each.held.venue}:{each.held.account}",
            each.held.symbol,
            plain(each.held.quantity),
            plain(each.quantity) if each.quantity else "-",
            each.why_not or "at market",
        )
        for each in closing
    ]
    return in_columns(["BOT", "ACCOUNT", "MARKET", "HOLDS", "WOULD CLOSE", "HOW"], rows)


def _number(closing: Sequence[object]) -> str:
    return "1 position" if len(closing) == 1 else f"{len(closing)} positions"


def _text(known: Sequence[Order], closing: Sequence[Closing]) -> str:
    lines = [f"{in_a_line(each)}: {each.state}, {each.id}" for each in known]
    lines += [
        f"{each.held.bot} keeps {plain(each.held.quantity)} of {each.held.symbol}: {each.why_not}"
        for each in closing
        if not each.quantity
    ]
    return "\n".join(lines) or "No positions."
