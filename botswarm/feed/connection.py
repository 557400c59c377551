"""A WebSocket to a venue that comes back for ever, and never faster than the venue allows."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import websocket

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
QUIET_S = 5.0
"""After this long without a byte the venue is asked whether it is there; twice is the end of it."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STABLE_S = 30.0
LIFETIME_S = 23 * 3600.0
"""Venues end a connection after a day; renewed before that, no tick is missed."""

_PING = websocket.ABNF.OPCODE_PING
_CLOSE = websocket.ABNF.OPCODE_CLOSE
_DATA = (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY)


class Budget:
    """At most so many connection attempts in any such time, over all connections to a venue."""

    def __init__(
        self, attempts: int, period_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s = period_s
        self._monotonic = monotonic
        self._made: deque[float] = deque(maxlen=attempts)
        self._lock = threading.Lock()

    def take(self) -> float:
        """0.0 and the attempt is counted, or how long to wait before asking again."""
        with self._lock:
            now = self._monotonic()
            if len(self._made) == self._made.maxlen and now - self._made[0] < self._period_s:
                return self._period_s - (now - self._made[0])
            self._made.append(now)
            return 0.0


class Stream:
    """One connection in a thread of its own, from ``start`` until ``stop``."""

    def __init__(
        self,
        url: str,
        *,
        budget: Budget,
        on_frame: Callable[[bytes], None],
        on_down: Callable[[], None],
        quiet_s: float = QUIET_S,
    ) -> None:
        self.url = url
        self.connects = 0
        self._budget = budget
        self._on_frame = on_frame
        self._on_down = on_down
        self._quiet_s = quiet_s
        self._stop = threading.Event()
        self._up = threading.Event()
        self._socket: websocket.WebSocket | None = None
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.born = time.monotonic()
        self.wants_successor = False
        """The venue announced its end: let another connection take over."""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stop.set()
        self._hang_up()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def wait_up(self, timeout_s: float) -> bool:
        """Whether it is connected, waiting at most so long."""
        return self._up.wait(timeout_s)

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def is_old(self) -> bool:
        return self.wants_successor or time.monotonic() - self.born > LIFETIME_S

    def _run(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stop.is_set():
            if (wait_s := self._budget.take()) > 0:
                logger.warning("too many connections to the venue: waiting %.0f s", wait_s)
                self._stop.wait(wait_s)
                continue
            began = time.monotonic()
            reason = self._live()
            if self._stop.is_set():
                return
            if time.monotonic() - began > STABLE_S:
                backoff_s = BACKOFF_FIRST_S
            # Spread out, so that all feeds of a venue that restarts do not come at once.
            pause_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - guards nothing
            logger.warning("the stream ended: %s; connecting again in %.1f s", reason, pause_s)
            self._stop.wait(pause_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    def _live(self) -> str:
        """Connect and read until the end; says why it came."""
        try:
            self._socket = self._connect()
        except (OSError, websocket.WebSocketException, ValueError) as error:
            return f"no connection: {error}"
        self.connects += 1
        self._up.set()
        try:
            return self._read(self._socket)
        except (OSError, websocket.WebSocketException) as error:
            return str(error) or type(error).__name__
        finally:
            self._up.clear()
            self._hang_up()
            self._on_down()

    def _connect(self) -> websocket.WebSocket:
        # Everything is JSON that the parser checks; checking the text twice costs half the speed.
        connection = websocket.create_connection(
            self.url,
            timeout=CONNECT_TIMEOUT_S,
            skip_utf8_validation=True,
            enable_multithread=False,
            sockopt=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
        )
        connection.settimeout(self._quiet_s)
        return connection

    def _read(self, connection: websocket.WebSocket) -> str:
        asked = False
        while not self._stop.is_set():
            try:
                # Pings of the venue are answered in here.
                code, frame = connection.recv_data_frame(control_frame=True)
            except websocket.WebSocketTimeoutException:
                if asked:
                    return f"silent for {2 * self._quiet_s:g} s"
                connection.ping()
                asked = True
                continue
            asked = False
            if code in _DATA:
                self._on_frame(frame.data)
            elif code == _CLOSE:
                return "closed by the venue"
        return "told to stop"

    def _hang_up(self) -> None:
        connection = self._socket
        found = connection.sock if connection is not None else None
        if found is None:
            return
        try:
            found.shutdown(socket.SHUT_RDWR)
            found.close()
        except OSError:
            pass  # it was gone already
