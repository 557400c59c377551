"""What an evaluation is given: the markets as they stand, and the bot as the ledger has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from botswarm.domain.instrument import Instrument
from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Order
from botswarm.strategies.api import Candles, Decision, Strategy

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a bot does not act. ``gate`` names the rule; only a new gate counts as news."""

    gate: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What all bots of one pass look at."""

    instrument: Instrument
    sequence: int
    trade: Trade | None
    quote: Quote | None
    exchange_ms: int
    wanted_sequence: int = 0
    """What was rung for: a market that has not got there yet is not decided on."""
    data_age_max_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A further market of a bot, with its candles of the bot's timeframe."""

    market: Market
    candles: Candles | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a bot holds of a further market."""

    position: Decimal = ZERO
    average_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One bot, as it stands in the ledger."""

    bot: str
    account: str
    strategy: Strategy
    timeframe: str
    budget: Decimal
    position: Decimal = ZERO
    orders: Sequence[Order] = ()
    """Not at their end, of all its markets."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    average_price: Decimal | None = None
    others: Mapping[str, Holding] = field(default_factory=dict)
    """By symbol; what is not named holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    decision: Decision | None
    """None where the bot was not asked."""
    stopped: Stop | None
    orders: tuple[Order, ...] = ()
    cancels: tuple[str, ...] = ()
    """Orders that shall end; nothing stands in the way of that."""
