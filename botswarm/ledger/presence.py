"""One process's own line in the ledger, written again and again for as long as it is there."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import botswarm
from botswarm import build, forks
from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.config.alike import compared
from botswarm.domain.processes import Made, Process
from botswarm.errors import BotswarmError
from botswarm.ledger.own_settings import own
from botswarm.ledger.plain import asking
from botswarm.ledger.processes import forget, sign

logger = logging.getLogger(__name__)

EVERY_S = 10.0
SOON_S = 1.0
"""The ledger may be made, or come up, a moment after us."""
PATIENCE = 5
"""So many times in a row it may be away before that is worth a warning."""
GOODBYE_S = 2.0


@dataclass(slots=True, eq=False)
class Presence:
    """``begin`` returns at once; whoever is killed is forgotten when it was not heard of."""

    settings: Settings
    role: str
    name: str
    runs_strategies: bool = False
    clock: Clock = field(default_factory=SystemClock)
    every_s: float = EVERY_S
    _process: Process | None = None
    _own: Mapping[str, str] | None = None
    """Until it was said."""
    _failures: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        # What was loaded is what lies there now: a file that is replaced later is not ours.
        self._process = self._made_now(None)
        self._own = own(self.settings)
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Say goodbye: nobody has to wait for us to be missed."""
        self._stop.set()
        if self._thread is None or self._process is None:
            return
        self._thread.join(GOODBYE_S)
        try:
            with forks.held_off(), asking(self.settings.database_url, writes=True) as ask:
                forget(ask, self._process.id)
        except BotswarmError as error:
            logger.debug("the ledger is not told that this process ends: %s", error)

    def sign(self) -> None:
        """Once; raises Unreachable where the ledger cannot be written."""
        self._process = self._made_now(self._process)
        # A child forked in between would believe that its parent's locks on a file are its own.
        with forks.held_off(), asking(self.settings.database_url, writes=True) as ask:
            sign(ask, self._process, self._own)
        self._own = None

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.every_s if self._signed() else min(SOON_S, self.every_s))

    def _signed(self) -> bool:
        try:
            self.sign()
        except BotswarmError as error:
            self._failures += 1
            if self._failures == PATIENCE:
                logger.warning("this process is not seen: %s; %s", error, error.cure)
            return False
        except Exception:
            if not self._failures:
                logger.exception("this process is not seen: a defect; it goes on")
            self._failures += 1
            return False
        if self._failures >= PATIENCE:
            logger.info("this process is seen again")
        self._failures = 0
        return True

    def _made_now(self, before: Process | None) -> Process:
        now = self.clock.now()
        if before is None:
            return self._first(now)
        made = replace(before.made, strategies=self._strategies())
        changed_at = before.changed_at if made == before.made else now
        return replace(before, made=made, changed_at=changed_at, seen_at=now)

    def _first(self, now: datetime) -> Process:
        return Process(
            id=uuid.uuid4().hex,
            name=self.name,
            role=self.role,
            host=socket.gethostname(),
            pid=os.getpid(),
            made=Made(
                version=botswarm.__version__,
                build=build.program(),
                strategies=self._strategies(),
                settings=compared(self.settings),
            ),
            started_at=now,
            changed_at=now,
            seen_at=now,
        )

    def _strategies(self) -> str | None:
        return build.folder(self.settings.strategies_dir) if self.runs_strategies else None
