"""What can be traded, and the steps in which a venue lets it be traded."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One market of one venue. Symbols are ours: ``BTC-USDT``, whatever the venue writes."""

    venue: str
    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    """The price step."""
    lot_size: Decimal
    """The quantity step."""
    quantity_min: Decimal
    quantity_max: Decimal
    notional_min: Decimal
    is_trading: bool = True

    @property
    def market(self) -> str:
        """The name people use: ``binance:BTC-USDT``."""
        return f"{self.venue}:{self.symbol}"

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Down to a step: never more than was asked for."""
        return step_down(quantity, self.lot_size)

    def round_buy_price(self, price: Decimal) -> Decimal:
        """Down to a step: a buyer never pays more than the limit that was asked for."""
        return step_down(price, self.tick_size)

    def round_sell_price(self, price: Decimal) -> Decimal:
        """Up to a step: a seller never gets less than the limit that was asked for."""
        return step_up(price, self.tick_size)


def step_down(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_FLOOR) * step


def step_up(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_CEILING) * step
