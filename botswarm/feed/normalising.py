"""Frames of a recording into ticks, with an account of everything that was no tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from botswarm.domain.market import Book, Channel, Quote, Tick, Trade
from botswarm.exchanges.streams import (
    AggregateTrade,
    Beat,
    Broken,
    Changed,
    Declined,
    GoingAway,
    MarketData,
    NeedsWhole,
    Session,
    Skipped,
    Stream,
    Subscribed,
    Unreadable,
    Unsubscribed,
)
from botswarm.feed.ndjson import UNSAID_MS, channel_of, sequence
from botswarm.feed.recording import Line, whole_of

GAPS_SHOWN_MAX = 50
HOLES_KEPT_MAX = 100
SESSIONS_MAX = 200
"""Connections of one recording that are kept apart; of more, the oldest is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What the venue's own numbers say is missing."""

    line: int
    symbol: str | None
    channel: Channel | None
    """None where the numbers count a connection's frames, whatever they carry."""
    reason: str
    words: str
    first: int | None = None
    last: int | None = None
    missing: int | None = None


@dataclass(slots=True)
class Dropped:
    count: int = 0
    line: int = 0
    """Of the first one."""
    words: str = ""


@dataclass(slots=True)
class Account:
    lines: int = 0
    empty: int = 0
    comments: int = 0
    frames: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    silent: int = 0
    """Frames that were understood and say nothing we tell, such as a daily ticker."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    gaps: int = 0
    missing: int = 0
    gaps_shown: list[Gap] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0

    def drop(self, reason: str, line: int, words: str) -> None:
        if (found := self.dropped.get(reason)) is None:
            found = self.dropped[reason] = Dropped(line=line, words=words)
        found.count += 1

    def mark(self, gap: Gap) -> None:
        self.gaps += 1
        self.missing += gap.missing or 0
        if len(self.gaps_shown) < GAPS_SHOWN_MAX:
            self.gaps_shown.append(gap)

    @property
    def is_clean(self) -> bool:
        return not (self.dropped or self.gaps)


class Normaliser:
    """Needs no more memory for a longer recording, only for more markets."""

    def __init__(
        self,
        data: MarketData,
        *,
        market: str | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> None:
        self.account = Account()
        self._data = data
        self._market = market
        self._on_gap = on_gap
        self._sessions: dict[str, Session] = {}
        self._ids: dict[tuple[str, bool], _Ids] = {}
        self._sequences: dict[tuple[str, str], int] = {}
        self._line = 0

    def ticks(self, lines: Iterable[Line]) -> Iterator[Tick | Changed]:
        for line in lines:
            self.account.lines += 1
            self._line = line.number
            if not line.frame.strip():
                self.account.empty += 1
            elif line.frame.startswith(b"#"):
                self.account.comments += 1
            else:
                yield from self._read(line)

    def _read(self, line: Line) -> Iterator[Tick | Changed]:
        self.account.frames += 1
        # What a connection of ours has recorded was held to its settings.
        is_strange = not line.connection and len(line.frame) > self._data.rules.frame_max_bytes
        if line.is_too_long or is_strange:
            self.account.drop("too_large", line.number, "the line is longer than any frame")
            return
        received_ms = UNSAID_MS if line.received_ms is None else line.received_ms
        try:
            session = self._session(line.connection)
            book = whole_of(line.frame, self._data.name, received_ms)
            heard = session.read(line.frame, received_ms) if book is None else session.whole(book)
        except Unreadable as error:
            self.account.drop(error.reason, line.number, error.cause)
            return
        if not heard:
            self.account.silent += 1
        for each in heard:
            if isinstance(each, Tick | Changed):
                self._check(each)
                self.account.ticks[channel_of(each)] += 1
                yield each
            else:
                self._note(each)

    def _session(self, connection: str) -> Session:
        session = self._sessions.get(connection)
        if session is None:
            if len(self._sessions) >= SESSIONS_MAX:
                del self._sessions[next(iter(self._sessions))]
            session = self._sessions[connection] = self._data.reader()
            if self._market is not None:
                session.url([Stream(self._market, "book")])
        return session

    # --- numbers ------------------------------------------------------------------------------

    def _check(self, tick: Tick | Changed) -> None:
        if isinstance(tick, Trade):
            ids = self._ids_of(tick.symbol, isinstance(tick, AggregateTrade))
            if isinstance(tick, AggregateTrade):
                self._count(ids, tick.symbol, tick.first_id, tick.last_id)
            else:
                self._count(ids, tick.symbol, tick.trade_id, tick.trade_id)
        elif isinstance(tick, Quote | Book | Changed) and sequence(tick.sequence) is not None:
            key = tick.symbol, type(tick).__name__
            before = self._sequences.get(key)
            if before is None or tick.sequence > before:
                self._sequences[key] = tick.sequence
            elif tick.sequence == before:
                self.account.duplicates += 1
            else:
                self.account.late += 1

    def _ids_of(self, symbol: str, aggregated: bool) -> _Ids:
        found = self._ids.get((symbol, aggregated))
        if found is None:
            found = self._ids[symbol, aggregated] = _Ids()
        return found

    def _count(self, ids: _Ids, symbol: str, first: int, last: int) -> None:
        before = ids.last
        if before is None or first == before + 1:
            ids.last = last
        elif first > before:
            ids.last = last
            self._miss(ids, symbol, before + 1, first - 1, f"after {before} came {first}")
        elif ids.fills(first, last):
            self.account.late += 1
        else:
            self.account.duplicates += 1

    def _miss(self, ids: _Ids, symbol: str, first: int, last: int, words: str) -> None:
        ids.miss(range(first, last + 1))
        self._mark(
            Gap(
                line=self._line,
                symbol=symbol,
                channel="trade",
                reason="sequence",
                words=words,
                first=first,
                last=last,
                missing=last - first + 1,
            )
        )

    def _mark(self, gap: Gap) -> None:
        self.account.mark(gap)
        if self._on_gap is not None:
            self._on_gap(gap)

    # --- notices ------------------------------------------------------------------------------

    def _note(self, notice: object) -> None:
        counts = self.account.notices
        match notice:
            case Subscribed(streams=streams):
                counts["subscribed"] += max(1, len(streams))
            case Unsubscribed(streams=streams):
                counts["unsubscribed"] += max(1, len(streams))
            case Declined(reason=reason):
                self.account.drop("refused", self._line, reason)
            case GoingAway():
                counts["going_away"] += 1
            case Beat():
                counts["beat"] += 1
                self._beat(notice)
            case Broken():
                counts["broken"] += 1
                self._mark(self._gap_of(notice))
            case Skipped(count=count):
                counts["skipped"] += 1
                words = f"{count} frames of the connection are missing"
                self._mark(
                    Gap(
                        line=self._line,
                        symbol=None,
                        channel=None,
                        reason="sequence",
                        words=words,
                        missing=count,
                    )
                )
            case NeedsWhole():
                counts["needs_whole"] += 1

    def _gap_of(self, broken: Broken) -> Gap:
        return Gap(
            line=self._line,
            symbol=broken.stream.symbol,
            channel=broken.stream.channel,
            reason=broken.reason,
            words=broken.words,
            first=broken.first,
            last=broken.last,
        )

    def _beat(self, beat: Beat) -> None:
        """A heartbeat that knows of a later trade than any that came."""
        ids = self._ids.get((beat.symbol or "", False))
        if ids is None or ids.last is None or beat.last_trade_id is None:
            return
        if (told := beat.last_trade_id) > ids.last:
            words = f"after {ids.last} the heartbeat named {told}"
            self._miss(ids, beat.symbol or "", ids.last + 1, told, words)
            ids.last = told


class _Ids:
    """Ids that have come, and the holes between them that may still be filled."""

    __slots__ = ("_holes", "last")

    def __init__(self) -> None:
        self.last: int | None = None
        self._holes: list[range] = []

    def miss(self, hole: range) -> None:
        self._holes.append(hole)
        if len(self._holes) > HOLES_KEPT_MAX:
            del self._holes[0]

    def fills(self, first: int, last: int) -> bool:
        for index, hole in enumerate(self._holes):
            if first in hole and last in hole:
                rests = (range(hole.start, first), range(last + 1, hole.stop))
                self._holes[index : index + 1] = [rest for rest in rests if rest]
                return True
        return False
