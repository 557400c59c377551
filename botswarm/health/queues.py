"""The broker's queues as they stand: what waits, since when at most, who takes it, what is dead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from botswarm import metrics
from botswarm.config import Settings
from botswarm.config.table import QUEUES
from botswarm.errors import BotswarmError
from botswarm.health.broker import Broker, vhost_of
from botswarm.health.management import Management, number
from botswarm.health.table import BY_NAME
from botswarm.health.watch import Finding

SAMPLES_MAX = 2000
DEAD = ".dead"
LINE = BY_NAME["queues"]
SELDOM = ("backtest",)
"""Nobody has to take from it all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    waiting: int
    running: int | None
    consumers: int
    dead: int
    published: int | None
    """Ever, where the broker says it."""
    done: int | None
    oldest_s: float


class Ages:
    """How old the oldest message of a queue is at most.

    Messages leave a queue in the order they came. So where the broker counts what came in, the
    oldest that waits is the one whose number is those that came less those that wait, and it came
    after the last look that had counted fewer. Without that count, it came after the queue was
    last seen empty.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        """When we looked, and how many had come until then."""
        self._empty_at: float | None = None

    def oldest_s(self, waiting: int, published: int | None) -> float:
        now = self._monotonic()
        if self._empty_at is None:
            self._empty_at = now  # what waited before we ever looked counts from now on
        if published is not None and self._seen and published < self._seen[-1][1]:
            self._seen.clear()  # the broker was started anew
        if not waiting:
            self._empty_at = now
        answer = 0.0 if not waiting else now - self._came_after(waiting, published)
        if published is not None:
            self._seen.append((now, published))
        return answer

    def _came_after(self, waiting: int, published: int | None) -> float:
        assert self._empty_at is not None
        if published is None:
            return self._empty_at
        number = published - waiting  # so many came before the oldest that waits
        came = self._empty_at
        for at, count in self._seen:
            if count > number:
                break
            came = max(came, at)
        return came


class Queues:
    """Looked at by one thread, now and then; read by checks and scrapes."""

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._settings = settings
        self._broker = broker
        self._ages = {name: Ages() for name in QUEUES}
        self.stands: Mapping[str, Stand] = {}
        self.broker_facts: Mapping[str, float] = {}
        self.trouble: BotswarmError | None = None

    def look(self) -> None:
        """Raises BotswarmError where the broker does not answer; what was known is forgotten."""
        try:
            self.stands = self._stands()
            self.trouble = None
        except BotswarmError as error:
            self.stands, self.broker_facts, self.trouble = {}, {}, error
            raise

    def _stands(self) -> Mapping[str, Stand]:
        management = self._settings.broker_management_url
        url = self._settings.broker_url
        if management is not None and url is not None:
            asked = Management(management)
            rows = {str(row.get("name")): row for row in asked.queues(vhost_of(url))}
            self.broker_facts = asked.facts()
            return {name: self._told(name, rows) for name in QUEUES if name in rows}
        found = {name: self._broker.counts(name) for name in QUEUES}
        letters = {name: (self._broker.counts(name + DEAD) or (0, 0))[0] for name in QUEUES}
        return {
            name: self._made(name, counts[0], None, counts[1], letters[name], None, None)
            for name, counts in found.items()
            if counts is not None
        }

    def _told(self, name: str, rows: Mapping[str, Mapping[str, object]]) -> Stand:
        row, dead = rows[name], rows.get(name + DEAD, {})
        stats = row.get("message_stats")
        stats = stats if isinstance(stats, Mapping) else {}
        published, done = stats.get("publish"), stats.get("ack")
        return self._made(
            name,
            number(row.get("messages_ready")),
            number(row.get("messages_unacknowledged")),
            number(row.get("consumers")),
            number(dead.get("messages")),
            published if isinstance(published, int) else None,
            done if isinstance(done, int) else None,
        )

    def _made(
        self,
        name: str,
        waiting: int,
        running: int | None,
        consumers: int,
        dead: int,
        published: int | None,
        done: int | None,
    ) -> Stand:
        return Stand(
            waiting=waiting,
            running=running,
            consumers=consumers,
            dead=dead,
            published=published,
            done=done,
            oldest_s=self._ages[name].oldest_s(waiting, published),
        )

    # --- what is told of them -------------------------------------------------------------

    def finding(self) -> Finding:
        if self.trouble is not None:
            raise self.trouble
        if not self.stands:
            return Finding(words="the broker has none of the queues yet", status="warn")
        unserved = [name for name, stand in self.stands.items() if not stand.consumers]
        needed = [name for name in unserved if name not in SELDOM]
        dead = {name: stand.dead for name, stand in self.stands.items() if stand.dead}
        oldest = max(self.stands, key=lambda name: self.stands[name].oldest_s)
        words = []
        if unserved:
            words.append(f"no worker takes from {', '.join(unserved)}")
        if dead:
            said = ", ".join(f"{name} {many}" for name, many in dead.items())
            words.append(f"dead letters: {said}")
        stand = self.stands[oldest]
        if stand.oldest_s:
            words.append(f"{stand.waiting} wait in {oldest}, the oldest for {stand.oldest_s:.0f} s")
        cure = ""
        if needed:
            cure = f"start a worker: botswarm run worker -Q {','.join(needed)}"
        elif dead:
            cure = "look at them: botswarm queue peek NAME.dead; then requeue or purge them"
        found = Finding(
            words="; ".join(words) or "every queue is worked on, and nothing waits",
            value=round(stand.oldest_s, 1),
            status="fail" if needed else None,
            cure=cure,
        )
        is_more_than_it_seems = dead and LINE.judged(found) == "ok"
        return replace(found, status="warn") if is_more_than_it_seems else found

    def collect(self) -> Iterable[metrics.Samples]:
        stands = self.stands
        messages: metrics.Rows = []
        for name, stand in stands.items():
            messages.append(((name, "waiting"), float(stand.waiting)))
            if stand.running is not None:
                messages.append(((name, "running"), float(stand.running)))
        yield metrics.Samples(metrics.QUEUE_MESSAGES, messages)

        def rows(read: Callable[[Stand], float | None]) -> metrics.Rows:
            found = {name: read(stand) for name, stand in stands.items()}
            return [((name,), float(value)) for name, value in found.items() if value is not None]

        yield metrics.Samples(metrics.QUEUE_OLDEST_SECONDS, rows(lambda stand: stand.oldest_s))
        yield metrics.Samples(metrics.QUEUE_CONSUMERS, rows(lambda stand: stand.consumers))
        yield metrics.Samples(metrics.QUEUE_DEAD_LETTERS, rows(lambda stand: stand.dead))
        yield metrics.Samples(metrics.QUEUE_PUBLISHED, rows(lambda stand: stand.published))
        yield metrics.Samples(metrics.QUEUE_DONE, rows(lambda stand: stand.done))
        for name, family in (
            ("connections", metrics.BROKER_CONNECTIONS),
            ("memory_bytes", metrics.BROKER_MEMORY_BYTES),
            ("blocked", metrics.BROKER_BLOCKED),
        ):
            if name in self.broker_facts:
                yield metrics.Samples(family, [((), self.broker_facts[name])])
