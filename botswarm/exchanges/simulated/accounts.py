"""Who owns what at the exchange: free and locked balances, and the fees it has earned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Final

from botswarm.exchanges.simulated.orders import ZERO
from botswarm.exchanges.simulated.refusal import insufficient_balance

ASSET_STEP: Final = Decimal("0.00000001")


def _nothing() -> defaultdict[str, Decimal]:
    return defaultdict(lambda: ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """Shares of what a trade brings in, or of what it is worth where an order says so."""

    maker: Decimal = Decimal("0.001")
    taker: Decimal = Decimal("0.001")

    def of(self, received: Decimal, *, is_maker: bool) -> Decimal:
        rate = self.maker if is_maker else self.taker
        return (received * rate).quantize(ASSET_STEP, ROUND_DOWN)


FREE_OF_CHARGE: Final = Fees(maker=ZERO, taker=ZERO)
FEES: Final[Mapping[str, Fees]] = {
    "paper": Fees(),
    "coinbase": Fees(maker=Decimal("0.004"), taker=Decimal("0.006")),
    "kraken": Fees(maker=Decimal("0.0025"), taker=Decimal("0.004")),
}
"""Of each account there can be. Each venue has its own, named as the venue; Binance's is paper."""


@dataclass(slots=True, eq=False)
class Account:
    name: str
    fees: Fees
    free: defaultdict[str, Decimal] = field(default_factory=_nothing)
    locked: defaultdict[str, Decimal] = field(default_factory=_nothing)

    def lock(self, asset: str, amount: Decimal) -> None:
        if self.free[asset] < amount:
            raise insufficient_balance()
        self.free[asset] -= amount
        self.locked[asset] += amount

    def unlock(self, asset: str, amount: Decimal) -> None:
        self.locked[asset] -= amount
        self.free[asset] += amount

    def total(self, asset: str) -> Decimal:
        return self.free[asset] + self.locked[asset]

    @property
    def assets(self) -> list[str]:
        return sorted({*self.free, *self.locked})


class Accounts:
    """Every balance there is. Trades move money between them and into ``earned``, no more."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}
        self.earned: defaultdict[str, Decimal] = _nothing()

    def open(self, name: str, fees: Fees) -> Account:
        account = self.by_name[name] = Account(name, fees)
        return account

    def __getitem__(self, name: str) -> Account:
        return self.by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def sum(self, asset: str) -> Decimal:
        owned = (account.total(asset) for account in self.by_name.values())
        return sum(owned, self.earned[asset])
