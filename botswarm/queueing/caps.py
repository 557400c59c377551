"""How many tasks of a queue run at once in one worker: the pool's size and a window per queue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from amqp.exceptions import PreconditionFailed
from celery.app.amqp import AMQP, Queues
from kombu import Consumer  # type: ignore[attr-defined]  # exported lazily

from botswarm.queueing.safety import StartRefused
from botswarm.queueing.table import BY_NAME

logger = logging.getLogger(__name__)


class CappedConsumer(Consumer):
    """Gives each queue a window of its own, enforced by the broker.

    A prefetch that is not global holds for every *later* consumer of the channel separately.
    Tasks are acknowledged when they end, so what is unacknowledged is what runs.
    """

    caps: Mapping[str, int] = {}

    def _basic_consume(self, queue: Any, *args: Any, **kwargs: Any) -> Any:
        if cap := self.caps.get(queue.name):
            channel: Any = self.channel
            channel.basic_qos(0, cap, False)
        return super()._basic_consume(queue, *args, **kwargs)


class KnownQueues(Queues):  # type: ignore[misc]
    """Names the queues there are where one is asked for that is not."""

    def select(self, include: Any) -> None:
        self._refuse_unknown(include)
        super().select(include)

    def deselect(self, exclude: Any) -> None:
        self._refuse_unknown(exclude)
        super().deselect(exclude)

    def _refuse_unknown(self, names: Any) -> None:
        wanted = [names] if isinstance(names, str) else list(names or ())
        unknown = [name for name in wanted if name not in self]
        if unknown:
            raise StartRefused(
                f"there is no queue {', '.join(map(repr, unknown))}; "
                f"the queues are: {', '.join(sorted(self))}"
            )


class CappedAMQP(AMQP):  # type: ignore[misc]
    queues_cls = KnownQueues

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.Consumer = type("CappedConsumer", (CappedConsumer,), {"caps": app.caps})

    def TaskConsumer(self, channel: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        """Called at each connect: first make sure that every queue exists, not only one's own.

        Delays are set up for all of them, and a sender should find a place for what it sends.
        """
        self.declare_all(channel)
        return super().TaskConsumer(channel, *args, **kwargs)

    def declare_all(self, connection: Any) -> None:
        with connection.channel() as channel:
            for queue in self.queues.values():
                try:
                    queue(channel).declare()
                except PreconditionFailed as error:
                    raise StartRefused(
                        f"the broker has the queue {queue.name} with other properties "
                        f"({error.reply_text}); let it run empty, delete it, and start again"
                    ) from error


def pool_for(queues: Iterable[str]) -> str:
    pools = {BY_NAME[name].pool for name in queues}
    if len(pools) == 1:
        return pools.pop()
    logger.warning(
        "these queues want different pools; all get prefork, the only one that enforces time "
        "limits; give strategy a worker of its own for its threads"
    )
    return "prefork"
