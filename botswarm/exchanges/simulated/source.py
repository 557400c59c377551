"""What an exchange's market comes from: made up by seed, or the live ticks of a venue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from botswarm.exchanges.simulated.exchange import Exchange, Fact
from botswarm.exchanges.simulated.prices import PriceLine


class MarketSource(Protocol):
    """It moves the books of its exchange; the service writes down and tells what came of it."""

    @property
    def exchange(self) -> Exchange: ...

    @property
    def lines(self) -> Mapping[str, PriceLine]:
        """Of the markets that are also told in public: those of which nobody else tells."""
        ...

    def step(self, step_ms: int, now_ms: int) -> list[Fact]:
        """What happens in a tenth of a second."""
        ...

    def catch_up(self, now_ms: int) -> list[Fact]:
        """What has happened already and was not told; asked for before an order is placed."""
        ...

    def objection(self, symbol: str, now_ms: int) -> str:
        """Why no order is taken in this market now; empty where orders are."""
        ...

    def delay_s(self) -> float:
        """How long the next request about orders is on its way."""
        ...
