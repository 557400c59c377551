"""A day of a market in virtual time: feed and workers restart, and know the venue's very candles.

``python -m tests.campaign.day_of_candles [SEED…]`` runs whole days; a short one is a test.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from botswarm.domain.market import TIMEFRAMES_S, Candle, Trade
from botswarm.domain.order import Side
from botswarm.exchanges.simulated.candles import Candles, Kline
from botswarm.exchanges.simulated.prices import PriceLine
from botswarm.feed.tracker import Tracker
from botswarm.market.book import MarketBook
from botswarm.market.history import first_whole

VENUE, SYMBOL = "v", "A-B"
MIDNIGHT_MS = 1_699_920_000_000
DAY_S = 86_400
LATENCY_MS = 5
MEND_MS = 3000
"""How long after the next trade a lost one is known to be lost and its candles are the venue's."""
SHOWN = 60
VENUE_LIMIT = 1000
Key = tuple[str, int]


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run found; ``wrong`` and ``missing`` must stay empty."""

    trades: int = 0
    outages: int = 0
    lost: int = 0
    given_up: int = 0
    repeated: int = 0
    overtaken: int = 0
    feeds: int = 1
    workers: int = 1
    views: int = 0
    unready: int = 0
    """Views that were marked as gapped, or in which a loss could not be known yet."""
    candles: int = 0
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class Day:
    def __init__(self, seed: int, start_ms: int, seconds: int) -> None:
        self.chance = random.Random(seed)
        self.now_ms, self.end_ms = start_ms, start_ms + seconds * 1000
        self.report = Report()
        self.venue = Candles(
            PriceLine(
                symbol=SYMBOL,
                seed=seed,
                around=Decimal(10_000),
                tick_size=Decimal(1),
                scenario="calm",
                epoch_ms=start_ms,
            ),
            Decimal("0.001"),
            start_ms,
        )
        self.truth: dict[Key, Candle] = {}
        self.told: list[Trade] = []
        self.ledger: dict[Key, Candle] = {}
        self.price = Decimal(10_000)
        self.down_until_ms = 0
        self.held: Trade | None = None
        self.deaf: list[tuple[int, int]] = []
        """From the last trade that a feed heard before it ended to the first of the next one."""
        self.heard_ms = start_ms
        self.is_unheard = False
        """The last trade did not come, and nothing can tell before the next one does."""
        self.mended_ms = 0
        """By then what the next one told is mended."""
        self.start_feed()
        self.start_worker()

    # --- who may restart ------------------------------------------------------------------------

    def start_feed(self) -> None:
        self.deaf.append((self.heard_ms, self.heard_ms))
        self.feed = Tracker(VENUE, lambda: self.now_ms + LATENCY_MS, lambda: self.now_ms / 1e3)
        self.feed.follow([SYMBOL])
        self.held = None

    def start_worker(self) -> None:
        load = first_whole(self.from_ledger, self.from_venue, wall_ms=lambda: self.now_ms)
        self.book = MarketBook(load, monotonic=lambda: self.now_ms / 1e3)

    def from_ledger(self, _: str, __: str, timeframe: str, limit: int) -> Sequence[Candle]:
        length_ms = TIMEFRAMES_S[timeframe] * 1000
        last = self.now_ms - self.now_ms % length_ms
        wanted = range(last - (limit + 1) * length_ms, last + 1, length_ms)
        found = [self.ledger[timeframe, ms] for ms in wanted if (timeframe, ms) in self.ledger]
        return found[-limit:]

    def from_venue(self, _: str, __: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """Closed ones, as the venue tells them at this moment."""
        self.roll()
        found = self.venue.between(timeframe, self.now_ms, limit=min(limit + 1, VENUE_LIMIT))
        return [candle(timeframe, each) for each in found if each.close_ms < self.now_ms][-limit:]

    # --- what happens ---------------------------------------------------------------------------

    def run(self) -> Report:
        while self.now_ms < self.end_ms:
            pause_s = self.chance.choices((1.5, 0.02, 40.0), (0.85, 0.14, 0.01))[0]
            next_ms = self.now_ms + 1 + int(self.chance.expovariate(1 / pause_s) * 1000)
            self.pass_time(min(next_ms, self.end_ms))
            self.trade()
        self.down_until_ms = 0
        for _ in range(5):
            self.pass_time(self.now_ms + 1000)
            self.trade()
        self.pass_time(self.now_ms + 5000)
        self.compare()
        return self.report

    def pass_time(self, until_ms: int) -> None:
        """Second by second: the clock closes, digests go out, what is missing is asked for."""
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms - self.now_ms % 500 + 500)
            if self.now_ms % 500:
                return
            self.roll()
            self.feed.advance()
            if self.now_ms % 1000 == 0:
                self.mend()
                self.troubles()
            self.publish()

    def roll(self) -> None:
        for timeframe, each in self.venue.roll(self.now_ms):
            if timeframe in TIMEFRAMES_S:
                self.truth[timeframe, each.open_ms] = candle(timeframe, each)

    def trade(self) -> None:
        self.roll()
        number = len(self.told) + 1
        self.price = max(Decimal(1), self.price + self.chance.randint(-30, 30))
        quantity = Decimal(self.chance.randint(1, 5000)) / 1000
        self.venue.add(self.now_ms, self.price, quantity, number, taker_buys=True)
        told = Trade(
            venue=VENUE,
            symbol=SYMBOL,
            trade_id=number,
            price=self.price,
            quantity=quantity,
            taker_side=Side.BUY,
            exchange_ms=self.now_ms,
            received_ms=self.now_ms + LATENCY_MS,
        )
        self.told.append(told)
        self.report.trades += 1
        self.deliver(told)

    def deliver(self, told: Trade) -> None:
        was_unheard, self.is_unheard = self.is_unheard, True
        if self.now_ms < self.down_until_ms or self.chance.random() < 0.002:
            self.report.lost += 1
            return
        if self.held is None and self.chance.random() < 0.005:
            self.held = told  # the next one overtakes it
            return
        self.is_unheard = False
        if was_unheard:
            self.mended_ms = self.now_ms + MEND_MS
        self.feed.put([told])
        if self.deaf[-1][0] == self.deaf[-1][1]:
            self.deaf[-1] = self.deaf[-1][0], self.now_ms
        self.heard_ms = self.now_ms
        if self.held is not None:
            self.report.overtaken += 1
            self.feed.put([self.held])
            self.held = None
        if self.chance.random() < 0.01:
            self.report.repeated += 1
            self.feed.put([told])

    def troubles(self) -> None:
        if self.now_ms >= self.down_until_ms and self.chance.random() < 1 / 900:
            self.report.outages += 1
            self.down_until_ms = self.now_ms + self.chance.choice((800, 5_000, 70_000, 400_000))
            self.feed.interrupted([SYMBOL])
        # A loss of which no later trade has told dies with the feed that could have heard it.
        knows_all = not self.is_unheard and self.now_ms >= self.mended_ms
        if knows_all and self.chance.random() < 1 / 1800:
            self.report.feeds += 1
            self.keep()
            self.start_feed()
        if self.chance.random() < 1 / 900:
            self.report.workers += 1
            self.start_worker()
        if self.chance.random() < 1 / 20:
            self.look()

    def mend(self) -> None:
        if self.now_ms < self.down_until_ms:
            return  # the venue cannot be asked either
        for symbol, ranges in self.feed.wanted_trades():
            for ids in ranges:
                if self.chance.random() < 0.3:
                    self.report.given_up += len(ids)
                    self.feed.give_up(symbol, ids)
                else:
                    self.feed.recover(symbol, [self.told[number - 1] for number in ids])
        for symbol, timeframe, count in self.feed.wanted_candles():
            found = self.from_venue(VENUE, symbol, timeframe, min(count, VENUE_LIMIT))
            self.feed.fill(symbol, timeframe, found)

    def publish(self) -> None:
        self.keep()
        self.feed.take_batches()
        if (digest := self.feed.take_digest()) is not None:
            self.book.apply(digest)

    def keep(self) -> None:
        """As the ledger does: the last word counts."""
        for each in self.feed.take_unsaved():
            self.ledger[each.timeframe, each.open_ms] = each

    # --- what must be true ------------------------------------------------------------------------

    def look(self) -> None:
        """What a worker shows its bots is the venue's own, or marked as gapped."""
        view = self.book.view(VENUE, SYMBOL, dict.fromkeys(("1s", "1m", "5m"), SHOWN))
        if view is None or view.is_gapped or self.is_unheard or self.now_ms < self.mended_ms:
            self.report.unready += 1
            return
        self.report.views += 1
        for timeframe, series in view.candles.items():
            for place in range(len(series)):
                true = self.truth.get((timeframe, int(series.open_ms[place])))
                shown = tuple(
                    float(getattr(series, name)[place])
                    for name in ("open", "high", "low", "close", "volume")
                )
                if true is not None and shown != numbers(true):
                    words = f"shown {timeframe} {true.open_ms}: {shown}, is {numbers(true)}"
                    self.report.wrong.append(words)

    def compare(self) -> None:
        began = self.told[0].exchange_ms
        for key, true in self.truth.items():
            if true.open_ms + TIMEFRAMES_S[true.timeframe] * 1000 > self.now_ms - MEND_MS:
                continue
            kept = self.ledger.get(key)
            if kept is None:
                if true.open_ms >= began and not self.was_nobody_there(true):
                    self.report.missing.append(f"{key}")
            elif (numbers(kept), kept.trades) != (numbers(true), true.trades):
                self.report.wrong.append(f"kept {key}: {kept}, is {true}")
        self.report.candles = len(self.ledger)

    def was_nobody_there(self, true: Candle) -> bool:
        """Between two feeds; the venue is asked for it when somebody wants to see it."""
        until = true.open_ms + TIMEFRAMES_S[true.timeframe] * 1000
        return any(start < until and true.open_ms <= first for start, first in self.deaf)


def candle(timeframe: str, line: Kline) -> Candle:
    return Candle(
        venue=VENUE,
        symbol=SYMBOL,
        timeframe=timeframe,
        open_ms=line.open_ms,
        open=line.open,
        high=line.high,
        low=line.low,
        close=line.close,
        volume=line.volume,
        trades=line.trades,
        is_closed=True,
    )


def numbers(each: Candle) -> tuple[float, ...]:
    prices = (each.open, each.high, each.low, each.close)
    return (*map(float, prices), float(each.volume))


def run(seed: int, *, start_s: int = 0, seconds: int = DAY_S) -> Report:
    """``start_s`` after midnight."""
    return Day(seed, MIDNIGHT_MS + start_s * 1000, seconds).run()


def main(seeds: Sequence[int]) -> int:
    bad = 0
    for seed in seeds:
        found = run(seed)
        bad += len(found.wrong) + len(found.missing)
        print(f"seed {seed}: {found.trades} trades, {found.lost} lost, {found.outages} outages, "
              f"{found.feeds} feeds, {found.workers} workers, {found.candles} candles kept, "
              f"{found.views} views, {found.unready} not ready; "
              f"{len(found.wrong)} wrong, {len(found.missing)} missing")  # fmt: skip
        for words in [*found.wrong[:5], *found.missing[:5]]:
            print(f"  {words}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]] or [1, 2, 3]))
