"""What keeps a bot from ordering although it wants to: a halt, or orders that came to nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from botswarm.bots.registry import Rules, markets_of
from botswarm.domain.permission import TradingState
from botswarm.ledger.bots import Bot
from botswarm.ledger.halts import (
    SWARM,
    Halt,
    account_scope,
    bot_scope,
    market_scope,
    place_of,
    strategy_scope,
)
from botswarm.ledger.orders import Setback
from botswarm.ledger.store import Ledger
from botswarm.strategies.evaluate import Stop

PAUSE_MAX_S = 60
"""A bot whose orders are refused tries again after 2, 4, 8 … and at most so many seconds."""


def brakes(
    ledger: Ledger, bots: Sequence[Bot], now: datetime, rules: Rules | None = None
) -> Mapping[str, Stop]:
    """By name: why some of these bots must not order now.

    The gate would refuse them all the same, again and again, and each refusal is a row.
    """
    if not bots:
        return {}
    halts = {halt.scope: halt for halt in ledger.halts.all()}
    setbacks = ledger.orders.setbacks([bot.name for bot in bots])
    rules = rules or Rules()
    armed = _armed(ledger, bots, rules, now)
    reducing = _reducing(ledger, bots, halts, now)
    stops = {
        bot.name: _ruled_out(bot, rules, armed, now)
        or _halted(bot, halts, now)
        or reducing.get(bot.name)
        or _pausing(setbacks.get(bot.name), now)
        for bot in bots
    }
    return {name: stop for name, stop in stops.items() if stop is not None}


def _armed(
    ledger: Ledger, bots: Sequence[Bot], rules: Rules, now: datetime
) -> Collection[tuple[str, str]]:
    """Accounts that may trade real money now; nobody looks where none of the bots has one."""
    if not any(rules.is_live(bot.venue, bot.account) for bot in bots):
        return ()
    return {(each.venue, each.account) for each in ledger.armings.all() if each.is_armed(now)}


def _ruled_out(
    bot: Bot, rules: Rules, armed: Collection[tuple[str, str]], now: datetime
) -> Stop | None:
    if not rules.is_enabled:
        return Stop(gate="switched off", words="bots are switched off (BOTSWARM_BOT_ENABLE)")
    if not rules.is_live(bot.venue, bot.account):
        return None
    if bot.armed_until is None or now >= bot.armed_until:
        words = f"{bot.venue}:{bot.account} is real money, and the bot is not armed for it"
        return Stop(gate="not armed", words=words)
    if (bot.venue, bot.account) not in armed:
        words = f"the account {bot.venue}:{bot.account} is not armed: botswarm trading arm"
        return Stop(gate="account not armed", words=words)
    return None


def _halted(bot: Bot, halts: Mapping[str, Halt], now: datetime) -> Stop | None:
    if SWARM not in halts:
        return Stop(gate="halted", words="the swarm's trading state is not known")
    for halt in _said_of(bot, halts):
        if halt.state_at(now) is TradingState.HALTED:
            words = f"trading of {halt.scope} is halted: {halt.reason}"
            return Stop(gate="halted", words=words)
    return None


def _reducing(
    ledger: Ledger, bots: Sequence[Bot], halts: Mapping[str, Halt], now: datetime
) -> Mapping[str, Stop]:
    """Those that may only shrink a position and have none; nobody looks where all may grow."""
    found = {bot.name: stop for bot in bots if (stop := _must_reduce(bot, halts, now)) is not None}
    if found:
        for name in ledger.stands.holding(list(found)):
            del found[name]
    return found


def _must_reduce(bot: Bot, halts: Mapping[str, Halt], now: datetime) -> Stop | None:
    for halt in _said_of(bot, halts):
        if halt.state_at(now) is TradingState.REDUCING:
            words = f"trading of {halt.scope} is reducing, and it holds nothing: {halt.reason}"
            return Stop(gate="reducing", words=words)
        if halt.share is not None and place_of(bot.name) >= halt.share:
            words = f"trading is open to {halt.share} % of the bots, and it is none of them"
            return Stop(gate="reducing", words=words)
    return None


def _said_of(bot: Bot, halts: Mapping[str, Halt]) -> Iterator[Halt]:
    scopes = (
        SWARM,
        account_scope(bot.venue, bot.account),
        *(market_scope(bot.venue, symbol) for symbol in markets_of(bot)),
        strategy_scope(bot.strategy),
        bot_scope(bot.name),
    )
    return (halts[scope] for scope in scopes if scope in halts)


def _pausing(setback: Setback | None, now: datetime) -> Stop | None:
    if setback is None:
        return None
    # The exponent is bounded, or the sum would grow without end while a person sleeps.
    pause = timedelta(seconds=min(2 ** min(setback.count, 10), PAUSE_MAX_S))
    if now >= setback.at + pause:
        return None
    words = (
        f"its last order was {setback.state}: {setback.reason}; "
        f"it tries again {pause.total_seconds():.0f} s after that"
    )
    return Stop(gate="setback", words=words)
