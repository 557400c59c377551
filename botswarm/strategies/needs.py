"""What a strategy asks for beyond its bot's own candles, and when it wants to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

CHANNELS = frozenset({"trade", "quote"})
"""Of which every view shows the last; ``book`` is shown to who asks for it."""


TriggerKind = Literal["candle", "tick", "quote", "timer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a view must show besides the bot's own candles, of which ``history`` speaks."""

    history: Mapping[str, int] = field(default_factory=dict)
    """Further timeframes, and how many closed candles of each: ``{"1h": 50}``.

    The bot's own may be among them; then the larger of the two numbers counts.
    """
    others: tuple[str, ...] = ()
    """Further markets of the same venue: their candles are of the bot's timeframe and as many."""
    channels: frozenset[str] = CHANNELS
    """Of ``trade``, ``quote`` and ``book``."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a strategy wants to decide; made by the four functions below."""

    kind: TriggerKind
    seconds: float = 0.0

    @staticmethod
    def on_candle() -> Trigger:
        """When a candle of the bot's timeframe has closed: once per candle."""
        return Trigger("candle")

    @staticmethod
    def on_tick() -> Trigger:
        """Whenever the market has moved, at most about once a second."""
        return Trigger("tick")

    @staticmethod
    def on_quote() -> Trigger:
        """When the best bid or ask has changed, at most about once a second."""
        return Trigger("quote")

    @staticmethod
    def every(seconds: float) -> Trigger:
        """At the first movement of the market after so many seconds, by the exchange's clock."""
        if not seconds > 0:
            raise ValueError(f"a timer of {seconds} s never comes: give it more than 0")
        return Trigger("timer", seconds)
