"""Dead letters: how many there are, and back to work with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amqp.exceptions import NotFound as QueueMissing
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.errors import NotFound
from botswarm.queueing.table import BY_NAME, TABLE, WorkQueue, declared


def row_of(name: str) -> WorkQueue:
    """The queue meant by its own name or by that of its dead letters."""
    row = BY_NAME.get(name.removesuffix(".dead"))
    if row is None or row.dead is None:
        with_dead = [each.name for each in TABLE if each.dead is not None]
        raise NotFound(
            f"{name!r} is not a queue with dead letters",
            cure=f"those are: {', '.join(with_dead)}",
        )
    return row


def count(channel: Any, name: str) -> int:
    """How many wait; 0 where the queue was never made. The channel is used up by that."""
    try:
        return int(channel.queue_declare(name, passive=True).message_count)
    except QueueMissing:
        return 0


def requeue(url: str, row: WorkQueue, limit: int | None) -> Mapping[str, int]:
    """Send what is dead back to its queue, oldest first, each exactly once.

    Each letter is rejected, and the dead queue's own dead-letter target is the work queue: the
    broker moves it in one step of its own. Whatever becomes of this process, a letter it touched
    is either dead still or at work. Letters that die again meanwhile are not taken twice.
    """
    assert row.dead is not None
    queue = next(each for each in declared() if each.name == row.name)
    with Connection(url) as connection:
        channel: Any = connection.channel()
        # With other properties on the dead queue a rejection would throw its letters away; the
        # broker refuses this declaration then.
        queue(channel).declare()
        waiting = int(channel.queue_declare(row.dead, passive=True).message_count)
        wanted = waiting if limit is None else min(limit, waiting)
        moved = 0
        while moved < wanted:
            message = channel.basic_get(row.dead, no_ack=False)
            if message is None:
                break
            channel.basic_reject(message.delivery_tag, requeue=False)
            moved += 1
        # The broker answers in order: with this answer it has done all of the above.
        left = int(channel.queue_declare(row.dead, passive=True).message_count)
    return {"requeued": moved, "left": left}
