"""What stands at risk: prices of markets as the swarm last knew them, and what rests on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

AHEAD_MAX = timedelta(seconds=5)
"""How far in the future a price may seem to be; two machines' clocks never quite agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a market was worth at a moment of the venue's clock."""

    venue: str
    symbol: str
    price: Decimal
    """Of the last trade; the middle of the book where nobody has traded."""
    bid: Decimal | None = None
    ask: Decimal | None = None
    at: datetime

    def is_fresh(self, now: datetime, age_max: timedelta) -> bool:
        """Else nobody knows the price: it is too old, or a clock is wrong."""
        return -AHEAD_MAX <= now - self.at <= age_max


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRisk:
    """Profit, loss and exposure of a scope in one quote asset, as a sweep reckoned them.

    What rests on a price nobody knows is None, and ``unknown`` says why.
    """

    scope: str
    """As halts name it: ``swarm``, ``account:VENUE:ACCOUNT``, ``bot:NAME``, …"""
    quote: str
    at: datetime
    day: str
    """The trading day, by the boundary that is set."""
    positions: int
    realised: Decimal
    """Ever."""
    unrealised: Decimal | None
    day_result: Decimal | None
    """Realised and unrealised when the trading day began."""
    peak: Decimal | None
    """The highest that realised and unrealised have been together."""
    peak_at: datetime | None
    equity: Decimal | None
    """Of an account: all it has, in this asset."""
    equity_peak: Decimal | None
    gross: Decimal | None
    net: Decimal | None
    losing_streak: int
    """How many of its latest closing orders lost, in a row."""
    lost_at: datetime | None
    marked_at: datetime | None
    """The oldest price it rests on; None where it rests on none."""
    unknown: str | None
    sequence: int | None
    """Where the journal ended when it was reckoned: entries after it are not in it."""

    @property
    def result(self) -> Decimal | None:
        """Realised and unrealised, ever."""
        return None if self.unrealised is None else self.realised + self.unrealised

    @property
    def today(self) -> Decimal | None:
        """What the trading day brought, realised and unrealised; a loss is negative."""
        if self.result is None or self.day_result is None:
            return None
        return self.result - self.day_result

    @property
    def drawdown(self) -> Decimal | None:
        """How far it is below its peak, in money."""
        if self.result is None or self.peak is None:
            return None
        return max(Decimal(0), self.peak - self.result)

    @property
    def equity_drawdown(self) -> Decimal | None:
        """How far an account's equity is below its peak, as a share of the peak."""
        if self.equity is None or not self.equity_peak or self.equity_peak < 0:
            return None
        return max(Decimal(0), 1 - self.equity / self.equity_peak)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketExposure:
    """What all bots of an account hold of a market together."""

    venue: str
    account: str
    symbol: str
    quote: str
    long_quantity: Decimal
    short_quantity: Decimal
    """Positive."""
    price: Decimal | None
    """None where nobody knows a fresh one."""
    marked_at: datetime | None
    at: datetime
    sequence: int | None
    """Where the journal ended when it was reckoned: entries after it are not in it."""

    @property
    def gross(self) -> Decimal | None:
        if not (self.long_quantity or self.short_quantity):
            return Decimal(0)
        if self.price is None:
            return None
        return (self.long_quantity + self.short_quantity) * self.price

    @property
    def net(self) -> Decimal | None:
        """Negative where more is short than long."""
        if self.long_quantity == self.short_quantity:
            return Decimal(0)
        if self.price is None:
            return None
        return (self.long_quantity - self.short_quantity) * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPosition:
    """What a bot holds of a market, as the books have it."""

    bot: str
    strategy: str | None
    """None where the bot is deleted, or a person's own."""
    venue: str
    account: str
    symbol: str
    quote: str
    quantity: Decimal
    """Negative when short."""
    cost: Decimal
    """What the quantity held was paid for it, at average cost."""
    realised: Decimal
