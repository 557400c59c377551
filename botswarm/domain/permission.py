"""May this order be sent? The states, sums and answers that the gate and the ledger share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from botswarm.domain.facts import Facts
from botswarm.domain.limits import Finding
from botswarm.domain.order import Order


class TradingState(StrEnum):
    """Swarm-wide, or of an account, bot or market; the strictest that applies wins."""

    ACTIVE = "active"
    REDUCING = "reducing"  # only orders that shrink a position, and cancels
    HALTED = "halted"  # cancels only


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What stands against the limits at the moment of asking, in the market's quote asset."""

    trading_state: TradingState
    account_open_notional: Decimal
    """Of every order of the account that is or may be live, this one not counted."""
    position: Decimal
    """The bot's quantity of this market, by fills."""
    open_buy_quantity: Decimal
    open_sell_quantity: Decimal
    """Of the bot's other orders in this market that are or may be live."""
    open_orders: int
    """Of the account."""
    orders_last_minute: int
    """Of the bot, sent."""
    loss_today: Decimal
    """Of the account, realised; positive is a loss."""
    facts: Facts | None = field(default=None, compare=False)
    """None where there is no table of limits."""


@dataclass(frozen=True, slots=True)
class Approved:
    order: Order
    warnings: tuple[Finding, ...] = field(default=(), compare=False)
    """Lines that were crossed and not told yet."""
    calmed: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Warning lines that are not crossed any more, by scope and kind."""


@dataclass(frozen=True, slots=True)
class Refused:
    order: Order
    reason: str
    breach: Finding | None = field(default=None, compare=False)
    """The limit that refused it, where one did."""


class FrozenRequest(Protocol):
    """A signed request, as far as anybody but its venue cares."""

    @property
    def payload(self) -> bytes: ...
    @property
    def signed_at(self) -> datetime: ...
    @property
    def fence_at(self) -> datetime: ...


Request = TypeVar("Request", bound=FrozenRequest, covariant=True)


@dataclass(frozen=True, slots=True)
class Frozen(Generic[Request]):
    """An order that passed, rounded, and the very bytes that may be sent for it."""

    order: Order
    request: Request


Verdict = Approved | Refused
