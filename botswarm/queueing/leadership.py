"""The connection over which a beat leads: who holds it may send, and what it sent is its mark."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from amqp.exceptions import AMQPError
from kombu import Exchange, Producer, Queue  # type: ignore[attr-defined]  # exported lazily

from botswarm.messages import send
from botswarm.queueing.table import BY_NAME, work_exchange
from botswarm.schedule import Entry

LEADER = "botswarm.beat.leader"
MARKS = "botswarm.beat.marks"
BEAT = "botswarm.beat"
MARKS_HEADER = "botswarm_marks"
SLOT_HEADER = "botswarm_slot"
SETTLE_S = 0.2
HEARTBEAT_S = 5
NAMESPACE = uuid.UUID("6f0a1c4e-9a5b-4b51-8f0e-3c6f4d0f9b1d")


def task_id(entry: Entry, slot: int) -> str:
    """The same for every beat, so that a task can be traced to its slot."""
    return str(uuid.uuid5(NAMESPACE, f"{entry.name}/{entry.every_s:g}/{slot}"))


@dataclass(frozen=True, slots=True)
class Marks:
    """What the last leader left behind."""

    places: Mapping[str, Any] = field(default_factory=dict)
    gaps: tuple[Any, ...] = ()
    """Slots it passed over that no ledger has in writing yet."""
    withdrawn: tuple[Any, ...] = ()
    """And those that are still to come, because the clock went back."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What a task can know of the slot it is run for; it travels in the message."""

    entry: str
    number: int
    due_wall: float
    expires_wall: float
    sent_wall: float
    is_kept: bool

    def to_header(self) -> list[Any]:
        moments = (round(each, 3) for each in (self.due_wall, self.expires_wall, self.sent_wall))
        return [self.entry, self.number, *moments, self.is_kept]


def slot_of(header: Any) -> Slot | None:
    """None for what another version sent."""
    try:
        entry, number, due, expires, at, is_kept = header
        return Slot(str(entry), int(number), float(due), float(expires), float(at), bool(is_kept))
    except (TypeError, ValueError):
        return None


class Leadership:
    """One connection to the broker, that holds the leader's queue as long as it lives.

    A task goes to an exchange from which the broker puts it into the task's queue and, as the
    mark, into a queue that keeps the last message only. So it is in both or in neither, whoever
    dies when; and every message carries all that its successor has to know.
    """

    def __init__(self, app: Any, table: Sequence[Entry]) -> None:
        self._app = app
        # Without a heartbeat the broker would wait for ever for a leader that is frozen.
        self._connection = app._connection(app.conf.broker_write_url, heartbeat=HEARTBEAT_S)
        self._connection.connect()
        try:
            channel = self._connection.default_channel
            channel.queue_declare(LEADER, exclusive=True, durable=False, auto_delete=False)
            app.amqp.declare_all(self._connection)
            self._marks = _bind(channel, table)
            # What the last leader sent as it died may still be on its way inside the broker.
            time.sleep(SETTLE_S)
            self.marks = self._read_marks()
            self._producer = Producer(channel)
        except BaseException:
            self.end()
            raise

    def _read_marks(self) -> Marks:
        message = self._marks.get(no_ack=False)
        if message is None:
            return Marks()
        message.reject(requeue=True)
        try:
            kept = json.loads((message.headers or {})[MARKS_HEADER])
            return Marks(dict(kept["places"]), tuple(kept["gaps"]), tuple(kept["withdrawn"]))
        except (ValueError, TypeError, KeyError):
            return Marks()  # of another version

    def check(self) -> None:
        """Raises OSError or AMQPError once the connection, and so the leadership, is lost."""
        self._connection.heartbeat_check(rate=2)
        with contextlib.suppress(TimeoutError):
            self._connection.drain_events(timeout=0.001)

    def waiting(self, queue: str) -> tuple[int, int]:
        """How many messages wait in the queue, and how many workers listen to it."""
        answer = self._connection.default_channel.queue_declare(queue, passive=True)
        return answer.message_count, answer.consumer_count

    def fire(self, entry: Entry, slot: Slot, marks: Marks) -> None:
        """Send it, and with it the marks as they are once it is sent."""
        left = json.dumps(asdict(marks), separators=(",", ":"))
        # No retry: Celery's would go on over a new connection, without the leadership.
        send(
            self._app,
            entry.message,
            task_id=task_id(entry, slot.number),
            producer=self._producer,
            exchange=BEAT,
            routing_key=entry.message.queue,
            expires=entry.expires_s,
            retry=False,
            headers={
                "celery_beat_task": True,
                SLOT_HEADER: slot.to_header(),
                MARKS_HEADER: left,
            },
        )

    def end(self) -> None:
        """Without a goodbye, which a broker that is in trouble may never answer."""
        with contextlib.suppress(OSError, AMQPError):
            self._connection.collect()


def bind_work(channel: Any, name: str) -> None:
    """What beat sends for the queue arrives there: deleted with it, and not declared with it."""
    exchange = _exchange(channel)
    work = Queue(name, work_exchange(BY_NAME[name]), routing_key=name)(channel)
    work.bind_to(exchange, routing_key=name)


def _bind(channel: Any, table: Sequence[Entry]) -> Any:
    """The exchange, with every queue it fills; the queue of marks."""
    exchange = _exchange(channel)
    arguments = {"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "drop-head"}
    marks = Queue(MARKS, durable=True, queue_arguments=arguments)(channel)
    marks.declare()
    marks.bind_to(exchange, routing_key="#")
    for name in sorted({entry.message.queue for entry in table}):
        bind_work(channel, name)
    return marks


def _exchange(channel: Any) -> Any:
    exchange = Exchange(BEAT, type="topic", durable=True)(channel)
    exchange.declare()
    return exchange
