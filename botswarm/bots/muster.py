"""The running bots of one market as a process knows them, ready to be asked pass after pass."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, Protocol
from zlib import crc32

from botswarm.bots import guards
from botswarm.bots.apart import NotAsked
from botswarm.bots.spec import budget_of
from botswarm.domain.market import TIMEFRAMES_S, Quote
from botswarm.domain.order import Order
from botswarm.ledger import fold
from botswarm.ledger.bots import NEVER, Bot, Decision, Stand
from botswarm.ledger.stands import News
from botswarm.strategies.api import Candles, Strategy, Trigger, wanted_history
from botswarm.strategies.evaluate import Holding, Market, Subject
from botswarm.strategies.origins import Origin

KEPT_ANEW_S = 30.0
"""An evaluation that brings nothing new is written down this often, so that people see it live."""
KEPT_ANEW_PER_BOT_S = 6.0
"""The same in a market of many bots, for each of them: what is written then does not grow."""

AVERAGE_STEP = Decimal("1e-12")


class Makes(Protocol):
    """Where a bot's strategy is got."""

    def of(self, bot: Bot) -> Strategy:
        """Raises whatever is wrong with the bot's strategy or parameters."""

    def origin(self, bot: Bot) -> Origin | None:
        """None where it is our own code, or is not there at all."""


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One bot, with what it takes to ask it; it changes under its muster's lock only."""

    bot: Bot
    revision: int
    problem: Exception | None = None
    """Why it cannot be asked; it is told at each pass, where errors are counted."""
    subject: Subject | None = None
    guards: Mapping[str, Order] = field(default_factory=dict)
    """By symbol, the stops that guard its positions: it is not shown them."""
    wanted: Mapping[str, int] = field(default_factory=dict)
    """How many candles of which timeframe it must see."""
    others: tuple[str, ...] = ()
    trigger: Trigger = field(default_factory=Trigger.on_tick)
    is_vectorised: bool = False
    origin: Origin | None = None
    """Of a stranger's code; None is ours."""
    waiting: Stand | None = None
    """As it was read, until its origin's process has said what its strategy asks for."""
    # what was last written down of it
    verdict: str | None = None
    gate: str | None = None
    errors: int = 0
    kept_at: float | None = None
    # when it was last asked, in the words of its trigger
    asked_open_ms: int = -1
    asked_ms: int = -1
    asked_quote: tuple[Decimal, Decimal] | None = None
    """Bid and ask."""
    spread: float = 1.0
    """Bots that were written down together are not all written down anew together."""

    @property
    def name(self) -> str:
        return self.bot.name

    @property
    def strategy(self) -> Strategy:
        assert self.subject is not None
        return self.subject.strategy

    @property
    def looked_at(self) -> Mapping[str, int]:
        """What it must see, and the candle whose close it waits for."""
        if self.trigger.kind != "candle" or self.wanted.get(self.bot.timeframe):
            return self.wanted
        return {**self.wanted, self.bot.timeframe: 1}

    def is_due(self, market: Market, candles: Mapping[str, Candles]) -> bool:
        """Whether what it waits for has happened since it was last asked."""
        match self.trigger.kind:
            case "candle":
                newest = newest_ms(candles.get(self.bot.timeframe))
                return newest is None or newest > self.asked_open_ms
            case "quote":
                return market.quote is None or _prices(market.quote) != self.asked_quote
            case "timer":
                return market.exchange_ms - self.asked_ms >= self.trigger.seconds * 1000
            case _:
                return True

    def was_asked(self, market: Market, candles: Mapping[str, Candles]) -> None:
        newest = newest_ms(candles.get(self.bot.timeframe))
        if newest is not None:
            self.asked_open_ms = newest
        self.asked_ms = market.exchange_ms
        self.asked_quote = None if market.quote is None else _prices(market.quote)

    def was_kept(self, record: Mapping[str, Any]) -> None:
        """What the ledger now says of its last evaluation."""
        stopped = record.get("stopped")
        self.verdict = record.get("verdict")
        self.gate = stopped["gate"] if stopped else None
        self.errors = int(record.get("errors") or 0)
        self.kept_at = datetime.fromisoformat(record["at"]).timestamp()
        if record.get("version") == self.bot.version and is_heard(record):
            # By whichever process asked it.
            self.asked_open_ms = max(self.asked_open_ms, int(record.get("candle_ms") or -1))
            at_ms = int(record.get("exchange_ms") or -1)
            if at_ms >= self.asked_ms and record.get("bid") and record.get("ask"):
                self.asked_quote = Decimal(record["bid"]), Decimal(record["ask"])
            self.asked_ms = max(self.asked_ms, at_ms)

    def follow(self, before: Member) -> None:
        """Take over what the ledger does not know of the same bot before its stand changed."""
        if (before.bot.created_at, before.bot.version) != (self.bot.created_at, self.bot.version):
            return
        self.asked_open_ms = max(self.asked_open_ms, before.asked_open_ms)
        if before.asked_ms >= self.asked_ms:
            self.asked_quote = before.asked_quote
        self.asked_ms = max(self.asked_ms, before.asked_ms)


def newest_ms(candles: Candles | None) -> int | None:
    """When the last closed one opened."""
    return None if candles is None or not len(candles) else int(candles.open_ms[-1])


def is_heard(record: Mapping[str, Any]) -> bool:
    """Its strategy answered, and nothing kept it from doing what it said."""
    return record.get("verdict") is not None and not record.get("wanted")


def _prices(quote: Quote) -> tuple[Decimal, Decimal]:
    return quote.bid, quote.ask


def member_of(stand: Stand, makes: Makes, known: Member | None = None) -> Member:
    """Never raises: what is wrong with a bot is its ``problem``."""
    bot = stand.bot
    # The last evaluation is most of what a row weighs; four of its values are all that is needed.
    made = Member(bot=replace(bot, last_evaluation=None), revision=stand.revision)
    made.spread = 0.5 + crc32(bot.name.encode()) % 1000 / 1000
    if bot.last_evaluation is not None:
        made.was_kept(bot.last_evaluation)
        at = datetime.fromisoformat(bot.last_evaluation["at"])
        if bot.updated_at is not None and bot.updated_at > at:
            # Who starts a bot again after its errors gives it another chance: they count no more.
            made.errors = 0
    if known is not None:
        made.follow(known)
    try:
        made.origin = makes.origin(bot)
        _prepare(made, stand, makes.of(bot))
    except NotAsked:
        made.waiting = stand
    except Exception as error:
        # A stranger's code, or a row that somebody wrote by hand: one bot's trouble only.
        made.problem = error
    except SystemExit as error:
        made.problem = RuntimeError(f"it wants to end the process: SystemExit({error.code})")
    return made


def _prepare(member: Member, stand: Stand, strategy: Strategy) -> None:
    bot, needs = stand.bot, strategy.needs()
    own = stand.held.get(bot.symbol)
    member.wanted = wanted_history(strategy, bot.timeframe)
    member.others = tuple(symbol for symbol in needs.others if symbol != bot.symbol)
    member.trigger = strategy.trigger()
    # Strangers' code decides in a process of its own, and there one by one.
    is_own = member.origin is None
    member.is_vectorised = is_own and strategy.is_vectorised() and not member.others
    member.guards = guards.guards_of(stand.orders)
    member.subject = Subject(
        bot=bot.name,
        account=bot.account,
        strategy=strategy,
        timeframe=bot.timeframe,
        budget=budget_of(bot),
        position=stand.position,
        orders=guards.own(stand.orders),
        memory=bot.memory,
        average_price=_average(own),
        others={
            symbol: Holding(position=held.quantity, average_price=_average(held))
            for symbol, held in stand.held.items()
            if symbol in member.others
        },
    )


def _average(held: fold.Holding | None) -> Decimal | None:
    """What was paid for one, where something is held."""
    if held is None or held.quantity <= 0:
        return None
    with localcontext(fold.EXACT):
        return (held.cost / held.quantity).quantize(AVERAGE_STEP)


class Muster:
    """One market's. Hold its ``lock`` from ``take`` to the end of the pass."""

    def __init__(self, venue: str, symbol: str, makes: Makes) -> None:
        self.venue, self.symbol = venue, symbol
        self.lock = threading.Lock()
        self.revision = NEVER
        self.members: dict[str, Member] = {}
        self.changed: set[str] = set()
        """Members that are new or other since somebody last cleared this."""
        self.behind_since: datetime | None = None
        self._waiting: dict[str, Member] = {}
        self._makes = makes
        self._forgotten = self._reading = self._read = 0
        self._doubted: list[Member] = []
        self._wanted: dict[str, int] | None = None
        self._others: dict[str, dict[str, int]] | None = None

    def seen(self) -> int:
        """The revision to read on from; what is forgotten from now on is read the next time."""
        self._reading = self._forgotten
        return self.revision if self._reading == self._read else NEVER

    def take(self, news: News) -> None:
        self._apply(news)
        self._read = self._reading
        doubted, self._doubted = self._doubted, []
        if any(self.members.get(each.name) is each for each in doubted):
            # The ledger refused them, and has no news of them: they were deleted.
            self.forget()

    def _apply(self, news: News) -> None:
        self.revision = news.revision
        if not (news.stands or news.ended or news.is_all):
            return
        gone = set(news.ended)
        if news.is_all:
            there = {stand.bot.name for stand in news.stands}
            gone |= (self.members.keys() | self._waiting.keys()) - there
        for name in gone:
            self.members.pop(name, None)
            self._waiting.pop(name, None)
        for stand in news.stands:
            name = stand.bot.name
            known = self._waiting.pop(name, None) or self.members.get(name)
            made = member_of(stand, self._makes, known)
            if made.waiting is None:
                self.members[name] = made
            else:
                self.members.pop(name, None)
                self._waiting[name] = made
        self.changed |= gone | {stand.bot.name for stand in news.stands}
        self._wanted = self._others = None

    @property
    def origins(self) -> frozenset[Origin]:
        """Of the strangers among its bots."""
        everybody = (*self.members.values(), *self._waiting.values())
        return frozenset(each.origin for each in everybody if each.origin is not None)

    def waiting(self, origin: Origin) -> list[Bot]:
        """Bots of which nobody knows yet what their strategies ask for."""
        return [each.bot for each in self._waiting.values() if each.origin == origin]

    def learned(self, origin: Origin, failed: Mapping[str, Exception]) -> frozenset[str]:
        """Take those in of whom it is known now, and those who failed as such, to be asked again.

        The former are answered: what they want to see nobody has looked at so far.
        """
        known: set[str] = set()
        for member in [each for each in self._waiting.values() if each.origin == origin]:
            name, stand = member.name, member.waiting
            assert stand is not None
            self.members.pop(name, None)
            member.problem = None
            try:
                _prepare(member, stand, self._makes.of(member.bot))
            except NotAsked:
                member.problem = failed.get(name)
                if member.problem is not None:
                    self.members[name] = member
                continue
            except Exception as error:
                member.problem = error
            member.waiting = None
            self.members[name] = self._waiting.pop(name)
            known.add(name)
        self.changed |= known | failed.keys()
        self._wanted = self._others = None
        return frozenset(known)

    def advance(self, revision: int, decisions: Iterable[Decision]) -> None:
        """Take in our own decisions without reading them, where nothing else has changed."""
        ours = [each for each in decisions if each.bot in self.members]
        is_more = any(each.orders or each.memory is not None for each in ours)
        if revision != self.revision + 1 or is_more:
            return  # the next look reads it, as the ledger has kept it
        for decision in ours:
            member = self.members[decision.bot]
            member.bot = replace(member.bot, last_sequence=decision.sequence)
            member.revision = revision
            self.changed.add(member.name)
        self.revision = revision

    def doubt(self, refused: Iterable[Decision]) -> None:
        """The ledger takes no decision of these bots; the next look should say why."""
        for each in refused:
            member = self.members.get(each.bot)
            if member is not None and member.revision == each.seen_revision:
                self._doubted.append(member)

    def forget(self) -> None:
        """Read everything anew at the next look: strategies have changed. Needs no lock."""
        self._forgotten += 1

    @property
    def wanted(self) -> Mapping[str, int]:
        """How many candles of each timeframe its bots want to see of this market."""
        if self._wanted is None:
            self._wanted = _most(each.looked_at for each in self.members.values())
        return self._wanted

    @property
    def others(self) -> Mapping[str, Mapping[str, int]]:
        """The same of further markets: as many of the bot's own timeframe as of its own market."""
        if self._others is None:
            symbols = {symbol for each in self.members.values() for symbol in each.others}
            self._others = {
                symbol: _most(
                    {each.bot.timeframe: each.wanted[each.bot.timeframe]}
                    for each in self.members.values()
                    if symbol in each.others
                )
                for symbol in sorted(symbols)
            }
        return self._others

    @property
    def kept_anew_s(self) -> float:
        """On average; the more bots, the more seldom each."""
        return KEPT_ANEW_PER_BOT_S * len(self.members)


def _most(each_wants: Iterable[Mapping[str, int]]) -> dict[str, int]:
    most: dict[str, int] = {}
    for wants in each_wants:
        for timeframe, count in wants.items():
            if timeframe in TIMEFRAMES_S:
                most[timeframe] = max(most.get(timeframe, 0), count)
    return most
