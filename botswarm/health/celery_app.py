"""Has the workers and the beat of a Celery app tell how they are, from their start to their end."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from celery import bootsteps, signals
from celery.worker import state

from botswarm import metrics
from botswarm.config import Settings
from botswarm.health.broker import Broker
from botswarm.health.exporter import Slots
from botswarm.health.machine import WallClock
from botswarm.health.process import Health, Pulse
from botswarm.health.watch import Finding

TURN_S = 2.0
OVERDUE_S = 30.0
"""So long after its hard limit a task that still runs is one that hangs."""


class App(Protocol):
    """What is needed of the Celery app, which knows the machinery that this room does not."""

    settings: Settings
    caps: Mapping[str, int]
    swarm_caps: Mapping[str, int]
    slots: Slots
    amqp: Any
    steps: Any


def tell(app: App, hard_limits: Mapping[str, float]) -> None:
    """Have every worker and beat of this app answer how it is, from its start to its end.

    ``hard_limits`` say of each queue how long a task of it may run at most, in seconds.
    """
    app.steps["worker"].add(Telling)
    app.steps["consumer"].add(TurnMarks)
    _turns.hard_limits = hard_limits
    signals.worker_shutdown.connect(_end, weak=False)
    signals.beat_init.connect(functools.partial(_begin_beat, app), weak=False)


_running: list[Health] = []


def _end(**_: Any) -> None:
    while _running:
        _running.pop().stop()


class Telling(bootsteps.StartStopStep):  # type: ignore[misc]
    """From when the children are forked: what our threads are at then, a child would find at a
    standstill for ever. Before there is a broker, which may be what has to be told.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, instance: Any) -> None:
        from botswarm.health import worker

        _turns.worker = instance
        _turns.mark()
        made = worker.made(instance.app, str(instance.hostname))
        made.work_of("taking tasks in", _turns.age_s)
        made.work_of("tasks that run", _turns.hanging_s)
        made.check("tasks", _turns.taking, is_needed=True)
        made.start()
        _running.append(made)


# --- that a worker's loop turns -------------------------------------------------------------------


class TurnMarks(bootsteps.StartStopStep):  # type: ignore[misc]
    """Marks the turns of the loop that takes tasks in, by work of the loop itself."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        mark = _turns.turn
        if c.hub is not None:
            # The hub's timer is looked at by the loop: it stands still where that does.
            c.hub.timer.call_after(0, mark)
            c.hub.timer.call_repeatedly(TURN_S, mark)
            return
        pending = c.perform_pending_operations

        def marked() -> None:
            mark()
            pending()

        c.perform_pending_operations = marked


class Turns:
    """How long ago the loop of this worker last turned, and whether its tasks get anywhere."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._has_turned = False
        self.worker: Any = None
        self.hard_limits: Mapping[str, float] = {}

    def mark(self) -> None:
        self._at = time.monotonic()

    def turn(self) -> None:
        """The loop that takes tasks in has turned."""
        self._has_turned = True
        self.mark()

    def age_s(self) -> float:
        consumer = getattr(self.worker, "consumer", None)
        if consumer is None or consumer.connection is None:
            # It waits for the broker: that is another check, and to start again cures nothing.
            self.mark()
        return time.monotonic() - self._at

    def taking(self) -> Finding:
        consumer = getattr(self.worker, "consumer", None)
        if getattr(consumer, "connection", None) is None or not self._has_turned:
            return Finding(words="it takes no task: not connected yet, or no longer", status="fail")
        return Finding(words="it takes tasks")

    def hanging_s(self) -> float:
        """How long every place has been taken by a task that is overdue; 0 while one is not."""
        late = sorted(self._late(), reverse=True)
        concurrency = getattr(self.worker, "concurrency", 1) or 1
        return late[concurrency - 1] if len(late) >= concurrency else 0.0

    def _late(self) -> Iterator[float]:
        now = time.time()
        for request in list(state.active_requests):
            limit_s = self.hard_limits.get(queue_of(request))
            began = getattr(request, "time_start", None)
            if limit_s is None or not began:
                continue
            if now - began > limit_s + OVERDUE_S:
                yield now - began - limit_s


_turns = Turns()


def queue_of(request: Any) -> str:
    return str((getattr(request, "delivery_info", None) or {}).get("routing_key", ""))


# --- beat -----------------------------------------------------------------------------------------


def _begin_beat(app: App, sender: Any, **_: Any) -> None:
    made = Health(app.settings, "beat")
    broker = Broker(lambda: app.settings.broker_url, "botswarm beat health")
    made.check("broker", broker.look, is_needed=True)
    made.check("clock", WallClock())
    scheduler = sender.scheduler
    scheduler.tick = _marking(scheduler.tick, made.pulse("the schedule"))
    made.source(Lead(lambda: getattr(scheduler, "_lead", None) is not None))
    made.start()
    _running.append(made)


def _marking(tick: Callable[..., float], pulse: Pulse) -> Callable[..., float]:
    @functools.wraps(tick)
    def marked(*args: Any, **kwargs: Any) -> float:
        pulse.mark()
        return tick(*args, **kwargs)

    return marked


class Lead:
    def __init__(self, leads: Callable[[], bool]) -> None:
        self._leads = leads

    def collect(self) -> Iterable[metrics.Samples]:
        yield metrics.Samples(metrics.BEAT_LEADS, [((), float(self._leads()))])
