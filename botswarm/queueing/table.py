"""Every queue in one table: who runs it, how many at once, for how long, and what ends dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kombu import Exchange, Queue  # type: ignore[attr-defined]  # exported lazily

WORK = "work"
DEAD = "dead"
TRANSIENT, PERSISTENT = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkQueue:
    name: str
    pool: Literal["prefork", "threads"]
    cap: int
    """At most so many run at once in one worker; the broker holds the rest back."""
    swarm_cap: int | None
    """At most so many run at once in all workers together; None where that does not matter."""
    quorum: bool
    delivery_limit: int | None = None
    """Handed out this often after the first time and never acknowledged: a dead letter."""
    soft_limit_s: int
    hard_limit_s: int
    """Both enforced by prefork only, which is why nothing that moves money runs elsewhere."""
    ttl_s: float | None = None
    """Where set, messages are not worth keeping: they live in memory, and die unmourned."""
    length_max: int = 100_000

    @property
    def dead(self) -> str | None:
        return None if self.ttl_s is not None else f"{self.name}.dead"


TABLE: tuple[WorkQueue, ...] = (
    # Evaluations read the market that the worker's own process follows: threads, not children.
    WorkQueue(
        name="strategy",
        pool="threads",
        cap=4,
        swarm_cap=None,
        quorum=False,
        soft_limit_s=10,
        hard_limit_s=15,
        ttl_s=5.0,
        length_max=10_000,
    ),
    WorkQueue(
        name="orders",
        pool="prefork",
        cap=4,
        swarm_cap=8,
        quorum=True,
        delivery_limit=5,
        soft_limit_s=60,
        hard_limit_s=90,
    ),
    WorkQueue(
        name="risk",
        pool="prefork",
        cap=1,
        swarm_cap=2,
        quorum=True,
        delivery_limit=5,
        soft_limit_s=60,
        hard_limit_s=90,
    ),
    WorkQueue(
        name="ops",
        pool="prefork",
        cap=2,
        swarm_cap=None,
        quorum=True,
        delivery_limit=5,
        soft_limit_s=300,
        hard_limit_s=360,
    ),
    # The longest limit stays below the 30 minutes after which RabbitMQ closes the channel of
    # whoever holds a message.
    WorkQueue(
        name="backtest",
        pool="prefork",
        cap=1,
        swarm_cap=None,
        quorum=True,
        delivery_limit=2,
        soft_limit_s=1200,
        hard_limit_s=1260,
    ),
)

BY_NAME: Mapping[str, WorkQueue] = {queue.name: queue for queue in TABLE}
DEFAULT = "ops"


def queue_of(task_name: str) -> WorkQueue | None:
    """The queue a task belongs to by its name, ``workers.<queue>.<verb>``."""
    parts = task_name.split(".")
    return BY_NAME.get(parts[1]) if len(parts) > 2 and parts[0] == "workers" else None


class DeclaredQueue(Queue):
    """Declares where its dead letters go before itself: a letter without a queue is lost."""

    def declare(self, nowait: bool = False, channel: Any = None) -> str:
        row = BY_NAME[self.name]
        if row.dead is not None:
            _dead_letters(row)(channel or self.channel).declare(nowait=nowait)
        return str(super().declare(nowait=nowait, channel=channel))


def declared() -> list[Any]:
    return [_declared(row) for row in TABLE]


def work_exchange(row: WorkQueue) -> Any:
    # The delivery mode is what kombu gives to messages for this queue; the broker's exchange is
    # one and the same for all of them.
    mode = TRANSIENT if row.ttl_s is not None else PERSISTENT
    return Exchange(WORK, type="topic", delivery_mode=mode)


def _declared(row: WorkQueue) -> Any:
    # Without its own key every queue is bound to Celery's default key, and a message published
    # by that key reaches all of them.
    return DeclaredQueue(
        row.name, work_exchange(row), routing_key=row.name, queue_arguments=_arguments(row)
    )


def _arguments(row: WorkQueue) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum" if row.quorum else "classic",
        "x-max-length": row.length_max,
    }
    if row.ttl_s is not None:
        arguments["x-message-ttl"] = int(row.ttl_s * 1000)
        # The oldest goes first: of evaluations only the newest matters.
        return arguments | {"x-overflow": "drop-head"}
    arguments |= {
        # A full queue is an error for the sender, never a message that vanished.
        "x-overflow": "reject-publish",
        "x-delivery-limit": row.delivery_limit,
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-routing-key": row.name,
        "x-dead-letter-strategy": "at-least-once",
    }
    return arguments


# Looking at a dead letter hands it out and takes it back, and each time counts; at the limit the
# broker would requeue it by itself. RabbitMQ 4 has a limit of 20 where none is given, and 3.10
# knows no word for "none".
LOOKS_MAX = 1_000_000_000


def _dead_letters(row: WorkQueue) -> Any:
    """Where letters wait for a person. Rejecting one there sends it back to its queue.

    That way the broker moves it, in one step: whoever asks for it may die at any moment and the
    letter is either still dead or back at work, never both.
    """
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": LOOKS_MAX,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": WORK,
        "x-dead-letter-routing-key": row.name,
        "x-dead-letter-strategy": "at-least-once",
    }
    return Queue(
        row.dead, Exchange(DEAD, type="direct"), routing_key=row.name, queue_arguments=arguments
    )
