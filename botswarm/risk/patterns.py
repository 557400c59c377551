"""Trading that looks unlike itself: many cancels, rejects and flips, bursts, the same once more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from botswarm.domain.order import OrderState

WINDOW = timedelta(minutes=5)
BURST = timedelta(seconds=10)
NORMAL_OVER = timedelta(days=1)
NORMAL_SINCE = timedelta(hours=1)
"""A bot that has not traded for so long yet has no habits."""
REFUSED = frozenset((OrderState.REFUSED, OrderState.REJECTED))
ENDED_EARLY = frozenset((OrderState.CANCELED, OrderState.EXPIRED))


class Traded(Protocol):
    """An order as far as habits are concerned."""

    @property
    def bot(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def price(self) -> str: ...
    @property
    def state(self) -> OrderState: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def is_filled(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """``warn`` and ``halt`` are counts within WINDOW; without ``halt`` it is only told."""

    kind: str
    words: str
    warn: int
    halt: int | None
    count: Callable[[Sequence[Traded]], int]
    share: float = 0.0
    """Of all its orders there: below that many are nothing unusual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusual:
    bot: str
    pattern: Pattern
    count: int
    of: int
    """All its orders of the time."""
    normal: float | None = None

    @property
    def is_grave(self) -> bool:
        return self.pattern.halt is not None and self.count >= self.pattern.halt

    @property
    def words(self) -> str:
        minutes = WINDOW.total_seconds() / 60
        words = f"{self.bot}: {self.count} {self.pattern.words} in {minutes:.0f} minutes"
        if self.normal is not None:
            return f"{words}, where {self.normal:.1f} are its habit"
        return f"{words}, of {self.of} orders"


def _in_states(states: frozenset[OrderState]) -> Callable[[Sequence[Traded]], int]:
    return lambda orders: sum(each.state in states for each in orders)


def _flips(orders: Sequence[Traded]) -> int:
    """How often it bought what it had just sold, or the other way round, market by market."""
    last: dict[str, str] = {}
    count = 0
    for each in sorted(orders, key=lambda order: order.created_at):
        if not each.is_filled:
            continue
        count += last.get(each.symbol, each.side) != each.side
        last[each.symbol] = each.side
    return count


def _burst(orders: Sequence[Traded]) -> int:
    """The most that it made within BURST."""
    moments = sorted(each.created_at for each in orders)
    most = begin = 0
    for end, moment in enumerate(moments):
        while moment - moments[begin] > BURST:
            begin += 1
        most = max(most, end + 1 - begin)
    return most


def _repeats(orders: Sequence[Traded]) -> int:
    same = Counter(
        (each.symbol, each.side, each.kind, each.quantity, each.price) for each in orders
    )
    return max(same.values(), default=0)


PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        kind="many_cancels",
        words="orders that ended unfilled",
        warn=30,
        halt=None,
        count=lambda orders: sum(
            each.state in ENDED_EARLY and not each.is_filled for each in orders
        ),
        share=0.9,
    ),
    Pattern(
        kind="many_rejects",
        words="orders that were refused or rejected",
        warn=10,
        halt=100,
        count=_in_states(REFUSED),
        share=0.5,
    ),
    Pattern(kind="many_flips", words="changes of side", warn=20, halt=None, count=_flips),
    Pattern(
        kind="burst", words="orders within ten seconds, at most,", warn=50, halt=300, count=_burst
    ),
    Pattern(kind="repeats", words="times the very same order", warn=20, halt=200, count=_repeats),
)
UNLIKE_ITSELF = Pattern(kind="unlike_itself", words="orders", warn=20, halt=None, count=len)
TIMES_NORMAL = 10.0
BUSY_MAX = 50


def busy(orders: Iterable[Traded]) -> list[str]:
    """Bots whose habit is worth a question, the busiest first; a day of every bot would be long."""
    counts = Counter(each.bot for each in orders)
    return [bot for bot, count in counts.most_common(BUSY_MAX) if count >= UNLIKE_ITSELF.warn]


def unusual(
    orders: Iterable[Traded], before: Mapping[str, tuple[int, datetime]], now: datetime
) -> list[Unusual]:
    """``orders`` are those of WINDOW; ``before`` counts each bot's earlier ones since their
    first, within NORMAL_OVER.
    """
    by_bot: dict[str, list[Traded]] = defaultdict(list)
    for each in orders:
        by_bot[each.bot].append(each)
    found = []
    for bot, own in sorted(by_bot.items()):
        for pattern in PATTERNS:
            count = pattern.count(own)
            if count >= pattern.warn and count >= pattern.share * len(own):
                found.append(Unusual(bot=bot, pattern=pattern, count=count, of=len(own)))
        normal = _habit(before.get(bot), now)
        if (
            normal is not None
            and len(own) >= UNLIKE_ITSELF.warn
            and len(own) >= TIMES_NORMAL * normal
        ):
            found.append(
                Unusual(bot=bot, pattern=UNLIKE_ITSELF, count=len(own), of=len(own), normal=normal)
            )
    return found


def _habit(before: tuple[int, datetime] | None, now: datetime) -> float | None:
    """Its orders in a WINDOW, on average."""
    if before is None:
        return None
    count, first = before
    lasted = now - WINDOW - first
    if lasted < NORMAL_SINCE:
        return None
    return count / (lasted / WINDOW)
