"""What each market did since it was last told: checked, conflated where it must be, never lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush

from botswarm.domain.market import TIMEFRAMES_S, Book, Candle, Quote, Status, Tick, Trade
from botswarm.feed.counts import Counts
from botswarm.feed.lag import Lag
from botswarm.feed.market import FollowedMarket, ended_since
from botswarm.feed.said import Said
from botswarm.market.candles import GRACE_MS
from botswarm.market.wire import Batch, Digest

TRADES_KEPT_MAX = 50_000
"""Of all markets together, while the broker takes none; about 20 MB."""
CANDLES_KEPT_MAX = 100_000
MARKET_EVERY_S = 0.25
"""No market is in more digests than one in this time; what moves after a pause is in the next."""
CLOSED_AT_ONCE, CLOSED_WITHIN_S = 20, 0.4
"""All markets close with the second: a thousand at once would hold up everybody's trades. Who looks
seldom closes more of them, so that all have had their turn in time."""
GO_ON_WITHIN_S = 60.0
"""A market followed this soon after taking the lead goes on from what was said of it before."""


class Tracker:
    """Thread-safe: connections put ticks in, the publisher takes batches and digests out."""

    def __init__(
        self,
        venue: str,
        wall_ms: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.venue = venue
        self.counts = Counts()
        self.awaken: Callable[[], None] = lambda: None
        """Called when something waits that did not when ``rest`` was asked."""
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._markets: dict[str, FollowedMarket] = {}
        self._lock = threading.Lock()
        self._is_resting = False
        self._waiting_trades = 0
        self._waiting_candles = 0
        self._unsaved: deque[Candle] = deque(maxlen=CANDLES_KEPT_MAX)
        self._sequence = 0
        self._news: dict[str, FollowedMarket] = {}
        """Those with something to publish: of a thousand markets few move within a moment."""
        self._ripe: dict[str, FollowedMarket] = {}
        """Those that changed, and may be in a digest now."""
        self._later: list[tuple[float, int, FollowedMarket]] = []
        """Those that changed soon after a digest they were in, by when they may be in one."""
        self._later_count = 0
        self._overdue: dict[str, FollowedMarket] = {}
        """Those in which a trade waits for one before it."""
        self._suspects: set[str] = set()
        self._said_ids: dict[str, tuple[int, int]] = {}
        self._said_until = 0.0
        self._lag = Lag()
        self._closed_s = 0
        self._advanced_at = monotonic()
        self._to_close: deque[FollowedMarket] = deque()
        """The markets whose turn to be closed by the clock has not come in this second."""

    # --- which markets ------------------------------------------------------------------------

    def follow(self, symbols: Collection[str]) -> Sequence[str]:
        """Keep what is known of these, forget all others; answers which are new."""
        with self._lock:
            new = [symbol for symbol in symbols if symbol not in self._markets]
            for symbol in new:
                self._markets[symbol] = FollowedMarket(self.venue, symbol, self.counts)
                if symbol in self._said_ids and self._monotonic() < self._said_until:
                    self._markets[symbol].begin_after(*self._said_ids.pop(symbol))
            for symbol in set(self._markets) - set(symbols):
                gone = self._markets.pop(symbol)
                for known in (self._news, self._ripe, self._overdue):
                    known.pop(symbol, None)
                gone.changed = gone.is_followed = False
                self._suspects.discard(symbol)
                self._waiting_trades -= gone.waiting_trades
                self._waiting_candles -= gone.waiting_candles
        return new

    def interrupted(self, symbols: Iterable[str]) -> None:
        """No connection carries these now: until a trade comes, silence means nothing."""
        with self._lock:
            for symbol in self._markets.keys() & set(symbols):
                self._markets[symbol].is_followed = False
                self._suspects.discard(symbol)  # it is suspected again when it is carried

    def suspect(self, symbols: Iterable[str]) -> None:
        """Something of these may have been lost, and nothing says what: the venue is asked."""
        with self._lock:
            self._suspects.update(symbol for symbol in symbols if symbol in self._markets)

    def announce(self, symbol: str, last_trade_id: int) -> None:
        """The venue says that this was its last trade by now."""
        with self._lock:
            if (market := self._markets.get(symbol)) is not None:
                market.order.announce(last_trade_id, self._monotonic())
                if market.order.due_at is not None:
                    self._overdue[symbol] = market

    # --- ticks in -----------------------------------------------------------------------------

    def put(self, ticks: Sequence[Tick], at: float | None = None) -> None:
        """``at``, by the monotonic clock, is when they came from the socket."""
        now = self._monotonic() if at is None else at
        with self._lock:
            for tick in ticks:
                market = self._markets.get(tick.symbol)
                if market is not None and self._put(market, tick, now):
                    self._note(market, now)
            self._tell()

    def _put(self, market: FollowedMarket, tick: Tick, now: float) -> bool:
        """Whether there is something to say of it."""
        if isinstance(tick, Trade):
            return self._put_trade(market, tick, now)
        if isinstance(tick, Quote):
            return market.put_quote(tick)
        if isinstance(tick, Book):
            # A strategy sees the best prices; the whole book is for those who read it.
            if market.put_book(tick):
                self._wait_with(market, now)
            return False
        if isinstance(tick, Status):
            return market.put_status(tick)
        self._close(market, market.put_candle(tick), now)
        return False

    def _put_trade(self, market: FollowedMarket, trade: Trade, now: float) -> bool:
        waiting = market.waiting_trades
        closed = market.put_trade(trade, now)
        self._lag.note(trade)
        if closed:
            self._close(market, closed, now)
        if market.order.due_at is not None:
            self._overdue[market.symbol] = market
        more = market.waiting_trades - waiting
        self._waiting_trades += more
        self._make_room(market)
        return more > 0

    def _make_room(self, market: FollowedMarket) -> None:
        while self._waiting_trades > TRADES_KEPT_MAX and market.waiting_trades > 1:
            del (market.recovered or market.trades)[0]
            market.missing += 1
            self._waiting_trades -= 1
            self.counts.conflated_trades += 1

    def _wait_with(self, market: FollowedMarket, now: float) -> None:
        if market.symbol not in self._news:
            self._news[market.symbol] = market
            market.since = now

    def _note(self, market: FollowedMarket, now: float) -> None:
        self._wait_with(market, now)
        if not market.changed:
            market.changed = True
            if now >= market.digest_from:
                self._ripe[market.symbol] = market
            else:
                self._later_count += 1
                heappush(self._later, (market.digest_from, self._later_count, market))

    def _tell(self) -> None:
        if self._is_resting and self._news:
            self._is_resting = False
            self.awaken()

    def _close(self, market: FollowedMarket, candles: Sequence[Candle], now: float) -> None:
        if not candles:
            return
        self._note(market, now)
        self.counts.candles += len(candles)
        self._unsaved.extend(candles)
        room = CANDLES_KEPT_MAX - self._waiting_candles
        if room < 2 * len(candles):
            # The ledger has them; books that miss them load them from there.
            self._waiting_candles -= market.waiting_candles
            self.counts.dropped_candles += len(market.candles)
            market.missing_candles += len(market.tick_candles)
            market.candles, market.tick_candles = [], []
        self._waiting_candles += market.keep(candles)

    # --- trades that were missed --------------------------------------------------------------

    def wanted_trades(self) -> list[tuple[str, list[range]]]:
        """The markets in which trades were missed, and their ids; none where nobody knows which."""
        with self._lock:
            wanted = [
                (market.symbol, list(market.order.lost))
                for market in self._markets.values()
                if market.order.lost
            ]
            lost = {symbol for symbol, _ in wanted}
            return wanted + [(symbol, []) for symbol in self._suspects - lost]

    def recover(self, symbol: str, trades: Sequence[Trade]) -> None:
        """What the venue told: those that were missed go out."""
        now = self._monotonic()
        with self._lock:
            market = self._markets.get(symbol)
            if market is None:
                return
            if symbol in self._suspects:
                self._suspects.discard(symbol)
                if trades and market.order.last_id is not None:
                    market.order.announce(trades[-1].trade_id, now)
                    self._go_on(market, float("inf"))
                    # Nothing was missed: a quiet market's candles need not wait for a trade.
                    market.is_followed |= not market.order.lost
            found = market.order.found(trades)
            market.recovered += found
            self._waiting_trades += len(found)
            self._make_room(market)
            self._note(market, now)
            self._tell()

    def give_up(self, symbol: str, ids: range) -> None:
        """The venue does not have them any more: readers are told that they will never come."""
        with self._lock:
            market = self._markets.get(symbol)
            if market is not None and (count := market.order.forget(ids)):
                market.missing += count
                self._note(market, self._monotonic())
                self._tell()

    def _go_on(self, market: FollowedMarket, now: float) -> None:
        waiting = len(market.trades)
        self._close(market, market.go_on(now), self._monotonic())
        if len(market.trades) > waiting or market.order.lost:
            self._waiting_trades += len(market.trades) - waiting
            self._note(market, self._monotonic())
        if market.order.lost and not market.trades:
            # Nothing has come after them yet: until then silence means nothing.
            market.is_followed = False
        if market.order.due_at is None:
            self._overdue.pop(market.symbol, None)

    # --- candles ------------------------------------------------------------------------------

    def advance(self) -> None:
        """Close by the clock the candles of markets that are quiet, and end what is overdue."""
        with self._lock:
            now = self._monotonic()
            for market in list(self._overdue.values()):
                self._go_on(market, now)
            if self._lag.least_ms is None:
                return
            venue_now_ms = self._wall_ms() - self._lag.least_ms
            second = (venue_now_ms - GRACE_MS) // 1000
            if second != self._closed_s and not self._to_close:
                self._closed_s = second
                self._to_close.extend(self._markets.values())
            at_once = int(len(self._markets) * (now - self._advanced_at) / CLOSED_WITHIN_S)
            self._advanced_at = now
            for _ in range(min(len(self._to_close), max(CLOSED_AT_ONCE, at_once))):
                market = self._to_close.popleft()
                if market.is_followed and not market.order.is_waiting:
                    self._close(market, market.builder.advance(venue_now_ms), now)

    def wanted_candles(self) -> list[tuple[str, str, int]]:
        """(symbol, timeframe, how many of the latest) that only the venue can tell us."""
        wanted = []
        with self._lock:
            venue_now_ms = self._wall_ms() - (self._lag.least_ms or 0)
            for market in self._markets.values():
                for timeframe, first_ms in market.builder.oldest_holes():
                    length_ms = TIMEFRAMES_S[timeframe] * 1000
                    if venue_now_ms >= first_ms + length_ms + GRACE_MS:
                        count = (venue_now_ms - first_ms) // length_ms + 1
                        wanted.append((market.symbol, timeframe, count))
        return wanted

    def fill(self, symbol: str, timeframe: str, candles: Sequence[Candle]) -> None:
        with self._lock:
            if (market := self._markets.get(symbol)) is not None:
                self._close(market, market.builder.fill(timeframe, candles), self._monotonic())
                self._tell()

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

    @property
    def waiting_trades(self) -> int:
        return self._waiting_trades

    @property
    def sequence(self) -> int:
        """Of the last digest."""
        return self._sequence

    def rest(self) -> bool:
        """Whether no tick waits: then ``awaken`` is called when one does."""
        with self._lock:
            self._is_resting = not self._news
            return self._is_resting

    def next_digest_at(self) -> float | None:
        """By the monotonic clock; None while no market has changed."""
        with self._lock:
            if self._ripe:
                return self._monotonic()
            return self._later[0][0] if self._later else None

    def take_batches(self) -> list[Batch]:
        return [batch for _, batch in self.take_news()]

    def take_news(self, markets_max: int | None = None) -> list[tuple[float, Batch]]:
        """With the time at which the first of it came in; those that waited longest first."""
        taken: list[tuple[float, Batch]] = []
        with self._lock:
            if markets_max is None or len(self._news) <= markets_max:
                news, self._news = self._news, {}
            else:
                news = {symbol: self._news[symbol] for symbol in list(self._news)[:markets_max]}
                for symbol in news:
                    del self._news[symbol]
            for market in news.values():
                self._waiting_trades -= market.waiting_trades
                self._waiting_candles -= len(market.tick_candles)
                taken += [(market.since, batch) for batch in market.take_batches()]
        return taken

    def take_digest(self) -> Digest | None:
        """Every market that changed and was in none for a moment; None where there is none."""
        with self._lock:
            now = self._monotonic()
            while self._later and self._later[0][0] <= now:
                market = heappop(self._later)[2]
                if market.changed:
                    self._ripe[market.symbol] = market
            if not self._ripe:
                return None
            ripe, self._ripe = self._ripe, {}
            # Bots decide by rising sequence numbers, so they rise whatever the clock does; a feed
            # that takes over goes on above those it finds said (``resume``).
            self._sequence = max(self._sequence + 1, self._wall_ms())
            found = []
            for market in ripe.values():
                self._waiting_candles -= len(market.candles)
                digest = market.take_digest(self._sequence)
                found.append(digest)
                ticks = digest.trade, digest.quote
                if ticks != market.told:
                    # A candle that the clock closed must not hold up the tick that comes next.
                    market.told, market.digest_from = ticks, now + MARKET_EVERY_S
        return Digest(venue=self.venue, sent_ms=self._wall_ms(), markets=tuple(found))

    # --- while another feed publishes ---------------------------------------------------------

    def stand_by(self, before_ms: int) -> None:
        """Another feed publishes: keep only what it may not have said if it died just now."""
        with self._lock:
            for market in self._markets.values():
                market.stand_by(before_ms)
            self._waiting_trades = sum(each.waiting_trades for each in self._markets.values())
            self._waiting_candles = sum(each.waiting_candles for each in self._markets.values())
            fresh = ended_since(self._unsaved, before_ms)
            self._unsaved.clear()
            self._unsaved.extend(fresh)

    def resume(self, said: Said) -> None:
        """Publish from here on: exactly what comes after what another feed said last."""
        with self._lock:
            self._sequence = max(self._sequence, said.sequence)
            self._said_ids = {
                symbol: (market.trade_id, market.trade_ms)
                for symbol, market in said.markets.items()
                if market.trade_id is not None
            }
            self._said_until = self._monotonic() + GO_ON_WITHIN_S
            now_ms = self._wall_ms() - (self._lag.least_ms or 0)
            for market in self._markets.values():
                market.resume(said, now_ms)
                if market.is_known:
                    self._note(market, self._monotonic())
            self._waiting_trades = sum(each.waiting_trades for each in self._markets.values())
            self._waiting_candles = sum(each.waiting_candles for each in self._markets.values())
