"""What a simulated exchange is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from botswarm.exchanges.simulated import record
from botswarm.exchanges.simulated.accounts import FEES, Fees
from botswarm.exchanges.simulated.limits import RateLimits
from botswarm.exchanges.simulated.prices import Scenario

ACCOUNT: Final = "paper"
FIRST_BALANCES: Final[Mapping[str, Decimal]] = {
    "USDT": Decimal(100_000),
    "BTC": Decimal(1),
    "ETH": Decimal(20),
    "SOL": Decimal(200),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOptions:
    state_dir: Path
    part: str = record.PART
    """What its journal and its card are named after."""
    port: int | None = None
    """None: that of its last run, else the usual one or the next that is free."""
    first_port: int = 18443
    """The usual one."""
    scenario: Scenario = "calm"
    seed: int = 1
    ping_s: float = 20.0
    pong_s: float = 60.0
    lifetime_s: float = 86_400.0
    """Of a WebSocket connection."""
    writes_streams: bool = False
    """Write down every trade told on every connection, for campaigns that compare."""
    kraken_tier: str = "pro"
    """How much Kraken's private side lets a key ask for: the account's level of verification."""
    coinbase_per_s: int = 30
    """Requests that Coinbase's private side takes of a key."""
    limits: RateLimits = field(default_factory=RateLimits)
    balances: Mapping[str, Decimal] = field(default_factory=lambda: dict(FIRST_BALANCES))
    """Of the account, where the journal does not know it yet."""
    fees: Mapping[str, Fees] = field(default_factory=lambda: FEES)
    """By account."""
    fee_in_quote: bool = False
    """A buyer pays the fee on top of the price, not out of what was bought."""

    @property
    def title(self) -> str:
        if self.part != record.PART:
            return f"paper trading at {self.part.removeprefix(record.PAPER)}'s prices"
        return f"simulated exchange, scenario {self.scenario}"
