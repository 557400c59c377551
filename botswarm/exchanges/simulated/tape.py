"""The public record of a market: its latest trades, single and aggregated, and its day."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from botswarm.domain.order import Side
from botswarm.exchanges.simulated.exchange import Traded

KEPT: Final = 20_000


@dataclass(frozen=True, slots=True)
class PublicTrade:
    id: int
    price: Decimal
    quantity: Decimal
    at_ms: int
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class AggregateTrade:
    """All that one order took at one price."""

    id: int
    price: Decimal
    quantity: Decimal
    first_id: int
    last_id: int
    at_ms: int
    buyer_is_maker: bool


class Tape:
    def __init__(self) -> None:
        self.trades: deque[PublicTrade] = deque(maxlen=KEPT)
        self.aggregates: deque[AggregateTrade] = deque(maxlen=KEPT)
        self.last_aggregate_id = 0

    def add(self, trade: Traded) -> PublicTrade:
        public = PublicTrade(
            trade.trade_id,
            trade.price,
            trade.quantity,
            trade.at_ms,
            trade.maker.order.side is Side.BUY,
        )
        self.trades.append(public)
        return public

    def aggregate(self, parts: list[PublicTrade]) -> AggregateTrade:
        first, last = parts[0], parts[-1]
        self.last_aggregate_id += 1
        aggregate = AggregateTrade(
            self.last_aggregate_id,
            first.price,
            sum((part.quantity for part in parts), Decimal(0)),
            first.id,
            last.id,
            last.at_ms,
            first.buyer_is_maker,
        )
        self.aggregates.append(aggregate)
        return aggregate
