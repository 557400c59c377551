"""One WebSocket to a venue, from the call to its end."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import websocket

from botswarm.domain.market import Book
from botswarm.exchanges.streams import MarketData, Stream
from botswarm.feed.dial import Failed, Opened, Wire, dial
from botswarm.feed.dialogue import Began, Dialogue, Ears, Ended
from botswarm.feed.frames import BINARY, CLOSE, PING, PONG, TEXT, Broke, Frame, FrameReader
from botswarm.feed.listener import Listener
from botswarm.feed.liveness import Pulse
from botswarm.feed.pace import Pace
from botswarm.feed.pinging import Pinger
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

logger = logging.getLogger(__name__)

SILENCE_FLOOR_S = 3.0
TURN_MAX_S = 0.5
PROOF_S = 2.0
"""A connection that stays so long without a word, for its markets are quiet, is one too."""


class Connection:
    """It is made for some streams; more may be added and any taken away while it lives.

    It calls from a thread of its own; once it is open, the listener attends to it with others.
    """

    def __init__(
        self,
        name: str,
        data: MarketData,
        streams: Collection[Stream],
        *,
        rules: PoolRules,
        ears: Ears,
        security: SecurityLog,
        rejects: Rejects,
        wall_ms: Callable[[], int],
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        pace: Pace | None = None,
        rhythms: Mapping[tuple[str, str], Pulse] | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.name = name
        self.born = time.monotonic()
        self.opened: Opened | None = None
        self.ended: str | None = None
        """Why."""
        self.bytes_in = 0
        self.sent = 0
        self.pulse = Pulse(SILENCE_FLOOR_S, self.born)
        self.pinger = Pinger(rules, self.born)
        self.talk = Dialogue(
            name, data, rules=rules, ears=ears, security=security, rejects=rejects, rhythms=rhythms
        )
        self._venue, self._venue_rules, self._rules = data.name, data.rules, rules
        self._ears, self._security = ears, security
        self.timeout_s = timeout_s
        self._wall_ms, self._tls = wall_ms, tls
        self._streams = frozenset(streams)
        self._asks: deque[Callable[[], None]] = deque()
        self._beats = 0
        self._pong: bytes | None = None
        self._paces = [Pace(data.rules.sends_per_s), *([] if pace is None else [pace])]
        self._send_next = self._look_next = self._prove_at = 0.0
        self._listener = listener or Listener(name)
        self._wire: Wire | None = None
        self._reader = FrameReader(rules.frame_bytes(data.rules))
        self._stop = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._call, name=f"stream {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Soon; nobody waits for it."""
        self._stop.set()
        self._listener.nudge(self)

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended by then."""
        return self._gone.wait(timeout_s)

    @property
    def is_up(self) -> bool:
        return self.opened is not None and self.ended is None

    @property
    def has_ended(self) -> bool:
        return self.ended is not None

    # --- from other threads -------------------------------------------------------------------

    def subscribe(self, streams: Collection[Stream]) -> None:
        self._ask(lambda: self.talk.subscribe(streams, time.monotonic()))

    def unsubscribe(self, streams: Collection[Stream]) -> None:
        self._ask(lambda: self.talk.unsubscribe(streams))

    def whole(self, book: Book) -> None:
        self._ask(lambda: self.talk.whole(book))

    def _ask(self, ask: Callable[[], None]) -> None:
        self._asks.append(ask)
        self._listener.nudge(self)

    # --- its life -----------------------------------------------------------------------------

    def _call(self) -> None:
        if end := self._guarded(self._dial):
            self._end(end)

    def _dial(self) -> str:
        url = self.talk.url(self._streams)
        self._wire = dial(url, timeout_s=self.timeout_s, tls=self._tls)
        self._listener.add(self)
        return ""

    def _guarded(self, live: Callable[..., str], *moments: float | None) -> str:
        """Why it is over, or nothing."""
        try:
            return live(*moments)
        except (Failed, Broke) as error:
            if error.kind:
                self._security.note(self._venue, error.kind, f"{self.name}: {error}")
            return str(error)
        except (OSError, websocket.WebSocketException) as error:
            return str(error) or type(error).__name__
        except Exception as error:
            # The loop of this connection: whatever failed, the next one begins anew.
            logger.exception("connection %s failed", self.name)
            return f"{type(error).__name__}: {error}"

    def _end(self, reason: str) -> None:
        if self._wire is not None:
            self._wire.close()
        self.ended = "stopped" if self._stop.is_set() else reason
        self._ears.event(Ended(self.ended))
        self._gone.set()

    # --- on the listener's thread -------------------------------------------------------------

    def fileno(self) -> int:
        return self._open_wire.fileno()

    @property
    def has_more(self) -> bool:
        return self._open_wire.has_more

    @property
    def is_held_up(self) -> bool:
        return self._open_wire.is_held_up

    @property
    def _open_wire(self) -> Wire:
        assert self._wire is not None, "nobody attends to it before it is open"
        return self._wire

    def attend(self, now: float, came: float | None) -> float | None:
        if end := self._guarded(self._attend, now, came):
            self._end(end)
            return None
        return self._due_at()

    def _attend(self, now: float, came: float | None) -> str:
        """Why it is over, or nothing."""
        wire = self._open_wire
        if self._stop.is_set():
            return "stopped"
        if self.opened is None:
            self._begin(wire, now)
        # First what the venue said: a pong that has come is not missed, however long we slept.
        if came is not None and (end := self._hear(wire, came)):
            return end
        while self._asks:
            self._asks.popleft()()
        if wire.is_held_up:
            wire.flush()
        elif self._has_to_send:
            self._send_due(wire, now)
        if now >= self._look_next and not wire.has_more:
            self._look_next = now + TURN_MAX_S
            return self._look(wire, now)
        return ""

    def _hear(self, wire: Wire, came: float) -> str:
        data = wire.read()
        if data is None:
            return ""
        if not data:
            return "the venue hung up"
        return self._take(self._reader.feed(data), len(data), came)

    def _begin(self, wire: Wire, now: float) -> None:
        self.pulse.last = now
        self.pinger.begin(now)
        self.opened = wire.opened
        self._prove_at = now + PROOF_S
        days = wire.opened.certificate_days
        if days is not None and days < self._rules.certificate_days_min:
            cause = f"{self.name}: the certificate ends in {days:.1f} days"
            self._security.note(self._venue, "invalid_certificate", cause)
        self.talk.subscribe(self._streams, now)
        self._ears.event(Began())

    def _due_at(self) -> float:
        if not self._has_to_send or self.is_held_up:
            return self._look_next
        return min(self._look_next, self._send_next)

    @property
    def _has_to_send(self) -> bool:
        return self._pong is not None or bool(self.talk.outbox)

    def _take(self, frames: Sequence[Frame], size: int, came: float) -> str:
        """Why it is over, or nothing."""
        now = time.monotonic()
        self.pulse.beat(now)
        self.bytes_in += size
        texts: list[bytes] = []
        end = ""
        for code, data in frames:
            if code in (TEXT, BINARY):
                texts.append(data)
            elif code == PING:
                self._pong = data
            elif code == PONG:
                self.pinger.answered(now)
            elif code == CLOSE:
                end = _said_at_the_end(data)
                break
        self.talk.read(texts, self._wall_ms(), came)
        if self.talk.beats != self._beats:
            self._beats = self.talk.beats
            self.pinger.answered(now)
        return end

    def _send_due(self, wire: Wire, now: float) -> None:
        """A pong first, and only the latest: a flood of pings earns no flood of ours."""
        if not self._may_send(now):
            return
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._send(wire, payload, websocket.ABNF.OPCODE_PONG)
        else:
            self._send(wire, self.talk.take(now).encode())

    def _may_send(self, now: float) -> bool:
        for pace in self._paces:
            if (wait_s := pace.take(now)) > 0:
                self._send_next = now + wait_s
                return False
        return True

    def _send(self, wire: Wire, data: bytes, code: int = websocket.ABNF.OPCODE_TEXT) -> None:
        wire.send(data, code)
        self.sent += 1

    def _look(self, wire: Wire, now: float) -> str:
        """Why it must end, or nothing."""
        silent_s = self.pulse.silent_s(now)
        if silent_s > self._venue_rules.silence_s:
            return f"not a byte for {silent_s:.0f} s"
        if self.pinger.look(now):
            return f"{self.pinger.missed} pings in a row without an answer"
        is_due = self.pinger.is_due(now, is_suspicious=self.pulse.is_quiet(now))
        if is_due and not wire.is_held_up and self._may_send(now):
            self.pinger.send(now)
            words = self.talk.ping()
            if words is None:
                self._send(wire, b"botswarm", websocket.ABNF.OPCODE_PING)
            else:
                self._send(wire, words.encode())
        self.talk.ask_again(now)
        if now > self._prove_at:
            self.talk.prove()
        return ""


def _said_at_the_end(data: bytes) -> str:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
    words = data[2:].decode(errors="replace")
    return f"closed by the venue with {code}{words and f' {words}'}"
