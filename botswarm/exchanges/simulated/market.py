"""The synthetic market: two house accounts whose orders keep books and trades moving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from botswarm.domain.instrument import step_down, step_up
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.exchange import HOUSES, Exchange, Fact, Market
from botswarm.exchanges.simulated.filters import MarketRules
from botswarm.exchanges.simulated.orders import Force, NewOrder, OrderType, SelfTrade, VenueOrder
from botswarm.exchanges.simulated.prices import PriceLine, Scenario, dice

STEP_MS: Final = 100
LEVELS: Final = 10
GRID_SHARE: Final = Decimal("0.0001")
"""Levels stand this share of the price apart, which is also about the spread."""
LEVEL_WORTH: Final = Decimal(20_000)
TAKER_WORTH_MAX: Final = 4_000.0
TAKERS_PER_STEP: Final = 0.45


@dataclass(frozen=True, slots=True)
class Listing:
    """A market of the simulated exchange and the price it moves around."""

    rules: MarketRules
    price: Decimal


def _listing(base: str, price: int, lot_size: str) -> Listing:
    rules = MarketRules(
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal(lot_size),
    )
    return Listing(rules, Decimal(price))


LISTINGS: Final = (
    _listing("BTC", 100_000, "0.00001"),
    _listing("ETH", 4_000, "0.0001"),
    _listing("SOL", 200, "0.001"),
)


class SyntheticMarket:
    """Moves every book one step of a tenth of a second at a time.

    The maker keeps a ladder of limit orders on each side of the price line; whoever is in its
    way when the line moves is traded with. The taker trades at random times, both ways.
    """

    def __init__(self, exchange: Exchange, lines: Sequence[PriceLine]) -> None:
        self.exchange = exchange
        self.lines = {line.symbol: line for line in lines}
        self._ladders: dict[str, dict[tuple[Side, Decimal], VenueOrder]] = {
            line.symbol: {} for line in lines
        }
        self._grids = {line.symbol: _grid(line) for line in lines}

    @classmethod
    def of(
        cls,
        listings: Sequence[Listing],
        *,
        seed: int,
        scenario: Scenario,
        epoch_ms: int,
        now_ms: int,
    ) -> SyntheticMarket:
        lines = [
            PriceLine(
                symbol=each.rules.symbol,
                seed=seed,
                around=each.price,
                tick_size=each.rules.tick_size,
                scenario=scenario,
                epoch_ms=epoch_ms,
            )
            for each in listings
        ]
        prices = {line.symbol: line.at(now_ms) for line in lines}
        return cls(Exchange([each.rules for each in listings], prices), lines)

    def step(self, step_ms: int, now_ms: int | None = None) -> list[Fact]:
        """What happens is told by ``step_ms``; it is said to happen ``now_ms``, maybe later."""
        at_ms = step_ms if now_ms is None else now_ms
        facts: list[Fact] = []
        for symbol, line in self.lines.items():
            market = self.exchange.markets[symbol]
            self._quote(market, line, step_ms, at_ms, facts)
            self._take(market, line.key, step_ms, at_ms, facts)
        return facts

    def catch_up(self, now_ms: int) -> list[Fact]:
        return []  # nothing happens between its steps

    def objection(self, symbol: str, now_ms: int) -> str:
        return ""

    def delay_s(self) -> float:
        return 0.0

    def _quote(
        self, market: Market, line: PriceLine, step_ms: int, now_ms: int, facts: list[Fact]
    ) -> None:
        symbol, grid = market.rules.symbol, self._grids[market.rules.symbol]
        ladder, fair = self._ladders[symbol], line.at(step_ms)
        bid, ask = step_down(fair - grid / 2, grid), step_up(fair + grid / 2, grid)
        wanted = [(Side.BUY, bid - n * grid) for n in range(LEVELS)]
        wanted += [(Side.SELL, ask + n * grid) for n in range(LEVELS)]
        # First away with what is out of place: else the maker would meet itself.
        kept = set(wanted)
        for place in [place for place in ladder if place not in kept]:
            order = ladder.pop(place)
            if order.status.is_open:
                facts += self.exchange.cancel(order, now_ms)[1]
        for number, place in enumerate(wanted):
            order_there = ladder.get(place)
            if order_there is not None and order_there.status.is_open:
                continue
            side, price = place
            roll = dice(line.key, step_ms, 1000 + number)
            worth = LEVEL_WORTH * Decimal(round(0.5 + roll + number % LEVELS / 5, 2))
            ladder[place], placed = self.exchange.place(
                NewOrder(
                    account=HOUSES[0],
                    symbol=symbol,
                    side=side,
                    type=OrderType.LIMIT,
                    client_order_id="",
                    quantity=step_down(worth / price, market.rules.lot_size),
                    price=price,
                    self_trade=SelfTrade.NONE,
                ),
                now_ms,
            )
            facts += placed

    def _take(self, market: Market, key: int, step_ms: int, now_ms: int, facts: list[Fact]) -> None:
        for number in range(3):
            if dice(key, step_ms, number, 1) >= TAKERS_PER_STEP / (number + 1):
                return
            side = Side.BUY if dice(key, step_ms, number, 2) < 0.5 else Side.SELL
            worth = 20.0 + TAKER_WORTH_MAX * dice(key, step_ms, number, 3) ** 4
            quantity = step_down(Decimal(worth) / market.last_price, market.rules.lot_size)
            facts += self.exchange.place(
                NewOrder(
                    account=HOUSES[1],
                    symbol=market.rules.symbol,
                    side=side,
                    type=OrderType.MARKET,
                    client_order_id="",
                    quantity=quantity,
                    force=Force.IOC,
                ),
                now_ms,
            )[1]


def _grid(line: PriceLine) -> Decimal:
    return max(step_down(line.around * GRID_SHARE, line.tick_size), line.tick_size)
