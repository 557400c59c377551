"""The beat that leads: any number may run, one sends, and no slot of the schedule is sent twice.

The leader is whoever holds an exclusive queue of the broker, which frees it the moment the
leader's connection ends. Everything the leader sends goes over that same connection: a leader
that was paused and replaced cannot send, because its connection is gone. What it sends is its own
mark (see ``leadership``), from which the next leader reads which slots are done. A slot that
nobody sent, whatever the reason, is written down as missed; it is not made up for.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from amqp.exceptions import AMQPError, ResourceLocked
from celery.beat import Scheduler

from botswarm import clock, metrics
from botswarm.errors import BotswarmError
from botswarm.queueing import timetable
from botswarm.queueing.diary import Diary, Notebook, Stand
from botswarm.queueing.leadership import Leadership, Marks, Slot, task_id
from botswarm.queueing.timetable import Look, Place, Reading
from botswarm.schedule import SCHEDULE, Entry

logger = logging.getLogger(__name__)

TRY_EVERY_S = 0.5
LOOK_EVERY_S = 0.25
"""How often the connection is looked at while nothing is due."""
BACKLOG_MAX = 100
JUMP_S = 2.0
"""So far apart the two clocks have to go for it to be called a jump."""
NOBODY_LED = "no beat led"
WAS_LATE = "the beat that leads stood still"


class LeaderScheduler(Scheduler):  # type: ignore[misc]
    """What ``celery -A botswarm beat`` runs with no further flag."""

    _lead: Leadership | None = None
    _next_try = 0.0
    _before: Reading | None = None
    table: tuple[Entry, ...] = SCHEDULE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._said: dict[str, str] = {}
        self._held: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._sent: dict[str, tuple[int, float]] = {}
        super().__init__(*args, **kwargs)
        self._diary = Diary(self.notebook())

    # --- what a test or the process around may put in the place of these ------------------

    def notebook(self) -> Notebook | None:
        """Where the diary is written to; nowhere without one."""
        return None

    def reading(self) -> Reading:
        return Reading(time.time(), clock.since_boot_s(), clock.BOOT)

    # --- Celery's side --------------------------------------------------------------------

    def setup_schedule(self) -> None:
        """The schedule is a table in code; Celery's own is left empty."""

    @property
    def info(self) -> str:
        return "\n".join(f"    . {e.name} -> every {e.every_s:g} s" for e in self.table)

    def tick(self, *_: Any, **__: Any) -> float:
        try:
            if not self._leads():
                return TRY_EVERY_S
            assert self._lead is not None
            return self._send_due(self._lead)
        except (OSError, AMQPError, BotswarmError) as error:
            self._step_down(error)
            return TRY_EVERY_S

    def close(self) -> None:
        super().close()
        if self._lead is not None:
            self._lead.end()
            self._lead = None
        self._diary.end()

    # --- leading --------------------------------------------------------------------------

    def _leads(self) -> bool:
        if self._lead is not None:
            self._lead.check()
            return True
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + TRY_EVERY_S
        try:
            self._lead = Leadership(self.app, self.table)
        except ResourceLocked:
            self._say_once("lead", "another beat leads; standing by")
            return False
        except (OSError, AMQPError) as error:
            self._say_once("lead", f"cannot reach the broker to lead: {error}")
            return False
        self._begin(self._lead.marks)
        logger.info("leading: this beat sends the periodic tasks")
        return True

    def _begin(self, marks: Marks) -> None:
        self._said.clear()
        self._held.clear()
        self._before = None
        self._diary.begin(marks.gaps, marks.withdrawn)
        self._places = timetable.places(marks.places)
        now = self.reading()
        is_new = any(entry.name not in self._places for entry in self.table)
        known = self._diary.known() if is_new else {}
        for entry in self.table:
            place = self._places.get(entry.name)
            found = timetable.look(entry, place, now, known.get(entry.name, ()))
            self._note(entry, found, NOBODY_LED)

    def _step_down(self, error: BaseException) -> None:
        logger.warning("no longer leading: %s", error or type(error).__name__)
        if self._lead is not None:
            self._lead.end()
        self._lead = None

    # --- sending --------------------------------------------------------------------------

    def _send_due(self, lead: Leadership) -> float:
        now = self.reading()
        self._notice_jump(now)
        nearest = LOOK_EVERY_S
        for entry in self.table:
            found = timetable.look(entry, self._places[entry.name], now)
            self._note(entry, found, self._held.get(entry.name, WAS_LATE))
            if found.due is not None:
                self._serve(lead, entry, found, now)
            else:
                self._held.pop(entry.name, None)
            coming = timetable.next_wall(entry, self._places[entry.name], now)
            if entry.name not in self._held:
                nearest = min(nearest, coming - now.wall)
            self._stand(entry, coming)
        return max(0.001, nearest)

    def _note(self, entry: Entry, found: Look, reason: str) -> None:
        """What looking at the clock changed, whether or not anything is sent."""
        self._places[entry.name] = found.place
        if found.withdrawn_from is not None:
            self._diary.withdraw(entry.name, found.withdrawn_from)
        if found.gaps:
            self._diary.passed(entry.name, found.gaps, reason)
            missed = sum(gap.slots for gap in found.gaps)
            metrics.BEAT_MISSED.labels(entry.name).inc(missed)

    def _serve(self, lead: Leadership, entry: Entry, found: Look, now: Reading) -> None:
        held = self._diary.paused.get(entry.name) or self._unwanted(lead, entry)
        if held is not None:
            self._held[entry.name] = held
            self._say_once(entry.name, f"{entry.name} is held back: {held}")
            return
        self._held.pop(entry.name, None)
        self._said.pop(entry.name, None)
        assert found.due is not None
        slot = Slot(
            entry=entry.name,
            number=found.due,
            due_wall=found.due_wall,
            expires_wall=now.wall + entry.expires_s,
            sent_wall=now.wall,
            is_kept=entry.is_kept,
        )
        self._places[entry.name] = timetable.sent(entry, found, now)
        kept = {name: timetable.to_kept(place) for name, place in self._places.items()}
        lead.fire(entry, slot, Marks(kept, *self._diary.unwritten()))
        self._sent[entry.name] = (slot.number, now.wall)
        self._diary.fired(task_id(entry, slot.number), slot)
        metrics.BEAT_SENT.labels(entry.name).inc()
        logger.debug("sent %s, slot %d", entry.name, slot.number)

    def _unwanted(self, lead: Leadership, entry: Entry) -> str | None:
        """Nothing is sent where nobody listens: it would only pile up."""
        queue = entry.message.queue
        waiting, workers = lead.waiting(queue)
        if not workers:
            return f"no worker runs {queue}"
        return None if waiting < BACKLOG_MAX else f"{queue} has too many waiting tasks"

    # --- saying ---------------------------------------------------------------------------

    def _stand(self, entry: Entry, coming: float) -> None:
        slot, at = self._sent.get(entry.name, (None, None))
        self._diary.stand(Stand(entry.name, slot, at, coming, self._held.get(entry.name)))

    def _notice_jump(self, now: Reading) -> None:
        before, self._before = self._before, now
        if before is None or before.boot != now.boot:
            return
        jumped = (now.wall - before.wall) - (now.steady - before.steady)
        if abs(jumped) > JUMP_S:
            metrics.CLOCK_JUMPS.inc()
            logger.warning("the clock of this machine jumped by %+.1f s", jumped)

    def _say_once(self, subject: str, line: str) -> None:
        """A line that would be the same several times a second is said once."""
        if self._said.get(subject) != line:
            self._said[subject] = line
            logger.info("%s", line)
