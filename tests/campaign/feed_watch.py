"""What feeds published against what the exchange told them: every trade once, or accounted for."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import amqp
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.domain.market import Trade
from botswarm.exchanges.simulated import stream_journal
from botswarm.market.wire import EXCHANGE, Batch, decode

QUEUE = "campaign.reader"
SILENCE_S = 0.05
EXAMPLES = 30
Told = tuple[Decimal, Decimal, str]
"""Price, quantity and the taker's side."""


@dataclass(slots=True)
class Seen:
    """One stream, as it was read."""

    times: Counter[int] = field(default_factory=Counter)
    again: Counter[int] = field(default_factory=Counter)
    """Of these, how often in a message that says it may be a repetition."""
    told: dict[int, Told] = field(default_factory=dict)
    missing: int = 0
    recovered: int = 0


class Watch:
    """Reads every tick from a queue of its own that outlives its connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.streams: dict[tuple[str, str], Seen] = defaultdict(Seen)
        self.messages = 0
        self.examples: list[str] = []
        """Of trades that came twice, for people."""
        self.silences: list[tuple[float, float]] = []
        """When a silence that is worth a word ended, and how long it was."""
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        assert self._ready.wait(10), "the reader cannot reach the broker"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError, amqp.AMQPError):
                self._read()

    def _read(self) -> None:
        make: Any = Connection
        with make(self._url) as connection:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            channel.queue_declare(QUEUE, durable=True, auto_delete=False)
            channel.queue_bind(QUEUE, EXCHANGE, "#")
            channel.basic_consume(QUEUE, no_ack=True, callback=self._take)
            self._ready.set()
            while not self._stop.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)

    def _take(self, message: Any) -> None:
        found = decode(message.body)
        now = time.monotonic()
        if now - self._last > SILENCE_S:
            self.silences.append((now, now - self._last))
        self._last = now
        self.messages += 1
        if not isinstance(found, Batch) or found.kind != "trade":
            return
        seen = self.streams[found.venue, found.symbol]
        seen.missing += found.missing
        for tick in found.ticks:
            assert isinstance(tick, Trade)
            seen.times[tick.trade_id] += 1
            if seen.times[tick.trade_id] > 1 and len(self.examples) < EXAMPLES:
                self.examples.append(
                    f"{tick.venue} {tick.symbol} {tick.trade_id} came again at {time.time():.1f}"
                    f" among {len(found.ticks)}, recovered {found.is_recovered}, "
                    f"repeat {found.is_repeat}"
                )
            seen.again[tick.trade_id] += found.is_repeat
            seen.recovered += found.is_recovered
            seen.told[tick.trade_id] = tick.price, tick.quantity, tick.taker_side.value

    def longest_silence(self, since: float) -> float:
        return max((length for at, length in self.silences if at >= since), default=0.0)


@dataclass(slots=True)
class Truth:
    """The exchange's own journal of its streams, read on as it grows."""

    path: Path
    trades: dict[str, dict[int, Told]] = field(default_factory=lambda: defaultdict(dict))
    told: dict[tuple[str, str, str], list[tuple[int, list[int]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By venue, address and market: when, and which ids."""
    connects: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0

    def read_on(self) -> None:
        for offset, row in stream_journal.read(self.path, self._offset):
            self._offset = offset
            match row["type"]:
                case "trades":
                    self.trades[symbol_of(row["symbol"])] |= {
                        each[0]: (Decimal(each[1]), Decimal(each[2]), each[3])
                        for each in row["trades"]
                    }
                case "told":
                    key = row["venue"], row["peer"], symbol_of(row["symbol"])
                    self.told[key].append((row["at"], row["ids"]))
                case "connect":
                    self.connects.append(row)
                case "fault":
                    self.faults.append(row)

    def expected(self, venue: str, peer: str, since_ms: int, until_ms: int) -> Expected:
        """What a daemon at that address must have counted between the two moments."""
        total = Expected()
        for (told_venue, told_peer, symbol), rows in self.told.items():
            if (told_venue, told_peer) != (venue, peer):
                continue
            ids = [number for at, told in rows if since_ms <= at <= until_ms for number in told]
            total += expected_of(ids, self.trades[symbol])
        return total

    def last_ids(self) -> dict[str, int]:
        return {symbol: max(trades) for symbol, trades in self.trades.items()}


@dataclass(frozen=True, slots=True)
class Expected:
    gaps: int = 0
    missed: int = 0
    duplicates: int = 0

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            self.gaps + other.gaps,
            self.missed + other.missed,
            self.duplicates + other.duplicates,
        )


def expected_of(ids: Sequence[int], true: Iterable[int]) -> Expected:
    """Of one stream: what was told in this order, and what there was."""
    if not ids:
        return Expected()
    told = set(ids)
    lost = sorted(
        number for number in true if min(told) < number < max(told) and number not in told
    )
    gaps = sum(number - 1 not in lost for number in lost)
    return Expected(gaps, len(lost), len(ids) - len(told))


@dataclass(slots=True)
class Verdict:
    """Of one stream."""

    venue: str
    symbol: str
    happened: int
    once: int
    twice: int
    """Without having been said to be a repetition."""
    repeated: int
    missing: int
    """Never read."""
    accounted: int
    """Of these the feed said so."""
    recovered: int
    unexpected: int
    """Read and never happened, or read otherwise than it was."""

    @property
    def failures(self) -> list[str]:
        name = f"{self.venue} {self.symbol}"
        found = []
        if self.twice:
            found.append(f"{name}: {self.twice} trades were published twice")
        if self.missing != self.accounted:
            found.append(f"{name}: {self.missing} trades lost, {self.accounted} accounted for")
        if self.unexpected:
            found.append(f"{name}: {self.unexpected} trades that never were")
        if not self.once:
            found.append(f"{name}: nothing was published")
        return found


def judge(
    watch: Watch, truth: Truth, venues: Sequence[str], upto: Mapping[str, int]
) -> list[Verdict]:
    """From the first trade of each stream that was read to these, the last that had to be."""
    truth.read_on()
    return [
        _judge(venue, symbol, watch.streams[venue, symbol], truth.trades[symbol], last)
        for venue in venues
        for symbol, last in sorted(upto.items())
    ]


def _judge(venue: str, symbol: str, seen: Seen, true: dict[int, Told], last: int) -> Verdict:
    first = min(seen.times, default=0)
    happened = [number for number in true if first <= number <= last]
    lost = [number for number in happened if not seen.times[number]]
    wrong = [number for number, told in seen.told.items() if true.get(number, told) != told]
    # Trades from before the journal began are told by snapshots and REST.
    unknown = [number for number in seen.told if number not in true and number > min(true)]
    return Verdict(
        venue,
        symbol,
        happened=len(happened),
        once=len(happened) - len(lost),
        twice=sum(max(0, times - 1 - seen.again[n]) for n, times in seen.times.items()),
        repeated=sum(seen.again.values()),
        missing=len(lost),
        accounted=seen.missing,
        recovered=seen.recovered,
        unexpected=len(wrong) + len(unknown),
    )


def is_complete(watch: Watch, truth: Truth, venues: Sequence[str], upto: Mapping[str, int]) -> bool:
    """Whether all that happened up to these ids was read or is known to be missing."""
    for venue in venues:
        for symbol, last in upto.items():
            seen = watch.streams[venue, symbol]
            first = min(seen.times, default=None)
            if first is None:
                return False
            lost = sum(not seen.times[n] for n in truth.trades[symbol] if first <= n <= last)
            if lost > seen.missing:
                return False
    return True


def symbol_of(theirs: str) -> str:
    return f"{theirs.removesuffix('USDT')}-USDT"
