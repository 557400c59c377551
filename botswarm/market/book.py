"""Every market as it stands, in memory: what strategies look into, and nothing on the hot path."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from botswarm.domain.market import TIMEFRAMES_S, Candle, Quote, Trade
from botswarm.domain.standing import Mark
from botswarm.errors import BotswarmError
from botswarm.market.series import Line, Series
from botswarm.market.wire import Digest, MarketDigest

logger = logging.getLogger(__name__)

RELOAD_PAUSE_S = 2.0
"""A source whose history is short or has holes is not asked again before this."""
CLOSING_TIME_MS = 3000
"""How long after its end a candle may take to arrive before it counts as missing."""

LoadHistory = Callable[[str, str, str, int], Sequence[Candle]]
"""(venue, symbol, timeframe, limit) → the latest closed candles, oldest first; may block."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketView:
    """One market at one moment; it never changes, whatever the market does next."""

    venue: str
    symbol: str
    sequence: int
    trade: Trade | None
    quote: Quote | None
    exchange_ms: int
    """The newest the venue's clock said of it; freshness is judged by it."""
    candles: Mapping[str, Series]
    """By timeframe, those that were asked for; shorter than asked for where a market is young."""
    is_gapped: bool
    """Candles are missing between or after those shown: not to be decided on."""


@dataclass(slots=True)
class _History:
    """One timeframe of one market."""

    line: Line
    loading: threading.Lock = field(default_factory=threading.Lock)
    may_load_at: float = 0.0
    """By the monotonic clock."""
    loaded: int = 0
    """So many were asked for and what there was came: a young market has no more."""


@dataclass(slots=True)
class _Market:
    sequence: int = 0
    trade: Trade | None = None
    quote: Quote | None = None
    exchange_ms: int = 0
    histories: dict[str, _History] = field(default_factory=dict)


class MarketBook:
    """Thread-safe: one consumer applies digests, any number of evaluations look."""

    def __init__(
        self,
        load_history: LoadHistory | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load_history = load_history
        self._monotonic = monotonic
        self._markets: dict[tuple[str, str], _Market] = {}
        self._changed = threading.Condition()

    def apply(self, digest: Digest) -> None:
        """Take in what the feed says; of what is older than the book only candles are of use."""
        with self._changed:
            for news in digest.markets:
                market = self._markets.setdefault((digest.venue, news.symbol), _Market())
                _apply(market, news)
            self._changed.notify_all()

    def markets(self) -> Sequence[tuple[str, str]]:
        """(venue, symbol) of all that was heard of."""
        with self._changed:
            return list(self._markets)

    def marks(self) -> Sequence[Mark]:
        """What each market is worth now, where anybody has traded in it or stands in its book."""
        with self._changed:
            found = [_mark(place, market) for place, market in self._markets.items()]
        return [mark for mark in found if mark is not None]

    def sequence(self, venue: str, symbol: str) -> int:
        """The last digest the market was in; 0 where nothing was heard of it."""
        with self._changed:
            market = self._markets.get((venue, symbol))
            return market.sequence if market else 0

    def wait_for(self, venue: str, symbol: str, sequence: int, timeout_s: float) -> bool:
        """Whether the book has reached that digest of the market, waiting at most so long."""

        def is_there() -> bool:
            market = self._markets.get((venue, symbol))
            return market is not None and market.sequence >= sequence

        with self._changed:
            return self._changed.wait_for(is_there, timeout_s)

    def view(self, venue: str, symbol: str, wanted: Mapping[str, int]) -> MarketView | None:
        """The market now, with up to so many closed candles of each timeframe as ``wanted`` says.

        None where nothing was heard of it. Where the digests have not brought enough of a
        timeframe, its history is loaded first: only then does this take longer than microseconds.
        """
        with self._changed:
            market = self._markets.get((venue, symbol))
            if market is None:
                return None
            histories = {
                timeframe: _history(market, timeframe, history)
                for timeframe, history in wanted.items()
            }
            short = [
                (timeframe, found)
                for timeframe, found in histories.items()
                if found.may_load_at <= self._monotonic()
                and _wants_more(found, wanted[timeframe], market.exchange_ms)
            ]
        for timeframe, found in short:
            self._load(venue, symbol, timeframe, wanted[timeframe], found)
        with self._changed:
            return _view(venue, symbol, market, histories, wanted)

    def _load(self, venue: str, symbol: str, timeframe: str, history: int, found: _History) -> None:
        if self._load_history is None:
            return
        with found.loading:
            if found.may_load_at > self._monotonic():
                return  # another thread has just done it
            try:
                candles = self._load_history(venue, symbol, timeframe, history)
                found.loaded = max(found.loaded, history)
            except BotswarmError as error:
                logger.warning("no history of %s:%s %s: %s", venue, symbol, timeframe, error)
                candles = ()
            with self._changed:
                found.line.add(candles)
            found.may_load_at = self._monotonic() + RELOAD_PAUSE_S


def _apply(market: _Market, news: MarketDigest) -> None:
    for candle in news.candles:
        history = market.histories.get(candle.timeframe)
        if history is not None:
            history.line.add((candle,))
    if news.sequence <= market.sequence:
        return
    market.sequence = news.sequence
    market.trade = news.trade or market.trade
    market.quote = news.quote or market.quote
    moments = [tick.exchange_ms for tick in (news.trade, news.quote) if tick is not None]
    market.exchange_ms = max(market.exchange_ms, *moments) if moments else market.exchange_ms


def _mark(place: tuple[str, str], market: _Market) -> Mark | None:
    """The last trade, held within the book: an old trade may be far from where the market is."""
    trade, quote = market.trade, market.quote
    if quote is not None and (quote.is_crossed or min(quote.bid, quote.ask) <= 0):
        quote = None
    if trade is None and quote is None:
        return None
    if trade is None:
        assert quote is not None
        price = (quote.bid + quote.ask) / 2
    else:
        price = trade.price
        if quote is not None:
            price = min(max(price, quote.bid), quote.ask)
    return Mark(
        venue=place[0],
        symbol=place[1],
        price=price,
        bid=None if quote is None else quote.bid,
        ask=None if quote is None else quote.ask,
        at=datetime.fromtimestamp(market.exchange_ms / 1000, UTC),
    )


def _history(market: _Market, timeframe: str, history: int) -> _History:
    found = market.histories.get(timeframe)
    if found is None:
        line = Line(TIMEFRAMES_S[timeframe] * 1000, kept=history)
        found = market.histories[timeframe] = _History(line)
    elif found.line.kept < history:
        found.line.kept = history
        found.may_load_at = 0.0
    return found


def _wants_more(found: _History, history: int, exchange_ms: int) -> bool:
    is_short = len(found.line) < history and found.loaded < history
    return is_short or _is_gapped(found.line, history, exchange_ms)


def _is_gapped(line: Line, history: int, exchange_ms: int) -> bool:
    if history == 0:
        return False  # who looks at none misses none
    last = line.last_open_ms
    if last is None or exchange_ms >= last + 2 * line.length_ms + CLOSING_TIME_MS:
        return True
    return line.latest(history)[1]


def _view(
    venue: str,
    symbol: str,
    market: _Market,
    histories: Mapping[str, _History],
    wanted: Mapping[str, int],
) -> MarketView:
    return MarketView(
        venue=venue,
        symbol=symbol,
        sequence=market.sequence,
        trade=market.trade,
        quote=market.quote,
        exchange_ms=market.exchange_ms,
        candles={
            timeframe: found.line.latest(wanted[timeframe])[0]
            for timeframe, found in histories.items()
        },
        is_gapped=any(
            _is_gapped(found.line, wanted[timeframe], market.exchange_ms)
            for timeframe, found in histories.items()
        ),
    )
