"""Bots of one strategy in one market side by side: who of them would change something now."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy
from numpy.typing import NDArray

from botswarm.bots.muster import KEPT_ANEW_S, Member
from botswarm.domain.market import TIMEFRAMES_S
from botswarm.domain.order import Side
from botswarm.strategies.api import Candles, Columns, Many, Outcomes, Strategy
from botswarm.strategies.evaluate import CLOSING_TIME_MS, TOLERANCE, Market
from botswarm.strategies.sizing import opened

logger = logging.getLogger(__name__)

CALM_FIRST_S, CALM_MAX_S = 1.0, 8.0
"""Who was asked and wrote nothing is asked the same again only after this, then twice as long."""
SHADOW = "shadow"
"""The gate of a bot that decides and never orders."""
NONE = -1
"""In place of a verdict: nothing was written down yet, or a word that is not in the table."""
SURELY = 1 - 1e-9
"""Floats decide only what is clear; what is near a limit is asked with exact numbers."""

Booleans = NDArray[numpy.bool_]
Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]
Key = tuple[type[Strategy], str]


class Rank:
    """Bots of one class of strategies and one timeframe, as arrays that live as long as they do."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.strategy = type(members[0].strategy)
        self.timeframe = members[0].bot.timeframe
        self.wanted = _wanted(members)
        self.columns = Columns.of(
            [each.strategy for each in members],
            [_position(each) for each in members],
            [_budget(each) for each in members],
        )
        self.places = {each.name: place for place, each in enumerate(members)}
        count = len(members)
        self._coming = numpy.array([float(_coming(each)) for each in members])
        self._verdicts: tuple[str, ...] = ()
        self._codes: Integers = numpy.full(count, NONE)
        self._is_stopped: Booleans = numpy.array([_is_stopped(each) for each in members])
        self._is_shadow: Booleans = numpy.array([each.bot.is_shadow for each in members])
        self._kept_at = numpy.array([_kept_at(each) for each in members])
        self._spread = numpy.array([each.spread for each in members])
        self._calm_until = numpy.zeros(count)
        self._calm_s = numpy.zeros(count)
        self._calm_code: Integers = numpy.full(count, NONE)
        self._told: Integers = numpy.full(count, NONE)
        """What ``decide_many`` said last."""

    def replace(self, member: Member) -> bool:
        """Take in what became of one of them; False where that takes a new rank."""
        place = self.places.get(member.name)
        if place is None or self.members[place].strategy is not member.strategy:
            return False
        self.members[place] = member
        self.columns.position[place] = float(_position(member))
        self.columns.budget[place] = float(_budget(member))
        self._coming[place] = float(_coming(member))
        self._is_shadow[place] = member.bot.is_shadow
        self._calm_until[place] = self._calm_s[place] = 0.0
        self._note(place, member)
        return True

    def was_asked(self, member: Member, now_s: float) -> None:
        """And nothing had to be written down of it: it has time."""
        place = self.places[member.name]
        pause_s = min(max(CALM_FIRST_S, 2 * self._calm_s[place]), CALM_MAX_S)
        self._calm_s[place], self._calm_until[place] = pause_s, now_s + pause_s
        self._calm_code[place] = self._told[place]

    def to_ask(
        self,
        market: Market,
        candles: Mapping[str, Candles],
        now_s: float,
        kept_anew_s: float,
    ) -> Sequence[Member]:
        """Those that would say or order something else than what is written down of them.

        Raises what ``decide_many`` raises.
        """
        unfit = self._unfit(market, candles)
        asked = unfit & (now_s >= self._calm_until)
        if not unfit.all():
            asked |= self._would_change(market, candles, now_s) & ~unfit
        asked |= now_s >= self._kept_at + numpy.maximum(KEPT_ANEW_S, kept_anew_s * self._spread)
        return [self.members[place] for place in numpy.flatnonzero(asked)]

    def _unfit(self, market: Market, candles: Mapping[str, Candles]) -> Booleans:
        """Those whose history is short or has holes: what that means is found out one by one."""
        for timeframe, count in self.wanted.items():
            if timeframe != self.timeframe and _whole(candles, timeframe, market) < count:
                return numpy.ones(len(self.members), numpy.bool_)
        unfit: Booleans = self.columns.history > _whole(candles, self.timeframe, market)
        return unfit

    def _would_change(
        self, market: Market, candles: Mapping[str, Candles], now_s: float
    ) -> Booleans:
        assert market.trade is not None
        assert market.quote is not None
        outcomes = self.strategy.decide_many(
            Many(
                columns=self.columns,
                symbol=market.instrument.symbol,
                candles=candles[self.timeframe],
                trade=market.trade,
                quote=market.quote,
                now_ms=market.exchange_ms,
                series=candles,
            )
        )
        _check(outcomes, len(self.members), self.strategy.name)
        if outcomes.verdicts != self._verdicts:
            self._verdicts = outcomes.verdicts
            for place, member in enumerate(self.members):
                self._note(place, member)
        told = numpy.asarray(outcomes.verdict, numpy.int64)
        self._told = told
        orders = self._would_order(outcomes, market) & ~self._is_shadow
        changes = (told != self._codes) | self._is_stopped | orders
        is_calm = (now_s < self._calm_until) & (told == self._calm_code)
        asked: Booleans = changes & ~is_calm
        return asked

    def _would_order(self, outcomes: Outcomes, market: Market) -> Booleans:
        """All but those of whom it is sure that they would not; exact numbers have the last word.

        The rules are those of ``botswarm.strategies.sizing``.
        """
        quote, instrument = market.quote, market.instrument
        assert quote is not None
        bid, least = float(quote.bid), float(instrument.notional_min)
        position, coming = self.columns.position, self._coming
        target = numpy.asarray(outcomes.target, numpy.float64)
        wanted = target * self.columns.budget / float(quote.ask)
        difference = numpy.abs(wanted - coming)
        keeps = numpy.isnan(target)
        is_near = difference <= numpy.abs(wanted) * float(TOLERANCE) * SURELY
        is_small = (coming > 0) & (difference * bid < least * SURELY)
        dust = (position * bid < least * SURELY) | (
            position < float(instrument.quantity_min) * SURELY
        )
        stays = (wanted > 0) & (is_near | is_small)
        leaves = (wanted == 0) & ((coming == 0) | (dust & (coming > 0)))
        orders: Booleans = ~(keeps | stays | leaves)
        return orders

    def _note(self, place: int, member: Member) -> None:
        known = member.verdict in self._verdicts
        self._codes[place] = self._verdicts.index(member.verdict or "") if known else NONE
        self._is_stopped[place] = _is_stopped(member)
        self._kept_at[place] = _kept_at(member)


class Ranks:
    """Of one market, made anew where bots came or went, and mended where they only changed."""

    def __init__(self) -> None:
        self._ranks: dict[Key, Rank] = {}
        self._broken: set[Key] = set()

    def update(self, members: Mapping[str, Member], changed: Iterable[str]) -> None:
        stale = False
        for name in changed:
            member = members.get(name)
            rank = None if member is None else self._ranks.get(_key(member) or _NO_KEY)
            if member is None or rank is None or not rank.replace(member):
                stale = True
        if not stale:
            return
        sorted_out: dict[Key, list[Member]] = {}
        for member in members.values():
            if (key := _key(member)) is not None:
                sorted_out.setdefault(key, []).append(member)
        self._ranks = {
            key: known
            if (known := self._ranks.get(key)) is not None and known.members == here
            else Rank(here)
            for key, here in sorted_out.items()
        }

    def was_asked(self, member: Member, now_s: float) -> None:
        rank = self._ranks.get(_key(member) or _NO_KEY)
        if rank is not None and member.name in rank.places:
            rank.was_asked(member, now_s)

    def all(self) -> Iterable[Rank]:
        return [rank for key, rank in self._ranks.items() if key not in self._broken]

    def give_up(self, rank: Rank, error: Exception) -> None:
        """Ask its bots one by one from now on."""
        self._broken.add((rank.strategy, rank.timeframe))
        logger.error(
            "decide_many of %s failed (%s: %s); its bots are asked one by one",
            rank.strategy.name,
            type(error).__name__,
            error,
        )


_NO_KEY: Key = (Strategy, "")


def _key(member: Member) -> Key | None:
    if member.problem is not None or not member.is_vectorised:
        return None
    return type(member.strategy), member.bot.timeframe


def _wanted(members: Iterable[Member]) -> dict[str, int]:
    most: dict[str, int] = {}
    for member in members:
        for timeframe, count in member.wanted.items():
            most[timeframe] = max(most.get(timeframe, 0), count)
    return most


def _whole(candles: Mapping[str, Candles], timeframe: str, market: Market) -> int:
    """How many of the latest closed candles are there without a hole; 0 where they are behind."""
    found = candles.get(timeframe)
    if found is None or not len(found):
        return 0
    length_ms = TIMEFRAMES_S[timeframe] * 1000
    if market.exchange_ms >= int(found.open_ms[-1]) + 2 * length_ms + CLOSING_TIME_MS:
        return 0
    holes = numpy.flatnonzero(numpy.diff(found.open_ms) != length_ms)
    return len(found) - (int(holes[-1]) + 1 if len(holes) else 0)


def _check(outcomes: object, count: int, name: str) -> None:
    if not isinstance(outcomes, Outcomes):
        raise TypeError(f"decide_many answered {type(outcomes).__name__}, not Outcomes")
    if len(outcomes.verdict) != count or len(outcomes.target) != count:
        raise ValueError(f"decide_many of {name} did not answer for each of {count} bots")


def _position(member: Member) -> Decimal:
    assert member.subject is not None
    return member.subject.position


def _budget(member: Member) -> Decimal:
    assert member.subject is not None
    return member.subject.budget


def _coming(member: Member) -> Decimal:
    """What it holds once all that is open has been filled."""
    assert member.subject is not None
    orders = [each for each in member.subject.orders if each.symbol == member.bot.symbol]
    return member.subject.position + opened(orders, Side.BUY) - opened(orders, Side.SELL)


def _is_stopped(member: Member) -> bool:
    """By something that may be over at any moment; being a shadow is for ever."""
    return member.gate is not None and member.gate != SHADOW


def _kept_at(member: Member) -> float:
    return float("-inf") if member.kept_at is None else member.kept_at
