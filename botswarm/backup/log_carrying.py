"""Log lines carried off this machine beside its swarm, round after round, and once at its end."""

from __future__ import annotations

import logging
import threading

from botswarm.backup.log_carrier import Carrier, Round, carrier_of
from botswarm.backup.reach import Reach
from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings

logger = logging.getLogger(__name__)

AGAIN_S = 30.0
"""After a round that failed, and before the first: the swarm comes up meanwhile."""
LAST_S = 10.0
"""So long the end of a swarm waits for its last lines to arrive."""


class Carrying:
    """A thread: a place that hangs holds up nobody."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._carrier: Carrier = carrier_of(settings)
        self._every_s = float(settings.log_archive_every_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log archive", daemon=True)
        self.reach = Reach(clock or SystemClock())

    def start(self) -> None:
        self._thread.start()

    def stop(self, limit_s: float = LAST_S) -> None:
        """With what was said until now, where it arrives in time."""
        self._stop.set()
        self._thread.join(limit_s)
        if self._thread.is_alive():
            logger.warning(
                "the last log lines have not arrived in %s within %g s: botswarm logs archive "
                "carries them, as does the next start",
                self._carrier.place,
                limit_s,
            )

    def _run(self) -> None:
        pause_s, is_last = min(AGAIN_S, self._every_s), False
        while not is_last:
            is_last = self._stop.wait(pause_s)
            pause_s = self._every_s if self._round() else min(AGAIN_S, self._every_s)

    def _round(self) -> bool:
        try:
            done = self._carrier.round()
        except Exception:  # a defect in one round must not end the others
            logger.exception("log lines were not carried to %s", self._carrier.place)
            self.reach.failed("a defect: its traceback is in the log")
            return False
        return self._is_well(done)

    def _is_well(self, done: Round) -> bool:
        was_failing = self.reach.failing() is not None
        if done.trouble is None:
            self.reach.reached()
            if was_failing:
                logger.info("log lines reach %s again", self._carrier.place)
            return True
        self.reach.failed(str(done.trouble))
        if not was_failing:
            cure = done.trouble.cure or "it is tried again by itself"
            logger.error("log lines do not reach %s: %s; %s",
                         self._carrier.place, done.trouble, cure)  # fmt: skip
        return False
