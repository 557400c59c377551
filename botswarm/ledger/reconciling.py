"""What reconciliation asks of the ledger and writes into it, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order
from botswarm.domain.reconciliation import (
    Adjustment,
    Balances,
    Difference,
    Reckoned,
    Reconciliation,
    Standing,
)
from botswarm.ledger import adjusting, balances, differences
from botswarm.ledger.account_models import (
    AccountMarketRow,
    ExternalOrderRow,
    ReconciliationRow,
)
from botswarm.ledger.books import LedgerBooks
from botswarm.ledger.differences import Raised
from botswarm.ledger.fold import Assets
from botswarm.ledger.models import (
    AccountRow,
    BotRow,
    FillRow,
    InstrumentRow,
    OrderRow,
    PositionRow,
)
from botswarm.ledger.rows import fill_of, order_of
from botswarm.ledger.session import Database, save_latest
from botswarm.ledger.standing import hold_account, is_awaited, standing_of

KEPT_FOR = timedelta(days=7)


class ExternalOrder(Protocol):
    """A venue's word on an order that is not ours, as far as the ledger cares."""

    @property
    def client_order_id(self) -> str: ...
    @property
    def venue_order_id(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStand:
    """What the ledger knows of an account's agreement with its venue."""

    venue: str
    account: str
    standing: Standing
    last: Mapping[str, Any] | None
    """The last reconciliation, in short."""
    raised: Sequence[Raised]


class Reconciliations:
    """botswarm.trading.accounts.Accounts on the database, and what people ask about it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._books = LedgerBooks(database)

    # --- what is known ------------------------------------------------------------------------

    def standing(self, venue: str, account: str) -> Standing:
        row = self._database.read(lambda session: session.get(AccountRow, (venue, account)))
        return Standing() if row is None else standing_of(row)

    def is_awaited(self, venue: str, account: str, now: datetime) -> bool:
        """Whether orders wait until somebody compares the account with its venue."""
        row = self._database.read(lambda session: session.get(AccountRow, (venue, account)))
        return row is None or is_awaited(row, now)

    def stands(self) -> Sequence[AccountStand]:
        """Of every account that the ledger knows."""

        def work(session: Session) -> list[AccountStand]:
            raised: dict[tuple[str, str], list[Raised]] = {}
            for each in differences.standing(session):
                raised.setdefault((each.venue, each.account), []).append(each)
            rows = session.scalars(
                select(AccountRow).order_by(AccountRow.venue, AccountRow.account)
            )
            return [
                AccountStand(
                    venue=row.venue,
                    account=row.account,
                    standing=standing_of(row),
                    last=row.reconciliation,
                    raised=raised.get((row.venue, row.account), []),
                )
                for row in rows
            ]

        return self._database.read(work)

    def markets(self, venue: str, account: str) -> Sequence[str]:
        return self._database.read(lambda session: _markets(session, venue, account))

    def markets_between(self, venue: str, assets: Collection[str]) -> Sequence[str]:
        question = select(InstrumentRow.symbol).where(
            InstrumentRow.venue == venue,
            InstrumentRow.base.in_(assets),
            InstrumentRow.quote.in_(assets),
        )
        return self._database.read(lambda session: sorted(session.scalars(question)))

    def latest_trades(self, venue: str, account: str) -> Mapping[str, int]:
        # Market by market: this is asked every minute, and of all fills at once it would read all.
        def work(session: Session) -> dict[str, int]:
            found = {
                symbol: _latest_trade(session, venue, account, symbol)
                for symbol in _markets(session, venue, account)
            }
            return {symbol: at for symbol, at in found.items() if at is not None}

        return self._database.read(work)

    def marks(self, venue: str, account: str) -> Mapping[str, int]:
        question = select(AccountMarketRow).where(
            AccountMarketRow.venue == venue, AccountMarketRow.account == account
        )
        return self._database.read(
            lambda session: {row.symbol: row.trade_id for row in session.scalars(question)}
        )

    def own_assets(self, venue: str, account: str) -> Collection[str]:
        def work(session: Session) -> set[str]:
            pairs = [Assets.of(symbol) for symbol in _traded(session, venue, account)]
            paid_in = (
                select(FillRow.commission_asset)
                .distinct()
                .where(
                    FillRow.venue == venue,
                    FillRow.account == account,
                    FillRow.order_id.is_not(None),
                )
            )
            moved = {asset for pair in pairs for asset in (pair.base, pair.quote)}
            return moved | set(session.scalars(paid_in))

        return self._database.read(work)

    def orders(self, client_order_ids: Collection[str]) -> Mapping[str, Order]:
        question = select(OrderRow).where(OrderRow.client_order_id.in_(client_order_ids))
        return self._database.read(
            lambda session: {
                row.client_order_id: order_of(row) for row in session.scalars(question)
            }
        )

    def reckon(self, venue: str, account: str, since: datetime) -> Reckoned:
        return self._database.read(lambda session: balances.reckon(session, venue, account, since))

    def accepted(self, venue: str, account: str) -> Collection[str]:
        return self._database.read(lambda session: differences.accepted(session, venue, account))

    # --- fills --------------------------------------------------------------------------------

    def unbooked(self, venue: str, account: str, fills: Sequence[Fill]) -> Sequence[Fill]:
        identity = tuple_(FillRow.symbol, FillRow.trade_id)
        question = select(FillRow.symbol, FillRow.trade_id).where(
            FillRow.venue == venue,
            FillRow.account == account,
            identity.in_([(fill.symbol, fill.trade_id) for fill in fills]),
        )
        known = self._database.read(
            lambda session: {tuple(row) for row in session.execute(question)}
        )
        return [fill for fill in fills if (fill.symbol, fill.trade_id) not in known]

    def kept(self, venue: str, account: str, symbol: str, limit: int) -> Sequence[Fill]:
        question = (
            select(FillRow)
            .where(FillRow.venue == venue, FillRow.account == account, FillRow.symbol == symbol)
            .order_by(FillRow.trade_id.desc())
            .limit(limit)
        )
        return self._database.read(
            lambda session: [fill_of(row) for row in session.scalars(question)][::-1]
        )

    def book(self, venue: str, account: str, fills: Sequence[Fill], now: datetime) -> int:
        return self._books.book(fills, now, account=account)

    # --- what no fill explains ----------------------------------------------------------------

    def open(
        self, venue: str, account: str, there: Balances, opened_at: datetime, now: datetime
    ) -> bool:
        def work(session: Session) -> bool:
            row = hold_account(session, venue, account, now)
            if row.opened_at is not None:
                return False
            openings = adjusting.openings(session, venue, account, there)
            adjusting.adjust(session, venue, account, openings, now)
            row.opened_at = opened_at
            return True

        return self._database.write(work)

    def adjust(
        self, venue: str, account: str, adjustments: Sequence[Adjustment], now: datetime
    ) -> int:
        def work(session: Session) -> int:
            hold_account(session, venue, account, now)
            return adjusting.adjust(session, venue, account, adjustments, now)

        return self._database.write(work)

    def keep_external(
        self, venue: str, account: str, reports: Sequence[ExternalOrder], now: datetime
    ) -> None:
        def work(session: Session) -> None:
            for report in sorted(reports, key=lambda each: each.venue_order_id):
                key = (venue, account, report.venue_order_id)
                row = session.get(ExternalOrderRow, key)
                if row is None:
                    row = ExternalOrderRow(
                        venue=venue,
                        account=account,
                        venue_order_id=report.venue_order_id,
                        client_order_id=report.client_order_id,
                        first_at=now,
                    )
                    session.add(row)
                row.last_at = now

        self._database.write(work)

    # --- the end ------------------------------------------------------------------------------

    def conclude(self, done: Reconciliation) -> bool:
        def work(session: Session) -> bool:
            row = hold_account(session, done.venue, done.account, done.at)
            if done.raised or not done.undecided:
                differences.note(session, done)
                row.reconciled_at = done.at
                row.is_clean = not done.raised
            if done.agrees:
                _mark(session, done)
            balances.keep(session, done.venue, done.account)
            row.reconciliation = _in_short(done)
            session.add(
                ReconciliationRow(
                    venue=done.venue,
                    account=done.account,
                    at=done.at,
                    is_clean=done.agrees,
                    result=_in_full(done),
                )
            )
            session.execute(
                delete(ReconciliationRow).where(
                    ReconciliationRow.venue == done.venue,
                    ReconciliationRow.account == done.account,
                    ReconciliationRow.at < done.at - KEPT_FOR,
                )
            )
            return row.is_clean

        return self._database.write(work)

    def accept(
        self, number: int, *, actor: str, reason: str, now: datetime, is_external: bool = False
    ) -> Raised:
        """End a difference by a person's word; what it moved is booked, and it is audited.

        ``is_external`` is money that somebody paid in or out; else it is a correction.
        The account is clean again only when the next reconciliation finds it so.
        """
        return self._database.write(
            lambda session: differences.accept(
                session, number, actor, reason, now, is_external=is_external
            )
        )


def _traded(session: Session, venue: str, account: str) -> set[str]:
    """Where fills of ours are, or may be in a moment."""
    held = select(PositionRow.symbol).where(
        PositionRow.venue == venue, PositionRow.account == account
    )
    ordered = select(OrderRow.symbol).where(
        OrderRow.venue == venue, OrderRow.account == account, OrderRow.is_open
    )
    return {*session.scalars(held.distinct()), *session.scalars(ordered.distinct())}


def _markets(session: Session, venue: str, account: str) -> list[str]:
    bots = select(BotRow.symbol).where(BotRow.venue == venue, BotRow.account == account)
    marked = select(AccountMarketRow.symbol).where(
        AccountMarketRow.venue == venue, AccountMarketRow.account == account
    )
    others = {*session.scalars(bots.distinct()), *session.scalars(marked)}
    return sorted(others | _traded(session, venue, account))


def _latest_trade(session: Session, venue: str, account: str, symbol: str) -> int | None:
    question = select(func.max(FillRow.trade_id)).where(
        FillRow.venue == venue, FillRow.symbol == symbol, FillRow.account == account
    )
    return session.scalars(question).one()


def _mark(session: Session, done: Reconciliation) -> None:
    place = {"venue": done.venue, "account": done.account}
    rows = [place | {"symbol": symbol, "trade_id": at} for symbol, at in sorted(done.marks.items())]
    if rows:
        save_latest(session, AccountMarketRow, rows)


def _in_short(done: Reconciliation) -> dict[str, Any]:
    raised = [f"{each.subject}: {each.words}" for each in done.raised]
    undecided = [f"{each.subject}: {each.words}" for each in done.undecided]
    return {
        "at": done.at.isoformat(),
        "agrees": done.agrees,
        "counts": dict(done.counts),
        "raised": raised[:10],
        "undecided": undecided[:10],
    }


def _in_full(done: Reconciliation) -> dict[str, Any]:
    return {
        "counts": dict(done.counts),
        "differences": [_said(each) for each in done.differences],
        "undecided": [_said(each) for each in done.undecided],
    }


def _said(each: Difference) -> dict[str, Any]:
    return {
        "kind": each.kind.value,
        "subject": each.subject,
        "words": each.words,
        "fate": each.fate.value,
        "asset": each.asset,
        "amount": each.amount,
    }
