"""The journal of fills: double entry, append only, each entry bound to the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.order import Side
from botswarm.ledger.columns import plain
from botswarm.ledger.fold import EXACT, Assets, value
from botswarm.ledger.models import ChainHeadRow, EntryRow, FillRow, LedgerAccountRow, PostingRow

FIRST_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Posting:
    ledger_account: str
    asset: str
    amount: Decimal


def postings_of(fill: FillRow) -> list[Posting]:
    """Base and quote change places between us and the venue; commission is a leg of its own."""
    assets = Assets.of(fill.symbol)
    sign = Side(fill.side).sign
    place = f"{fill.venue}:{fill.account}"
    ours = f"external:{place}" if fill.is_external else f"bot:{fill.bot}"
    theirs = f"clearing:{place}"
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
            Posting(f"fees:{place}", fill.commission_asset, fill.commission),
        ]
    return postings


def digest(previous: str, sequence: int, fill: FillRow, postings: Sequence[Posting]) -> str:
    """SHA-256 over the hash before and everything the entry says, in one spelling."""
    row = {
        "sequence": sequence,
        "fill": {
            "id": fill.id,
            "venue": fill.venue,
            "symbol": fill.symbol,
            "trade_id": fill.trade_id,
            "account": fill.account,
            "client_order_id": fill.client_order_id,
            "order_id": fill.order_id,
            "bot": fill.bot,
            "is_external": fill.is_external,
            "side": fill.side,
            "price": plain(fill.price),
            "quantity": plain(fill.quantity),
            "commission": plain(fill.commission),
            "commission_asset": fill.commission_asset,
            "at": fill.at.isoformat(),
            "booked_at": fill.booked_at.isoformat(),
        },
        "postings": [[each.ledger_account, each.asset, plain(each.amount)] for each in postings],
    }
    spelled = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(previous.encode() + spelled.encode()).hexdigest()


def hold_head(session: Session) -> ChainHeadRow:
    """The end of the chain, locked until the transaction ends: one appends at a time."""
    return session.scalars(select(ChainHeadRow).with_for_update()).one()


def append(session: Session, head: ChainHeadRow, fills: Sequence[FillRow], now: datetime) -> None:
    """Enter fills that already have their row numbers."""
    legs = {fill.id: postings_of(fill) for fill in fills}
    _open_accounts(session, {leg.ledger_account for each in legs.values() for leg in each}, now)
    for fill in fills:
        sequence = head.sequence + 1
        hashed = digest(head.hash, sequence, fill, legs[fill.id])
        session.add(
            EntryRow(sequence=sequence, fill_id=fill.id, previous_hash=head.hash, hash=hashed)
        )
        head.sequence, head.hash = sequence, hashed
    session.flush()
    first = head.sequence - len(fills) + 1
    session.add_all(
        PostingRow(
            sequence=sequence,
            line=line,
            ledger_account=leg.ledger_account,
            asset=leg.asset,
            amount=leg.amount,
        )
        for sequence, fill in enumerate(fills, start=first)
        for line, leg in enumerate(legs[fill.id], start=1)
    )


def _open_accounts(session: Session, names: set[str], now: datetime) -> None:
    known = session.scalars(
        select(LedgerAccountRow.name).where(LedgerAccountRow.name.in_(names))
    ).all()
    session.add_all(
        LedgerAccountRow(name=name, created_at=now) for name in sorted(names.difference(known))
    )
    session.flush()
