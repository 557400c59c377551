"""Numbers that rise strictly for one key, over all processes and restarts of this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botswarm.clock import Clock
from botswarm.config import Secret
from botswarm.errors import Unreachable
from botswarm.exchanges.transport import NotSent

WIDTH = 20
TURN_WAIT_S = 2.0
"""One who was stopped in the middle of a request must not stop the others for ever."""
COUNT_WAIT_S = 5.0
POLL_S = 0.002


class Nonces:
    """A file per key: its last nonce. Milliseconds of the clock, or one more than the last."""

    def __init__(self, folder: Path, key: Secret, clock: Clock) -> None:
        name = hashlib.sha256(key.reveal().encode()).hexdigest()[:16]
        self._count = folder / f"nonce-{name}"
        self._turns = folder / f"nonce-{name}.turn"
        self._clock = clock

    def next(self, at_least: int = 0) -> int:
        """Larger than any before. Raises NotSent where the file cannot be used."""
        with self._locked(self._count, COUNT_WAIT_S) as (file, is_ours):
            if not is_ours:
                raise NotSent(
                    f"another process holds {self._count} and does not let go",
                    cure="see whether a process of this machine was stopped; end it",
                )
            text = os.pread(file, WIDTH, 0)
            last = int(text) if text.isdigit() else 0
            now_ms = int(self._clock.now().timestamp() * 1000)
            nonce = max(last + 1, now_ms, at_least)
            os.pwrite(file, f"{nonce:0{WIDTH}d}".encode(), 0)
            return nonce

    @contextmanager
    def turn(self, at_least: int = 0) -> Iterator[int]:
        """A nonce, and nobody else's request on the way while this one is.

        Whoever waits too long goes on without: the worst that comes of it is a refused nonce.
        """
        with self._locked(self._turns, TURN_WAIT_S):
            yield self.next(at_least)

    @contextmanager
    def _locked(self, path: Path, wait_s: float) -> Iterator[tuple[int, bool]]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unreachable(
                f"cannot write {path}: {error.strerror}",
                cure="make the state folder writable: Kraken's nonces are kept there",
            ) from error
        try:
            yield file, _lock(file, wait_s)
        finally:
            os.close(file)


def _lock(file: int, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(POLL_S)
        else:
            return True
