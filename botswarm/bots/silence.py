"""Why a bot that runs is not evaluated: its strategy, its market, the feed or the workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from botswarm.bots.spec import parameters_of
from botswarm.errors import BotswarmError
from botswarm.ledger.bot import Bot
from botswarm.ledger.store import Ledger
from botswarm.strategies.registry import Catalog

ALIVE_S = 150.0
"""A feed that is well writes the last minute's candle at most so long after it began."""


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: Literal["strategy", "market", "feed", "worker"]
    words: str


def broken(bot: Bot, catalog: Catalog) -> Trouble | None:
    """What is wrong with its strategy, as this machine knows it."""
    try:
        catalog.make(bot.strategy, parameters_of(bot))
    except BotswarmError as error:
        return Trouble("strategy", error.cause)
    return None


def silence(ledger: Ledger, bot: Bot, now: datetime) -> Trouble:
    """For a bot that runs and was not evaluated for long."""
    market = f"{bot.venue}:{bot.symbol}"
    known = {each.symbol for each in ledger.books.instruments(bot.venue)}
    if not known:
        return Trouble("feed", f"no feed has ever told of {bot.venue}")
    if bot.symbol not in known:
        return Trouble("market", f"{bot.venue} has no market {bot.symbol}, or had none so far")
    candles = ledger.candles.load(bot.venue, bot.symbol, "1m", limit=1)
    if not candles:
        return Trouble("market", f"{market} is not followed: the feed never wrote a candle of it")
    age_s = (now - datetime.fromtimestamp(candles[-1].open_ms / 1000, UTC)).total_seconds()
    if age_s > ALIVE_S:
        words = f"the feed is silent: its last candle of {market} is {age_s:.0f} s old"
        return Trouble("feed", words)
    passes = ledger.stands.last_passes()
    if passes and (now - passes[0].at).total_seconds() < ALIVE_S:
        return Trouble("worker", f"the feed follows {market}, and the workers are behind with it")
    return Trouble("worker", f"the feed follows {market}, and no strategy worker runs")
