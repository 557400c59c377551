"""A ledger of very many fills in a few minutes: its books balance, and ledger verify finds so.

    python -m tests.campaign.many_fills sqlite:////tmp/big/ledger.db 1000000

The rows go to the database past the ORM; what they say is made by the ledger's own functions.
"""

from __future__ import annotations

import csv
import io
import itertools
import random
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from botswarm.domain.amount import plain
from botswarm.domain.fill import Fill
from botswarm.domain.order import Side
from botswarm.ledger import chain, migrate
from botswarm.ledger.columns import to_json
from botswarm.ledger.fold import Assets, Holding, day_of
from botswarm.ledger.models import FillRow
from botswarm.ledger.session import Database

BATCH = 5_000
FILLS_PER_ORDER = 2
BOTS = 200
MARKETS = {"BTC-USDT": 100_000, "ETH-USDT": 4_000, "SOL-USDT": 200}
STATES = ("ready", "approved", "sending", "filled")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PAYLOAD = b"POST /api/v3/order symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.001&price=100000" * 3
EVALUATION = {"signal": "buy", "fast": "100012.5", "slow": "99987.25", "why": ["fast above slow"]}

Rows = dict[str, list[dict[str, Any]]]


@dataclass(slots=True)
class Maker:
    """Makes batches of rows; what it has made so far is in its hands, as in the ledger's."""

    account: str = "paper"
    head: chain.Head = field(default_factory=lambda: chain.Head(0, chain.FIRST_HASH))
    number: int = 0
    holdings: dict[tuple[str, str], Holding] = field(default_factory=lambda: defaultdict(Holding))
    results: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    names: set[str] = field(default_factory=set)
    balances: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    random: random.Random = field(default_factory=lambda: random.Random(8))

    def batch(self, fills: int) -> Rows:
        rows: Rows = defaultdict(list)
        while fills > 0:
            count = min(FILLS_PER_ORDER, fills)
            self._order(rows, count)
            fills -= count
        return rows

    def last(self) -> Rows:
        """What is kept once: positions, results, and where the chain ends."""
        now = BEGAN + timedelta(seconds=self.number)
        rows: Rows = defaultdict(list)
        for (bot, symbol), holding in self.holdings.items():
            rows["positions"].append(
                {
                    "bot": bot,
                    "venue": "simulated",
                    "account": self.account,
                    "symbol": symbol,
                    "quantity": holding.quantity,
                    "cash": holding.cash,
                    "cost": holding.cost,
                    "realised": holding.realised,
                    "last_trade_id": holding.last_trade_id,
                    "updated_at": now,
                }
            )
        place = {"venue": "simulated", "account": self.account}
        rows["accounts"] = [place | {"created_at": BEGAN}]
        # As each reconciliation leaves it: nobody folds the whole journal again.
        fold = {asset: plain(amount) for asset, amount in self.balances.items() if amount}
        rows["account_folds"] = [place | {"sequence": self.head.sequence, "balances": fold}]
        rows["daily_results"] = [
            {
                "venue": "simulated",
                "account": self.account,
                "day": day,
                "quote": "USDT",
                "realised": realised,
            }
            for day, realised in self.results.items()
        ]
        return rows

    def _order(self, rows: Rows, fills: int) -> None:
        symbol, price = self.random.choice(list(MARKETS.items()))
        bot = f"bot{self.random.randrange(BOTS)}"
        side = self.random.choice(list(Side))
        at = BEGAN + timedelta(seconds=self.number)
        order_id = str(uuid.UUID(int=self.random.getrandbits(128)))
        each = Decimal(self.random.randrange(1, 1000)) / 10_000
        paid = Decimal(price) * (1 + Decimal(self.random.randrange(-500, 500)) / 10_000)
        rows["orders"].append(_order_row(order_id, bot, self.account, symbol, side, each * fills,
                                         paid, at))  # fmt: skip
        for before, after in itertools.pairwise((None, *STATES)):
            rows["order_events"].append(
                {"order_id": order_id, "before": before, "after": after, "at": at}
            )
        rows["attempts"].append(
            {
                "order_id": order_id,
                "number": 1,
                "payload": PAYLOAD,
                "signed_at": at,
                "fence_at": at,
                "created_at": at,
            }
        )
        for _ in range(fills):
            self.number += 1
            self._fill(rows, order_id, bot, symbol, side, each, paid, at)

    def _fill(
        self,
        rows: Rows,
        order_id: str,
        bot: str,
        symbol: str,
        side: Side,
        quantity: Decimal,
        price: Decimal,
        at: datetime,
    ) -> None:
        assets = Assets.of(symbol)
        values: dict[str, Any] = {
            "id": self.number,
            "venue": "simulated",
            "symbol": symbol,
            "trade_id": self.number,
            "account": self.account,
            "client_order_id": order_id.replace("-", ""),
            "order_id": order_id,
            "bot": bot,
            "is_external": False,
            "side": side.value,
            "price": price,
            "quantity": quantity,
            "commission": quantity / 1000,
            "commission_asset": assets.base,
            "at": at,
            "booked_at": at,
        }
        rows["fills"].append(values)
        self._book(rows, FillRow(**values), at)
        fill = Fill(
            venue="simulated",
            symbol=symbol,
            trade_id=self.number,
            client_order_id=values["client_order_id"],
            side=side,
            price=price,
            quantity=quantity,
            commission=values["commission"],
            commission_asset=assets.base,
            at=at,
        )
        before = self.holdings[bot, symbol]
        after = self.holdings[bot, symbol] = before.after(fill, assets)
        if after.realised != before.realised:
            self.results[day_of(fill)] += after.realised - before.realised

    def _book(self, rows: Rows, row: FillRow, at: datetime) -> None:
        legs = chain.postings_of(row)
        sequence = self.head.sequence + 1
        hashed = chain.digest(self.head.hash, sequence, row, legs)
        rows["entries"].append(
            {
                "sequence": sequence,
                "fill_id": row.id,
                "previous_hash": self.head.hash,
                "hash": hashed,
            }
        )
        self.head = chain.Head(sequence, hashed)
        theirs = chain.accounts_of(row.venue, row.account)
        for line, leg in enumerate(legs, 1):
            if leg.ledger_account in theirs:
                self.balances[leg.asset] -= leg.amount
            if leg.ledger_account not in self.names:
                self.names.add(leg.ledger_account)
                rows["ledger_accounts"].append({"name": leg.ledger_account, "created_at": at})
            rows["postings"].append(
                {
                    "sequence": sequence,
                    "line": line,
                    "ledger_account": leg.ledger_account,
                    "asset": leg.asset,
                    "amount": leg.amount,
                }
            )


def _order_row(
    order_id: str,
    bot: str,
    account: str,
    symbol: str,
    side: Side,
    quantity: Decimal,
    price: Decimal,
    at: datetime,
) -> dict[str, Any]:
    return {
        "id": order_id,
        "client_order_id": order_id.replace("-", ""),
        "bot": bot,
        "venue": "simulated",
        "account": account,
        "symbol": symbol,
        "side": side.value,
        "kind": "market",
        "quantity": quantity,
        "time_in_force": "gtc",
        "reference_price": price,
        "state": "filled",
        "created_at": at,
        "signal_expires_at": at + timedelta(seconds=10),
        "filled_quantity": quantity,
        "venue_order_id": order_id[:8],
        "evaluation": EVALUATION,
        "is_open": False,
        "attempts": 1,
        "approved_at": at,
        "sent_at": at,
        "updated_at": at,
    }


ORDER = ("orders", "order_events", "attempts", "ledger_accounts", "fills", "entries", "postings")


def fill_ledger(url: str, fills: int, *, say: Any = None) -> chain.Head:
    """An empty ledger, migrated, with so many fills; answers where its chain ends."""
    with closing(Database(url)) as database:
        migrate.migrate(database)
    maker = Maker()
    with closing(Database(url)) as database, database.connection() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        write = _into_sqlite if database.is_sqlite else _into_postgresql
        cursor = raw.cursor()
        # Nobody relies on it before it is whole.
        cursor.execute(
            "PRAGMA synchronous=OFF" if database.is_sqlite else "SET synchronous_commit = off"
        )
        for count in _batches(fills):
            if database.is_sqlite:
                cursor.execute("BEGIN")
            rows = maker.batch(count)
            for name in ORDER:
                write(cursor, name, rows[name])
            cursor.execute("COMMIT")
            if say is not None and maker.number % 100_000 == 0:
                say(f"{maker.number} fills")
        for name, rest in maker.last().items():
            write(cursor, name, rest)
        head = f"sequence = {maker.head.sequence}, hash = '{maker.head.hash}'"
        cursor.execute(f"UPDATE chain_head SET {head}")  # noqa: S608 - numbers of our own
        if not database.is_sqlite:
            cursor.execute("SELECT setval('fills_id_seq', %s)", (maker.number,))
            cursor.execute("COMMIT")
            cursor.execute("ANALYZE")
        raw.commit()
        if database.is_sqlite:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return maker.head


def _batches(fills: int) -> Iterator[int]:
    while fills > 0:
        yield min(BATCH, fills)
        fills -= BATCH


def _into_sqlite(cursor: Any, name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        marks = ", ".join("?" * len(names))
        cursor.executemany(
            f"INSERT INTO {name} ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 - as above
            ([_for_sqlite(row[each]) for each in names] for row in rows),
        )


def _into_postgresql(cursor: Any, name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([_for_postgresql(row[each]) for each in names] for row in rows)
        text.seek(0)
        cursor.copy_expert(f"COPY {name} ({', '.join(names)}) FROM STDIN (FORMAT csv)", text)


def _for_sqlite(value: Any) -> Any:
    match value:
        case Decimal():
            return plain(value)
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S.%f")
        case dict():
            return to_json(value)
    return value


def _for_postgresql(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat()
        case dict():
            return to_json(value)
    return value


if __name__ == "__main__":
    where, number = sys.argv[1], int(sys.argv[2])
    print(fill_ledger(where, number, say=print))
