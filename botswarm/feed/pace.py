"""Keeps what we send below what a venue allows, over one connection or over all of them."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from botswarm.clock import BOOT, since_boot_s
from botswarm.exchanges.streams import MarketData

logger = logging.getLogger(__name__)

SHARE = 0.8
"""Of what the venue allows: the network may push together what we sent apart."""
HELD_AGAIN_S = 0.005
HELD_MAX_S = 1.0
"""A process that holds the file for longer has been stopped: pongs do not wait for it."""


class Pace:
    def __init__(self, messages_per_s: float) -> None:
        self._spacing_s = 1 / (messages_per_s * SHARE)
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> float:
        """0.0 and one message may go, or how long to wait before asking again."""
        with self._lock:
            if now < self._next:
                return self._next - now
            self._next = now + self._spacing_s
            return 0.0


class SharedPace(Pace):
    """Of all processes that use the same file; of this one alone where there is none to use."""

    def __init__(
        self,
        messages_per_s: float,
        file: Path,
        *,
        clock: Callable[[], float] = since_boot_s,
        boot: str = BOOT,
    ) -> None:
        super().__init__(messages_per_s)
        self._file, self._clock, self._boot = file, clock, boot
        self._held_since: float | None = None
        self._is_failing = False

    def take(self, now: float) -> float:
        try:
            wait_s = self._take_of_all()
        except BlockingIOError:
            self._held_since = now if self._held_since is None else self._held_since
            return HELD_AGAIN_S if now - self._held_since < HELD_MAX_S else super().take(now)
        except OSError as error:
            if not self._is_failing:
                why = error.strerror or error
                logger.warning("what is sent is not counted in %s (%s)", self._file, why)
            self._is_failing = True
            return super().take(now)
        self._held_since, self._is_failing = None, False
        return wait_s

    def _take_of_all(self) -> float:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = self._clock()
            wait_s = self._read(os.pread(descriptor, 200, 0)) - now
            # A moment much further away is of nobody who keeps to this pace.
            if 0 < wait_s < 2 * self._spacing_s:
                return wait_s
            text = f"{now + self._spacing_s:.6f} {self._boot}\n".encode()
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            return 0.0
        finally:
            os.close(descriptor)

    def _read(self, text: bytes) -> float:
        """When the next message may go; of another start of the machine nothing is known."""
        moment, _, boot = text.decode("ascii", "replace").strip().partition(" ")
        try:
            return float(moment) if boot == self._boot else 0.0
        except ValueError:
            return 0.0  # half a line of a process that was killed


def pace_of_address(data: MarketData, attempts_file: Path | None) -> Pace | None:
    """None where the venue does not count so. Who shares the attempts' file shares this one's."""
    together = data.rules.address_sends_per_s
    if together is None:
        return None
    if attempts_file is None:
        return Pace(together)
    return SharedPace(together, attempts_file.with_name(f"feed-sends-{data.name}.txt"))
