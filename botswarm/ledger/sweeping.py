"""What risk sweeps read of the ledger at one moment, and the one way their sums get into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.standing import AtRisk, HeldPosition, Mark, MarketExposure
from botswarm.ledger import halts, marks, outcomes, risk_standings
from botswarm.ledger.account_models import AccountFoldRow
from botswarm.ledger.balances import of_row
from botswarm.ledger.findings import hold
from botswarm.ledger.fold import EXACT, QUANTUM
from botswarm.ledger.models import AuditRow, BotRow, ChainHeadRow, PositionRow
from botswarm.ledger.open_orders import quote_of
from botswarm.ledger.risk_models import LimitRow
from botswarm.ledger.session import Database
from botswarm.ledger.sweep_models import StandingRow

CURSOR = "standings"
AMOUNTS = ("realised", "unrealised", "day_result", "peak", "equity", "equity_peak", "gross", "net")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All of it from one moment: a fill booked between two questions would be counted twice."""

    sequence: int
    positions: Sequence[HeldPosition]
    marks: Mapping[tuple[str, str], Mark]
    balances: Mapping[tuple[str, str], Mapping[str, Decimal]]
    limited: frozenset[str]
    """Scopes for which somebody has set a limit."""


class Sweeping:
    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self) -> Snapshot:
        return self._database.read(_look)

    def before(self, bots: Sequence[str]) -> Mapping[Key, AtRisk]:
        """What was reckoned last: of these bots, and of all that is no bot."""

        def work(session: Session) -> Mapping[Key, AtRisk]:
            scopes = [halts.bot_scope(bot) for bot in bots]
            return {
                **risk_standings.everything(session, but_bots=True),
                **risk_standings.standings_of(session, scopes),
            }

        return self._database.read(work)

    def streaks(self, scopes: Sequence[str]) -> Mapping[str, tuple[int, datetime | None]]:
        return self._database.read(
            lambda session: {scope: outcomes.streak(session, scope) for scope in scopes}
        )

    def realised_since(
        self, after: datetime, bots: Sequence[str] | None = None
    ) -> Mapping[Key, Decimal]:
        return self._database.read(lambda session: outcomes.realised_since(session, after, bots))

    def keep(
        self, standings: Sequence[AtRisk], exposures: Sequence[MarketExposure], now: datetime
    ) -> bool:
        """False where another sweep has looked later: the newest reckoning stands."""

        def work(session: Session) -> bool:
            cursor = hold(session, CURSOR, now)
            sequence = max((each.sequence or 0 for each in standings), default=0)
            if cursor.position > sequence or (cursor.at > now and cursor.position == sequence):
                return False
            cursor.position, cursor.at = sequence, now
            risk_standings.keep(session, [_kept(each) for each in standings])
            risk_standings.keep_exposures(session, exposures)
            return True

        return self._database.write(work)

    def reset(self, scope: str, now: datetime, *, actor: str, reason: str) -> int:
        """Let the peak and the trading day of a scope begin anew, by a person's word; audited.

        Answers how many rows that were.
        """

        def work(session: Session) -> int:
            cursor = hold(session, CURSOR, now)
            # A sweep that is under way has read what stood before: what it reckons is not kept.
            head = session.execute(select(ChainHeadRow.sequence)).scalar_one()
            cursor.position, cursor.at = max(cursor.position, head), max(cursor.at, now)
            rows = session.scalars(select(StandingRow).where(StandingRow.scope == scope)).all()
            for row in rows:
                before = {"quote": row.quote, "peak": row.peak, "day_result": row.day_result}
                if row.unrealised is not None:
                    row.peak = row.day_result = EXACT.add(row.realised, row.unrealised)
                    row.peak_at = now
                row.equity_peak = row.equity
                after = {"quote": row.quote, "peak": row.peak, "day_result": row.day_result}
                session.add(
                    AuditRow(
                        at=now,
                        actor=actor,
                        action="risk.reset",
                        subject=scope,
                        before=before,
                        after=after,
                        reason=reason,
                    )
                )
            return len(rows)

        return self._database.write(work)


def _look(session: Session) -> Snapshot:
    connection = session.connection()
    head = connection.execute(select(ChainHeadRow.sequence)).scalar_one()
    question = select(
        *(PositionRow.bot, BotRow.strategy, PositionRow.venue, PositionRow.account),
        *(PositionRow.symbol, PositionRow.quantity, PositionRow.cost, PositionRow.realised),
    ).outerjoin(BotRow, BotRow.name == PositionRow.bot)
    folds = session.scalars(select(AccountFoldRow))
    return Snapshot(
        sequence=head,
        positions=[_position(row) for row in connection.execute(question)],
        marks=marks.all_of(session),
        balances={(row.venue, row.account): of_row(row) for row in folds},
        limited=frozenset(session.scalars(select(LimitRow.scope).distinct())),
    )


def _position(row: Any) -> HeldPosition:
    bot, strategy, venue, account, symbol, quantity, cost, realised = row
    return HeldPosition(
        bot=bot,
        strategy=strategy,
        venue=venue,
        account=account,
        symbol=symbol,
        quote=quote_of(symbol),
        quantity=quantity,
        cost=cost,
        realised=realised,
    )


def _kept(each: AtRisk) -> AtRisk:
    """To the last decimal that the books keep."""
    values = {name: getattr(each, name) for name in risk_standings.FIELDS}
    for name in AMOUNTS:
        if (amount := values[name]) is not None:
            values[name] = amount.quantize(QUANTUM, context=EXACT)
    return AtRisk(**values)
