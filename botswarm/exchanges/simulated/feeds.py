"""What the feeds of the other venues have in common: connections, listeners, one way to say it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final
from zlib import crc32

from botswarm.exchanges.simulated.candles import Kline
from botswarm.exchanges.simulated.http import Request, Response
from botswarm.exchanges.simulated.limits import Recent
from botswarm.exchanges.simulated.publisher import Best, Board, Change, best
from botswarm.exchanges.simulated.stream_faults import Shown, Spoiler
from botswarm.exchanges.simulated.stream_journal import StreamJournal
from botswarm.exchanges.simulated.streams import Line
from botswarm.exchanges.simulated.tape import PublicTrade
from botswarm.exchanges.simulated.websocket import POLICY_VIOLATION, WebSocket, encode_frame

Key = tuple[str, str]
"""A venue's channel and the market's symbol."""
SUBSCRIBE_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a feed needs of the exchange behind it."""

    boards: Mapping[str, Board]
    now_ms: Callable[[], int]
    is_silent: Callable[[], bool]
    spoiler: Spoiler
    journal: StreamJournal
    seed: int = 1


class Wrong(Exception):
    """The question cannot be answered."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.words, self.status = words, status


class FeedLine(Line):
    """A connection to one of these venues."""

    def __init__(self, feed: Feed, socket: WebSocket, now_s: float) -> None:
        super().__init__(socket, now_s)
        self.feed = feed
        self.venue = feed.name
        self.wanted: dict[Key, Any] = {}
        """What it has subscribed to, and what the venue keeps for it."""
        self.outbox: list[bytes] = []
        self.has_asked = False
        self.incoming = Recent(feed.messages_per_s, 1000)

    def put(self, text: str) -> None:
        """With the next flush, after what waits already."""
        self.outbox.append(encode_frame(text.encode()))
        self.feed.waiting.add(self)

    def flush(self) -> None:
        self.socket.send(b"".join(self.outbox))
        self.outbox.clear()

    def keep_alive(self, now_s: float, *, ping_s: float, pong_s: float, lifetime_s: float) -> None:
        within = self.feed.subscribe_within_s
        if within is not None and not self.has_asked and now_s - self.opened_s >= within:
            self.socket.close(POLICY_VIOLATION, "nothing was subscribed to")
        super().keep_alive(now_s, ping_s=ping_s, pong_s=pong_s, lifetime_s=lifetime_s)


class Feed(ABC):
    """One venue's public side, in its own words."""

    name: ClassVar[str]
    subscribe_within_s: ClassVar[float | None] = None
    messages_per_s: ClassVar[int] = 100
    """Of a client, until its connection is closed."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.lines: set[FeedLine] = set()
        self.waiting: set[FeedLine] = set()
        self._listeners: dict[Key, dict[FeedLine, None]] = {}

    # --- connections ----------------------------------------------------------------------

    def open(self, socket: WebSocket, now_s: float) -> FeedLine:
        line = FeedLine(self, socket, now_s)
        self.lines.add(line)
        return line

    def greet(self, line: FeedLine) -> None:  # noqa: B027 - most venues say nothing first
        """What the venue says before it is asked."""

    def leave(self, line: FeedLine) -> None:
        for key in list(line.wanted):
            self.forget(line, key)
        self.lines.discard(line)
        self.waiting.discard(line)

    def listen(self, line: FeedLine, key: Key, kept: Any = None) -> None:
        line.wanted[key] = kept
        self._listeners.setdefault(key, {})[line] = None

    def forget(self, line: FeedLine, key: Key) -> bool:
        """Whether it had been subscribed to."""
        if key not in line.wanted:
            return False
        del line.wanted[key]
        listeners = self._listeners[key]
        del listeners[line]
        if not listeners:
            del self._listeners[key]
        return True

    def listeners(self, key: Key) -> Sequence[FeedLine]:
        return list(self._listeners.get(key, ()))

    def receive(self, line: FeedLine, text: str) -> None:
        if not line.incoming.admits(self.stage.now_ms()):
            self.too_fast(line)
            return
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        self.on_message(line, message if isinstance(message, dict) else None)
        self.flush()

    def too_fast(self, line: FeedLine) -> None:
        line.socket.close(POLICY_VIOLATION, "too many messages")

    @abstractmethod
    def on_message(self, line: FeedLine, message: dict[str, Any] | None) -> None:
        """None is what is no JSON object."""

    @abstractmethod
    def on_second(self, now_ms: int) -> None:
        """Heartbeats, and what else the venue says by the clock."""

    @abstractmethod
    def farewell(self, line: FeedLine) -> None:
        """Announce the end of the connection, where the venue does so."""

    def rest(self, request: Request) -> Response | None:
        """The answer to a question about the market; None for what the venue does not know."""
        return None

    # --- what happens in the market -------------------------------------------------------

    @abstractmethod
    def on_trades(self, board: Board, trades: Sequence[PublicTrade], now_ms: int) -> None: ...

    @abstractmethod
    def on_quote(self, board: Board, now_ms: int) -> None: ...

    @abstractmethod
    def on_candle(self, board: Board, interval: str, candle: Kline, now_ms: int) -> None: ...

    @abstractmethod
    def on_depth(self, board: Board, changes: Sequence[Change], now_ms: int) -> None: ...

    # --- saying it ------------------------------------------------------------------------

    def say(self, key: Key, channel: str, text: str, ids: tuple[int, ...] = ()) -> None:
        """To all who listen, unless a mishap has been ordered for it."""
        if key not in self._listeners or self.stage.is_silent():
            return
        for shown in self.stage.spoiler.pass_on(self.name, key[1], channel, text, ids):
            for line in self._listeners[key]:
                self.show(line, key, shown)

    def tell(self, line: FeedLine, key: Key, channel: str, text: str) -> None:
        """To one of them: what differs from line to line."""
        for shown in self.stage.spoiler.pass_on(self.name, key[1], channel, text):
            self.show(line, key, shown)

    def show(self, line: FeedLine, key: Key, shown: Shown) -> None:
        if shown.is_lost:
            return
        line.put(shown.text)
        if shown.ids and line.socket.can_send:
            self.stage.journal.told(self.name, line.number, line.peer, key[1], shown.ids)

    def flush(self) -> None:
        for line in self.waiting:
            line.flush()
        self.waiting.clear()

    def strikes(self, kind: str, board: Board, channel: str = "book") -> bool:
        """Whether this mishap has been ordered here; it is used up by one."""
        faults, symbol = self.stage.spoiler.faults, board.market.rules.symbol
        return bool(faults.armed) and (
            faults.take_frame(self.name, symbol, channel, (kind,)) is not None
        )

    def best(self, board: Board) -> Best:
        bid, bid_quantity, ask, ask_quantity = best(board)
        if self.strikes("crossed_quote", board, "quote"):
            return ask, bid_quantity, bid, ask_quantity
        return bid, bid_quantity, ask, ask_quantity


# --- words ------------------------------------------------------------------------------------


def moment(ms: int, digits: int = 6) -> str:
    """2024-05-27T12:43:11.798009Z; what the exchange does not know to the digit are zeros."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}{'0' * (digits - 3)}Z"


def places(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def made_up_id(*words: object) -> str:
    """A UUID for what has none here: the same words give the same one."""
    text = "".join(f"{crc32(f'{number}/{words}'.encode()):08x}" for number in range(4))
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def by_name(boards: Iterable[Board], between: str) -> dict[str, Board]:
    """Boards by the venue's spelling of their markets: BTC-USDT, BTC/USDT."""
    return {
        f"{board.market.rules.base}{between}{board.market.rules.quote}": board for board in boards
    }


def bucket(
    counts: dict[str, tuple[float, float]], peer: str, now_s: float, *, rate: float, burst: int
) -> bool:
    """Whether one more request of this address fits into a bucket that fills with ``rate``."""
    level, since = counts.get(peer, (float(burst), now_s))
    # The exchange's clock may have been told to go back.
    level = min(float(burst), level + max(0.0, now_s - since) * rate)
    counts[peer] = (level - 1 if level >= 1 else level), now_s
    return level >= 1
