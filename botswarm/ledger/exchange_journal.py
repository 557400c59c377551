"""Hold the ledger against an exchange's own journal: nothing lost, doubled or unknown."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.order import NOT_PLACED, OrderState
from botswarm.errors import BotswarmError, NotFound, Unreachable
from botswarm.ledger.models import FillRow, OrderRow
from botswarm.ledger.session import Database
from botswarm.ledger.verify import Verification, check_books

OURS = re.compile(r"[0-9a-f]{32}")
"""What our client order ids look like; whoever trades by hand uses others."""
LEDGER_ONLY = frozenset((OrderState.SENDING, OrderState.UNKNOWN)) | NOT_PLACED
"""States in which the venue need not have heard of the order."""

FillKey = tuple[str, int, str]


@dataclass(slots=True)
class VenueOrder:
    order_id: str
    client_order_id: str
    is_ended: bool = False
    filled: Decimal = Decimal(0)

    @property
    def counts(self) -> bool:
        """Live, or executed at least in part."""
        return not self.is_ended or self.filled > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFill:
    client_order_id: str
    side: str
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str


@dataclass(slots=True)
class Journal:
    """What the exchange says it accepted, by our names."""

    orders: dict[str, list[VenueOrder]] = field(default_factory=lambda: defaultdict(list))
    fills: dict[FillKey, VenueFill] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)

    def take(self, entry: dict[str, Any]) -> None:
        kind = entry["type"]
        if kind not in ("order", "fill", "cancel", "expire"):
            return
        client_id, order_id = entry["client_order_id"], str(entry["order_id"])
        if not OURS.fullmatch(client_id):
            self.external.add(order_id)
        elif kind == "order":
            self.orders[client_id].append(VenueOrder(order_id, client_id))
        else:
            order = self._order(client_id, order_id)
            if kind == "fill":
                order.filled += Decimal(entry["quantity"])
                order.is_ended = order.is_ended or entry.get("status") == "FILLED"
                # Where its protocol names trades, the number that such a name is kept under.
                trade_id = entry.get("named_trade", entry["trade_id"])
                self.fills[_plain(entry["symbol"]), trade_id, client_id] = VenueFill(
                    client_order_id=client_id,
                    side=entry["side"],
                    price=Decimal(entry["price"]),
                    quantity=Decimal(entry["quantity"]),
                    commission=Decimal(entry["commission"]),
                    commission_asset=entry["commission_asset"],
                )
            else:
                order.is_ended = True

    def _order(self, client_id: str, order_id: str) -> VenueOrder:
        for order in self.orders[client_id]:
            if order.order_id == order_id:
                return order
        raise KeyError(f"order {order_id} before it was accepted")


def read(path: Path) -> Journal:
    """Every whole line; a half one at the end is still being written."""
    journal = Journal()
    for number, line in _lines(path):
        try:
            journal.take(json.loads(line))
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise BotswarmError(
                f"line {number} of {path} cannot be read: {error}",
                cure="name the journal that the simulated exchange writes",
            ) from error
    return journal


def verify_against(database: Database, path: Path) -> Verification:
    """The books, and every order and fill of the journal.

    The journal is read first: what it accepted was in the ledger before it was sent. What the
    ledger knows and that reading did not is looked for in a second one.
    """
    journal = read(path)

    def work(session: Session) -> tuple[Verification, set[str]]:
        done = check_books(session)
        ours = _check_orders(session, done, journal)
        _check_fills(session, done, journal, ours)
        return done, {row for row, state in ours.items() if state not in LEDGER_ONLY}

    done, accepted = database.read(work)
    _check_missing(done, accepted, journal, path)
    return done


def _check_orders(session: Session, done: Verification, journal: Journal) -> dict[str, OrderState]:
    """Answers the state of every order of the ledger, by client order id."""
    question = select(OrderRow.client_order_id, OrderRow.state)
    ours = {row.client_order_id: OrderState(row.state) for row in session.execute(question)}
    counts = dict.fromkeys(("unknown", "doubled", "lost"), 0)
    for client_id, orders in journal.orders.items():
        name = f"order {client_id}"
        counting = [order for order in orders if order.counts]
        if len(counting) > 1:
            counts["doubled"] += 1
            numbers = ", ".join(order.order_id for order in counting)
            done.find("doubled", name, f"is live or executed more than once: {numbers}")
        state = ours.get(client_id)
        if state is None:
            counts["unknown"] += 1
            done.find("unknown", name, "was accepted by the exchange and is not in the ledger")
        elif state in NOT_PLACED and counting:
            counts["lost"] += 1
            done.find("lost", name, f"was accepted by the exchange; the ledger says {state}")
    done.counts |= counts
    done.counts["exchange_orders"] = sum(map(len, journal.orders.values()))
    done.counts["external_orders"] = len(journal.external)
    return ours


def _check_fills(
    session: Session, done: Verification, journal: Journal, ours: dict[str, OrderState]
) -> None:
    booked = {_key(row): row for row in session.scalars(select(FillRow))}
    open_ = set(session.scalars(select(OrderRow.client_order_id).where(OrderRow.is_open)))
    pending = 0
    for key, fill in journal.fills.items():
        row = booked.get(key)
        name = f"trade {key[1]} of {key[0]}"
        if row is not None and _told(row) != fill:
            done.find("fill", name, f"the exchange says {fill}, the ledger {_told(row)}")
        elif row is None and fill.client_order_id in open_:
            pending += 1  # its order is still looked after: the next round books it
        elif row is None:
            done.counts["lost"] += 1
            done.find("lost", name, f"a fill of order {fill.client_order_id} is not booked")
    done.counts["exchange_fills"] = len(journal.fills)
    done.counts["pending_fills"] = pending


def _check_missing(done: Verification, accepted: set[str], journal: Journal, path: Path) -> None:
    missing = accepted - journal.orders.keys()
    if missing:
        missing -= read(path).orders.keys()
    done.counts["missing"] = len(missing)
    for client_id in sorted(missing):
        words = "the ledger says the exchange accepted it, and its journal does not have it"
        done.find("missing", f"order {client_id}", words)


def _key(row: FillRow) -> FillKey:
    return _plain(row.symbol), row.trade_id, row.client_order_id


def _told(row: FillRow) -> VenueFill:
    return VenueFill(
        client_order_id=row.client_order_id,
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        commission=row.commission,
        commission_asset=row.commission_asset,
    )


def _plain(symbol: str) -> str:
    """``BTC-USDT`` and ``BTCUSDT`` are the same market, whoever writes it."""
    return symbol.replace("-", "")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith("\n"):
                    yield number, line
    except FileNotFoundError:
        raise NotFound(f"there is no journal {path}", cure="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unreachable(f"cannot read {path}: {error}", cure="check the path") from error
