"""What each market did since it was last told: checked, conflated where it must be, never lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from botswarm.domain.market import TIMEFRAMES_S, Candle, Quote, Tick, Trade
from botswarm.market.candles import GRACE_MS, CandleBuilder
from botswarm.market.wire import Batch, Digest, MarketDigest

TRADES_KEPT_MAX = 50_000
"""Of all markets together, while the broker takes none; about 20 MB."""
CANDLES_KEPT_MAX = 100_000
BATCH_MAX = 500
LAG_PERIOD_MS = 30_000
RENUMBERED_AFTER_MS = 5000
"""An old number this much later is no repetition: the venue has begun to count anew."""


@dataclass(slots=True)
class Counts:
    trades: int = 0
    quotes: int = 0
    candles: int = 0
    gaps: int = 0
    missed_trades: int = 0
    recovered_trades: int = 0
    duplicates: int = 0
    conflated_trades: int = 0
    conflated_quotes: int = 0
    dropped_candles: int = 0
    late: int = 0


class _Lag:
    """The least time from the venue's stamp to our receiving it: clocks that differ, and the way.

    Of the last minute only: either clock may be set.
    """

    def __init__(self) -> None:
        self._now: int | None = None
        self._before: int | None = None
        self._since_ms = 0
        self.least_ms: int | None = None

    def note(self, trade: Trade) -> None:
        lag_ms = trade.received_ms - trade.exchange_ms
        if self._now is None or abs(trade.received_ms - self._since_ms) > LAG_PERIOD_MS:
            self._before, self._now = self._now, lag_ms
            self._since_ms = trade.received_ms
        elif lag_ms < self._now:
            self._now = lag_ms
        self.least_ms = self._now if self._before is None else min(self._now, self._before)


@dataclass(slots=True)
class _Market:
    symbol: str
    builder: CandleBuilder
    trade: Trade | None = None
    quote: Quote | None = None
    gaps: int = 0
    changed: bool = False
    is_followed: bool = False
    """Connected, and a trade has come since: nothing is being missed, so the clock may close."""
    trades: deque[Trade] = field(default_factory=deque)
    quote_waiting: bool = False
    candles: list[Candle] = field(default_factory=list)
    tick_candles: list[Candle] = field(default_factory=list)
    missing: int = 0
    lost: list[range] = field(default_factory=list)
    """Ids of trades that no connection brought."""
    recovered: list[Trade] = field(default_factory=list)


class Tracker:
    """Thread-safe: connections put ticks in, the publisher takes batches and digests out."""

    def __init__(self, venue: str, wall_ms: Callable[[], int]) -> None:
        self.venue = venue
        self.counts = Counts()
        self._wall_ms = wall_ms
        self._markets: dict[str, _Market] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiting_trades = 0
        self._waiting_candles = 0
        self._unsaved: deque[Candle] = deque(maxlen=CANDLES_KEPT_MAX)
        self._sequence = 0
        self._news: dict[str, _Market] = {}
        """Those with something to publish: of a thousand markets few move within a moment."""
        self._lag = _Lag()

    # --- which markets ------------------------------------------------------------------------

    def follow(self, symbols: Collection[str]) -> Sequence[str]:
        """Keep what is known of these, forget all others; answers which are new."""
        with self._lock:
            new = [symbol for symbol in symbols if symbol not in self._markets]
            for symbol in new:
                self._markets[symbol] = _Market(symbol, CandleBuilder(self.venue, symbol))
            for symbol in set(self._markets) - set(symbols):
                gone = self._markets.pop(symbol)
                self._news.pop(symbol, None)
                self._waiting_trades -= len(gone.trades)
                self._waiting_candles -= len(gone.candles) + len(gone.tick_candles)
        return new

    def interrupted(self, symbols: Iterable[str]) -> None:
        """No connection carries these now: until a trade comes, silence means nothing."""
        with self._lock:
            for symbol in symbols:
                if symbol in self._markets:
                    self._markets[symbol].is_followed = False

    # --- ticks in -----------------------------------------------------------------------------

    def put(self, ticks: Sequence[Tick]) -> None:
        with self._lock:
            for tick in ticks:
                market = self._markets.get(tick.symbol)
                if market is None:
                    continue
                if isinstance(tick, Trade):
                    self._put_trade(market, tick)
                elif isinstance(tick, Quote):
                    self._put_quote(market, tick)
                self._news[market.symbol] = market
            self._arrived.notify()

    def _put_trade(self, market: _Market, trade: Trade) -> None:
        last = market.trade
        step = 1 if last is None else trade.trade_id - last.trade_id
        if last is not None and step <= 0:
            if trade.exchange_ms <= last.exchange_ms + RENUMBERED_AFTER_MS:
                self.counts.duplicates += 1
                return
            step = 2  # somewhere in between; how many were missed nobody can say
        elif last is not None and step > 1:
            market.lost.append(range(last.trade_id + 1, trade.trade_id))
        if (missed := step - 1) > 0:
            market.gaps += 1
            self.counts.gaps += 1
            self.counts.missed_trades += missed
        market.trade = trade
        market.changed = market.is_followed = True
        self.counts.trades += 1
        self._lag.note(trade)
        late = market.builder.late
        self._close(market, market.builder.add(trade, after_gap=missed > 0))
        self.counts.late += market.builder.late - late
        self._make_room(market)
        market.trades.append(trade)
        self._waiting_trades += 1

    def _make_room(self, market: _Market) -> None:
        if self._waiting_trades >= TRADES_KEPT_MAX and market.trades:
            market.trades.popleft()
            market.missing += 1
            self._waiting_trades -= 1
            self.counts.conflated_trades += 1

    def _put_quote(self, market: _Market, quote: Quote) -> None:
        last = market.quote
        if (
            last is not None
            and quote.sequence <= last.sequence
            and quote.received_ms <= last.received_ms + RENUMBERED_AFTER_MS
        ):
            self.counts.duplicates += 1
            return
        if market.quote_waiting:
            self.counts.conflated_quotes += 1
        market.quote = quote
        market.changed = market.quote_waiting = True
        self.counts.quotes += 1

    def _close(self, market: _Market, candles: Sequence[Candle]) -> None:
        if not candles:
            return
        market.changed = True
        self._news[market.symbol] = market
        self.counts.candles += len(candles)
        self._unsaved.extend(candles)
        room = CANDLES_KEPT_MAX - self._waiting_candles
        if room < 2 * len(candles):
            # The ledger has them; books that miss them load them from there.
            self._waiting_candles -= len(market.candles) + len(market.tick_candles)
            self.counts.dropped_candles += len(market.candles)
            market.missing += len(market.tick_candles)
            market.candles, market.tick_candles = [], []
        market.candles += candles
        market.tick_candles += candles
        self._waiting_candles += 2 * len(candles)

    # --- trades that were missed --------------------------------------------------------------

    def wanted_trades(self) -> list[str]:
        """The markets in which trades were missed that nobody has asked for yet."""
        with self._lock:
            return [market.symbol for market in self._markets.values() if market.lost]

    def recover(self, symbol: str, trades: Sequence[Trade]) -> None:
        """The venue's latest trades: those that were missed go out; the others are gone."""
        with self._lock:
            market = self._markets.get(symbol)
            if market is None:
                return
            found = [trade for trade in trades if any(trade.trade_id in ids for ids in market.lost)]
            market.missing += sum(len(ids) for ids in market.lost) - len(found)
            market.recovered += found
            market.lost = []
            self.counts.recovered_trades += len(found)
            self._news[symbol] = market
            self._arrived.notify()

    # --- candles ------------------------------------------------------------------------------

    def advance(self) -> None:
        """Close by the clock the candles of markets that are quiet."""
        with self._lock:
            if self._lag.least_ms is None:
                return
            venue_now_ms = self._wall_ms() - self._lag.least_ms
            for market in self._markets.values():
                if market.is_followed:
                    self._close(market, market.builder.advance(venue_now_ms))

    def wanted_candles(self) -> list[tuple[str, str, int]]:
        """(symbol, timeframe, how many of the latest) that only the venue can tell us."""
        wanted = []
        with self._lock:
            venue_now_ms = self._wall_ms() - (self._lag.least_ms or 0)
            for market in self._markets.values():
                for timeframe, holes in market.builder.holes.items():
                    length_ms = TIMEFRAMES_S[timeframe] * 1000
                    if venue_now_ms >= holes[0].first_ms + length_ms + GRACE_MS:
                        count = (venue_now_ms - holes[0].first_ms) // length_ms + 1
                        wanted.append((market.symbol, timeframe, count))
        return wanted

    def fill(self, symbol: str, timeframe: str, candles: Sequence[Candle]) -> None:
        with self._lock:
            market = self._markets.get(symbol)
            if market is not None:
                self._close(market, market.builder.fill(timeframe, candles))
                self._arrived.notify()

    def keep(self, candles: Sequence[Candle]) -> None:
        """Older ones, for the ledger only: nobody waits for them."""
        with self._lock:
            self._unsaved.extend(candles)

    def take_unsaved(self) -> list[Candle]:
        with self._lock:
            candles = list(self._unsaved)
            self._unsaved.clear()
            return candles

    # --- out ----------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Until something waits to be published, at most so long."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._news, timeout_s)

    def take_batches(self) -> list[Batch]:
        batches = []
        with self._lock:
            news, self._news = self._news, {}
            for market in news.values():
                batches += self._trade_batches(market)
                if market.quote_waiting and market.quote is not None:
                    batches.append(self._batch(market, "quote", (market.quote,)))
                    market.quote_waiting = False
                if market.tick_candles:
                    batches.append(self._batch(market, "candle", tuple(market.tick_candles)))
                    self._waiting_candles -= len(market.tick_candles)
                    market.tick_candles = []
        return batches

    def _trade_batches(self, market: _Market) -> list[Batch]:
        batches = []
        if market.recovered:
            batches.append(
                self._batch(
                    market, "trade", tuple(market.recovered), market.missing, is_recovered=True
                )
            )
            market.recovered, market.missing = [], 0
        while market.trades:
            count = min(len(market.trades), BATCH_MAX)
            ticks = tuple(market.trades.popleft() for _ in range(count))
            self._waiting_trades -= count
            batches.append(self._batch(market, "trade", ticks, market.missing))
            market.missing = 0
        return batches

    def _batch(
        self,
        market: _Market,
        kind: str,
        ticks: tuple[Tick, ...],
        missing: int = 0,
        *,
        is_recovered: bool = False,
    ) -> Batch:
        return Batch(
            venue=self.venue,
            symbol=market.symbol,
            kind=kind,  # type: ignore[arg-type]  # one of the three, said by the callers above
            ticks=ticks,
            missing=missing,
            is_recovered=is_recovered,
        )

    def take_digest(self) -> Digest | None:
        """Every market that changed; None where none did."""
        with self._lock:
            now_ms = self._wall_ms()
            # Bots decide by rising sequence numbers. The clock makes those of the next feed, or
            # of this one after a restart, larger than all that were said before.
            self._sequence = max(self._sequence + 1, now_ms)
            changed = [market for market in self._markets.values() if market.changed]
            markets = tuple(self._digest_of(market) for market in changed)
        return Digest(venue=self.venue, sent_ms=now_ms, markets=markets) if markets else None

    def _digest_of(self, market: _Market) -> MarketDigest:
        candles = tuple(market.candles)
        self._waiting_candles -= len(candles)
        market.candles = []
        market.changed = False
        return MarketDigest(
            symbol=market.symbol,
            sequence=self._sequence,
            trade=market.trade,
            quote=market.quote,
            candles=candles,
            gaps=market.gaps,
            is_gapped=market.builder.is_gapped,
        )

    def stand_by(self, before_ms: int) -> None:
        """Another feed publishes: keep only what it may not have said if it died just now."""
        with self._lock:
            for market in self._markets.values():
                while market.trades and market.trades[0].received_ms < before_ms:
                    market.trades.popleft()
                    self._waiting_trades -= 1
                market.missing, market.recovered = 0, []
                self._waiting_candles -= len(market.candles) + len(market.tick_candles)
                market.candles = _ended_since(market.candles, before_ms)
                market.tick_candles = _ended_since(market.tick_candles, before_ms)
                self._waiting_candles += len(market.candles) + len(market.tick_candles)
            fresh = _ended_since(self._unsaved, before_ms)
            self._unsaved.clear()
            self._unsaved.extend(fresh)


def _ended_since(candles: Iterable[Candle], moment_ms: int) -> list[Candle]:
    return [
        candle
        for candle in candles
        if candle.open_ms + TIMEFRAMES_S[candle.timeframe] * 1000 >= moment_ms
    ]
