"""What only some limits ask for: other accounts' orders, sweeps, prices; read when one is set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import and_, bindparam, func, select
from sqlalchemy.orm import Session

from botswarm.domain.facts import Needs, Pace, Stand
from botswarm.domain.limits import Chain, Level
from botswarm.domain.order import Order, Side
from botswarm.domain.standing import AHEAD_MAX, AtRisk, MarketExposure
from botswarm.ledger import marks
from botswarm.ledger.fold import ZERO
from botswarm.ledger.halts import SWARM
from botswarm.ledger.models import BotRow, EntryRow, FillRow, OrderRow
from botswarm.ledger.open_orders import Open, as_amount, columns_of, quote_of, total
from botswarm.ledger.prepared import PREPARED
from botswarm.ledger.risk_models import LimitRow
from botswarm.ledger.risk_standings import exposures_of, standings_of
from botswarm.ledger.steps import Step

RECKONED_FOR = timedelta(seconds=60)
"""How long a sweep is believed; there is one every few seconds."""
MOVED_MAX = 2000
"""Fills since the last sweep that are added up for one order."""
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
WAITED_MAX = timedelta(minutes=1)
"""An order that waited longer for the gate than this is not among those of the last minute."""

_ALL_OPEN: Any = (
    select(BotRow.strategy, *columns_of())
    .select_from(OrderRow)
    .outerjoin(BotRow, BotRow.name == OrderRow.bot)
    .where(OrderRow.is_open, OrderRow.id != bindparam("which"))
    .execution_options(**PREPARED)
)
_MOVED: Any = (
    select(
        EntryRow.sequence,
        FillRow.venue,
        FillRow.account,
        FillRow.symbol,
        FillRow.bot,
        BotRow.strategy,
        FillRow.side,
        FillRow.quantity,
        FillRow.price,
    )
    .join(FillRow, FillRow.id == EntryRow.fill_id)
    .outerjoin(BotRow, BotRow.name == FillRow.bot)
    .where(EntryRow.sequence > bindparam("after"), FillRow.bot.is_not(None))
    .limit(MOVED_MAX + 1)
    .execution_options(**PREPARED)
)


def _within(level: Level) -> Any:
    """Whether an order is in the scope of this level that the asked one is in."""
    conditions = {
        Level.SWARM: None,
        Level.ACCOUNT: and_(
            OrderRow.venue == bindparam("venue_name"),
            OrderRow.account == bindparam("account_name"),
        ),
        Level.STRATEGY: BotRow.strategy == bindparam("strategy_name"),
        Level.MARKET: and_(
            OrderRow.venue == bindparam("venue_name"),
            OrderRow.symbol == bindparam("symbol_name"),
        ),
        Level.BOT: OrderRow.bot == bindparam("bot_name"),
    }
    return conditions[level]


_IS_RECENT = OrderRow.approved_at > bindparam("second_ago", type_=OrderRow.approved_at.type)
_IS_LATE = OrderRow.approved_at > bindparam("minute_ago", type_=OrderRow.approved_at.type)


def _counts() -> list[Any]:
    columns = []
    for level in Level:
        within = _within(level)
        recent = _IS_RECENT if within is None else and_(within, _IS_RECENT)
        late = _IS_LATE if within is None else and_(within, _IS_LATE)
        columns.append(func.count().filter(recent).label(f"{level}_second"))
        columns.append(func.count().filter(late).label(f"{level}_minute"))
    same = and_(
        OrderRow.bot == bindparam("bot_name"),
        OrderRow.venue == bindparam("venue_name"),
        OrderRow.symbol == bindparam("symbol_name"),
        OrderRow.side == bindparam("side_name"),
    )
    return [*columns, func.count().filter(and_(same, _IS_LATE)).label("repeated")]


_PACES = (
    select(*_counts())
    .select_from(OrderRow)
    .outerjoin(BotRow, BotRow.name == OrderRow.bot)
    .where(
        # There is an index of when they were made, and none of when they passed.
        OrderRow.created_at > bindparam("long_ago", type_=OrderRow.created_at.type),
        OrderRow.id != bindparam("which"),
    )
    .execution_options(**PREPARED)
)


@dataclass(frozen=True, slots=True)
class Move:
    """A fill that the last sweep may not have seen."""

    sequence: int
    place: tuple[str, str, str, str]
    strategy: str | None
    value: Decimal
    """Negative where it sold."""


def read(
    session: Session,
    step: Step,
    chain: Chain,
    needs: Needs,
    others: Sequence[Open],
    position: Any,
) -> dict[str, Any]:
    """What Facts has of it, by name."""
    order, now = step.order, step.now
    quote = quote_of(order.symbol)
    strategy = chain.get(Level.STRATEGY, "").partition(":")[2] or None
    if needs.shared:
        # Orders of other accounts are judged meanwhile: those that count together take turns.
        _hold(session, [chain[level] for level in needs.shared])
    found: dict[str, Any] = {"totals": {}}
    if Level.BOT in needs.totals:
        own = [row for row in others if row.bot == order.bot]
        found["totals"][Level.BOT] = total(own, quote)
    wide = needs.totals - {Level.ACCOUNT, Level.BOT}
    if wide:
        rows = session.connection().execute(_ALL_OPEN, {"which": order.id}).all()
        every = [Open.of(row, row.strategy) for row in rows]
        found["totals"] |= {
            level: total([each for each in every if _is_in(level, each, order, strategy)], quote)
            for level in wide
        }
    if needs.paces:
        found |= _paces(session, order, now, strategy)
    if needs.stands:
        found |= _stands(session, step, chain, needs, quote, others, strategy)
        if as_amount(position) and _was_left_out(found["stands"].get(Level.BOT)):
            # With very many bots a sweep reckons some at a time, and those that have limits.
            unread = Stand(unknown="no sweep has reckoned its bot since the limit was set")
            found["stands"] = {**found["stands"], Level.BOT: unread}
    if needs.mark:
        found["mark"] = marks.mark_of(session, order.venue, order.symbol)
        found["priced_at"] = _priced_at(session, order.id)
    return found


def _is_in(level: Level, row: Any, order: Order, strategy: str | None) -> bool:
    match level:
        case Level.SWARM:
            return True
        case Level.ACCOUNT:
            return (row.venue, row.account) == (order.venue, order.account)
        case Level.STRATEGY:
            return strategy is not None and row.strategy == strategy
        case Level.MARKET:
            return (row.venue, row.symbol) == (order.venue, order.symbol)
        case Level.BOT:
            return bool(row.bot == order.bot)


def _hold(session: Session, scopes: Sequence[str]) -> None:
    """In this order everywhere, and after the account and the order."""
    question = (
        select(LimitRow.kind)
        .where(LimitRow.scope.in_(sorted(scopes)))
        .order_by(LimitRow.scope, LimitRow.kind)
        .with_for_update()
    )
    session.connection().execute(question, execution_options=PREPARED).all()


def _paces(
    session: Session, order: Order, now: datetime, strategy: str | None
) -> Mapping[str, Any]:
    values = {
        "which": order.id,
        "venue_name": order.venue,
        "account_name": order.account,
        "symbol_name": order.symbol,
        "bot_name": order.bot,
        "side_name": order.side.value,
        "strategy_name": strategy or "",
        "second_ago": now - SECOND,
        "minute_ago": now - MINUTE,
        "long_ago": now - MINUTE - WAITED_MAX,
    }
    row = session.connection().execute(_PACES, values).one()._mapping
    paces = {
        level: Pace(last_second=row[f"{level}_second"], last_minute=row[f"{level}_minute"])
        for level in Level
    }
    return {"paces": paces, "repeated": row["repeated"]}


def _priced_at(session: Session, order_id: str) -> datetime | None:
    said = session.execute(
        select(OrderRow.evaluation["exchange_ms"].as_string()).where(OrderRow.id == order_id)
    ).scalar_one_or_none()
    if said is None or not str(said).isdecimal():
        return None
    return datetime.fromtimestamp(int(said) / 1000, UTC)


# --- what a sweep reckoned, and what has moved since ----------------------------------------------


def _stands(
    session: Session,
    step: Step,
    chain: Chain,
    needs: Needs,
    quote: str,
    others: Sequence[Open],
    strategy: str | None,
) -> Mapping[str, Any]:
    order, now = step.order, step.now
    # Always of all levels, so that there is one such statement and it is planned once.
    reckoned = standings_of(session, chain.values(), PREPARED)
    whole = reckoned.get((SWARM, quote))
    # A scope that the sweep did not meet had nothing then; without any sweep all fills count.
    since = whole.sequence if whole is not None and _unknown(whole, now) is None else 0
    by_level = {level: reckoned.get((chain[level], quote)) for level in needs.stands}
    exposures = exposures_of(session, order.venue, order.account) if needs.held else []
    rows = [row for row in exposures if row.quote == quote]
    marks_of_journal = [since or 0]
    marks_of_journal += [each.sequence or 0 for each in by_level.values() if each is not None]
    marks_of_journal += [row.sequence or 0 for row in rows]
    moves = _moves(session, min(marks_of_journal), quote)
    stands = {
        level: _stand(level, at_risk, since or 0, moves, order, strategy, now)
        for level, at_risk in by_level.items()
    }
    if not needs.held:
        return {"stands": stands}
    return {"stands": stands, "held": _held(rows, since or 0, moves, order, others, quote, now)}


def _stand(
    level: Level,
    at_risk: AtRisk | None,
    since: int,
    moves: Sequence[Move] | None,
    order: Order,
    strategy: str | None,
    now: datetime,
) -> Stand:
    if moves is None:
        return Stand(unknown="no sweep has reckoned what was traded lately")
    if at_risk is not None and (unknown := _unknown(at_risk, now)) is not None:
        return Stand(unknown=unknown)
    after = since if at_risk is None else at_risk.sequence or 0
    ours = [
        move
        for move in moves
        if move.sequence > after and _is_in(level, _Place(move), order, strategy)
    ]
    nets = _nets(ours)
    return Stand(
        at_risk=at_risk,
        moved=sum((abs(value) for value in nets.values()), ZERO),
        moved_net=sum(nets.values(), ZERO),
    )


def _was_left_out(stand: Stand | None) -> bool:
    return stand is not None and stand.at_risk is None and not stand.moved


def _held(
    rows: Sequence[MarketExposure],
    since: int,
    moves: Sequence[Move] | None,
    order: Order,
    others: Sequence[Open],
    quote: str,
    now: datetime,
) -> Mapping[str, Decimal | None] | None:
    """By market: what the account holds, and what its open orders may add."""
    if moves is None:
        return None
    known = {row.symbol: row for row in rows}
    held: dict[str, Decimal | None] = {
        row.symbol: row.gross if _is_recent(row.at, now) else None for row in rows
    }
    ours = [move for move in moves if move.place[1:3] == (order.venue, order.account)]
    for symbol in {move.place[3] for move in ours}:
        after = (known[symbol].sequence or 0) if symbol in known else since
        nets = _nets(move for move in ours if move.place[3] == symbol and move.sequence > after)
        _add(held, symbol, sum((abs(value) for value in nets.values()), ZERO))
    for each in others:
        if quote_of(each.symbol) == quote:
            _add(held, each.symbol, each.value)
    return held


def _add(held: dict[str, Decimal | None], symbol: str, value: Decimal) -> None:
    before = held.get(symbol, ZERO)
    held[symbol] = None if before is None else before + value


def _moves(session: Session, after: int, quote: str) -> Sequence[Move] | None:
    """None where there are more than can be added up for one order."""
    rows = session.connection().execute(_MOVED, {"after": after}).all()
    if len(rows) > MOVED_MAX:
        return None
    return [
        Move(
            sequence=row.sequence,
            place=(row.bot, row.venue, row.account, row.symbol),
            strategy=row.strategy,
            value=Side(row.side).sign * row.quantity * row.price,
        )
        for row in rows
        if quote_of(row.symbol) == quote
    ]


def _nets(moves: Iterable[Move]) -> Mapping[tuple[str, str, str, str], Decimal]:
    nets: dict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
    for move in moves:
        nets[move.place] += move.value
    return nets


class _Place:
    """A move, named as the row of an order is."""

    __slots__ = ("account", "bot", "strategy", "symbol", "venue")

    def __init__(self, move: Move) -> None:
        self.bot, self.venue, self.account, self.symbol = move.place
        self.strategy = move.strategy


def _unknown(at_risk: AtRisk, now: datetime) -> str | None:
    if _is_recent(at_risk.at, now):
        return None
    return f"the last sweep reckoned it at {at_risk.at:%Y-%m-%d %H:%M:%S}"


def _is_recent(at: datetime, now: datetime) -> bool:
    return -AHEAD_MAX <= now - at <= RECKONED_FOR
