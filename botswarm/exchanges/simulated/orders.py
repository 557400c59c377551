"""An order as the exchange keeps it, and what a customer asks for when placing one."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from botswarm.domain.order import Side

ZERO: Final = Decimal(0)


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIMIT_MAKER = "LIMIT_MAKER"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"

    @property
    def is_priced(self) -> bool:
        return self not in (OrderType.MARKET, OrderType.STOP_LOSS)

    @property
    def waits_for_a_price(self) -> bool:
        return self in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)


class Force(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class SelfTrade(StrEnum):
    """What happens when an order would trade with another of its own account."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"

    @property
    def ends_maker(self) -> bool:
        return self in (SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH)

    @property
    def ends_taker(self) -> bool:
        return self in (SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH)


class Status(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"

    @property
    def is_open(self) -> bool:
        return self in (Status.NEW, Status.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """Exactly one of ``quantity`` and ``quote_quantity`` is set; prices as its type has them."""

    account: str
    symbol: str
    side: Side
    type: OrderType
    client_order_id: str
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    force: Force = Force.GTC
    self_trade: SelfTrade = SelfTrade.EXPIRE_MAKER
    fee_in_quote: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class VenueOrder:
    """Changed in place by the engine only; it is the same object from acceptance to its end."""

    id: int
    account: str
    symbol: str
    client_order_id: str
    side: Side
    type: OrderType
    force: Force
    self_trade: SelfTrade
    price: Decimal
    """Zero at market."""
    quantity: Decimal
    """Zero while a market order is only known by what it may spend or must bring in."""
    quote_quantity: Decimal
    stop_price: Decimal = ZERO
    """Zero where it waits for none."""
    fee_in_quote: bool = False
    """Some venues take a buyer's fee on top of the price, not out of what was bought."""
    is_working: bool = True
    """In the book, or was; a stop order is neither until its price came."""
    placed_ms: int
    updated_ms: int
    status: Status = Status.NEW
    filled: Decimal = ZERO
    filled_quote: Decimal = ZERO
    locked: Decimal = ZERO
    """Of the asset it gives: the part of the account's locked balance that is its own."""
    visible_from_ms: int = 0
    """Queries do not find it before; a real exchange's are answered by a lagging copy."""
    trade_ids: list[int] = field(default_factory=list)

    @property
    def open_quantity(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def is_limited(self) -> bool:
        return self.type.is_priced

    def is_triggered_at(self, price: Decimal) -> bool:
        return price >= self.stop_price if self.side is Side.BUY else price <= self.stop_price

    def takes(self, price: Decimal) -> bool:
        """Whether it accepts to trade at this price of the other side."""
        if not self.is_limited:
            return True
        return price <= self.price if self.side is Side.BUY else price >= self.price
