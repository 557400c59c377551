"""Which protections people switched on, for which scope, and the stops that guard positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.limits import level_of
from botswarm.domain.protections import Protection, ProtectionKind
from botswarm.errors import NotFound, Refused
from botswarm.ledger.models import AuditRow
from botswarm.ledger.session import Database, save_latest
from botswarm.ledger.sweep_models import GuardRow, ProtectionRow

SET, UNSET = "protection.set", "protection.unset"
KNOWN = frozenset(each.value for each in ProtectionKind)
Place = tuple[str, str, str, str]
"""Bot, venue, account and symbol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    protection: Protection
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The stop of a position as it was left."""

    bot: str
    venue: str
    account: str
    symbol: str
    kind: str
    best_price: Decimal | None
    stop_price: Decimal
    quantity: Decimal
    order_id: str | None
    number: int
    at: datetime
    words: str | None

    @property
    def place(self) -> Place:
        return self.bot, self.venue, self.account, self.symbol


class Protections:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[Said]:
        question = select(ProtectionRow).order_by(ProtectionRow.scope, ProtectionRow.kind)
        return self._database.read(
            lambda session: [_said(row) for row in session.scalars(question) if row.kind in KNOWN]
        )

    def set(self, protection: Protection, *, actor: str, reason: str, now: datetime) -> Said:
        """In place of what was said before, and audited."""
        level_of(protection.scope)

        def work(session: Session) -> Said:
            key = protection.scope, protection.kind.value
            row = session.get(ProtectionRow, key, with_for_update=True)
            before = None if row is None else dict(row.parameters)
            if row is None:
                row = ProtectionRow(scope=protection.scope, kind=protection.kind.value)
                session.add(row)
            row.parameters = {
                name: plain(value) for name, value in sorted(protection.parameters.items())
            }
            row.at, row.actor, row.reason = now, actor, reason
            _note(session, SET, row, before, dict(row.parameters))
            return _said(row)

        return self._database.write(work)

    def unset(
        self, scope: str, kind: ProtectionKind, *, actor: str, reason: str, now: datetime
    ) -> None:
        """Raises NotFound where it was not on."""

        def work(session: Session) -> None:
            row = session.get(ProtectionRow, (scope, kind.value), with_for_update=True)
            if row is None:
                raise NotFound(
                    f"{kind} is not on for {scope}", cure="see: botswarm risk protections"
                )
            row.at, row.actor, row.reason = now, actor, reason
            _note(session, UNSET, row, dict(row.parameters), None)
            session.delete(row)

        self._database.write(work)

    # --- stops ------------------------------------------------------------------------------

    def guards(self) -> dict[Place, Guard]:
        return self._database.read(
            lambda session: {
                (row.bot, row.venue, row.account, row.symbol): _guard(row)
                for row in session.scalars(select(GuardRow))
            }
        )

    def keep_guards(self, guards: Sequence[Guard]) -> None:
        def work(session: Session) -> None:
            # In one order everywhere, so that sweeps that run at once do not wait in a circle.
            ordered = sorted(guards, key=lambda each: each.place)
            rows = [{name: getattr(each, name) for name in _FIELDS} for each in ordered]
            save_latest(session, GuardRow, rows)

        if guards:
            self._database.write(work)


_FIELDS = tuple(Guard.__dataclass_fields__)


def _guard(row: GuardRow) -> Guard:
    return Guard(**{name: getattr(row, name) for name in _FIELDS})


def _said(row: ProtectionRow) -> Said:
    values = {name: Decimal(value) for name, value in row.parameters.items()}
    try:
        protection = Protection.of(row.scope, ProtectionKind(row.kind), values)
    except Refused as error:
        raise Refused(
            f"the protection {row.kind} of {row.scope} makes no sense: {error.cause}",
            cure=f"botswarm risk protections unset {row.kind} --for {row.scope}",
        ) from error
    return Said(protection=protection, at=row.at, actor=row.actor, reason=row.reason)


def _note(
    session: Session,
    action: str,
    row: ProtectionRow,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    session.add(
        AuditRow(
            at=row.at,
            actor=row.actor,
            action=action,
            subject=row.scope,
            before=None if before is None else {"kind": row.kind, **before},
            after=None if after is None else {"kind": row.kind, **after},
            reason=row.reason,
        )
    )
