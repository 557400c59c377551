"""What is known at the end of a campaign: the ledger's rows, the exchange's journal, our notes."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.chaos.campaign.load import Tally
from botswarm.chaos.campaign.runner import Note, Timeline
from botswarm.chaos.campaign.stage import Stage
from botswarm.domain.instrument import Instrument
from botswarm.exchanges.registry import PAPER, SIMULATED
from botswarm.ledger.exchange_journal import OURS, verify_against
from botswarm.ledger.models import AttemptRow, FillRow, OrderEventRow, OrderRow
from botswarm.ledger.verify import Verification

UNEXPECTED = re.compile(
    r"(?:raised unexpected|Unrecoverable error): (\w+)"
    r"|\"message\": \"(?:uncaught exception|[^\"]*\ba defect\b)[^\"]*\".*?\"error\": \"(\w+)"
)
"""As Celery writes it of a task and of a worker, and as we do of the rest: the error's type."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt, read back from the very bytes that were committed."""

    number: int
    signed_at: datetime
    fence_at: datetime
    said: Mapping[str, str]
    """Its parameters by name."""

    @property
    def timestamp_ms(self) -> int:
        return int(self.said["timestamp"])

    @property
    def window_ms(self) -> int:
        return int(self.said["recvWindow"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: str
    client_order_id: str
    symbol: str
    side: str
    state: str
    is_open: bool
    quantity: Decimal
    filled: Decimal
    signal_expires_at: datetime


@dataclass(slots=True, kw_only=True)
class Evidence:
    orders: Mapping[str, Order]
    """By id."""
    events: Mapping[str, Sequence[Event]]
    attempts: Mapping[str, Sequence[Sent]]
    fills: Sequence[tuple[str, str, int, str, str | None]]
    """Venue, account, trade id, symbol and order of every fill that is booked."""
    money: Mapping[str, Decimal]
    """What the booked fills have done to the account, by asset."""
    journal: Mapping[str, Sequence[Entry]]
    """The exchange's entries about our orders, by client order id."""
    rejects: Counter[int]
    deposits: Mapping[str, Decimal]
    balances: Mapping[str, Decimal]
    """Free and locked, by the exchange's own answer."""
    verification: Verification
    instruments: Mapping[str, Instrument]
    tally: Tally
    notes: Sequence[Note]
    timeline: Timeline
    skews: Sequence[tuple[float, float]]
    storms: Sequence[Mapping[str, Any]] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    stops: Sequence[float] = ()
    feed_mb: Sequence[float] = ()
    drained_s: float = 0.0
    left: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    roles: Sequence[str] = ()
    """The processes that were to be there at the end."""
    builds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the processes said at the end that they are made of, and which said so."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Errors that ended a task and that nobody had thought of."""
    settings: Mapping[str, str] = field(default_factory=dict)
    began: float = 0.0
    """Wall time of the campaign's first second; notes count from there."""

    def offset_at(self, at: float) -> Sequence[float]:
        """How far off the exchange's clock was around that moment: all it may have been."""
        before = [seconds for when, seconds in self.skews if when <= at - 2]
        around = [seconds for when, seconds in self.skews if at - 2 < when <= at + 2]
        return [before[-1] if before else 0.0, *around]

    def accepted(self) -> Mapping[str, int]:
        """How many orders of each name the exchange took; more than one is one too many, also
        where all of them were ended before anything came of them.
        """
        return {
            client_id: count
            for client_id, entries in self.journal.items()
            if (count := sum(entry["type"] == "order" for entry in entries))
        }

    def ended_at(self) -> Mapping[str, float]:
        """When the exchange had ended the last order of a name; infinite while one is live."""
        found = {}
        for client_id, entries in self.journal.items():
            taken = {entry["order_id"] for entry in entries if entry["type"] == "order"}
            ends = {entry["order_id"]: entry["at"] / 1000 for entry in entries if _is_end(entry)}
            if taken:
                found[client_id] = max(ends.get(order_id, math.inf) for order_id in taken)
        return found


def _is_end(entry: Entry) -> bool:
    return entry["type"] in ("cancel", "expire") or entry.get("status") == "FILLED"


def gather(
    stage: Stage, *, tally: Tally, notes: Sequence[Note], timeline: Timeline, **rest: Any
) -> Evidence:
    """Everything at one time; the swarm is quiet by then."""
    journal: dict[str, list[Entry]] = defaultdict(list)
    rejects: Counter[int] = Counter()
    deposits: Counter[str] = Counter()
    for entry in stage.exchange.journal():
        if entry["type"] == "deposit" and entry["account"] == PAPER:
            deposits[entry["asset"]] += Decimal(entry["amount"])  # type: ignore[assignment]
        elif entry["type"] == "reject":
            rejects[entry["code"]] += 1
        elif OURS.fullmatch(str(entry.get("client_order_id", ""))):
            journal[entry["client_order_id"]].append(entry)
    rows = stage.ledger.database.read(_rows)
    account = stage.exchange.signed("GET", "/api/v3/account").body
    stage.note_exchange()
    return Evidence(
        **rows,
        journal=journal,
        rejects=rejects,
        deposits=deposits,  # type: ignore[arg-type]
        balances={
            row["asset"]: Decimal(row["free"]) + Decimal(row["locked"])
            for row in account["balances"]
        },
        verification=verify_against(stage.ledger.database, stage.exchange.journal_path),
        instruments={each.symbol: each for each in stage.ledger.books.instruments(SIMULATED)},
        tally=tally,
        notes=notes,
        timeline=timeline,
        skews=stage.skews,
        storms=stage.storms,
        refused=stage.refused,
        stops=stage.stops,
        feed_mb=stage.feed_mb,
        unexpected=_unexpected(stage),
        **rest,
    )


def _unexpected(stage: Stage) -> Counter[str]:
    found: Counter[str] = Counter()
    for log in stage.folder.glob("*.log"):
        with log.open(encoding="utf-8", errors="replace") as lines:
            found.update(unexpected(lines))
    return found


def unexpected(lines: Iterable[str]) -> Iterator[str]:
    """What kind of error ended a task, a process or a round of something that goes on."""
    for line in lines:
        if (told := UNEXPECTED.search(line)) is not None:
            yield told[1] or told[2]


def _rows(session: Session) -> dict[str, Any]:
    events: dict[str, list[Event]] = defaultdict(list)
    for event in session.scalars(select(OrderEventRow).order_by(OrderEventRow.id)):
        events[event.order_id].append(Event(event.id, event.before, event.after))
    attempts: dict[str, list[Sent]] = defaultdict(list)
    for row in session.scalars(select(AttemptRow).order_by(AttemptRow.number)):
        query = row.payload.decode("ascii").partition("?")[2]
        said = {name: values[-1] for name, values in parse_qs(query).items()}
        attempts[row.order_id].append(Sent(row.number, row.signed_at, row.fence_at, said))
    money: Counter[str] = Counter()
    fills = []
    for fill in session.scalars(select(FillRow)):
        base, quote = fill.symbol.split("-")
        sign = 1 if fill.side == "buy" else -1
        money[base] += sign * fill.quantity  # type: ignore[assignment]
        money[quote] -= sign * fill.quantity * fill.price  # type: ignore[assignment]
        money[fill.commission_asset] -= fill.commission  # type: ignore[assignment]
        fills.append((fill.venue, fill.account, fill.trade_id, fill.symbol, fill.order_id))
    orders = {
        row.id: Order(
            id=row.id,
            client_order_id=row.client_order_id,
            symbol=row.symbol,
            side=row.side,
            state=row.state,
            is_open=row.is_open,
            quantity=row.quantity,
            filled=row.filled_quantity,
            signal_expires_at=row.signal_expires_at,
        )
        for row in session.scalars(select(OrderRow))
    }
    return {
        "orders": orders,
        "events": events,
        "attempts": attempts,
        "fills": fills,
        "money": money,
    }
