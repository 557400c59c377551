"""What the clients know of every message, and the verdict on a broker that was killed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXAMPLES_KEPT = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One publish: the queues it must reach, and the round it was made in."""

    roots: tuple[str, ...]
    persistent: bool
    round: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery as a client saw it. ``hops`` is the sum of its x-death counts."""

    message: str
    queue: str
    redelivered: bool
    hops: int
    round: int
    intact: bool


@dataclass(slots=True)
class Finding:
    """How often something happened, with a few examples for the person who looks into it."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append(example)


class Oracle:
    """Thread-safe notes of attempts, confirms, deliveries and settlements.

    A message that travels through dead-lettering keeps its id but is another message each
    time: what must not come twice unmarked is the triple (id, queue, hops).
    """

    def __init__(self, roots: Mapping[str, str], survives_transient: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._root = dict(roots)
        self._survives_transient = frozenset(survives_transient)
        self.attempted: dict[str, Attempt] = {}
        self.confirmed: set[str] = set()
        self.refused: set[str] = set()
        self.deliveries: Counter[tuple[str, str, int]] = Counter()
        self.settled: set[tuple[str, str]] = set()
        """(id, root queue): an ack was sent for it, so it need not come back."""
        self.rejects: Counter[str] = Counter()
        self.acks = 0
        self.duplicated = Finding()
        self.unexpected = Finding()
        self.marked_at_first_sight = 0
        self.redelivered = 0

    def note_attempt(self, message: str, attempt: Attempt) -> None:
        with self._lock:
            self.attempted[message] = attempt

    def note_confirms(self, messages: Iterable[str], *, refused: bool = False) -> None:
        with self._lock:
            (self.refused if refused else self.confirmed).update(messages)

    def note_ack(self, message: str, queue: str) -> None:
        """To be called before the ack is sent: after that nobody knows."""
        with self._lock:
            self.acks += 1
            self.settled.add((message, self._root[queue]))

    def note_reject(self, message: str) -> None:
        with self._lock:
            self.rejects[message] += 1

    def note_delivery(self, delivery: Delivery) -> None:
        with self._lock:
            self._judge_delivery(delivery)

    def _judge_delivery(self, delivery: Delivery) -> None:
        if not delivery.intact:
            self.unexpected.add(f"body damaged: {delivery}")
            return
        attempt = self.attempted.get(delivery.message)
        if attempt is None:
            self.unexpected.add(f"never published: {delivery}")
            return
        root = self._root[delivery.queue]
        if root not in attempt.roots:
            self.unexpected.add(f"published to {attempt.roots}: {delivery}")
        if (
            not attempt.persistent
            and attempt.round != delivery.round
            and root not in self._survives_transient
        ):
            self.unexpected.add(f"transient message outlived the broker: {delivery}")
        self._judge_repetition(delivery)

    def _judge_repetition(self, delivery: Delivery) -> None:
        key = (delivery.message, delivery.queue, delivery.hops)
        seen = self.deliveries[key]
        self.deliveries[key] = seen + 1
        if seen and delivery.redelivered:
            self.redelivered += 1
        elif seen:
            self.duplicated.add(f"second delivery not marked redelivered: {delivery}")
        elif delivery.redelivered:
            # Allowed: the first delivery may have died with the broker, or unread in a socket.
            self.marked_at_first_sight += 1

    def note_unexpected(self, what: str) -> None:
        with self._lock:
            self.unexpected.add(what)

    def awaiting(self) -> int:
        """Confirmed messages nobody has acked yet: the backlog, near enough."""
        with self._lock:
            return len(self.confirmed) - len(self.settled)

    def lost(self) -> Finding:
        """Confirmed, persistent, and neither acked nor drained: to be asked after the drain."""
        finding = Finding()
        for message in self.confirmed:
            attempt = self.attempted[message]
            if not attempt.persistent:
                continue
            for root in attempt.roots:
                if (message, root) not in self.settled:
                    finding.add(f"{message} of round {attempt.round} from {root}")
        return finding


def hops_of(headers: Mapping[str, Any] | None) -> int:
    """How often a message was dead-lettered so far, after its own x-death header."""
    deaths = (headers or {}).get("x-death") or []
    return sum(int(death.get("count", 0)) for death in deaths)


def deaths_of(headers: Mapping[str, Any] | None, queue: str, reason: str) -> int:
    deaths = (headers or {}).get("x-death") or []
    return sum(
        int(death.get("count", 0))
        for death in deaths
        if death.get("queue") == queue and death.get("reason") == reason
    )
