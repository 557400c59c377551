"""Positions valued by what markets are worth now: what each scope has won, lost and at stake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext

from botswarm.domain.standing import AtRisk, HeldPosition, Mark, MarketExposure

ZERO = Decimal(0)
EXACT = Context(prec=100)
Key = tuple[str, str]
"""A scope and a quote asset."""
Market = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """How the parts of a swarm are named; the ledger's words."""

    swarm: str
    account: Callable[[str, str], str]
    market: Callable[[str, str], str]
    strategy: Callable[[str], str]
    bot: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    losing: int = 0
    lost_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a reckoning rests on, as it was at one moment."""

    now: datetime
    day: str
    sequence: int | None
    positions: Sequence[HeldPosition]
    marks: Mapping[Market, Mark]
    mark_age_max: timedelta
    before: Mapping[Key, AtRisk]
    """As the last reckoning left them."""
    streaks: Mapping[str, Streak] = field(default_factory=dict)
    """By scope; of those that have closed something since then."""
    realised_today: Mapping[Key, Decimal] = field(default_factory=dict)
    """Of scopes that were never reckoned before."""
    balances: Mapping[tuple[str, str], Mapping[str, Decimal]] = field(default_factory=dict)
    """By venue and account: what there is of each asset."""


@dataclass(slots=True)
class _Sum:
    """Of positions of one market that belong together: their price is the same."""

    positions: int = 0
    long: Decimal = ZERO
    short: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO

    def add(self, held: HeldPosition) -> None:
        self.realised += held.realised
        if held.quantity:
            self.positions += 1
            self.cost += held.cost
            if held.quantity > 0:
                self.long += held.quantity
            else:
                self.short -= held.quantity


@dataclass(slots=True)
class _Total:
    """Of one scope in one quote asset."""

    positions: int = 0
    realised: Decimal = ZERO
    unrealised: Decimal = ZERO
    gross: Decimal = ZERO
    net: Decimal = ZERO
    marked_at: datetime | None = None
    unknown: str | None = None

    def add(self, part: _Sum, price: Price) -> None:
        self.positions += part.positions
        self.realised += part.realised
        if not part.positions:
            return
        if price.value is None:
            self.unknown = self.unknown or price.unknown
            return
        worth = (part.long - part.short) * price.value
        self.unrealised += worth - part.cost
        self.net += worth
        self.gross += (part.long + part.short) * price.value
        if price.at is not None and (self.marked_at is None or price.at < self.marked_at):
            self.marked_at = price.at


@dataclass(frozen=True, slots=True)
class Price:
    value: Decimal | None
    at: datetime | None
    unknown: str | None


def reckon(
    facts: Facts, scopes: Scopes, wanted: Callable[[str], bool] = lambda bot: True
) -> tuple[list[AtRisk], list[MarketExposure]]:
    """Each scope in each quote asset, and each market of each account.

    ``wanted`` says of which bots a line of their own is made: there may be very many.
    """
    with localcontext(EXACT):
        groups, bots = _summed(facts.positions, scopes, wanted)
        prices = _Prices(facts)
        totals: dict[Key, _Total] = {}
        for (venue, account, symbol, strategy, quote), part in groups.items():
            price = prices.of(venue, symbol)
            names = [scopes.swarm, scopes.account(venue, account), scopes.market(venue, symbol)]
            names += [] if strategy is None else [scopes.strategy(strategy)]
            for name in names:
                totals.setdefault((name, quote), _Total()).add(part, price)
        for (bot, venue, symbol, quote), part in bots.items():
            key = scopes.bot(bot), quote
            totals.setdefault(key, _Total()).add(part, prices.of(venue, symbol))
        equities = _equities(facts, scopes, prices)
        for key in equities:
            totals.setdefault(key, _Total())
        found = [_at_risk(key, total, facts, equities) for key, total in totals.items()]
        return found, _exposures(groups, prices, facts)


class _Prices:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[Market, Price] = {}

    def of(self, venue: str, symbol: str) -> Price:
        price = self._known.get((venue, symbol))
        if price is None:
            price = self._known[venue, symbol] = self._of(venue, symbol)
        return price

    def _of(self, venue: str, symbol: str) -> Price:
        mark, facts = self._facts.marks.get((venue, symbol)), self._facts
        if mark is None:
            return Price(None, None, f"no price of {venue}:{symbol} is known")
        if mark.is_fresh(facts.now, facts.mark_age_max):
            return Price(mark.price, mark.at, None)
        age = (facts.now - mark.at).total_seconds()
        said = f"is {age:.0f} s old" if age > 0 else f"is {-age:.0f} s in the future"
        return Price(None, mark.at, f"the price of {venue}:{symbol} {said}")


Group = tuple[str, str, str, str | None, str]


def _summed(
    positions: Iterable[HeldPosition], scopes: Scopes, wanted: Callable[[str], bool]
) -> tuple[dict[Group, _Sum], dict[tuple[str, str, str, str], _Sum]]:
    groups: dict[Group, _Sum] = {}
    bots: dict[tuple[str, str, str, str], _Sum] = {}
    for held in positions:
        group = (held.venue, held.account, held.symbol, held.strategy, held.quote)
        part = groups.get(group)
        if part is None:
            part = groups[group] = _Sum()
        part.add(held)
        if wanted(held.bot):
            key = held.bot, held.venue, held.symbol, held.quote
            bots.setdefault(key, _Sum()).add(held)
    return groups, bots


def _at_risk(key: Key, total: _Total, facts: Facts, equities: Mapping[Key, Decimal]) -> AtRisk:
    scope, quote = key
    before = facts.before.get(key)
    is_known = total.unknown is None
    result = total.realised + total.unrealised if is_known else None
    peak, peak_at = _peak(before, result, facts.now)
    equity = equities.get(key)
    streak = facts.streaks.get(scope)
    if streak is None:
        streak = Streak() if before is None else _streak_of(before)
    return AtRisk(
        scope=scope,
        quote=quote,
        at=facts.now,
        day=facts.day,
        positions=total.positions,
        realised=total.realised,
        unrealised=total.unrealised if is_known else None,
        day_result=_day_result(key, total, result, before, facts),
        peak=peak,
        peak_at=peak_at,
        equity=equity,
        equity_peak=_higher(None if before is None else before.equity_peak, equity),
        gross=total.gross if is_known else None,
        net=total.net if is_known else None,
        losing_streak=streak.losing,
        lost_at=streak.lost_at,
        marked_at=total.marked_at,
        unknown=total.unknown,
        sequence=facts.sequence,
    )


def _streak_of(before: AtRisk) -> Streak:
    return Streak(losing=before.losing_streak, lost_at=before.lost_at)


def _day_result(
    key: Key, total: _Total, result: Decimal | None, before: AtRisk | None, facts: Facts
) -> Decimal | None:
    """What had been won or lost when the trading day began."""
    if before is None:
        # Never reckoned before: what is not realised yet counts as today's.
        return total.realised - facts.realised_today.get(key, ZERO)
    if before.day == facts.day and before.day_result is not None:
        return before.day_result
    if before.day != facts.day and before.result is not None:
        return before.result
    return result


def _peak(
    before: AtRisk | None, result: Decimal | None, now: datetime
) -> tuple[Decimal | None, datetime | None]:
    if before is None or before.peak is None:
        # Who never won anything has its peak at nothing, not at its first loss.
        return (None, None) if result is None else (max(result, ZERO), now)
    if result is None or result <= before.peak:
        return before.peak, before.peak_at
    return result, now


def _higher(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _equities(facts: Facts, scopes: Scopes, prices: _Prices) -> dict[Key, Decimal]:
    """What an account has in each asset that its markets are quoted in.

    An asset without any market is left out; while the price of one that has a market is unknown,
    so is the whole.
    """
    quotes: dict[tuple[str, str], set[str]] = {}
    for held in facts.positions:
        quotes.setdefault((held.venue, held.account), set()).add(held.quote)
    found: dict[Key, Decimal] = {}
    for (venue, account), balances in facts.balances.items():
        for quote in quotes.get((venue, account), ()):
            equity: Decimal | None = balances.get(quote, ZERO)
            for asset, amount in balances.items():
                if asset == quote or not amount or equity is None:
                    continue
                price = prices.of(venue, f"{asset}-{quote}")
                if price.value is not None:
                    equity += amount * price.value
                elif price.at is not None:
                    equity = None
            if equity is not None:
                found[scopes.account(venue, account), quote] = equity
    return found


def _exposures(groups: Mapping[Group, _Sum], prices: _Prices, facts: Facts) -> list[MarketExposure]:
    places: dict[tuple[str, str, str, str], tuple[Decimal, Decimal]] = {}
    for (venue, account, symbol, _, quote), part in groups.items():
        long, short = places.get((venue, account, symbol, quote), (ZERO, ZERO))
        places[venue, account, symbol, quote] = long + part.long, short + part.short
    found = []
    for (venue, account, symbol, quote), (long, short) in places.items():
        price = prices.of(venue, symbol)
        found.append(
            MarketExposure(
                venue=venue,
                account=account,
                symbol=symbol,
                quote=quote,
                long_quantity=long,
                short_quantity=short,
                price=price.value,
                marked_at=price.at,
                at=facts.now,
                sequence=facts.sequence,
            )
        )
    return found
