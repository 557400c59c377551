"""What is said on one connection, in whole frames: who asked for what, and what came of it."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from botswarm.domain.market import Book, Candle, Channel, Quote, Status, Tick, Trade
from botswarm.exchanges.streams import (
    AggregateTrade,
    Beat,
    Broken,
    Declined,
    GoingAway,
    Heard,
    MarketData,
    NeedsWhole,
    Notice,
    Skipped,
    Stream,
    StreamedCandle,
    Subscribed,
    Unreadable,
)
from botswarm.feed.liveness import Pulse
from botswarm.feed.recording import whole_frame
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

logger = logging.getLogger(__name__)

CHANNELS: dict[type, Channel] = {
    Trade: "trade",
    AggregateTrade: "trade",
    Quote: "quote",
    Candle: "candle",
    StreamedCandle: "candle",
    Book: "book",
    Status: "status",
}
STREAM_SILENCE_FLOOR_S = 10.0
ACK_TIMEOUT_S = 5.0
ASKED_MAX = 3
RECENT_FRAMES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who hears what a connection brings; all of it is called on the thread that listens."""

    ticks: Callable[[Sequence[Tick], float], None]
    """With the moment they came, by the monotonic clock."""
    last_trade: Callable[[str, int], None]
    """The venue's word on a market's last trade id."""
    skipped: Callable[[Collection[str]], None]
    """Any of these markets may have lost something."""
    wants_book: Callable[[Stream], None]
    event: Callable[[Happened], None]
    tap: Callable[[int, bytes], None] | None = None
    """Every frame as it came: receive time, bytes."""


@dataclass(frozen=True, slots=True)
class Began:
    """It is open."""


@dataclass(frozen=True, slots=True)
class Proved:
    """It brought something."""


@dataclass(frozen=True, slots=True)
class Ended:
    reason: str


Happened = Began | Proved | Ended | GoingAway | Declined


class Dialogue:
    """Used by the thread that listens; what it counts may be looked at by any."""

    def __init__(
        self,
        name: str,
        data: MarketData,
        *,
        rules: PoolRules,
        ears: Ears,
        security: SecurityLog,
        rejects: Rejects,
        rhythms: Mapping[tuple[str, str], Pulse] | None = None,
    ) -> None:
        """``rhythms`` are those of earlier connections: a silence is strange from the start."""
        self.name = name
        self.frames = 0
        self.malformed = 0
        self.notices: Counter[str] = Counter()
        """How often books broke, and frames were skipped, by reason."""
        self.pulses: dict[tuple[str, str], Pulse] = {}
        """Of each stream that brought something, here or on a connection before."""
        self.served: set[Stream] = set()
        """Those the venue has acknowledged, or sends."""
        self.declined: dict[Stream, str] = {}
        """Those it has declined here, and why."""
        self.outbox: deque[str] = deque()
        self.beats = 0
        """Heartbeats, and answers to pings in the venue's own words."""
        self.lag_ms = 0.0
        self.least_lag_ms = float("inf")
        self._session = data.session()
        self._venue = data.name
        self._rules, self._ears = rules, ears
        self._security, self._rejects = security, rejects
        self._streams: set[Stream] = set()
        self._rhythms = {} if rhythms is None else rhythms
        self._asked: dict[Stream, tuple[float, int]] = {}
        """When the last request for it was sent (infinity: not yet), and how many there were."""
        self._taken = 0
        self._requests: deque[tuple[int, Collection[Stream]]] = deque()
        """Sent as soon as so many messages are."""
        self._has_proved = False
        self._recent_bad = 0.0

    @property
    def malformed_share(self) -> float:
        """Of the frames of late."""
        return self._recent_bad / max(20.0, min(float(self.frames), RECENT_FRAMES))

    def url(self, streams: Collection[Stream]) -> str:
        return self._session.url(sorted(streams))

    def has_brought(self, streams: Collection[Stream]) -> bool:
        """Something of each of these, itself."""
        found = (self.pulses.get(stream) for stream in list(streams))
        return all(pulse is not None and pulse.count for pulse in found)

    def ping(self) -> str | None:
        return self._session.ping()

    # --- what comes ---------------------------------------------------------------------------

    def read(self, frames: Sequence[bytes], received_ms: int, now: float) -> None:
        ticks: list[Tick] = []
        for data in frames:
            for each in self._heard(data, received_ms):
                if type(each) in CHANNELS:
                    ticks.append(each)  # type: ignore[arg-type]  # a Tick, by the table
                else:
                    self._put(ticks, now)
                    ticks = []
                    self._note(each, now)  # type: ignore[arg-type]  # all others are notices
        self._put(ticks, now)

    def whole(self, book: Book) -> None:
        now = time.monotonic()
        if self._ears.tap is not None:
            # No frame brought it, and without it the recorded changes make no book.
            self._ears.tap(book.received_ms, whole_frame(book))
        for each in self._session.whole(book):
            if type(each) in CHANNELS:
                self._put([each], now)  # type: ignore[list-item]  # as above
            else:
                self._note(each, now)  # type: ignore[arg-type]  # as above

    def _heard(self, data: bytes, received_ms: int) -> Sequence[Heard]:
        self.frames += 1
        if self._ears.tap is not None:
            self._ears.tap(received_ms, data)
        try:
            heard = self._session.read(data, received_ms)
        except Unreadable as error:
            self._bad(error.reason, str(error))
            return ()
        except Exception as error:
            # A reader that fails on one frame, as a stranger's may, still reads the next.
            self._bad("reader_failed", f"{type(error).__name__}: {error}")
            return ()
        if self._recent_bad:
            self._recent_bad -= self._recent_bad / RECENT_FRAMES
        return heard

    def _bad(self, reason: str, words: str) -> None:
        if reason == "unknown_event":
            # Venues may say new things at any time: counted, and no fault of the connection's.
            self._rejects.note(self._venue, reason, f"{self.name}: {words}")
            return
        self.malformed += 1
        self._recent_bad += 1
        self._rejects.note(self._venue, reason, f"{self.name}: {words}")
        if self.malformed_share > self._rules.malformed_share_max and self.malformed % 100 == 2:
            cause = f"{self.name}: {self.malformed} of {self.frames} frames so far"
            self._security.note(self._venue, "parsing_error_rate_high", cause)

    def _put(self, ticks: list[Tick], now: float) -> None:
        if not ticks:
            return
        for tick in ticks:
            key = tick.symbol, CHANNELS[type(tick)]
            pulse = self.pulses.get(key)
            if pulse is None:
                pulse = self._first(Stream(*key), now)
            pulse.beat(now, getattr(tick, "exchange_ms", 0))
        last = ticks[-1]
        if type(last) is Trade:
            lag_ms = float(last.received_ms - last.exchange_ms)
            self.least_lag_ms = min(self.least_lag_ms, lag_ms)
            self.lag_ms += 0.1 * (lag_ms - self.least_lag_ms - self.lag_ms)
        if not self._has_proved:
            self.prove()
        self._ears.ticks(ticks, now)

    def _first(self, stream: Stream, now: float) -> Pulse:
        """What is no longer, or was never, asked for is passed on, but nobody waits for it."""
        # A status is told when it changes: however long it says nothing, nothing is wrong.
        floor_s = float("inf") if stream.channel == "status" else STREAM_SILENCE_FLOOR_S
        known = self._rhythms.get(stream)
        pulse = Pulse(floor_s, now) if known is None else known.goes_on(now)
        if stream in self._streams:
            self.pulses[stream] = pulse
            self.served.add(stream)
            self._asked.pop(stream, None)
        return pulse

    def prove(self) -> None:
        if not self._has_proved:
            self._has_proved = True
            self._ears.event(Proved())

    def _note(self, notice: Notice, now: float) -> None:
        if isinstance(notice, Beat):
            self.beats += 1
            if notice.symbol is not None and notice.last_trade_id is not None:
                self._ears.last_trade(notice.symbol, notice.last_trade_id)
        elif isinstance(notice, Subscribed):
            for stream in set(notice.streams) & self._streams:
                self.served.add(stream)
                self._asked.pop(stream, None)
                if stream in self._rhythms and stream not in self.pulses:
                    self._first(stream, now)
        elif isinstance(notice, Declined):
            self._decline(notice)
        elif isinstance(notice, GoingAway):
            self._ears.event(notice)
        elif isinstance(notice, Broken):
            self.notices[notice.reason] += 1
            stream = notice.stream
            logger.warning(
                "%s: %s %s broke: %s", self.name, stream.symbol, stream.channel, notice.words
            )
            self.outbox.extend(self._session.resync(stream))
        elif isinstance(notice, NeedsWhole):
            self._ears.wants_book(notice.stream)
        elif isinstance(notice, Skipped):
            self._skipped(notice.count)
        self.prove()

    def _skipped(self, count: int) -> None:
        self.notices["skipped"] += count
        logger.warning("%s: %d frames are missing", self.name, count)
        self._ears.skipped({stream.symbol for stream in self._streams})
        books = sorted(stream for stream in self._streams if stream.channel == "book")
        if books:
            # All in two messages: one by one they would wait for the venue's pace of messages.
            self.outbox.extend(self._session.unsubscribe(books))
            self.outbox.extend(self._session.subscribe(books))

    # --- what is asked for --------------------------------------------------------------------

    def subscribe(self, streams: Collection[Stream], now: float) -> None:
        self._streams |= set(streams)
        messages = self._session.subscribe(sorted(streams))
        self.outbox.extend(messages)
        for stream in streams:
            self.declined.pop(stream, None)
            _, times = self._asked.get(stream, (now, 0))
            self._asked[stream] = (float("inf") if messages else now), times + 1
        if messages:
            self._requests.append((self._taken + len(self.outbox), streams))

    def take(self, now: float) -> str:
        """The next message, which is sent now."""
        message = self.outbox.popleft()
        self._taken += 1
        while self._requests and self._requests[0][0] <= self._taken:
            for stream in self._requests.popleft()[1]:
                if stream in self._asked:
                    self._asked[stream] = now, self._asked[stream][1]
        return message

    def unsubscribe(self, streams: Collection[Stream]) -> None:
        gone = sorted(set(streams) & self._streams)
        for stream in gone:
            self._forget(stream)
        if gone:
            self.outbox.extend(self._session.unsubscribe(gone))

    def _decline(self, notice: Declined) -> None:
        for stream in notice.streams:
            self._forget(stream)
            self.declined[stream] = notice.reason
        self._ears.event(notice)

    def _forget(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self.served.discard(stream)
        self._asked.pop(stream, None)
        self.pulses.pop(stream, None)

    def ask_again(self, now: float) -> None:
        """For what the venue has not acknowledged; it may have lost the request, or refuse it."""
        if self.outbox:
            return
        late = [each for each, (at, _) in self._asked.items() if now - at > ACK_TIMEOUT_S]
        given_up = [each for each in late if self._asked[each][1] >= ASKED_MAX]
        if given_up:
            reason = f"no answer to {ASKED_MAX} requests"
            self._decline(Declined(streams=tuple(given_up), reason=reason))
        if again := [each for each in late if each in self._asked]:
            self.notices["asked again"] += len(again)
            self.subscribe(again, now)
