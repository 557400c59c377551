"""Sealed keys of exchange accounts, a row for each; what they hold is known elsewhere only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.errors import NotFound, Refused
from botswarm.ledger.models import AuditRow, ExchangeKeyRow, OrderRow
from botswarm.ledger.session import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The parts of an envelope, as they stand in the row."""

    master_id: str
    wrap_nonce: bytes
    wrapped_key: bytes
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKey:
    venue: str
    account: str
    kind: str
    version: int
    """Counts the exchange keys that the account has had."""
    created_at: datetime
    changed_at: datetime
    tested_at: datetime | None
    test: Mapping[str, Any] | None
    envelope: Sealed


class ExchangeKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Sequence[KeptKey]:
        row = ExchangeKeyRow
        question = select(row).order_by(row.venue, row.account)
        return self._database.read(
            lambda session: [_kept(each) for each in session.scalars(question)]
        )

    def get(self, venue: str, account: str) -> KeptKey:
        found = self._database.read(
            lambda session: (
                None
                if (row := session.get(ExchangeKeyRow, (venue, account))) is None
                else _kept(row)
            )
        )
        if found is None:
            raise _unknown(venue, account)
        return found

    def add(
        self, venue: str, account: str, kind: str, envelope: Sealed, *, now: datetime, actor: str
    ) -> KeptKey:
        """Raises Refused where the account has a key already."""

        def work(session: Session) -> KeptKey:
            if session.get(ExchangeKeyRow, (venue, account)) is not None:
                raise Refused(
                    f"{venue}:{account} has a key already",
                    cure=f"change it with: botswarm account rotate {venue}:{account}",
                )
            row = ExchangeKeyRow(
                venue=venue,
                account=account,
                kind=kind,
                version=1,
                created_at=now,
                changed_at=now,
                **_columns(envelope),
            )
            session.add(row)
            session.add(_audit("add", row, None, {"kind": kind, "version": 1}, actor, now))
            return _kept(row)

        return self._database.write(work)

    def rotate(
        self, venue: str, account: str, version: int, envelope: Sealed, *, now: datetime, actor: str
    ) -> KeptKey:
        """Another key in the place of ``version``. Raises Refused where that is not the last."""

        def work(session: Session) -> KeptKey:
            row = _row(session, venue, account)
            if row.version != version:
                raise Refused(
                    f"somebody else has changed the key of {venue}:{account} meanwhile",
                    cure="look at botswarm account list, and try again if it is still meant",
                )
            before = {"version": row.version}
            row.version, row.changed_at = version + 1, now
            row.tested_at = row.test = None
            _put(row, envelope)
            session.add(_audit("rotate", row, before, {"version": row.version}, actor, now))
            return _kept(row)

        return self._database.write(work)

    def rewrap(self, change: Callable[[KeptKey], Sealed], *, now: datetime, actor: str) -> int:
        """All of them under another master key, in one transaction; how many there were."""

        def work(session: Session) -> int:
            rows = list(session.scalars(select(ExchangeKeyRow).with_for_update()))
            for row in rows:
                before, envelope = row.master_id, change(_kept(row))
                _put(row, envelope)
                after = {"master_id": envelope.master_id}
                session.add(_audit("rewrap", row, {"master_id": before}, after, actor, now))
            return len(rows)

        return self._database.write(work)

    def note_test(self, venue: str, account: str, test: Mapping[str, Any], now: datetime) -> None:
        def work(session: Session) -> None:
            row = _row(session, venue, account)
            row.tested_at, row.test = now, dict(test)

        self._database.write(work)

    def remove(self, venue: str, account: str, *, now: datetime, actor: str, reason: str) -> None:
        """Raises Refused while an order of the account is open: nobody could look after it."""

        def work(session: Session) -> None:
            row = _row(session, venue, account)
            is_open = select(OrderRow.id).where(
                OrderRow.venue == venue, OrderRow.account == account, OrderRow.is_open
            )
            if session.scalar(is_open.limit(1)) is not None:
                raise Refused(
                    f"{venue}:{account} has open orders, which need its key",
                    cure="cancel them first: botswarm order cancel",
                )
            before = {"kind": row.kind, "version": row.version}
            session.add(_audit("remove", row, before, None, actor, now, reason))
            session.delete(row)

        self._database.write(work)


def _row(session: Session, venue: str, account: str) -> ExchangeKeyRow:
    row = session.get(ExchangeKeyRow, (venue, account), with_for_update=True)
    if row is None:
        raise _unknown(venue, account)
    return row


def _unknown(venue: str, account: str) -> NotFound:
    return NotFound(
        f"no key is kept for {venue}:{account}", cure=f"botswarm account add {venue}:{account}"
    )


def _columns(envelope: Sealed) -> dict[str, Any]:
    return {
        "master_id": envelope.master_id,
        "wrap_nonce": envelope.wrap_nonce,
        "wrapped_key": envelope.wrapped_key,
        "nonce": envelope.nonce,
        "sealed": envelope.sealed,
    }


def _put(row: ExchangeKeyRow, envelope: Sealed) -> None:
    for name, value in _columns(envelope).items():
        setattr(row, name, value)


def _kept(row: ExchangeKeyRow) -> KeptKey:
    return KeptKey(
        venue=row.venue,
        account=row.account,
        kind=row.kind,
        version=row.version,
        created_at=row.created_at,
        changed_at=row.changed_at,
        tested_at=row.tested_at,
        test=row.test,
        envelope=Sealed(
            master_id=row.master_id,
            wrap_nonce=row.wrap_nonce,
            wrapped_key=row.wrapped_key,
            nonce=row.nonce,
            sealed=row.sealed,
        ),
    )


def _audit(
    action: str,
    row: ExchangeKeyRow,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    actor: str,
    now: datetime,
    reason: str = "",
) -> AuditRow:
    return AuditRow(
        at=now,
        actor=actor,
        action=f"key.{action}",
        subject=f"account:{row.venue}:{row.account}",
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        reason=reason,
    )
