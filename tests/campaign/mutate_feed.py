"""Send every venue's session a million frames that are wrong, and see that none hurts.

``python -m tests.campaign.mutate_feed --frames 1000000 --seed 1``

Each frame ends as ticks, as a notice, as nothing, or left out for one of the fixed reasons, within
a bounded time; what is told is possible; good frames between them read as on the first day.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import cast

from botswarm.config import load
from botswarm.domain.market import Book, Candle, Quote, Status, Tick, Trade
from botswarm.exchanges.reading import AHEAD_MAX_MS, ID_MAX
from botswarm.exchanges.registry import recorded
from botswarm.exchanges.streams import (
    REASONS,
    Broken,
    Changed,
    Heard,
    MarketData,
    NeedsWhole,
    Session,
    Stream,
    Unreadable,
)
from botswarm.feed.ndjson import channel_of, line
from botswarm.feed.recording import lines
from tests.campaign.feed_mutations import FeedMutator

FRAMES = Path(__file__).parent.parent / "data" / "frames"
FRAME_CPU_MAX_S = 1.0
RESIDENT_GROWTH_MB = 20.0
GOOD_EVERY = 20
NEW_SESSION_EVERY = 5000
"""As connections come and go; and each time the whole recording must read as at first."""
FAILURES_SHOWN = 20
RECEIVED_MS = 1_800_000_000_000
SYMBOL_MAX = 60


@dataclass(slots=True)
class Report:
    frames: int = 0
    good: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """By venue and outcome: each frame is counted once."""
    mutations: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    slowest: str = ""
    grown_mb: float = 0.0
    failures: list[str] = field(default_factory=list)

    def fail(self, words: str) -> None:
        if len(self.failures) < FAILURES_SHOWN:
            self.failures.append(words)

    def __str__(self) -> str:
        counts = "\n".join(f"  {name} {count}" for name, count in sorted(self.outcomes.items()))
        kinds = ", ".join(f"{name} {count}" for name, count in self.mutations.most_common(12))
        return (
            f"{self.frames} mutated frames, {self.good} good ones between them; slowest "
            f"{self.slowest_ms:.1f} ms of the processor ({self.slowest}); memory grew by "
            f"{self.grown_mb:.1f} MB\n{counts}\nmostly {kinds}"
        )


class Victim:
    """One venue's session, served as the feed would serve it."""

    def __init__(self, venue: str, data: MarketData, corpus: Sequence[bytes]) -> None:
        self.venue = venue
        self._data = data
        self._corpus = corpus
        self.streams = self._streams()
        self.first = self._replay()
        self.session = self.fresh()
        self.plain = [
            (frame, told)
            for frame in corpus
            if (told := self._plain(self.session, frame))
            # Some are told once only, such as past trades at a subscription's beginning.
            if told == self._plain(self.session, frame)
        ]

    def fresh(self, *, strict: bool = True) -> Session:
        session = self._data.session() if strict else self._data.reader()
        session.url(self.streams)
        session.subscribe(self.streams)
        return session

    def _streams(self) -> list[Stream]:
        reader, found = self._data.reader(), set[Stream]()
        for frame in self._corpus:
            for each in read(reader, frame):
                if isinstance(each, Tick | Changed):
                    found.add(Stream(each.symbol, channel_of(each)))
        return sorted(found & {each for each in found if each.channel in self._data.channels})

    def _replay(self) -> list[Sequence[Heard]]:
        session = self._data.reader()
        return [read(session, frame) for frame in self._corpus]

    def _plain(self, session: Session, frame: bytes) -> list[Tick]:
        """Trades and quotes hang on no history, but for numbers that we gave ourselves."""
        found = []
        for each in read(session, frame):
            if isinstance(each, Trade):
                found.append(cast("Tick", each))
            elif isinstance(each, Quote):
                found.append(replace(each, sequence=0))
        return found

    def good(self, dice: random.Random) -> str | None:
        """Read a good frame; says what is wrong with what came of it."""
        if not self.plain:
            return "no frame of this venue is readable alone"
        frame, told = dice.choice(self.plain)
        now = self._plain(self.session, frame)
        return None if now == told else f"a good frame reads {now}, before {told}: {frame!r}"

    def renew(self, dice: random.Random) -> str | None:
        self.session = self.fresh(strict=dice.random() < 0.8)
        return None if self._replay() == self.first else "the recording reads differently now"

    def serve(self, heard: Sequence[Heard], dice: random.Random) -> None:
        """What the feed does after a notice, with the answers it may get."""
        for each in heard:
            if isinstance(each, Broken):
                self.session.resync(each.stream)
            elif isinstance(each, NeedsWhole) and dice.random() < 0.7:
                self.session.whole(_book(self.venue, each.stream.symbol, dice))


def _book(venue: str, symbol: str, dice: random.Random) -> Book:
    return Book(
        venue=venue,
        symbol=symbol,
        sequence=dice.choice((0, 499869749, 499869752, ID_MAX)),
        bids=((Decimal("0.3512"), Decimal(1)),),
        asks=((Decimal("0.3532"), Decimal(1)),),
        exchange_ms=RECEIVED_MS,
        received_ms=RECEIVED_MS,
    )


def read(session: Session, frame: str | bytes) -> Sequence[Heard]:
    try:
        return session.read(frame, RECEIVED_MS)
    except Unreadable:
        return ()


def campaign(*, frames: int, seed: int, progress: bool = False) -> Report:
    report, dice = Report(), random.Random(seed)
    corpora = read_corpora()
    victims = [
        Victim(venue, recorded(load(environ={}, folder=FRAMES).settings, venue), corpus)
        for venue, corpus in corpora.items()
    ]
    texts = [frame.decode() for corpus in corpora.values() for frame in corpus]
    mutators = {
        victim.venue: FeedMutator(
            dice, [*(frame.decode() for frame in corpora[victim.venue]), *_some(texts, dice)]
        )
        for victim in victims
    }
    resident_mb, began = 0.0, time.monotonic()
    for number in range(frames):
        victim = victims[number % len(victims)]
        _one(victim, mutators[victim.venue], dice, report)
        if number % GOOD_EVERY < len(victims):
            _note(report, victim, victim.good(dice))
            report.good += 1
        if number % (NEW_SESSION_EVERY * len(victims)) < len(victims):
            _note(report, victim, victim.renew(dice))
        if number == frames // 4:
            resident_mb = resident()
        if progress and number % 50_000 == 49_999:
            rate = number / (time.monotonic() - began)
            print(f"{number + 1} frames, {rate:.0f}/s, {resident():.0f} MB", flush=True)
    report.grown_mb = resident() - resident_mb
    _judge(report, frames)
    return report


def _some(texts: Sequence[str], dice: random.Random) -> list[str]:
    """A few frames of all venues: they may come over the wrong connection."""
    return [dice.choice(texts) for _ in range(max(1, len(texts) // 10))]


def _one(victim: Victim, mutator: FeedMutator, dice: random.Random, report: Report) -> None:
    name, frame = mutator.frame()
    report.frames += 1
    report.mutations.update(name.split("+"))
    began = time.thread_time()
    try:
        heard: Sequence[Heard] = victim.session.read(frame, RECEIVED_MS)
        outcome = _outcome(heard)
        wrong = _impossible(heard)
        victim.serve(heard, dice)
    except Unreadable as error:
        outcome, heard = error.reason, ()
        wrong = None if error.reason in REASONS and len(str(error)) < 2000 else "not a reason"
    except Exception as error:
        outcome, wrong = "crash", f"{type(error).__name__}: {error}"
    report.outcomes[f"{victim.venue} {outcome}"] += 1
    if (took_ms := (time.thread_time() - began) * 1000) > report.slowest_ms:
        report.slowest_ms, report.slowest = took_ms, f"{victim.venue} {name}"
    if wrong is not None:
        report.fail(f"{victim.venue}, {name}: {wrong[:300]} by {frame[:600]!r}")


def _outcome(heard: Sequence[Heard]) -> str:
    if any(isinstance(each, Tick | Changed) for each in heard):
        return "ticks"
    return "notice" if heard else "nothing to tell"


def _impossible(heard: Sequence[Heard]) -> str | None:
    """What no venue can mean, had it been believed."""
    for each in heard:
        if isinstance(each, Tick | Changed):
            line(each)  # it can be written down
            if not (0 < len(each.symbol) <= SYMBOL_MAX and "-" in each.symbol):
                return f"a market {each.symbol!r}"
            if not isinstance(each, Candle) and each.exchange_ms > RECEIVED_MS + AHEAD_MAX_MS:
                return f"a time to come: {each.exchange_ms}"
            if any(not (number.is_finite() and number > 0) for number in _prices(each)):
                return f"a price {each}"
            if any(not (number.is_finite() and number >= 0) for number in _quantities(each)):
                return f"a quantity {each}"
            if any(len(f"{number:f}") > 2 * 40 for number in (*_prices(each), *_quantities(each))):
                return f"a number of very many digits: {each}"
            if isinstance(each, Book) and each.is_crossed:
                return f"a crossed book: {each}"
    return None


def _prices(tick: Tick | Changed) -> list[Decimal]:
    match tick:
        case Trade():
            return [tick.price]
        case Quote():
            return [tick.bid, tick.ask]
        case Candle():
            return [tick.open, tick.high, tick.low, tick.close]
        case Status():
            return []
    return [price for price, _ in (*tick.bids, *tick.asks)]


def _quantities(tick: Tick | Changed) -> list[Decimal]:
    match tick:
        case Trade():
            return [tick.quantity]
        case Quote():
            return [tick.bid_quantity, tick.ask_quantity]
        case Candle():
            return [tick.volume]
        case Status():
            return []
    return [quantity for _, quantity in (*tick.bids, *tick.asks)]


def _note(report: Report, victim: Victim, trouble: str | None) -> None:
    if trouble is not None:
        report.fail(f"{victim.venue}: {trouble}")


def _judge(report: Report, frames: int) -> None:
    if report.outcomes.total() != frames:
        report.fail(f"{report.outcomes.total()} frames of {frames} were counted")
    if report.slowest_ms > FRAME_CPU_MAX_S * 1000:
        report.fail(f"a frame took {report.slowest_ms:.0f} ms: {report.slowest}")
    if report.grown_mb > RESIDENT_GROWTH_MB:
        report.fail(f"memory grew by {report.grown_mb:.1f} MB after the first quarter")


def read_corpora() -> dict[str, list[bytes]]:
    corpora = {}
    for path in sorted(FRAMES.glob("*.txt")):
        with path.open("rb") as file:
            frames = [each.frame for each in lines(file) if each.frame.startswith((b"{", b"["))]
        corpora[path.stem] = frames
    return corpora


def resident() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    report = campaign(frames=options.frames, seed=seed, progress=True)
    print(report)
    for failure in report.failures:
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
