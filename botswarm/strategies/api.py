"""The plugin API of strategies: parameters, what a bot is shown, and what it may answer."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, dataclass_transform

import numpy
from numpy.typing import NDArray

from botswarm.domain.market import Quote, Trade
from botswarm.domain.order import Order, Side
from botswarm.errors import Problem
from botswarm.strategies import indicators
from botswarm.strategies.indicators import Floats

Value = int | bool | Decimal | str
"""What a parameter may be. Decimal, not float: what a person wrote stays what they wrote."""

# --- parameters -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number or word that a person chooses for a bot."""

    name: str
    words: str
    default: Value
    at_least: int | Decimal | None
    at_most: int | Decimal | None
    choices: tuple[str, ...]

    @property
    def span(self) -> str:
        """What it may be, for people."""
        if self.choices:
            return " | ".join(self.choices)
        if isinstance(self.default, bool):
            return "true | false"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        if isinstance(self.default, str):
            return "a word"
        low, high = self.at_least, self.at_most
        return (
            kind
            + {
                (True, True): f" from {low} to {high}",
                (True, False): f", {low} or more",
                (False, True): f", at most {high}",
                (False, False): "",
            }[low is not None, high is not None]
        )

    def read(self, given: object) -> Value | Problem:
        """From text, or from a plain value as the ledger keeps it."""
        value = self._typed(given)
        if value is None or not self._is_within(value):
            return Problem(f"{self.name} is {given!r}, not {self.span}", f"{self.words}")
        return value

    def _typed(self, given: object) -> Value | None:
        text = str(given).strip()
        if isinstance(self.default, bool):
            return {"true": True, "false": False}.get(text.lower())
        if isinstance(self.default, str):
            return text or None
        if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,18})?", text, re.ASCII):
            return None
        if isinstance(self.default, int):
            return int(text) if "." not in text else None
        try:
            return Decimal(text)
        except InvalidOperation:  # pragma: no cover - the pattern lets only numbers through
            return None

    def _is_within(self, value: Value) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return True
        is_low = self.at_least is not None and value < self.at_least
        return not is_low and not (self.at_most is not None and value > self.at_most)


def parameter(
    *,
    default: Any,
    words: str,
    at_least: int | Decimal | None = None,
    at_most: int | Decimal | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a strategy: its default says its type, ``words`` what it is, for people."""
    told = Parameter(
        name="",
        words=words,
        default=default,
        at_least=at_least,
        at_most=at_most,
        choices=tuple(choices),
    )
    return field(default=default, metadata={"parameter": told})


# --- what a bot is shown --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """Closed candles, oldest first, as read-only arrays; floats are for indicators, not for money.

    Indicators are computed once, however many bots ask for the same ones.
    """

    open_ms: NDArray[numpy.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    _known: dict[tuple[str, int], Floats] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.close)

    def latest(self, count: int) -> Candles:
        """The last ``count`` of them, or all where there are not so many."""
        names = ("open_ms", "open", "high", "low", "close", "volume")
        return Candles(**{name: getattr(self, name)[-count:] for name in names})

    def sma(self, length: int) -> Floats:
        return self._indicator("sma", indicators.sma, length)

    def ema(self, length: int) -> Floats:
        return self._indicator("ema", indicators.ema, length)

    def rsi(self, length: int) -> Floats:
        return self._indicator("rsi", indicators.rsi, length)

    def _indicator(
        self, name: str, compute: Callable[[Floats, int], Floats], length: int
    ) -> Floats:
        known = self._known.get((name, length))
        if known is None:
            known = compute(self.close, length)
            known.flags.writeable = False
            self._known[name, length] = known
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One market and one bot at one moment: all a decision may depend on."""

    symbol: str
    candles: Candles
    """Exactly as many as the strategy asked for, of the bot's timeframe, without holes."""
    trade: Trade
    quote: Quote
    budget: Decimal
    """In the quote asset: the most the bot's position and open orders may be worth."""
    position: Decimal
    orders: Sequence[Order]
    """The bot's own that are not at their end, those included that nobody has judged yet."""
    memory: Mapping[str, Any]
    """What the last committed decision left here; plain values, and empty at first."""

    @property
    def price(self) -> Decimal:
        """Of the last trade."""
        return self.trade.price


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
    """An order the bot wants: a market order, or a limit order that rests until it is filled."""

    side: Side
    quantity: Decimal
    limit_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to hold or to order, and why. With neither target nor orders all stays as it is."""

    verdict: str
    """One clause without numbers: evaluations with the same verdict count as unchanged."""
    indicators: Mapping[str, float | Decimal | int]
    nearest: str | None = None
    """What would have to happen for another verdict: "fast 100.2 is 0.3 below slow 100.5"."""
    target: Target | None = None
    orders: Sequence[Wish] = ()
    memory: Mapping[str, Any] | None = None
    """None keeps the memory as it is."""


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
        """How many closed candles it must see."""

    @abstractmethod
    def decide(self, view: View) -> Decision: ...

    def objection(self) -> str | None:
        """What is wrong with parameters that are each within their bounds."""
        return None
