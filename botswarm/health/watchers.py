"""The threads that watch a process, started in one place: so it can tell what they take of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final


class Watchers:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks: set[int] = set()
        """Of each thread that runs."""
        self._ended_s = 0.0

    def start(self, name: str, target: Callable[..., None], *given: Any) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=name, args=(target, *given), daemon=True)
        thread.start()
        return thread

    def _run(self, target: Callable[..., None], *given: Any) -> None:
        clock = time.pthread_getcpuclockid(threading.get_ident())
        with self._lock:
            self._clocks.add(clock)
        try:
            target(*given)
        finally:
            with self._lock:
                self._clocks.discard(clock)
                self._ended_s += time.thread_time()

    def cpu_s(self) -> float:
        """What they have taken of the processor, those that have ended included."""
        with self._lock:
            return self._ended_s + sum(map(time.clock_gettime, self._clocks))


WATCHERS: Final = Watchers()
"""This process's."""
