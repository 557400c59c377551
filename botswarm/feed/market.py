"""One market as the feed knows it: what came, what waits to be published, what is missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from botswarm.domain.market import (
    TIMEFRAMES_S,
    Book,
    Candle,
    Channel,
    Quote,
    Status,
    Tick,
    Trade,
)
from botswarm.feed.counts import Counts
from botswarm.feed.order import RENUMBERED_AFTER_MS, TradeOrder
from botswarm.feed.said import HOLES_MAX, Said
from botswarm.market.candles import CandleBuilder
from botswarm.market.wire import Batch, MarketDigest

BATCH_MAX = 500
IN_NO_DIGEST_MS = 5000
"""A candle that closed before is surely in a digest of the feed that led until now."""


class FollowedMarket:
    """Not thread-safe: the tracker's lock holds it together."""

    __slots__ = ("_compares", "_counts", "_said", "_told", "_venue", "book", "book_waits",
                 "builder", "candles", "changed", "digest_from", "floor_id", "is_followed",
                 "is_unsure", "missing", "missing_candles", "order", "quote", "quote_waits",
                 "recovered", "since", "status", "statuses", "symbol", "tick_candles", "told",
                 "trades")  # fmt: skip

    def __init__(self, venue: str, symbol: str, counts: Counts) -> None:
        self.symbol = symbol
        self._venue = venue
        self._counts = counts
        self.order = TradeOrder(counts)
        self.builder = CandleBuilder(venue, symbol)
        self.quote: Quote | None = None
        self.book: Book | None = None
        self.status: Status | None = None
        self.trades: deque[Trade] = deque()
        self.recovered: list[Trade] = []
        self.missing = self.missing_candles = 0
        self.quote_waits = self.book_waits = False
        self.statuses: list[Status] = []
        self.candles: list[Candle] = []
        """For the digest."""
        self.tick_candles: list[Candle] = []
        """For batches."""
        self.changed = False
        self.digest_from = 0.0
        """By the monotonic clock: it was in a digest a moment ago, and is in none before this."""
        self.told: tuple[Trade | None, Quote | None] = (None, None)
        """Of the last digest it was in."""
        self.is_followed = False
        """Connected, and a trade has come since: nothing is missed, so the clock may close."""
        self.is_unsure = False
        """Nobody knows what another feed has said: these trades may have been among it."""
        self.since = 0.0
        """When the oldest of what waits came in."""
        self.floor_id = 0
        """Another feed has said all up to it: it makes our candles, and is not said again."""
        self._said: set[tuple[str, int]] = set()
        """Candles that another feed had published when this one took over."""
        self._told: dict[str, Candle] = {}
        self._compares = False

    @property
    def is_known(self) -> bool:
        """Something has come of it."""
        return not (self.order.last is None and self.quote is None and self.status is None)

    @property
    def waiting_trades(self) -> int:
        return len(self.trades) + len(self.recovered)

    @property
    def waiting_candles(self) -> int:
        return len(self.candles) + len(self.tick_candles)

    # --- in -----------------------------------------------------------------------------------

    def put_trade(self, trade: Trade, now: float) -> Sequence[Candle]:
        """The candles it closes."""
        order = self.order
        if order.lost and order.last_id is not None and trade.trade_id <= order.last_id:
            found = order.found((trade,))
            if found:
                self.recovered += found
                return ()
        return self._go_on(order.add(trade, now))

    def go_on(self, now: float) -> Sequence[Candle]:
        """Past what has been waited for long enough."""
        return self._go_on(self.order.overdue(now))

    def _go_on(self, ready: Sequence[tuple[Trade, bool]]) -> Sequence[Candle]:
        closed: list[Candle] = []
        builder = self.builder
        for trade, after_gap in ready:
            self._counts.trades += 1
            late = builder.late
            closed += builder.add(trade, after_gap=after_gap)
            self._counts.late += builder.late - late
            self.is_followed = True
            if self.floor_id and self._is_said(trade):
                continue
            self.trades.append(trade)
        return closed

    def _is_said(self, trade: Trade) -> bool:
        # Where the venue has begun to count anew, the order has forgotten what was said.
        if self.order.said_id and self.floor_id - HOLES_MAX < trade.trade_id <= self.floor_id:
            return True
        self.floor_id = 0
        return False

    def put_quote(self, quote: Quote) -> bool:
        last = self.quote
        if last is not None and _is_old(quote, last):
            self._counts.duplicates += 1
            return False
        self._counts.conflated_quotes += self.quote_waits
        self._counts.quotes += 1
        self.quote, self.quote_waits = quote, True
        return True

    def put_book(self, book: Book) -> bool:
        last = self.book
        if last is not None and _is_old(book, last):
            self._counts.duplicates += 1
            return False
        self._counts.conflated_books += self.book_waits
        self._counts.books += 1
        self.book, self.book_waits = book, True
        return True

    def put_status(self, status: Status) -> bool:
        if self.status is not None and (self.status.trading, self.status.words) == (
            status.trading,
            status.words,
        ):
            return False
        self._counts.statuses += 1
        self.status = status
        self.statuses.append(status)
        return True

    def put_candle(self, candle: Candle) -> Sequence[Candle]:
        """The venue's own, which only fill what we could not make; others are compared."""
        if not candle.is_closed:
            return ()
        self._compares = True
        if filled := self.builder.fill_one(candle):
            return filled
        self._compare(candle, "venue")
        return ()

    def keep(self, candles: Sequence[Candle]) -> int:
        """Closed, to be published twice: by themselves, and in the digest; how many wait more."""
        new = [each for each in candles if (each.timeframe, each.open_ms) not in self._said]
        self.candles += candles
        self.tick_candles += new
        if self._compares:
            for candle in candles:
                self._compare(candle, "ours")
        return len(candles) + len(new)

    def _compare(self, candle: Candle, whose: str) -> None:
        other = "ours" if whose == "venue" else "venue"
        told = self._told.get(other + candle.timeframe)
        if told is None or told.open_ms != candle.open_ms:
            self._told[whose + candle.timeframe] = candle
            return
        self._counts.candles_compared += 1
        self._counts.candles_differed += _differ(candle, told)

    # --- out ----------------------------------------------------------------------------------

    def take_batches(self) -> list[Batch]:
        batches = []
        while self.trades:
            count = min(len(self.trades), BATCH_MAX)
            ticks = tuple(self.trades.popleft() for _ in range(count))
            batches.append(self._batch("trade", ticks, self.missing))
            self.missing = 0
        # Behind the live ones: the broker forgets what is oldest first, and whoever takes over must
        # not find older live trades there without these.
        if self.recovered:
            found = tuple(sorted(self.recovered, key=lambda trade: trade.trade_id))
            batches.append(self._batch("trade", found, self.missing, is_recovered=True))
            self.recovered, self.missing = [], 0
        if self.quote_waits and self.quote is not None:
            batches.append(self._batch("quote", (self.quote,)))
            self.quote_waits = False
        if self.book_waits and self.book is not None:
            batches.append(self._batch("book", (self.book,)))
            self.book_waits = False
        if self.statuses:
            batches.append(self._batch("status", tuple(self.statuses)))
            self.statuses = []
        self.is_unsure = False
        if self.tick_candles:
            candles = tuple(self.tick_candles)
            batches.append(self._batch("candle", candles, self.missing_candles))
            self.tick_candles, self.missing_candles = [], 0
        return batches

    def _batch(
        self,
        kind: Channel,
        ticks: tuple[Tick, ...],
        missing: int = 0,
        *,
        is_recovered: bool = False,
    ) -> Batch:
        return Batch(
            venue=self._venue,
            symbol=self.symbol,
            kind=kind,
            ticks=ticks,
            missing=missing,
            is_recovered=is_recovered,
            is_repeat=self.is_unsure and kind == "trade",
        )

    def take_digest(self, sequence: int) -> MarketDigest:
        candles, self.candles, self.changed = tuple(self.candles), [], False
        return MarketDigest(
            symbol=self.symbol,
            sequence=sequence,
            trade=self.order.last,
            quote=self.quote,
            candles=candles,
            gaps=self.order.gaps,
            is_gapped=self.builder.is_gapped,
            missed=self.order.gone,
            status=self.status,
        )

    # --- while another feed publishes ---------------------------------------------------------

    def stand_by(self, before_ms: int) -> None:
        """Keep only what the other may not have said if it died just now."""
        while self.trades and self.trades[0].received_ms < before_ms:
            self.trades.popleft()
        self.missing = self.missing_candles = 0
        self.recovered = [each for each in self.recovered if each.received_ms >= before_ms]
        self.candles = ended_since(self.candles, before_ms)
        self.tick_candles = ended_since(self.tick_candles, before_ms)

    def resume(self, last: Said, now_ms: int) -> None:
        """Go on from what the other said last: nothing of it again, and nothing after it lost."""
        said, since_ms = last.of(self.symbol), last.since_ms or 0
        self.is_unsure = last.is_forgotten
        kept = list(self.trades)
        if self.recovered:
            kept = sorted([*self.recovered, *kept], key=lambda trade: trade.trade_id)
        self.recovered, self.trades = [], deque()
        if said.trade_id is None:
            self.trades.extend(
                trade
                for trade in kept
                if trade.exchange_ms >= last.settled_ms and trade.trade_id not in said.found
            )
            self.order.leave(said.found)
            self.order.settled_ms = last.settled_ms
        else:
            self.begin_after(said.trade_id, said.trade_ms)
            self._resume_trades(kept, said.trade_id, said.holes)
        quote = self.quote
        if quote is not None:
            told = said.quote_sequence
            is_new = quote.received_ms >= since_ms if told is None else quote.sequence > told
            self.quote_waits = is_new
        self._said = said.candles
        self.tick_candles = [
            candle
            for candle in ended_since(self.tick_candles, since_ms)
            if (candle.timeframe, candle.open_ms) not in said.candles
        ]
        # A batch goes out a little before the digest with the same candles; twice is no harm.
        self.candles = ended_since(self.candles, now_ms - IN_NO_DIGEST_MS)

    def begin_after(self, trade_id: int, at_ms: int) -> None:
        """Another feed had come so far: what lies between it and our first trade was missed."""
        if self.order.last_id is None:
            self.order.last_id, self.order.said_ms = trade_id, at_ms

    def _resume_trades(self, kept: Sequence[Trade], said_id: int, holes: Sequence[range]) -> None:
        self.order.skip_to(said_id)
        self.order.settled_ms = 0
        self.floor_id = said_id
        self.trades.extend(trade for trade in kept if trade.trade_id > said_id)
        self.recovered = [trade for trade in kept if any(trade.trade_id in ids for ids in holes)]
        lost = _after(self.order.lost, said_id)
        starts = [ids.start for ids in lost] + [trade.trade_id for trade in self.trades]
        first = min(starts, default=(self.order.last_id or said_id) + 1)
        if first > said_id + 1:
            # Those are neither said, nor kept, nor known to be lost.
            lost.append(range(said_id + 1, first))
        here = [trade.trade_id for trade in self.recovered]
        for ids in holes:
            lost += _between(ids, [number for number in here if number in ids])
        self.order.lost = sorted(lost, key=lambda ids: ids.start)


def _after(lost: Iterable[range], number: int) -> list[range]:
    """What of these comes after it."""
    return [range(max(ids.start, number + 1), ids.stop) for ids in lost if ids.stop > number + 1]


def _between(ids: range, numbers: Iterable[int]) -> Iterable[range]:
    """What is left of ``ids`` without these of them, which rise; in as few pieces as possible."""
    start = ids.start
    for number in numbers:
        if number > start:
            yield range(start, number)
        start = number + 1
    if start < ids.stop:
        yield range(start, ids.stop)


def _is_old(tick: Quote | Book, last: Quote | Book) -> bool:
    return (
        tick.sequence <= last.sequence
        and tick.received_ms <= last.received_ms + RENUMBERED_AFTER_MS
    )


def _differ(one: Candle, other: Candle) -> bool:
    return (one.open, one.high, one.low, one.close, one.volume) != (
        other.open,
        other.high,
        other.low,
        other.close,
        other.volume,
    )


def ended_since(candles: Iterable[Candle], moment_ms: int) -> list[Candle]:
    return [
        candle
        for candle in candles
        if candle.open_ms + TIMEFRAMES_S[candle.timeframe] * 1000 >= moment_ms
    ]
