"""Whether a decision is missing between those that were recorded: looked at candle by candle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from botswarm.bots.inputs import Told
from botswarm.bots.past import arrays
from botswarm.domain.market import TIMEFRAMES_S, Candle, Quote, Trade
from botswarm.domain.order import Side
from botswarm.ledger.audit import Entry
from botswarm.ledger.bot import BotState
from botswarm.ledger.evaluations import Kept
from botswarm.ledger.store import Ledger
from botswarm.strategies.api import View

PROVABLE = frozenset({"symbol", "candles", "series", "budget"})
"""Of a view: what the ledger knows at any moment. Who looks at more cannot be held to a close."""
LASTING = 2
"""A verdict that held for fewer closes may have passed between two evaluations."""
CLOSES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Missing:
    at: datetime
    then: str | None
    again: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closes:
    checked: int = 0
    """Closes at which the verdict in force is what deciding on the candles gives."""
    brief: int = 0
    """Closes with another verdict that did not last; it may have passed between evaluations."""
    not_covered: int = 0
    """Closes at which more than candles counts, or the bot was not being asked."""
    missing: Sequence[Missing] = ()


class Seen(View):
    """A view that notes what of it is looked at."""

    __slots__ = ()
    looked_at: set[str] = set()  # noqa: RUF012 - emptied before each use, never shared

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):
            Seen.looked_at.add(name)
        return super().__getattribute__(name)


@dataclass(frozen=True, slots=True)
class _Phase:
    """From one recorded change to the next."""

    first_ms: int
    end_ms: int
    version: int
    verdict: str | None
    is_asked: bool


def closes_between(
    ledger: Ledger,
    kept: Sequence[Kept],
    tellers: Mapping[int, Told],
    market: tuple[str, str],
    last: datetime,
    running: Sequence[tuple[datetime, datetime]],
) -> Closes:
    """From the first recorded change on; before it nobody knows what was in force."""
    checked = brief = not_covered = 0
    missing: list[Missing] = []
    odd: list[Missing] = []
    for phase in _phases(kept, last):
        told = tellers.get(phase.version)
        for close_ms, candles in _closes(ledger, told, market, phase):
            at = datetime.fromtimestamp(close_ms / 1000, UTC)
            is_asked = phase.is_asked and any(begun <= at < ended for begun, ended in running)
            verdict = _verdict(told, market[1], candles) if told and is_asked else None
            if verdict is None:
                not_covered += 1
            elif verdict == phase.verdict:
                checked += 1
                brief += len(odd)
                odd.clear()
            else:
                odd.append(Missing(at, phase.verdict, verdict))
                if len(odd) == LASTING:
                    missing.append(odd[0])
        # The last ones before a change may be what the change is about.
        brief += len(odd) if len(odd) < LASTING else 0
        odd.clear()
    return Closes(checked=checked, brief=brief, not_covered=not_covered, missing=missing)


def _phases(kept: Sequence[Kept], last: datetime) -> Iterator[_Phase]:
    moments = [_moment(each) for each in kept]
    ends = [*moments[1:], int(last.timestamp() * 1000)][: len(moments)]
    for each, first_ms, end_ms in zip(kept, moments, ends, strict=True):
        yield _Phase(
            first_ms=first_ms,
            end_ms=end_ms,
            version=each.version,
            verdict=each.record.get("verdict"),
            is_asked=each.inputs is not None,
        )


def _moment(kept: Kept) -> int:
    """By the venue's clock, where the bot was asked."""
    said = kept.record.get("exchange_ms")
    return int(said) if said is not None else int(kept.at.timestamp() * 1000)


def _closes(
    ledger: Ledger, told: Told | None, market: tuple[str, str], phase: _Phase
) -> Iterator[tuple[int, Sequence[Candle]]]:
    """Each close in a phase, with the candles that were closed then."""
    if told is None or (history := told.strategy.history) == 0:
        return
    length_ms = TIMEFRAMES_S[told.timeframe] * 1000
    count = min((phase.end_ms - phase.first_ms) // length_ms + 1, CLOSES_MAX)
    found = ledger.candles.until(
        *market, told.timeframe, phase.end_ms - length_ms, limit=count + history
    )
    for place, candle in enumerate(found):
        close_ms = candle.open_ms + length_ms
        window = found[max(0, place + 1 - history) : place + 1]
        is_whole = len(window) == history and (
            window[-1].open_ms - window[0].open_ms == (history - 1) * length_ms
        )
        if phase.first_ms < close_ms <= phase.end_ms and is_whole:
            yield close_ms, window


def _verdict(told: Told, symbol: str, window: Sequence[Candle]) -> str | None:
    """None where the strategy looks at more than candles, or needs more than its own."""
    needs = told.strategy.needs()
    if needs.others or set(needs.history) - {told.timeframe}:
        return None
    candles = arrays(window)
    price, at_ms = window[-1].close, window[-1].open_ms
    venue = window[-1].venue
    view = Seen(
        symbol=symbol,
        candles=candles,
        series={told.timeframe: candles},
        trade=_trade(venue, symbol, price, at_ms),
        quote=_quote(venue, symbol, price, at_ms),
        budget=told.budget,
        position=Decimal(0),
        orders=(),
        memory={},
        now_ms=at_ms,
    )
    Seen.looked_at.clear()
    try:
        decision = told.strategy.decide(view)
    except Exception:
        # It may fail over a price that never was; what was recorded is decided again elsewhere.
        return None
    return decision.verdict if Seen.looked_at <= PROVABLE else None


def _trade(venue: str, symbol: str, price: Decimal, at_ms: int) -> Trade:
    """Only so that there is one: whoever looks at it is not held to the answer."""
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=0,
        price=price,
        quantity=Decimal(1),
        taker_side=Side.BUY,
        exchange_ms=at_ms,
        received_ms=at_ms,
    )


def _quote(venue: str, symbol: str, price: Decimal, at_ms: int) -> Quote:
    return Quote(
        venue=venue,
        symbol=symbol,
        sequence=0,
        bid=price,
        bid_quantity=Decimal(1),
        ask=price,
        ask_quantity=Decimal(1),
        exchange_ms=at_ms,
        received_ms=at_ms,
    )


def running_spans(entries: Sequence[Entry], last: datetime) -> Sequence[tuple[datetime, datetime]]:
    """When a bot ran, from what was done to it; oldest first."""
    spans: list[tuple[datetime, datetime]] = []
    since: datetime | None = None
    for entry in entries:
        runs = runs_after(entry)
        if runs and since is None:
            since = entry.at
        elif runs is False and since is not None:
            spans.append((since, entry.at))
            since = None
    return [*spans, (since, last)] if since is not None else spans


def runs_after(entry: Entry) -> bool | None:
    """None where it says nothing of that."""
    after = entry.after or {}
    if entry.action == "bot.delete":
        return False
    if "state" in after:
        return bool(after["state"] == BotState.RUNNING)
    # Many that were created together are either all running or none, or nobody can tell.
    states = after.get("states")
    return None if states is None else set(states) == {BotState.RUNNING.value}
