"""Many bots of one strategy and one market as columns, for strategies that decide for all at once.

The engine keeps ``Columns`` as long as the bots stay as they are, and makes a ``Many`` of them at
each pass. What is looked up is looked up once per distinct value, and again only when a candle
has closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from botswarm.domain.market import Quote, Trade
from botswarm.strategies.candles import WINDOWED, Candles
from botswarm.strategies.indicators import Floats

if TYPE_CHECKING:
    from botswarm.strategies.api import Strategy

Integers = NDArray[numpy.int64]
KEEP = float("nan")
"""A target of the budget that leaves all as it is."""


@dataclass(slots=True, kw_only=True)
class _Lookup:
    """The distinct values of some columns together, and where each bot's are among them."""

    distinct: Sequence[tuple[int, tuple[Any, ...]]]
    """How many candles, and the parameters."""
    places: Integers


@dataclass(slots=True, kw_only=True, eq=False)
class Columns:
    """n bots, their parameters as arrays; one thread at a time. Made once, used at every pass."""

    strategies: Sequence[Strategy]
    position: Floats
    budget: Floats
    history: Integers
    """How many candles each bot is shown."""
    _parameters: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    _lookups: dict[tuple[str, ...], _Lookup] = field(default_factory=dict, repr=False)
    _found: dict[tuple[Any, ...], tuple[Candles, Floats]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        strategies: Sequence[Strategy],
        positions: Sequence[Decimal | float],
        budgets: Sequence[Decimal | float],
    ) -> Columns:
        """All of one class."""
        return cls(
            strategies=strategies,
            position=numpy.array([float(each) for each in positions]),
            budget=numpy.array([float(each) for each in budgets]),
            history=numpy.array([each.history for each in strategies], numpy.int64),
        )

    def __len__(self) -> int:
        return len(self.strategies)

    def parameter(self, name: str) -> NDArray[Any]:
        """Whole numbers and true/false as such, Decimals as floats, words as objects."""
        known = self._parameters.get(name)
        if known is None:
            values = [getattr(each, name) for each in self.strategies]
            if values and isinstance(values[0], Decimal):
                known = numpy.array([float(each) for each in values])
            elif values and isinstance(values[0], str):
                known = numpy.array(values, dtype=object)
            else:
                known = numpy.array(values)
            known.flags.writeable = False
            self._parameters[name] = known
        return known

    def last(
        self, candles: Candles, indicator: str, parameters: Sequence[str], line: str | None
    ) -> Floats:
        """See ``Many.last``."""
        key = (indicator, *parameters, line)
        known = self._found.get(key)
        if known is not None and known[0] is candles:
            return known[1]
        lookup = self._lookup(indicator, tuple(parameters))
        found = numpy.array(
            [
                _last(candles.latest(history), indicator, given, line)
                for history, given in lookup.distinct
            ]
        )[lookup.places]
        found.flags.writeable = False
        self._found[key] = candles, found
        return found

    def _lookup(self, indicator: str, parameters: tuple[str, ...]) -> _Lookup:
        """What looks into a window needs no history of its own: bots with the same one share."""
        known = self._lookups.get((indicator, *parameters))
        if known is None:
            rows = list(zip(*(self.parameter(name).tolist() for name in parameters), strict=True))
            rows = rows or [()] * len(self)
            histories: list[int] = self.history.tolist()
            shortest: dict[tuple[Any, ...], int] = {}
            for row, history in zip(rows, histories, strict=True):
                shortest[row] = min(shortest.get(row, history), history)
            if indicator in WINDOWED:
                histories = [shortest[row] for row in rows]
            wanted = list(zip(histories, rows, strict=True))
            places: dict[tuple[int, tuple[Any, ...]], int] = {}
            for each in wanted:
                places.setdefault(each, len(places))
            known = _Lookup(
                distinct=list(places),
                places=numpy.array([places[each] for each in wanted], numpy.int64),
            )
            self._lookups[indicator, *parameters] = known
        return known


def _last(candles: Candles, indicator: str, parameters: tuple[Any, ...], line: str | None) -> float:
    answer = getattr(candles, indicator)(*parameters)
    return float((answer if line is None else getattr(answer, line))[-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Many:
    """One market and n bots of one strategy at one moment."""

    columns: Columns
    symbol: str
    candles: Candles
    """As many as the most demanding of them; each bot's own are the latest of these."""
    trade: Trade
    quote: Quote
    now_ms: int
    series: Mapping[str, Candles] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns)

    def parameter(self, name: str) -> NDArray[Any]:
        """One value per bot."""
        return self.columns.parameter(name)

    @property
    def position(self) -> Floats:
        """In the base asset, one value per bot."""
        return self.columns.position

    @property
    def budget(self) -> Floats:
        """In the quote asset, one value per bot."""
        return self.columns.budget

    @property
    def position_worth_fraction(self) -> Floats:
        """Of its budget, what each bot's position is worth at the bid."""
        worth: Floats = self.columns.position * float(self.quote.bid) / self.columns.budget
        return worth

    @property
    def price(self) -> float:
        """Of the last trade."""
        return float(self.trade.price)

    def last(self, indicator: str, *parameters: str, line: str | None = None) -> Floats:
        """The newest value of an indicator of ``Candles``, one per bot.

        ``parameters`` are names of the strategy's own: ``many.last("rsi", "length")``. ``line``
        names one of several: ``many.last("bollinger", "length", "width", line="lower")``.
        Each bot's is computed over just the candles it would be shown, once per distinct need.
        """
        return self.columns.last(self.candles, indicator, parameters, line)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """What n bots would decide, one value per bot."""

    verdict: Integers
    """Indices into ``verdicts``."""
    verdicts: tuple[str, ...]
    """The very words that ``decide`` would say."""
    target: Floats
    """Of the budget, as ``OfBudget`` has it; NaN keeps all as it is."""
