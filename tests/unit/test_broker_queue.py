"""A queue bounds what it does in one turn, however much there is to do."""

from __future__ import annotations

import asyncio
import itertools
import struct
from pathlib import Path

from botswarm.broker.hub import Hub
from botswarm.broker.journal import Journal
from botswarm.broker.queues import EXPIRY_BATCH, Message, Queue, QueueTraits
from botswarm.broker.vhost import VHost

HEAD = struct.pack(">HHQH", 60, 0, 1, 0)
TOTAL = 3 * EXPIRY_BATCH + 7


async def let_a_backlog_grow_old(folder: Path) -> tuple[int, int, int]:
    """Messages that wait to be buried at most; then what became of them."""
    journal = Journal(folder, lambda: b"[]", fsync=False)
    journal.open(lambda _kind, _payload: None)
    journal.start()
    hub = Hub(journal, fsync="never", memory_high_bytes=1 << 30)
    numbers = itertools.count(1)
    vhost = VHost(hub, "/", lambda: next(numbers))
    dead = vhost.declare_queue(
        "dead", b"", durable=False, exclusive=False, auto_delete=False, by=None
    )
    most = 0

    def dead_letter(queue: Queue, message: Message, reason: str) -> None:
        nonlocal most
        vhost.dead_letter(queue, message, reason)
        most = max(most, len(hub.to_bury))

    aging = Queue(
        hub,
        next(numbers),
        "aging",
        QueueTraits(ttl_ms=400, dead_letter_exchange="", dead_letter_routing_key="dead"),
        durable=False,
        auto_delete=False,
        owner=None,
        raw_arguments=b"",
        dead_letter=dead_letter,
        remove=vhost.remove_queue,
    )
    vhost.add_queue(aging)
    for _ in range(TOTAL):
        vhost.publish(b"\0\5aging", HEAD, b"x", "nobody")
    # They grow old while nobody has a turn: as after a long stop of the broker.
    until = hub.loop.time() + 0.5
    while hub.loop.time() < until:
        pass
    async with asyncio.timeout(20):
        while dead.ready_count < TOTAL:
            await asyncio.sleep(0.01)
    journal.close()
    return most, aging.ready_count, dead.ready_count


def test_a_backlog_that_grew_old_together_is_buried_in_turns(tmp_path: Path) -> None:
    most, left, buried = asyncio.run(let_a_backlog_grow_old(tmp_path))
    assert (left, buried) == (0, TOTAL)
    assert most <= EXPIRY_BATCH
