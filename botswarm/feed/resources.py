"""What the feed's process takes of its machine, held against what it should."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from botswarm.feed.pool import Pool
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import SecurityLog
from botswarm.feed.state import Taken

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
CPU_OVER_S = 10.0
WARN_SHARE = 0.8
OTHER_SOCKETS_MAX = 18
"""Of the process: ledger, Redis, the status desk, health and whoever asks for it."""
VENUE_SOCKETS_MAX = 8
"""Of each venue beside its streams: REST, the publisher, the bell, and what is about to end."""
LEAKS_BEFORE_SAID = 3
"""A thread takes a moment to end; one that never does is still there at the next look."""
WHOLE_PROCESS = "all venues"

M_MMAP_THRESHOLD = -3
"""glibc's; elsewhere there is no such."""
LARGE_BYTES = 262_144

_PAGE = os.sysconf("SC_PAGE_SIZE")


def give_back_large_blocks() -> None:
    """To be called once, while a process starts: what is large goes back when it is freed.

    By itself glibc learns from the first large block to keep the next ones: after a frame of four
    megabytes a feed was eight megabytes larger for good.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


class Watch:
    """A thread of its own, for the whole process."""

    def __init__(
        self,
        rules: PoolRules,
        security: SecurityLog,
        pools: Callable[[], Sequence[Pool]],
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        """``tell`` is called after each look: somebody may want to write down how things are."""
        self._rules, self._security, self._pools = rules, security, pools
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._cpu = time.monotonic(), time.process_time()
        self._cpu_percent = 0.0
        self._over: set[str] = set()
        self._leaks = 0
        self._cleaned_at = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.look(self.taken())
                self._tell()
            except Exception:
                logger.exception("looking at the feed's own resources failed; going on")

    def taken(self) -> Taken:
        now, used = time.monotonic(), time.process_time()
        since, before = self._cpu
        if now - since >= CPU_OVER_S:
            self._cpu_percent = 100 * (used - before) / (now - since)
            self._cpu = now, used
        pools = self._pools()
        streams = sum(len(pool.connections()) for pool in pools)
        threads = threading.enumerate()
        return Taken(
            memory_mb=round(_memory_bytes() / 1e6, 1),
            cpu_percent=round(self._cpu_percent, 1),
            sockets=_sockets(),
            sockets_expected_max=streams + OTHER_SOCKETS_MAX + VENUE_SOCKETS_MAX * len(pools),
            threads=len(threads),
            stream_threads=sum(thread.name.startswith("stream ") for thread in threads),
            stream_threads_expected=streams,
        )

    def look(self, taken: Taken) -> None:
        self._look_at_memory(taken)
        self._look_at_cpu(taken)
        self._look_for_leaks(taken)
        if time.monotonic() - self._cleaned_at >= self._rules.cleanup_every_s:
            self._cleaned_at = time.monotonic()
            gc.collect()

    def _look_at_memory(self, taken: Taken) -> None:
        limit = self._rules.memory_max_mb
        if self._begins("memory", taken.memory_mb > limit):
            cause = f"{taken.memory_mb:.0f} MB, over {limit}"
            self._security.note(WHOLE_PROCESS, "memory_limit_exceeded", cause)
        if self._begins("memory warning", taken.memory_mb > WARN_SHARE * limit):
            logger.warning("the feed takes %.0f of %d MB", taken.memory_mb, limit)

    def _look_at_cpu(self, taken: Taken) -> None:
        limit = self._rules.cpu_max_percent
        if self._begins("cpu", taken.cpu_percent > limit):
            cause = f"{taken.cpu_percent:.0f} percent of a core, over {limit}"
            self._security.note(WHOLE_PROCESS, "cpu_usage_exceeded", cause)

    def _look_for_leaks(self, taken: Taken) -> None:
        is_leaking = (
            taken.sockets > taken.sockets_expected_max
            or taken.stream_threads > taken.stream_threads_expected
        )
        self._leaks = self._leaks + 1 if is_leaking else 0
        if self._begins("leak", self._leaks >= LEAKS_BEFORE_SAID):
            cause = (
                f"{taken.sockets} sockets where {taken.sockets_expected_max} are explained, "
                f"{taken.stream_threads} threads for {taken.stream_threads_expected} connections"
            )
            self._security.note(WHOLE_PROCESS, "connection_leak_detected", cause)

    def _begins(self, what: str, is_over: bool) -> bool:
        """Said when it begins, not while it lasts."""
        begins = is_over and what not in self._over
        (self._over.add if is_over else self._over.discard)(what)
        return begins


def _memory_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        # Elsewhere than on Linux: the most it ever was.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _sockets() -> int:
    count = 0
    folder = Path("/proc/self/fd")
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            count += path.is_socket()
        except OSError:
            continue  # closed meanwhile, as the folder itself was
    return count
