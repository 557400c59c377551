"""The journal: double entry, append only, each entry bound to the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain
from botswarm.domain.order import Side
from botswarm.ledger.fold import EXACT, Assets, value
from botswarm.ledger.models import (
    AdjustmentRow,
    ChainHeadRow,
    EntryRow,
    FillRow,
    LedgerAccountRow,
    PostingRow,
)
from botswarm.ledger.writes import Writes

FIRST_HASH = "0" * 64
Event = FillRow | AdjustmentRow
"""What an entry is about."""


_HOLD_HEAD = select(ChainHeadRow.sequence, ChainHeadRow.hash).with_for_update()
_MOVE_HEAD = update(ChainHeadRow).values(
    sequence=bindparam("new_sequence", type_=ChainHeadRow.sequence.type),
    hash=bindparam("new_hash", type_=ChainHeadRow.hash.type),
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends."""

    sequence: int
    hash: str


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


def hold_head(session: Session) -> Head:
    """The end of the chain, locked until the transaction ends: one appends at a time.

    Who holds it may lock bots and markets, and no account or order that he does not hold already.
    """
    row = session.connection().execute(_HOLD_HEAD).one()
    return Head(row.sequence, row.hash)


def append(writes: Writes, head: Head, events: Sequence[Event], now: datetime) -> None:
    """Enter what already has its row numbers; the caller holds the head."""
    legs = [postings_of(event) for event in events]
    names = sorted({leg.ledger_account for each in legs for leg in each})
    writes.insert(
        LedgerAccountRow,
        [{"name": name, "created_at": now} for name in names],
        known="leave",
    )
    sequence, hashed = head.sequence, head.hash
    entries, postings = [], []
    for event, each in zip(events, legs, strict=True):
        sequence, before = sequence + 1, hashed
        hashed = digest(before, sequence, event, each)
        of_fill = isinstance(event, FillRow)
        entries.append(
            {
                "sequence": sequence,
                "fill_id": event.id if of_fill else None,
                "adjustment_id": None if of_fill else event.id,
                "previous_hash": before,
                "hash": hashed,
            }
        )
        postings += [
            {
                "sequence": sequence,
                "line": line,
                "ledger_account": leg.ledger_account,
                "asset": leg.asset,
                "amount": leg.amount,
            }
            for line, leg in enumerate(each, start=1)
        ]
    writes.insert(EntryRow, entries)
    writes.insert(PostingRow, postings)
    writes.run(_MOVE_HEAD, {"new_sequence": sequence, "new_hash": hashed})
