"""What a feed says of its role is so just now, not as it was before the broker went."""

from __future__ import annotations

import time
from collections.abc import Sequence

from botswarm.feed.publisher import Publisher
from botswarm.feed.tracker import Tracker
from botswarm.testing.servers import EmbeddedBrokerServer, wait_until


def wall_ms() -> int:
    return int(time.time() * 1000)


def roles(publishers: Sequence[Publisher]) -> list[str]:
    return sorted(each.role for each in publishers)


def test_without_a_broker_neither_feed_says_that_it_leads_or_stands_by() -> None:
    with EmbeddedBrokerServer() as broker:
        two = [
            Publisher(
                broker.url, Tracker("v", wall_ms), on_digest=lambda digest: None, wall_ms=wall_ms
            )
            for _ in range(2)
        ]
        for each in two:
            each.start()
        try:
            wait_until(lambda: roles(two) == ["leads", "stands by"], "one leader", 10)
            broker.kill()
            wait_until(lambda: roles(two) == ["no broker", "no broker"], "the loss to be told", 10)
        finally:
            for each in two:
                each.stop()
