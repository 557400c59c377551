"""Check the books against themselves: every sum, every fold, every state, every link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from botswarm.domain.order import NEXT, NOT_PLACED, OrderState
from botswarm.ledger import balances, chain
from botswarm.ledger.account_models import AccountFoldRow
from botswarm.ledger.booking import Place, holding_of
from botswarm.ledger.fold import EXACT, ZERO, Assets, Holding, fold
from botswarm.ledger.models import (
    AdjustmentRow,
    AttemptRow,
    ChainHeadRow,
    DailyResultRow,
    EntryRow,
    FillRow,
    OrderEventRow,
    OrderRow,
    OutboxRow,
    PositionRow,
    PostingRow,
)
from botswarm.ledger.rows import fill_of, is_open
from botswarm.ledger.session import Database

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: ``check`` says which rule, ``subject`` which row breaks it."""

    check: str
    subject: str
    words: str


@dataclass(slots=True)
class Verification:
    counts: dict[str, int] = field(default_factory=dict)
    head_sequence: int = 0
    head_hash: str = chain.FIRST_HASH
    """Written down elsewhere, it tells later whether the end of the chain was cut off."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def find(self, check: str, subject: str, words: str) -> None:
        self.findings.append(Finding(check, subject, words))


def verify(database: Database) -> Verification:
    """On one snapshot, so that it may run while the swarm trades."""
    return database.read(check_books)


def check_books(session: Session) -> Verification:
    done = Verification()
    _check_chain(session, done)
    filled = _check_fills(session, done)
    _check_adjustments(session, done)
    _check_results(session, done)
    _check_orders(session, done, filled)
    _check_events(session, done)
    return done


# --- the chain ------------------------------------------------------------------------------------


def _check_chain(session: Session, done: Verification) -> None:
    previous, expected = chain.FIRST_HASH, 1
    for entry, event, legs in _entries(session):
        name = f"entry {entry.sequence}"
        if entry.sequence != expected:
            done.find("chain", f"entry {expected}", f"is missing; the next one is {name}")
        if entry.previous_hash != previous:
            done.find("chain", name, "does not follow from the entry before it")
        kind = "fill" if entry.adjustment_id is None else "adjustment"
        if event is None:
            row = entry.fill_id if entry.adjustment_id is None else entry.adjustment_id
            done.find("chain", name, f"its {kind}, row {row}, is missing")
        elif chain.digest(entry.previous_hash, entry.sequence, event, legs) != entry.hash:
            done.find("chain", name, f"was changed: it, its legs or its {kind}, row {event.id}")
        if entry.fill_id is not None and entry.adjustment_id is not None:
            done.find("chain", name, "is of a fill and of an adjustment at once")
        _check_balance(done, name, legs)
        previous, expected = entry.hash, entry.sequence + 1
    head = session.get(ChainHeadRow, 1)
    done.head_sequence, done.head_hash = expected - 1, previous
    done.counts["entries"] = session.scalar(select(func.count()).select_from(EntryRow)) or 0
    if head is None:
        done.find("chain", "chain_head", "is missing")
    elif (head.sequence, head.hash) != (expected - 1, previous):
        words = f"the chain ends at entry {expected - 1}, and it ended at {head.sequence}"
        done.find("chain", f"entry {max(head.sequence, expected - 1)}", words)
    orphans = session.scalars(
        select(PostingRow.sequence)
        .outerjoin(EntryRow, EntryRow.sequence == PostingRow.sequence)
        .where(EntryRow.sequence.is_(None))
        .distinct()
    )
    for sequence in orphans:
        done.find("chain", f"entry {sequence}", "is missing, and its legs are there")


def _check_balance(done: Verification, name: str, legs: Sequence[chain.Posting]) -> None:
    sums: dict[str, Decimal] = {}
    for leg in legs:
        sums[leg.asset] = EXACT.add(sums.get(leg.asset, ZERO), leg.amount)
    if not legs:
        done.find("balance", name, "has no legs")
    for asset, total in sorted(sums.items()):
        if total:
            done.find("balance", name, f"its legs in {asset} sum to {total}, not to 0")


def _entries(
    session: Session,
) -> Iterator[tuple[EntryRow, chain.Event | None, list[chain.Posting]]]:
    """By rising sequence, in batches: the whole journal need not fit into memory."""
    last = None
    while True:
        question = (
            select(EntryRow, FillRow, AdjustmentRow)
            .outerjoin(FillRow, FillRow.id == EntryRow.fill_id)
            .outerjoin(AdjustmentRow, AdjustmentRow.id == EntryRow.adjustment_id)
            .order_by(EntryRow.sequence)
            .limit(BATCH)
        )
        if last is not None:
            question = question.where(EntryRow.sequence > last)
        batch = session.execute(question).all()
        if not batch:
            return
        first, last = batch[0][0].sequence, batch[-1][0].sequence
        legs: dict[int, list[chain.Posting]] = {}
        for row in session.scalars(
            select(PostingRow)
            .where(PostingRow.sequence.between(first, last))
            .order_by(PostingRow.sequence, PostingRow.line)
        ):
            leg = chain.Posting(row.ledger_account, row.asset, row.amount)
            legs.setdefault(row.sequence, []).append(leg)
        for entry, fill, adjustment in batch:
            # Never both: the digest of what is said of one of them would not match.
            event = fill if entry.adjustment_id is None else adjustment
            yield entry, event, legs.get(entry.sequence, [])
        session.expunge_all()


# --- fills and what they add up to ----------------------------------------------------------------


def _check_fills(session: Session, done: Verification) -> dict[str, Decimal]:
    """Answers what the fills of each order add up to."""
    filled: dict[str, Decimal] = {}
    counts: Counter[str] = Counter(fills=0, external_fills=0)
    question = (
        select(FillRow, EntryRow.sequence)
        .outerjoin(EntryRow, EntryRow.fill_id == FillRow.id)
        .order_by(FillRow.id)
        .execution_options(yield_per=BATCH)
    )
    for fill, sequence in session.execute(question):
        counts["fills"] += 1
        counts["external_fills"] += fill.is_external
        if sequence is None:
            done.find("journal", f"fill {fill.id}", "has no entry in the journal")
        if fill.is_external is not (fill.order_id is None):
            done.find("journal", f"fill {fill.id}", "is ours and external at once, or neither")
        if fill.order_id is not None:
            filled[fill.order_id] = EXACT.add(filled.get(fill.order_id, ZERO), fill.quantity)
    done.counts |= counts
    return filled


def _check_adjustments(session: Session, done: Verification) -> None:
    """Each is in the journal, and what accounts have by it is what its entries add up to."""
    question = select(AdjustmentRow.id, EntryRow.sequence).outerjoin(
        EntryRow, EntryRow.adjustment_id == AdjustmentRow.id
    )
    done.counts["adjustments"] = 0
    for number, sequence in session.execute(question):
        done.counts["adjustments"] += 1
        if sequence is None:
            done.find("journal", f"adjustment {number}", "has no entry in the journal")
    for row in session.scalars(select(AccountFoldRow)):
        kept = balances.of_row(row)
        folded = balances.fold(session, row.venue, row.account, through=row.sequence)
        if kept != folded:
            words = f"the ledger keeps {kept}, its entries up to {row.sequence} give {folded}"
            done.find("balances", f"{row.venue} {row.account}", words)


def _check_results(session: Session, done: Verification) -> None:
    """Positions and daily results equal the fold over all fills."""
    held = {_place_of(row): holding_of(row) for row in session.scalars(select(PositionRow))}
    daily: dict[tuple[str, str, str, str], Decimal] = {}
    done.counts["positions"] = len(held)
    for place, fills in _by_place(session):
        assets = Assets.of(place[3])
        folded = fold([fill_of(fill) for fill in fills], assets)
        kept = held.pop(place, Holding())
        if kept != folded.holding:
            words = f"the ledger keeps {_spoken(kept)}, its fills give {_spoken(folded.holding)}"
            done.find("position", " ".join(place), words)
        for day, realised in folded.daily.items():
            key = (place[1], place[2], day, assets.quote)
            daily[key] = EXACT.add(daily.get(key, ZERO), realised)
    for place in held:
        done.find("position", " ".join(place), "is kept, and there are no fills of it")
    for row in session.scalars(select(DailyResultRow)):
        name = (row.venue, row.account, row.day, row.quote)
        if row.realised != (realised := daily.pop(name, ZERO)):
            words = f"the ledger keeps {row.realised}, its fills give {realised}"
            done.find("result", " ".join(name), words)
    for name, realised in daily.items():
        if realised:
            done.find("result", " ".join(name), f"is not kept; its fills give {realised}")


def _by_place(session: Session) -> Iterable[tuple[Place, Iterator[FillRow]]]:
    question = (
        select(FillRow)
        .where(FillRow.bot.is_not(None))
        .order_by(FillRow.bot, FillRow.venue, FillRow.account, FillRow.symbol, FillRow.trade_id)
        .execution_options(yield_per=BATCH)
    )
    return groupby(session.scalars(question), key=_place_of)


def _place_of(row: PositionRow | FillRow) -> Place:
    return str(row.bot), row.venue, row.account, row.symbol


def _spoken(holding: Holding) -> str:
    return (
        f"quantity {holding.quantity}, cash {holding.cash}, cost {holding.cost}, "
        f"realised {holding.realised}, last trade {holding.last_trade_id}"
    )


# --- orders ---------------------------------------------------------------------------------------


def _check_orders(session: Session, done: Verification, filled: dict[str, Decimal]) -> None:
    counts: Counter[str] = Counter(orders=0, open_orders=0)
    attempts = (
        select(func.count())
        .where(AttemptRow.order_id == OrderRow.id)
        .correlate(OrderRow)
        .scalar_subquery()
    )
    question = (
        select(OrderRow, attempts, OutboxRow.id)
        .outerjoin(OutboxRow, OutboxRow.task_id == OrderRow.id)
        .order_by(OrderRow.created_at, OrderRow.id)
        .execution_options(yield_per=BATCH)
    )
    for row, attempted, doorbell in session.execute(question):
        counts["orders"] += 1
        counts["open_orders"] += row.is_open
        for objection in _objections(row, filled.pop(row.id, ZERO), attempted):
            done.find("order", f"order {row.id}", objection)
        # Those of the others were rung long ago, and may be gone.
        if doorbell is None and row.state == OrderState.READY:
            done.find("outbox", f"order {row.id}", "waits without a doorbell")
    for order_id, quantity in filled.items():
        done.find("order", f"order {order_id}", f"is missing, and {quantity} of it is filled")
    done.counts |= counts


def _objections(row: OrderRow, booked: Decimal, attempted: int) -> Iterator[str]:
    state = OrderState(row.state)
    if row.filled_quantity != booked:
        yield f"says that {row.filled_quantity} is filled; its fills give {booked}"
    if booked > row.quantity:
        yield f"asked for {row.quantity} and got {booked}"
    if booked and state in NOT_PLACED:
        yield f"is {state}, and {booked} of it is filled"
    if row.attempts != attempted:
        yield f"says it was tried {row.attempts} times; {attempted} attempts are kept"
    if not attempted and state not in (NOT_PLACED - {OrderState.REJECTED}):
        yield f"is {state}, and no attempt is kept"
    if row.is_open is not is_open(row):
        yield f"is {state} and counted as {'open' if row.is_open else 'at its end'}"


def _check_events(session: Session, done: Verification) -> None:
    """Each order's events are a path through the table of states that ends where it stands."""
    stands = {row.id: row.state for row in session.execute(select(OrderRow.id, OrderRow.state))}
    question = (
        select(OrderEventRow.order_id, OrderEventRow.before, OrderEventRow.after)
        .order_by(OrderEventRow.order_id, OrderEventRow.id)
        .execution_options(yield_per=BATCH)
    )
    for order_id, events in groupby(session.execute(question), key=lambda row: row.order_id):
        at: str | None = None
        for _, before, after in events:
            legal = after == OrderState.READY if at is None else after in NEXT[OrderState(at)]
            if before != at or not legal:
                done.find("state", f"order {order_id}", f"moved {before} -> {after} when at {at}")
            at = after
        if order_id in stands and stands.pop(order_id) != at:
            done.find("state", f"order {order_id}", f"its last event left it {at}")
    for order_id in stands:
        done.find("state", f"order {order_id}", "has no events")
