"""Counts, by their numbers, the trades that lie in a queue of the ticks exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.market.wire import EXCHANGE

QUEUE = "bench.feed"
WINDOW = 1000


class _Trade(msgspec.Struct):
    trade_id: int


class _Batch(msgspec.Struct):
    kind: str
    symbol: str = ""
    missing: int = 0
    ticks: list[_Trade] = []


class _Kind(msgspec.Struct):
    kind: str


_batch = msgspec.json.Decoder(_Batch)
_kind = msgspec.json.Decoder(_Kind)


class TickQueue:
    """Bound to everything from now on; nothing reads it while the feed is measured."""

    def __init__(self, url: str) -> None:
        self._connection = connected(url)
        self._channel = self._connection.channel()
        self._channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        self._channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        self._channel.queue_bind(QUEUE, EXCHANGE, "#")

    def depth(self) -> int:
        found: int = self._channel.queue_declare(QUEUE, passive=True).message_count
        return found

    def count(self, first_id: int, last_ids: Mapping[str, int]) -> dict[str, int]:
        """Read all of it: how many trades there are, twice, never, or told as missing."""
        seen = {name: bytearray(last - first_id + 1) for name, last in last_ids.items()}
        totals = {"messages": 0, "trades": 0, "twice": 0, "told_missing": 0}
        left = self.depth()

        def take(message: Any) -> None:
            nonlocal left
            left -= 1
            totals["messages"] += 1
            body = message.body.encode() if isinstance(message.body, str) else message.body
            if _kind.decode(body).kind != "trade":
                return
            batch = _batch.decode(body)
            totals["told_missing"] += batch.missing
            ids = seen[batch.symbol.replace("-", "")]
            for trade in batch.ticks:
                at = trade.trade_id - first_id
                totals["twice"] += ids[at]
                ids[at] = 1
                totals["trades"] += 1

        self._channel.basic_qos(0, WINDOW, False)
        self._channel.basic_consume(QUEUE, no_ack=True, callback=take)
        while left > 0:
            self._connection.drain_events(timeout=30)
        never = sum(ids.count(0) for ids in seen.values())
        return totals | {"lost": never - totals["told_missing"], "never": never}

    def close(self) -> None:
        self._connection.collect()


def connected(url: str) -> Any:
    """The client library's own connection."""
    make: Any = Connection
    connection = make(url)
    connection.connect()
    return connection.connection
