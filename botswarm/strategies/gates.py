"""Whether to look at all: nobody decides on data that is old, crossed or full of holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from botswarm.domain.market import TIMEFRAMES_S
from botswarm.strategies.api import Candles, wanted_history
from botswarm.strategies.stand import Market, Neighbour, Stop, Subject

AHEAD_MAX_MS = 5000
CLOSING_TIME_MS = 3000
"""How long after its end a candle may take to arrive before it counts as missing."""
DATA_GATES: Sequence[str] = (
    *("no data", "behind", "stale", "clock", "crossed", "not trading", "history", "gapped"),
)
"""In the order in which they are looked at; the first objection stops the bot."""


def objection(market: Market, now: datetime) -> Stop | None:
    """What is wrong with the data of one market."""
    if market.trade is None or market.quote is None:
        missing = "trade" if market.trade is None else "quote"
        return Stop(gate="no data", words=f"no {missing} of {market.instrument.market} came yet")
    if market.sequence < market.wanted_sequence:
        words = f"digest {market.sequence} is known, {market.wanted_sequence} was rung for"
        return Stop(gate="behind", words=words)
    age_ms = data_age_ms(market, now)
    if age_ms > market.data_age_max_s * 1000:
        words = f"the data is {age_ms / 1000:.1f} s old, over {market.data_age_max_s:g} s"
        return Stop(gate="stale", words=words)
    if age_ms < -AHEAD_MAX_MS:
        words = f"the data is from {-age_ms / 1000:.1f} s ahead: a clock is wrong"
        return Stop(gate="clock", words=words)
    if market.quote.is_crossed or market.quote.bid <= 0:
        words = f"bid {market.quote.bid:f} and ask {market.quote.ask:f} make no market"
        return Stop(gate="crossed", words=words)
    if not market.instrument.is_trading:
        return Stop(gate="not trading", words=f"{market.instrument.market} is not trading")
    return None


def data_age_ms(market: Market, now: datetime) -> int:
    """By the venue's own clock."""
    return int(now.timestamp() * 1000) - market.exchange_ms


def unfit(
    subject: Subject,
    market: Market,
    series: Mapping[str, Candles | None],
    others: Mapping[str, Neighbour],
    now: datetime,
) -> Stop | None:
    """What is wrong with a bot's own history and further markets.

    ``series`` are by timeframe; a hole further back than the bot looks is not its concern.
    """
    for timeframe, wanted in wanted_history(subject.strategy, subject.timeframe).items():
        stop = _short(series.get(timeframe), wanted, timeframe, market.exchange_ms)
        if stop is not None:
            own = timeframe == subject.timeframe
            return stop if own else Stop(gate=stop.gate, words=f"{timeframe}: {stop.words}")
    for symbol in subject.strategy.needs().others:
        if symbol == market.instrument.symbol:
            continue
        if symbol not in others:
            words = f"nothing of {market.instrument.venue}:{symbol} came yet"
            return Stop(gate="no data", words=words)
        stop = _neighbour(others[symbol], subject, now)
        if stop is not None:
            return Stop(gate=stop.gate, words=f"{symbol}: {stop.words}")
    return None


def _neighbour(other: Neighbour, subject: Subject, now: datetime) -> Stop | None:
    stop = objection(other.market, now)
    if stop is not None:
        return stop
    wanted = subject.strategy.history
    return _short(other.candles, wanted, subject.timeframe, other.market.exchange_ms)


def _short(candles: Candles | None, wanted: int, timeframe: str, exchange_ms: int) -> Stop | None:
    if wanted == 0:
        return None
    has = 0 if candles is None else min(len(candles), wanted)
    if candles is None or has < wanted:
        words = f"{has} of the {wanted} closed candles it needs are known"
        return Stop(gate="history", words=words)
    length_ms = TIMEFRAMES_S[timeframe] * 1000
    first, last = int(candles.open_ms[-has]), int(candles.open_ms[-1])
    # They rise without repeating, so as many as fit between first and last are all there are.
    if last - first != (has - 1) * length_ms:
        return Stop(gate="gapped", words="candles are missing between those that are known")
    if exchange_ms >= last + 2 * length_ms + CLOSING_TIME_MS:
        return Stop(gate="gapped", words="the latest closed candles are missing")
    return None
