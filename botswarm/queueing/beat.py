"""The beat that leads: any number may run, one sends, and no slot of the schedule is sent twice.

The leader is whoever holds an exclusive queue of the broker, which frees it the moment the
leader's connection ends. Everything the leader sends goes over that same connection: a leader
that was paused and replaced cannot send, because its connection is gone. Before it sends, it
leaves a mark in a queue that keeps the last one only; the next leader reads there which slots
are done. So a slot is sent at most once whoever dies when; one whose beat died between mark and
message, about a millisecond, is left out, and the next one comes a period later.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from typing import Any

from amqp.exceptions import AMQPError, ResourceLocked
from celery.beat import Scheduler
from kombu import Producer, Queue  # type: ignore[attr-defined]  # exported lazily

from botswarm import metrics
from botswarm.errors import BotswarmError
from botswarm.messages import send
from botswarm.schedule import SCHEDULE, Entry

logger = logging.getLogger(__name__)

LEADER = "botswarm.beat.leader"
MARKS = "botswarm.beat.marks"
TRY_EVERY_S = 0.5
LOOK_EVERY_S = 0.25
"""How often the connection is looked at while nothing is due."""
BACKLOG_MAX = 100
NAMESPACE = uuid.UUID("6f0a1c4e-9a5b-4b51-8f0e-3c6f4d0f9b1d")


def slot_of(entry: Entry, now: float) -> int:
    """The number of the period that ``now`` (seconds since 1970) lies in."""
    return int(now // entry.every_s)


def task_id(entry: Entry, slot: int) -> str:
    """The same for every beat, so that a task can be traced to its slot."""
    return str(uuid.uuid5(NAMESPACE, f"{entry.name}/{entry.every_s:g}/{slot}"))


class Leadership:
    """One connection to the broker, that holds the leader's queue as long as it lives."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection = app.connection_for_write()
        self._connection.connect()
        try:
            channel = self._connection.default_channel
            channel.queue_declare(LEADER, exclusive=True, durable=False, auto_delete=False)
            app.amqp.declare_all(self._connection)
            self._marks = _marks_queue()(channel)
            self._marks.declare()
            self.done = self._read_marks()
            self._producer = Producer(channel)
        except BaseException:
            self.end()
            raise

    def _read_marks(self) -> dict[str, int]:
        message = self._marks.get(no_ack=False)
        if message is None:
            return {}
        message.reject(requeue=True)
        try:
            return {str(name): int(slot) for name, slot in json.loads(message.body).items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def check(self) -> None:
        """Raises OSError or AMQPError once the connection, and so the leadership, is lost."""
        self._connection.heartbeat_check(rate=2)
        with contextlib.suppress(TimeoutError):
            self._connection.drain_events(timeout=0.001)

    def waiting(self, queue: str) -> tuple[int, int]:
        """How many messages wait in the queue, and how many workers listen to it."""
        answer = self._connection.default_channel.queue_declare(queue, passive=True)
        return answer.message_count, answer.consumer_count

    def fire(self, entry: Entry, slot: int) -> None:
        self.done[entry.name] = slot
        self._producer.publish(
            json.dumps(self.done),
            routing_key=MARKS,
            exchange="",
            delivery_mode=2,
            content_type="application/json",
            content_encoding="utf-8",
            retry=False,
        )
        # No retry: Celery's would go on over a new connection, without the leadership.
        send(
            self._app,
            entry.message,
            task_id=task_id(entry, slot),
            producer=self._producer,
            expires=entry.expires_s,
            retry=False,
            headers={"celery_beat_task": True},
        )
        metrics.BEAT_SENT.labels(entry.name).inc()

    def end(self) -> None:
        with contextlib.suppress(OSError, AMQPError):
            self._connection.release()


def _marks_queue() -> Any:
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "drop-head"}
    return Queue(MARKS, durable=True, queue_arguments=arguments)


class LeaderScheduler(Scheduler):  # type: ignore[misc]
    """What ``celery -A botswarm beat`` runs with no further flag."""

    _lead: Leadership | None = None
    _next_try = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._said: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """The schedule is a table in code; Celery's own is left empty."""

    @property
    def info(self) -> str:
        return "\n".join(f"    . {e.name} -> every {e.every_s:g} s" for e in SCHEDULE)

    def tick(self, *_: Any, **__: Any) -> float:
        try:
            if not self._leads():
                return TRY_EVERY_S
            assert self._lead is not None
            self._fire_due(self._lead)
        except (OSError, AMQPError, BotswarmError) as error:
            self._step_down(error)
            return TRY_EVERY_S
        return self._until_next()

    def _leads(self) -> bool:
        if self._lead is not None:
            self._lead.check()
            return True
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + TRY_EVERY_S
        try:
            self._lead = Leadership(self.app)
        except ResourceLocked:
            self._say_once("lead", "another beat leads; standing by")
            return False
        except (OSError, AMQPError) as error:
            self._say_once("lead", f"cannot reach the broker to lead: {error}")
            return False
        self._said.clear()
        logger.info("leading: this beat sends the periodic tasks")
        return True

    def _fire_due(self, lead: Leadership) -> None:
        now = time.time()
        for entry in SCHEDULE:
            slot = slot_of(entry, now)
            # Only the slot we are in: what was missed is not made up for, the next one does it.
            if slot > lead.done.get(entry.name, -1) and self._is_wanted(lead, entry):
                lead.fire(entry, slot)
                logger.debug("sent %s", entry.name)

    def _is_wanted(self, lead: Leadership, entry: Entry) -> bool:
        """Nothing is sent where nobody listens: it would only pile up."""
        queue = entry.message.queue
        waiting, workers = lead.waiting(queue)
        if workers and waiting < BACKLOG_MAX:
            self._said.pop(entry.name, None)
            return True
        self._say_once(
            entry.name,
            f"{entry.name} is held back: "
            + (f"{queue} has {waiting} waiting tasks" if workers else f"no worker runs {queue}"),
        )
        return False

    def _until_next(self) -> float:
        now = time.time()
        nearest = min((slot_of(e, now) + 1) * e.every_s for e in SCHEDULE) - now
        return max(0.001, min(nearest, LOOK_EVERY_S))

    def _say_once(self, subject: str, line: str) -> None:
        """A line that would be the same several times a second is said once."""
        if self._said.get(subject) != line:
            self._said[subject] = line
            logger.info("%s", line)

    def _step_down(self, error: BaseException) -> None:
        logger.warning("no longer leading: %s", error or type(error).__name__)
        if self._lead is not None:
            self._lead.end()
        self._lead = None

    def close(self) -> None:
        super().close()
        if self._lead is not None:
            self._lead.end()
            self._lead = None
