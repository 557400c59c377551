"""The plugin API of strategies: parameters, what a bot is shown, and what it may answer."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, dataclass_transform

from botswarm.domain.market import TIMEFRAMES_S, Book, Quote, Trade
from botswarm.domain.order import Order, Side, TimeInForce
from botswarm.strategies.candles import Candles
from botswarm.strategies.many import Columns, Many, Outcomes
from botswarm.strategies.needs import Needs, Trigger
from botswarm.strategies.parameters import Parameter, Value, parameter
from botswarm.strategies.rules import Rule, above, below, nearest_miss

__all__ = [
    "ALL",
    "NOTHING",
    "Candles",
    "Columns",
    "Decision",
    "Many",
    "Needs",
    "OfBudget",
    "Other",
    "Outcomes",
    "Parameter",
    "Quantity",
    "Rule",
    "Strategy",
    "Target",
    "Trigger",
    "Value",
    "View",
    "Wish",
    "Worth",
    "above",
    "below",
    "parameter",
]

DUST_SHARE = 20

# --- what a bot is shown --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A further market that a strategy named in its needs, and what its bot holds there."""

    symbol: str
    candles: Candles
    """As many as the strategy's ``history``, of the bot's timeframe, without holes."""
    trade: Trade
    quote: Quote
    position: Decimal = Decimal(0)
    orders: Sequence[Order] = ()
    average_price: Decimal | None = None

    @property
    def price(self) -> Decimal:
        """Of the last trade."""
        return self.trade.price


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One bot and its markets at one moment: all a decision may depend on."""

    symbol: str
    candles: Candles
    """Exactly as many as the strategy asked for, of the bot's timeframe, without holes."""
    trade: Trade
    quote: Quote
    budget: Decimal
    """In the quote asset: the most the bot's positions and open orders may be worth."""
    position: Decimal
    orders: Sequence[Order]
    """The bot's own that are not at their end, those included that nobody has judged yet."""
    memory: Mapping[str, Any]
    """What the last committed decision left here; plain values, and empty at first."""
    now_ms: int = 0
    """The newest the exchange's clock has said of this market: the only clock there is."""
    series: Mapping[str, Candles] = field(default_factory=dict)
    """By timeframe: the bot's own and those of ``Needs.history``, each as many as asked for."""
    others: Mapping[str, Other] = field(default_factory=dict)
    """By symbol: those of ``Needs.others``."""
    book: Book | None = None
    """The best levels of the order book, where ``Needs.channels`` asks for it and one is known."""
    average_price: Decimal | None = None
    """What the position was bought at, on average; None where nothing is held, or unknown."""

    @property
    def price(self) -> Decimal:
        """Of the last trade."""
        return self.trade.price

    @property
    def holds(self) -> bool:
        """Whether something is held that is worth the name: commissions leave dust behind, which
        cannot be sold. More than a twentieth of the budget, in whichever of its markets.
        """
        worth = self.position * self.price
        worth += sum((each.position * each.price for each in self.others.values()), Decimal(0))
        return worth * DUST_SHARE > self.budget


# --- what it may answer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfBudget:
    """Hold so much of the budget: 0 is nothing, 1 is all."""

    fraction: Decimal


@dataclass(frozen=True, slots=True)
class Worth:
    """Hold so much, in the quote asset."""

    notional: Decimal


@dataclass(frozen=True, slots=True)
class Quantity:
    """Hold exactly so much of the base asset."""

    quantity: Decimal


Target = OfBudget | Worth | Quantity
NOTHING, ALL = OfBudget(Decimal(0)), OfBudget(Decimal(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An order the bot wants.

    Without a price a market order; with ``limit_price`` one that rests until it is filled; with
    ``stop_price`` one that sleeps until the market gets there, and then is either.
    """

    side: Side
    quantity: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    """Refused by the venue rather than filled at once; for limit orders."""
    symbol: str | None = None
    """One of ``Needs.others``; None is the bot's own market."""
    replaces: str | None = None
    """The id of an order of ``View.orders``, of the same side, that ends first; what it fills until
    then is taken off this one's quantity.
    """
    reduce_only: bool = False
    """Refused rather than making a position bigger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to hold or to order, and why. With neither targets nor orders all stays as it is."""

    verdict: str
    """One clause without numbers: evaluations with the same verdict count as unchanged."""
    indicators: Mapping[str, float | Decimal | int] = field(default_factory=dict)
    nearest: str | None = None
    """What would have to happen for another verdict; told by ``rules`` where it is None."""
    target: Target | None = None
    orders: Sequence[Wish] = ()
    cancels: Sequence[str] = ()
    """Ids of orders of ``View.orders`` that shall end; until they have they may still be filled."""
    memory: Mapping[str, Any] | None = None
    """None keeps the memory as it is."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """By symbol, for several markets at once; what is not named stays as it is."""
    rules: Sequence[Rule] = ()
    """The conditions of *another* verdict; of those that fail the nearest is told."""

    @property
    def nearest_words(self) -> str | None:
        """``nearest``, or else the failed rule with the smallest relative distance."""
        if self.nearest is not None:
            return self.nearest
        miss = nearest_miss(self.rules)
        return None if miss is None else str(miss)


NO_NEEDS = Needs()

# --- the strategy itself --------------------------------------------------------------------------


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(parameter,))
class Strategy(ABC):
    """Parameters as fields, a history it needs, and one pure method.

    No clock, no I/O, no globals: the same view gives the same decision, today and in a backtest.
    """

    name: ClassVar[str]
    timeframe: ClassVar[str] = "1m"
    """Of bots that do not say another."""

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, kw_only=True)(cls)
        cls.name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def parameters(cls) -> Sequence[Parameter]:
        return [
            dataclasses.replace(each.metadata["parameter"], name=each.name)
            for each in dataclasses.fields(cls)  # type: ignore[arg-type]  # made one above
        ]

    @property
    @abstractmethod
    def history(self) -> int:
        """How many closed candles of its bot's timeframe it must see."""

    @abstractmethod
    def decide(self, view: View) -> Decision: ...

    def needs(self) -> Needs:
        """What it must see besides: other timeframes, other markets, the order book."""
        return NO_NEEDS

    def trigger(self) -> Trigger:
        """When it wants to decide."""
        return Trigger.on_tick()

    @classmethod
    def decide_many(cls, many: Many) -> Outcomes:
        """The same as ``decide``, for many bots of one market at once; optional.

        Only who would change something is then asked by ``decide``, whose word is what counts.
        For strategies whose decisions are a verdict and a target of the budget.
        """
        raise NotImplementedError

    @classmethod
    def is_vectorised(cls) -> bool:
        """Whether it has a ``decide_many`` of its own."""
        return cls.decide_many.__func__ is not Strategy.decide_many.__func__  # type: ignore[attr-defined]

    def objection(self) -> str | None:
        """What is wrong with parameters that are each within their bounds."""
        return None


def wanted_history(strategy: Strategy, timeframe: str) -> dict[str, int]:
    """By timeframe, the bot's own first: how many closed candles a view must show.

    Raises ValueError for a timeframe that does not exist.
    """
    wanted = {timeframe: strategy.history}
    for name, count in strategy.needs().history.items():
        if name not in TIMEFRAMES_S:
            known = ", ".join(TIMEFRAMES_S)
            raise ValueError(f"it needs candles of {name!r}, which is none of {known}")
        wanted[name] = max(wanted.get(name, 0), count)
    return wanted
