"""What the leading beat did, on its way into a ledger that may be slow or away for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from botswarm.errors import BotswarmError
from botswarm.queueing.leadership import Slot
from botswarm.queueing.timetable import Gap

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
WRITE_EVERY_S = 3.0
SENT_MAX = 1_000
PASSED_MAX = 200


@dataclass(frozen=True, slots=True)
class Stand:
    """How an entry stands now; times are of the wall."""

    entry: str
    slot: int | None
    sent: float | None
    next: float
    held: str | None


@dataclass(frozen=True, slots=True)
class Passed:
    """Slots that were passed over, and why."""

    entry: str
    gap: Gap
    reason: str

    def to_kept(self) -> list[Any]:
        gap = self.gap
        numbers = [gap.first_slot, gap.last_slot, gap.slots, gap.from_wall, gap.to_wall]
        return [self.entry, *numbers, self.reason]


def from_kept(kept: Any) -> Passed | None:
    try:
        entry, first, last, slots, begin, end, reason = kept
        gap = Gap(int(first), int(last), int(slots), float(begin), float(end))
        return Passed(str(entry), gap, str(reason))
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Pages:
    """What is to be written, in one go."""

    stands: Sequence[Stand]
    sent: Sequence[tuple[str, Slot]] = ()
    """By the id of its task."""
    passed: Sequence[Passed] = ()
    withdrawn: Sequence[tuple[str, int]] = ()
    """Entries, and the slot from which on they are still to come."""


class Notebook(Protocol):
    """Where it is written; raises BotswarmError where that cannot be done now."""

    def known(self) -> Mapping[str, Sequence[int]]:
        """Slots of each entry that were sent or given up."""
        ...

    def paused(self) -> Mapping[str, str]:
        """Which entries are not to be sent, and why."""
        ...

    def write(self, pages: Pages) -> None: ...


@dataclass(slots=True)
class Diary:
    """Filled by the beat, emptied by a thread of its own: no slot waits for the ledger."""

    notebook: Notebook | None
    paused: Mapping[str, str] = field(default_factory=dict)
    _stands: dict[str, Stand] = field(default_factory=dict)
    _sent: list[tuple[str, Slot]] = field(default_factory=list)
    _passed: list[Passed] = field(default_factory=list)
    _open: dict[str, Passed] = field(default_factory=dict)
    _withdrawn: list[tuple[str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _trouble: str = ""

    # --- the beat's side ------------------------------------------------------------------

    def begin(self, gaps: Sequence[Any], withdrawn: Sequence[Any]) -> None:
        """Both are what the last leader had not got into writing.

        What this one had passed over when it led before is reckoned anew from the marks.
        """
        inherited = [passed for kept in gaps if (passed := from_kept(kept)) is not None]
        with self._lock:
            self._stands, self._open, self._passed = {}, {}, inherited
            self._withdrawn = [(str(entry), int(slot)) for entry, slot in withdrawn]
        if self.notebook is None or self._thread is not None:
            return
        self._try(self._look)
        self._thread = threading.Thread(target=self._keep, name="diary", daemon=True)
        self._thread.start()

    def known(self) -> Mapping[str, Sequence[int]]:
        """Asked for at once, where the broker knows nothing; nothing where it cannot be told."""
        found: list[Mapping[str, Sequence[int]]] = []
        if self.notebook is not None:
            notebook = self.notebook
            self._try(lambda: found.append(notebook.known()))
        return found[0] if found else {}

    def stand(self, stand: Stand) -> None:
        with self._lock:
            self._stands[stand.entry] = stand

    def fired(self, task_id: str, slot: Slot) -> None:
        with self._lock:
            self._open.pop(slot.entry, None)
            if slot.is_kept:
                self._sent = [*self._sent, (task_id, slot)][-SENT_MAX:]

    def passed(self, entry: str, gaps: Sequence[Gap], reason: str) -> None:
        with self._lock:
            for gap in gaps:
                self._pass(Passed(entry, gap, reason))

    def _pass(self, new: Passed) -> None:
        """Slots that follow one another, passed over for one reason, are one stretch."""
        before = self._open.get(new.entry)
        if (
            before is not None
            and before.reason == new.reason
            and before.gap.last_slot + 1 == new.gap.first_slot
        ):
            slots = before.gap.slots + new.gap.slots
            last, end = new.gap.last_slot, new.gap.to_wall
            new = replace(new, gap=replace(before.gap, last_slot=last, slots=slots, to_wall=end))
            self._passed = [each for each in self._passed if each != before]
        self._open[new.entry] = new
        self._passed = [*self._passed, new][-PASSED_MAX:]

    def withdraw(self, entry: str, from_slot: int) -> None:
        with self._lock:
            self._passed = [
                each
                for each in self._passed
                if each.entry != entry or each.gap.first_slot < from_slot
            ]
            self._open.pop(entry, None)
            # Of several, the one that reaches back farthest says it all.
            others = [each for each in self._withdrawn if each[0] != entry or each[1] < from_slot]
            self._withdrawn = [*others, (entry, from_slot)]

    def unwritten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What a successor has to be told, as it is kept: gaps, and what was withdrawn."""
        with self._lock:
            return tuple(each.to_kept() for each in self._passed), tuple(self._withdrawn)

    def end(self) -> None:
        """What can still be written is."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join(timeout=LOOK_EVERY_S)
        self._try(self._write)
        self._thread = None
        self._over.clear()

    # --- the thread's side ----------------------------------------------------------------

    def _keep(self) -> None:
        written = 0.0
        while not self._over.wait(LOOK_EVERY_S):
            self._try(self._look)
            if time.monotonic() - written >= WRITE_EVERY_S:
                self._try(self._write)
                written = time.monotonic()

    def _look(self) -> None:
        assert self.notebook is not None
        self.paused = dict(self.notebook.paused())

    def _write(self) -> None:
        assert self.notebook is not None
        with self._lock:
            pages = Pages(
                list(self._stands.values()),
                list(self._sent),
                list(self._passed),
                list(self._withdrawn),
            )
        if not pages.stands:
            return
        self.notebook.write(pages)
        with self._lock:
            # What came meanwhile stays; a stretch that has grown is another one.
            self._sent = [each for each in self._sent if each not in pages.sent]
            self._passed = [each for each in self._passed if each not in pages.passed]
            self._withdrawn = [each for each in self._withdrawn if each not in pages.withdrawn]

    def _try(self, work: Callable[[], None]) -> None:
        trouble = ""
        try:
            work()
        except BotswarmError as error:
            trouble = f"{error}; {error.cure}" if error.cure else str(error)
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
        # The same trouble every second is said once.
        if trouble and trouble != self._trouble:
            logger.warning("what beat does is not written down for now: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("what beat does is written down again")
        self._trouble = trouble
