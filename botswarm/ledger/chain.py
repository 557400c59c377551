"""The journal: double entry, append only, each entry bound to the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.order import Side
from botswarm.ledger.columns import plain
from botswarm.ledger.fold import EXACT, Assets, value
from botswarm.ledger.models import (
    AdjustmentRow,
    ChainHeadRow,
    EntryRow,
    FillRow,
    LedgerAccountRow,
    PostingRow,
)

FIRST_HASH = "0" * 64
Event = FillRow | AdjustmentRow
"""What an entry is about."""


@dataclass(frozen=True, slots=True)
class Posting:
    ledger_account: str
    asset: str
    amount: Decimal


def accounts_of(venue: str, account: str) -> tuple[str, str]:
    """What leaves these two has come to the account at the venue, and the other way round."""
    return f"clearing:{venue}:{account}", f"fees:{venue}:{account}"


def postings_of(event: Event) -> list[Posting]:
    if isinstance(event, AdjustmentRow):
        return _postings_of_adjustment(event)
    return _postings_of_fill(event)


def _postings_of_adjustment(row: AdjustmentRow) -> list[Posting]:
    """``opening``, ``external`` and ``correction`` say where it came from, or went to."""
    theirs, _ = accounts_of(row.venue, row.account)
    return [
        Posting(f"{row.kind}:{row.venue}:{row.account}", row.asset, row.amount),
        Posting(theirs, row.asset, row.amount.copy_negate()),
    ]


def _postings_of_fill(fill: FillRow) -> list[Posting]:
    """Base and quote change places between us and the venue; commission is a leg of its own."""
    assets = Assets.of(fill.symbol)
    sign = Side(fill.side).sign
    theirs, fees = accounts_of(fill.venue, fill.account)
    ours = f"external:{fill.venue}:{fill.account}" if fill.is_external else f"bot:{fill.bot}"
    with localcontext(EXACT):
        base, quote = sign * fill.quantity, -sign * value(fill.price, fill.quantity)
    postings = [
        Posting(ours, assets.base, base),
        Posting(theirs, assets.base, base.copy_negate()),
        Posting(ours, assets.quote, quote),
        Posting(theirs, assets.quote, quote.copy_negate()),
    ]
    if fill.commission:
        postings += [
            Posting(ours, fill.commission_asset, fill.commission.copy_negate()),
            Posting(fees, fill.commission_asset, fill.commission),
        ]
    return postings


def digest(previous: str, sequence: int, event: Event, postings: Sequence[Posting]) -> str:
    """SHA-256 over the hash before and everything the entry says, in one spelling."""
    row = {
        "sequence": sequence,
        **said(event),
        "postings": [[each.ledger_account, each.asset, plain(each.amount)] for each in postings],
    }
    spelled = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(previous.encode() + spelled.encode()).hexdigest()


def said(event: Event) -> dict[str, Any]:
    """What an entry is about, word for word as it is hashed."""
    if isinstance(event, AdjustmentRow):
        words = ("id", "venue", "account", "kind", "asset", "reason", "actor", "reference")
        said = {name: getattr(event, name) for name in words}
        return {"adjustment": said | {"amount": plain(event.amount), "at": event.at.isoformat()}}
    return {
        "fill": {
            "id": event.id,
            "venue": event.venue,
            "symbol": event.symbol,
            "trade_id": event.trade_id,
            "account": event.account,
            "client_order_id": event.client_order_id,
            "order_id": event.order_id,
            "bot": event.bot,
            "is_external": event.is_external,
            "side": event.side,
            "price": plain(event.price),
            "quantity": plain(event.quantity),
            "commission": plain(event.commission),
            "commission_asset": event.commission_asset,
            "at": event.at.isoformat(),
            "booked_at": event.booked_at.isoformat(),
        }
    }


def hold_head(session: Session) -> ChainHeadRow:
    """The end of the chain, locked until the transaction ends: one appends at a time."""
    return session.scalars(select(ChainHeadRow).with_for_update()).one()


def append(session: Session, head: ChainHeadRow, events: Sequence[Event], now: datetime) -> None:
    """Enter what already has its row numbers."""
    legs = [postings_of(event) for event in events]
    _open_accounts(session, {leg.ledger_account for each in legs for leg in each}, now)
    first = head.sequence + 1
    for sequence, (event, each) in enumerate(zip(events, legs, strict=True), start=first):
        hashed = digest(head.hash, sequence, event, each)
        of_fill = isinstance(event, FillRow)
        session.add(
            EntryRow(
                sequence=sequence,
                fill_id=event.id if of_fill else None,
                adjustment_id=None if of_fill else event.id,
                previous_hash=head.hash,
                hash=hashed,
            )
        )
        head.sequence, head.hash = sequence, hashed
    session.flush()
    session.add_all(
        PostingRow(
            sequence=sequence,
            line=line,
            ledger_account=leg.ledger_account,
            asset=leg.asset,
            amount=leg.amount,
        )
        for sequence, each in enumerate(legs, start=first)
        for line, leg in enumerate(each, start=1)
    )


def _open_accounts(session: Session, names: set[str], now: datetime) -> None:
    known = session.scalars(
        select(LedgerAccountRow.name).where(LedgerAccountRow.name.in_(names))
    ).all()
    session.add_all(
        LedgerAccountRow(name=name, created_at=now) for name in sorted(names.difference(known))
    )
    session.flush()
