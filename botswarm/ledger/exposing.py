"""What stands against the limits of one order, read in the transaction that judges it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import Any

from sqlalchemy import Row, and_, bindparam, func, select, type_coerce
from sqlalchemy.orm import Session, aliased

from botswarm.domain.facts import Facts, Needs, Total
from botswarm.domain.limits import Level
from botswarm.domain.order import Order, OrderState, Side
from botswarm.domain.permission import Exposure
from botswarm.errors import Refused
from botswarm.ledger import halts, surroundings
from botswarm.ledger.columns import AsKept
from botswarm.ledger.fold import EXACT, ZERO, Assets
from botswarm.ledger.limits import chain_of
from botswarm.ledger.limits_known import limits_at
from botswarm.ledger.models import (
    BotRow,
    DailyResultRow,
    FillRow,
    OrderRow,
    PositionRow,
)
from botswarm.ledger.open_orders import Open, as_amount, columns_of, total
from botswarm.ledger.prepared import PREPARED
from botswarm.ledger.risk_models import LimitRevisionRow, LimitWarningRow
from botswarm.ledger.steps import Step

MINUTE = timedelta(minutes=1)
BETWEEN = " "
"""Neither scopes nor kinds have a blank."""

_Other = aliased(OrderRow)
_FACTS = select(
    select(type_coerce(PositionRow.quantity, AsKept()))
    .where(
        PositionRow.bot == bindparam("bot_name"),
        PositionRow.venue == bindparam("venue_name"),
        PositionRow.account == bindparam("account_name"),
        PositionRow.symbol == bindparam("symbol_name"),
    )
    .scalar_subquery()
    .label("position"),
    select(type_coerce(DailyResultRow.realised, AsKept()))
    .where(
        DailyResultRow.venue == bindparam("venue_name"),
        DailyResultRow.account == bindparam("account_name"),
        DailyResultRow.day == bindparam("today"),
        DailyResultRow.quote == bindparam("quote_name"),
    )
    .scalar_subquery()
    .label("result"),
    # Those that passed the gate: counting only what was sent, workers that race would all pass.
    select(func.count())
    .where(
        OrderRow.bot == bindparam("bot_name"),
        OrderRow.approved_at > bindparam("minute_ago", type_=OrderRow.approved_at.type),
        OrderRow.id != bindparam("which"),
    )
    .scalar_subquery()
    .label("last_minute"),
    select(func.max(FillRow.trade_id))
    .where(
        FillRow.venue == bindparam("venue_name"),
        FillRow.account == bindparam("account_name"),
        FillRow.symbol == bindparam("symbol_name"),
    )
    .scalar_subquery()
    .label("trade_id_floor"),
    select(BotRow.strategy)
    .where(BotRow.name == bindparam("bot_name"))
    .scalar_subquery()
    .label("strategy"),
    select(LimitRevisionRow.revision).scalar_subquery().label("limit_revision"),
    select(func.aggregate_strings(LimitWarningRow.scope + BETWEEN + LimitWarningRow.kind, "\n"))
    .where(
        LimitWarningRow.scope.in_(
            [
                *(bindparam(f"{level}_scope") for level in ("swarm", "account", "bot", "market")),
                halts.STRATEGY_OF_THE_BOT,
            ]
        )
    )
    .scalar_subquery()
    .label("warned"),
    *halts.STATES,
).subquery("facts")
# One statement, so one snapshot: fills that are booked meanwhile move the position and end the
# order that they fill, and both are seen, or neither.
_EXPOSURE = (
    select(
        _FACTS,
        *columns_of(_Other),
    )
    .select_from(_FACTS)
    .outerjoin(
        _Other,
        and_(
            _Other.venue == bindparam("venue_name"),
            _Other.account == bindparam("account_name"),
            _Other.is_open,
            _Other.id != bindparam("which"),
        ),
    )
    .execution_options(**PREPARED)
)


def exposure_of(session: Session, step: Step) -> tuple[Exposure, int | None]:
    """With the highest trade id of its market.

    Sums of money are over the markets with the same quote asset: others cannot be added.
    """
    order, now = step.order, step.now
    quote = Assets.of(order.symbol).quote
    rows = (
        session.connection()
        .execute(
            _EXPOSURE,
            {
                "which": order.id,
                "venue_name": order.venue,
                "account_name": order.account,
                "symbol_name": order.symbol,
                "quote_name": quote,
                "today": now.date().isoformat(),
                "minute_ago": now - MINUTE,
                **halts.names(order.venue, order.account, order.bot, order.symbol, now),
            },
        )
        .all()
    )
    read = rows[0]
    with localcontext(EXACT):
        others = [Open.of(row) for row in rows if row.symbol is not None]
        same = [each for each in others if (each.bot, each.symbol) == (order.bot, order.symbol)]
        facts = _facts(session, step, read, others, quote)
        exposure = Exposure(
            trading_state=halts.strictest_of(read, order.bot),
            account_open_notional=facts.totals[Level.ACCOUNT].open_value,
            position=as_amount(read.position) or ZERO,
            open_buy_quantity=_sum(each.left for each in same if each.side == Side.BUY),
            open_sell_quantity=_sum(each.left for each in same if each.side == Side.SELL),
            open_orders=len(others),
            orders_last_minute=read.last_minute,
            loss_today=(as_amount(read.result) or ZERO).copy_negate(),
            facts=facts,
        )
    return exposure, read.trade_id_floor


def _facts(
    session: Session, step: Step, read: Row[Any], others: Sequence[Open], quote: str
) -> Facts:
    order = step.order
    chain = chain_of(order.venue, order.account, read.strategy, order.symbol, order.bot)
    try:
        limits = limits_at(session, read.limit_revision, tuple(sorted(chain.values())))
    except Refused as error:
        return Facts(chain=chain, totals=_of_the_account(others, quote), unread=error.cause)
    totals = _of_the_account(others, quote)
    sells, buys = _resting(order, others)
    found: dict[str, Any] = {}
    # Who passed before is only asked about the trading state.
    if limits and order.state is OrderState.READY:
        needs = Needs.of(limits, chain)
        found = surroundings.read(session, step, chain, needs, others, read.position)
        totals |= found.pop("totals")
    return Facts(
        chain=chain,
        limits=limits,
        warned=_warned(read.warned),
        totals=totals,
        lowest_own_sell=min(sells, default=None),
        highest_own_buy=max(buys, default=None),
        **found,
    )


def _of_the_account(others: Sequence[Open], quote: str) -> dict[Level, Total]:
    return {Level.ACCOUNT: total(others, quote)}


def _resting(order: Order, others: Sequence[Open]) -> tuple[list[Decimal], list[Decimal]]:
    """Limits at which our own orders may stand in the book: sales, purchases.

    Not those whose end somebody asked for: where they meet, the venue ends them first.
    """
    limits = [
        (each.side, each.resting_at)
        for each in others
        if each.resting_at is not None and each.symbol == order.symbol
    ]
    return (
        [price for side, price in limits if side == Side.SELL],
        [price for side, price in limits if side == Side.BUY],
    )


def _warned(said: str | None) -> frozenset[tuple[str, str]]:
    lines = [line.rpartition(BETWEEN) for line in (said or "").splitlines()]
    return frozenset((scope, kind) for scope, _, kind in lines)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)
