"""What stands at risk, by scope and by market of an account, as the last sweep reckoned it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.standing import AtRisk, MarketExposure
from botswarm.ledger.halts import bot_scope
from botswarm.ledger.models import Table
from botswarm.ledger.session import Database
from botswarm.ledger.sweep_models import ExposureRow, StandingRow
from botswarm.ledger.writes import Writes

Key = tuple[str, str]
"""A scope and a quote asset."""
FIELDS = tuple(AtRisk.__dataclass_fields__)
EXPOSURE_FIELDS = tuple(MarketExposure.__dataclass_fields__)
_COLUMNS = tuple(getattr(StandingRow, name) for name in FIELDS)
_EXPOSURE_COLUMNS = tuple(getattr(ExposureRow, name) for name in EXPOSURE_FIELDS)
NO_OPTIONS: Mapping[str, Any] = {}
SCOPES_MAX = 500
"""Of one question, which databases would else refuse as too long."""
ROWS_MAX = 500


class RiskStandings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[AtRisk]:
        return self._database.read(lambda session: list(everything(session).values()))

    def of(self, scopes: Iterable[str]) -> Mapping[Key, AtRisk]:
        return self._database.read(lambda session: standings_of(session, scopes))

    def exposures(
        self, venue: str | None = None, account: str | None = None
    ) -> Sequence[MarketExposure]:
        return self._database.read(lambda session: exposures_of(session, venue, account))


def everything(session: Session, *, but_bots: bool = False) -> dict[Key, AtRisk]:
    question = select(*_COLUMNS)
    if but_bots:
        question = question.where(StandingRow.scope.not_like(f"{bot_scope('')}%"))
    return {(row.scope, row.quote): _at_risk(row) for row in session.execute(question)}


def standings_of(
    session: Session, scopes: Iterable[str], options: Mapping[str, Any] = NO_OPTIONS
) -> dict[Key, AtRisk]:
    """Those that are there: a scope that no sweep has met has none, and nothing is known of it.

    ``options`` are of the execution: who asks for few, again and again, may have it prepared.
    """
    wanted, found = sorted(set(scopes)), dict[Key, AtRisk]()
    for begin in range(0, len(wanted), SCOPES_MAX):
        some = wanted[begin : begin + SCOPES_MAX]
        question = select(*_COLUMNS).where(StandingRow.scope.in_(some))
        rows = session.execute(question, execution_options=options)
        found |= {(row.scope, row.quote): _at_risk(row) for row in rows}
    return found


def exposures_of(
    session: Session, venue: str | None = None, account: str | None = None
) -> list[MarketExposure]:
    question = select(*_EXPOSURE_COLUMNS)
    if venue is not None:
        question = question.where(ExposureRow.venue == venue)
    if account is not None:
        question = question.where(ExposureRow.account == account)
    return [_exposure(row) for row in session.execute(question)]


def keep(session: Session, standings: Iterable[AtRisk]) -> None:
    rows = [{name: getattr(each, name) for name in FIELDS} for each in standings]
    if rows:
        rows.sort(key=lambda row: (row["scope"], row["quote"]))
        _write(session, StandingRow, rows)


def keep_exposures(session: Session, exposures: Iterable[MarketExposure]) -> None:
    rows = [{name: getattr(each, name) for name in EXPOSURE_FIELDS} for each in exposures]
    if rows:
        rows.sort(key=lambda row: (row["venue"], row["account"], row["symbol"]))
        _write(session, ExposureRow, rows)


def _write(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> None:
    """Many rows in one statement: there may be thousands, and every sweep brings them all."""
    session.flush()
    writes = Writes(session)
    for begin in range(0, len(rows), ROWS_MAX):
        writes.insert(table, rows[begin : begin + ROWS_MAX], known="replace")
        writes.send()


def _at_risk(row: Any) -> AtRisk:
    return AtRisk(**{name: getattr(row, name) for name in FIELDS})


def _exposure(row: Any) -> MarketExposure:
    return MarketExposure(**{name: getattr(row, name) for name in EXPOSURE_FIELDS})
