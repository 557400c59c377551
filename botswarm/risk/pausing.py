"""When a protection pauses trading, for how long, and by which losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from botswarm.domain.amount import plain
from botswarm.domain.protections import Protection, ProtectionKind

ZERO = Decimal(0)
CENTS = Decimal("0.01")


class Closed(Protocol):
    """What an order that closed a position came to."""

    @property
    def realised(self) -> Decimal: ...
    @property
    def turnover(self) -> Decimal: ...
    @property
    def quote(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def is_stop(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    scope: str
    since: datetime
    """When what caused it happened last."""
    until: datetime
    words: str
    numbers: Mapping[str, str] = field(default_factory=dict)


def pause(protection: Protection, scope: str, closed: Sequence[Closed]) -> Pause | None:
    """What the protection makes of a scope's outcomes, oldest first; it may be over already."""
    found = _JUDGES[protection.kind](protection, closed)
    if found is None:
        return None
    since, words, numbers = found
    until = since + protection.time("pause")
    return Pause(scope=scope, since=since, until=until, words=words, numbers=numbers)


Found = tuple[datetime, str, Mapping[str, str]] | None


def _cool_down(protection: Protection, closed: Sequence[Closed]) -> Found:
    losses = [each for each in closed if each.realised < 0]
    return _several(protection, losses, protection.count("losses"), "losing orders")


def _stop_guard(protection: Protection, closed: Sequence[Closed]) -> Found:
    stops = [each for each in closed if each.is_stop and each.realised < 0]
    return _several(protection, stops, protection.count("stops"), "stop-losses")


def _several(protection: Protection, events: Sequence[Closed], count: int, what: str) -> Found:
    """The latest moment at which so many of them lay within the time."""
    within = protection.time("within")
    for last in range(len(events) - 1, count - 2, -1):
        some = events[last - count + 1 : last + 1]
        if some[-1].at - some[0].at <= within:
            quotes = sorted({each.quote for each in some})
            lost = [
                _cents(_sum(-each.realised for each in some if each.quote == quote))
                for quote in quotes
            ]
            sums = " and ".join(f"{sum_} {quote}" for sum_, quote in zip(lost, quotes, strict=True))
            words = f"{count} {what} within {within}: {sums} lost"
            numbers = {"lost": ", ".join(lost), "quote": ", ".join(quotes)}
            return some[-1].at, words, {"count": str(count), **numbers}
    return None


def _low_profit(protection: Protection, closed: Sequence[Closed]) -> Found:
    some = _recent(protection, closed)
    turnover = _sum(each.turnover for each in some)
    if len(some) < protection.count("trades") or not turnover:
        return None
    earned = _sum(each.realised for each in some)
    percent = 100 * earned / turnover
    if percent >= protection.parameters["percent"]:
        return None
    words = (
        f"{len(some)} closing orders within {protection.time('within')} earned {_cents(earned)} "
        f"{some[-1].quote}, {percent:.2f} % of what they closed"
    )
    numbers = {"earned": _cents(earned), "turnover": _cents(turnover), "trades": str(len(some))}
    return some[-1].at, words, numbers


def _max_drawdown(protection: Protection, closed: Sequence[Closed]) -> Found:
    some = _recent(protection, closed)
    if len(some) < protection.count("trades"):
        return None
    total = peak = worst = ZERO
    at: datetime | None = None
    for each in some:
        total += each.realised
        peak = max(peak, total)
        if peak - total >= protection.parameters["loss"] and each.realised < 0:
            at = each.at
        worst = max(worst, peak - total)
    if at is None:
        return None
    words = (
        f"what was realised within {protection.time('within')} fell {_cents(worst)} "
        f"{some[-1].quote} below its peak"
    )
    return at, words, {"drawdown": _cents(worst), "trades": str(len(some))}


def _recent(protection: Protection, closed: Sequence[Closed]) -> Sequence[Closed]:
    """Those within the time before the last one: a pause does not end because time goes by."""
    if not closed:
        return ()
    begin = closed[-1].at - protection.time("within")
    return [each for each in closed if each.at >= begin]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, ZERO)


def _cents(amount: Decimal) -> str:
    return plain(amount.quantize(CENTS))


_JUDGES = {
    ProtectionKind.COOL_DOWN: _cool_down,
    ProtectionKind.STOP_GUARD: _stop_guard,
    ProtectionKind.LOW_PROFIT: _low_profit,
    ProtectionKind.MAX_DRAWDOWN: _max_drawdown,
}
