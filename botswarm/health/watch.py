"""Asks every check of a process again and again, each from a thread of its own: none waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from botswarm.clock import Clock
from botswarm.config import SecretMask
from botswarm.errors import BotswarmError
from botswarm.health.check import Check, Status
from botswarm.health.watchers import WATCHERS

logger = logging.getLogger(__name__)

GRACE_S = 1.0
"""How much later than its limit a look may be told of: machines stall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found. Without a status of its own, its value is judged by the line."""

    words: str
    value: float | None = None
    status: Status | None = None
    cure: str = ""


Look = Callable[[], Finding]
"""One look; it may raise BotswarmError, which is a failure with its cause and cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One check: what it asks, how often, and from which number on it is no longer well."""

    name: str
    asks: str
    """One sentence for the reader of a table."""
    unit: str = ""
    warn_above: float | None = None
    fail_above: float | None = None
    every_s: float = 3.0
    limit_s: float = 3.0
    """A look that takes longer has failed, whatever it will say."""
    cure: str = ""
    """Where the look itself does not say."""

    def judged(self, finding: Finding) -> Status:
        if finding.status is not None:
            return finding.status
        if finding.value is None:
            return "ok"
        if self.fail_above is not None and finding.value > self.fail_above:
            return "fail"
        if self.warn_above is not None and finding.value > self.warn_above:
            return "warn"
        return "ok"


@dataclass(slots=True)
class _Asked:
    line: Line
    look: Look
    is_needed: bool
    began: float
    """Monotonic, of the look under way."""
    is_looking: bool = False
    found: Check | None = None
    due: threading.Event = field(default_factory=threading.Event)


class Watch:
    def __init__(self, clock: Clock, mask: SecretMask) -> None:
        self._clock = clock
        self._mask = mask
        self._asked: list[_Asked] = []
        self._stop = threading.Event()

    def add(self, line: Line, look: Look, *, is_needed: bool = False) -> None:
        """Before ``start``."""
        self._asked.append(_Asked(line, look, is_needed, self._clock.monotonic()))

    def start(self) -> None:
        for each in self._asked:
            WATCHERS.start(f"check {each.line.name}", self._keep_asking, each)

    def stop(self) -> None:
        self._stop.set()
        for each in self._asked:
            each.due.set()

    def checks(self) -> Sequence[Check]:
        """As they were found last; what has not answered in time has failed."""
        return tuple(self._told(each) for each in self._asked)

    def _told(self, asked: _Asked) -> Check:
        line, found = asked.line, asked.found
        overdue_s = self._clock.monotonic() - asked.began - line.limit_s - GRACE_S
        if asked.is_looking and overdue_s > 0:
            finding = Finding(
                words=f"no answer within {line.limit_s:g} s",
                status="fail",
                cure=line.cure or "look whether its server or the disk hangs",
            )
            return self._made(asked, finding, found)
        if found is None:
            # Nobody is ready before that is known.
            status: Status = "fail" if asked.is_needed else "warn"
            return self._made(asked, Finding(words="not looked at yet", status=status), None)
        return found

    # --- asking ---------------------------------------------------------------------------

    def _keep_asking(self, asked: _Asked) -> None:
        while not self._stop.is_set():
            asked.began, asked.is_looking = self._clock.monotonic(), True
            finding = self._found(asked)
            before = asked.found
            asked.found = self._made(asked, finding, before)
            asked.is_looking = False
            self._say(before, asked.found)
            asked.due.wait(asked.line.every_s)

    def _found(self, asked: _Asked) -> Finding:
        try:
            return asked.look()
        except BotswarmError as error:
            return Finding(words=error.cause, status="fail", cure=error.cure)
        except OSError as error:
            return Finding(words=f"{error.strerror or error}", status="fail")
        except Exception as error:  # a defect in one check must not hide the others
            logger.debug("the check %s stumbled", asked.line.name, exc_info=True)
            words = f"{type(error).__name__}: {error}"
            return Finding(words=words, status="fail", cure="a defect: report it")

    def _made(self, asked: _Asked, finding: Finding, before: Check | None) -> Check:
        line, status = asked.line, asked.line.judged(finding)
        is_as_before = before is not None and before.status == status
        return Check(
            name=line.name,
            status=status,
            # The words of a server or a driver are not ours, so they may hold what we would not.
            words=self._mask(finding.words),
            cure="" if status == "ok" else self._mask(finding.cure or line.cure),
            value=finding.value,
            unit=line.unit,
            since=before.since if is_as_before and before else self._now(),
            is_needed=asked.is_needed,
        )

    def _now(self) -> datetime:
        return self._clock.now()

    def _say(self, before: Check | None, now: Check) -> None:
        """Said when it changes, not while it lasts."""
        if before is not None and before.status == now.status:
            return
        if now.status == "ok":
            if before is not None:
                logger.info("health: %s is well again: %s", now.name, now.words)
            return
        level = logging.ERROR if now.status == "fail" else logging.WARNING
        cure = f"; {now.cure}" if now.cure else ""
        logger.log(level, "health: %s: %s%s", now.name, now.words, cure)
