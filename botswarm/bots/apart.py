"""What a stranger's strategy asks for, as its own process said it, in the strategy's place."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, get_args

from botswarm.domain.market import TIMEFRAMES_S
from botswarm.errors import BotswarmError
from botswarm.strategies.api import Decision, Needs, Strategy, Trigger, View
from botswarm.strategies.needs import CHANNELS, TriggerKind

HISTORY_MAX = 10_000
"""Candles of one timeframe; more would take the worker's memory, not the strategy's."""
OTHERS_MAX = 50
NAME_MAX = 64


class NotAsked(BotswarmError):
    """Its process has not said yet what it wants to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """Plain values only: this crosses from its process to the worker."""

    history: int
    series: dict[str, int]
    others: tuple[str, ...]
    channels: tuple[str, ...]
    trigger: str
    seconds: float


def asks_of(strategy: Strategy) -> Asks:
    """Runs the strategy's code; raises whatever that raises."""
    needs, trigger = strategy.needs(), strategy.trigger()
    return Asks(
        history=operator.index(strategy.history),
        series={str(name): operator.index(count) for name, count in needs.history.items()},
        others=tuple(str(symbol) for symbol in needs.others),
        channels=tuple(str(channel) for channel in needs.channels),
        trigger=str(trigger.kind),
        seconds=float(trigger.seconds),
    )


class Apart(Strategy):
    """Stands in the worker for one that is elsewhere: knows what it asks for, and never decides."""

    wanted: int
    needed: Needs
    triggered: Trigger

    @property
    def history(self) -> int:
        return self.wanted

    def needs(self) -> Needs:
        return self.needed

    def trigger(self) -> Trigger:
        return self.triggered

    def decide(self, view: View) -> Decision:
        raise NotImplementedError("a stranger's strategy decides in a process of its own")


def stand_in(asks: object) -> Apart:
    """Whatever a stranger's process wrote; raises ValueError for what makes no sense."""
    if not isinstance(asks, Asks):
        raise ValueError("it did not say what it needs")
    _check(_is_count(asks.history), f"its history is no whole number from 0 to {HISTORY_MAX}")
    _check(
        isinstance(asks.series, dict)
        and all(name in TIMEFRAMES_S and _is_count(count) for name, count in asks.series.items()),
        f"it needs candles that are not 0 to {HISTORY_MAX} of one of {', '.join(TIMEFRAMES_S)}",
    )
    _check(
        _are_names(asks.others) and len(asks.others) <= OTHERS_MAX,
        f"it needs further markets that are not at most {OTHERS_MAX} names",
    )
    _check(
        _are_names(asks.channels) and {*asks.channels} <= {*CHANNELS, "book"},
        "it needs channels that are none of trade, quote and book",
    )
    seconds: Any = asks.seconds
    _check(
        asks.trigger in get_args(TriggerKind)
        and isinstance(seconds, float)
        and 0 <= seconds < float("inf"),
        "its trigger is none of candle, tick, quote and timer",
    )
    kind: Any = asks.trigger
    return Apart(
        wanted=asks.history,
        needed=Needs(
            history=asks.series, others=tuple(asks.others), channels=frozenset(asks.channels)
        ),
        triggered=Trigger(kind, seconds),
    )


def _check(is_so: bool, words: str) -> None:
    if not is_so:
        raise ValueError(words)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= HISTORY_MAX


def _are_names(values: object) -> bool:
    return isinstance(values, tuple) and all(
        type(each) is str and len(each) <= NAME_MAX for each in values
    )
