"""What a pass over a market's bots sees, and what it has come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from botswarm.bots.muster import Member
from botswarm.domain.market import Book
from botswarm.ledger.bots import Decision
from botswarm.strategies.api import Candles
from botswarm.strategies.evaluate import Market, Neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A market, and what else its bots look at, at one moment."""

    market: Market
    candles: Mapping[str, Candles]
    """By timeframe; the very same object until a candle closes."""
    others: Mapping[str, tuple[Market, Mapping[str, Candles]]] = field(default_factory=dict)
    """Further markets by symbol."""
    book: Book | None = None

    def neighbours(self, member: Member) -> dict[str, Neighbour]:
        if not member.others:
            return {}
        return {
            symbol: Neighbour(market=found[0], candles=found[1].get(member.bot.timeframe))
            for symbol in member.others
            if (found := self.others.get(symbol)) is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    decisions: Sequence[Decision]
    pauses: Mapping[str, str]
    """Bots whose errors were too many, with the reason."""
    asked: Sequence[Member] = ()
    """Those who were asked one by one."""
    decided: frozenset[str] = frozenset()
    """Those of them whose strategy answered, so that its trigger has been heard."""
