"""What reconciliation needs of the ledger. Every method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from botswarm.domain.fill import Fill
from botswarm.domain.order import Order
from botswarm.domain.reconciliation import (
    Adjustment,
    Balances,
    Reckoned,
    Reconciliation,
    Standing,
)
from botswarm.exchanges.base import Report


class Accounts(Protocol):
    def standing(self, venue: str, account: str) -> Standing: ...

    def markets(self, venue: str, account: str) -> Sequence[str]:
        """Where it trades, or traded: their fills are looked at in every reconciliation."""
        ...

    def markets_between(self, venue: str, assets: Collection[str]) -> Sequence[str]:
        """Those in which a trade moves two of these assets."""
        ...

    def latest_trades(self, venue: str, account: str) -> Mapping[str, int]:
        """By market: the highest trade that is booked."""
        ...

    def marks(self, venue: str, account: str) -> Mapping[str, int]:
        """By market: up to which trade ledger and venue agreed."""
        ...

    def own_assets(self, venue: str, account: str) -> Collection[str]:
        """Those that an order of ours can have moved, commissions included."""
        ...

    def orders(self, client_order_ids: Collection[str]) -> Mapping[str, Order]:
        """Ours, by client order id."""
        ...

    def unbooked(self, venue: str, account: str, fills: Sequence[Fill]) -> Sequence[Fill]: ...

    def kept(self, venue: str, account: str, symbol: str, limit: int) -> Sequence[Fill]:
        """The latest that the ledger has of a market, by rising trade id."""
        ...

    def book(self, venue: str, account: str, fills: Sequence[Fill], now: datetime) -> int:
        """Once each; those of no order of ours as external to this account."""
        ...

    def reckon(self, venue: str, account: str, since: datetime) -> Reckoned:
        """What it has by the journal, and what each fill since then did."""
        ...

    def accepted(self, venue: str, account: str) -> Collection[str]:
        """Subjects of differences that a person has accepted."""
        ...

    def open(
        self,
        venue: str,
        account: str,
        balances: Balances,
        opened_at: datetime,
        now: datetime,
    ) -> bool:
        """Book what the account has at the venue beyond the journal; False where it is open."""
        ...

    def adjust(
        self, venue: str, account: str, adjustments: Sequence[Adjustment], now: datetime
    ) -> int:
        """Book what no fill explains, each reference once; answers how many were new."""
        ...

    def keep_external(
        self, venue: str, account: str, reports: Sequence[Report], now: datetime
    ) -> None:
        """Write down orders that are not ours."""
        ...

    def conclude(self, done: Reconciliation) -> bool:
        """Write the outcome down; answers whether the account is clean.

        What was raised before and is not found any more has ended by proof. What was not decided
        changes nothing but the record of it.
        """
        ...
