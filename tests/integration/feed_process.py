"""``botswarm run feed`` as a process of its own, and a reader of what it publishes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kombu import Connection  # type: ignore[attr-defined]  # exported lazily

from botswarm.domain.market import Candle, Quote, Trade
from botswarm.market.wire import EXCHANGE, Batch, Digest, decode
from botswarm.testing.servers import Server


class FeedProcess(Server):
    name = "feed"

    def __init__(
        self,
        state_dir: Path,
        broker_url: str,
        *,
        database_url: str = "",
        redis_url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._state_dir = state_dir
        self._settings = {"BOTSWARM_BROKER_URL": broker_url, "BOTSWARM_LOG_FORMAT": "json"}
        if database_url:
            self._settings["DATABASE_URL"] = database_url
        if redis_url:
            self._settings["REDIS_URL"] = redis_url
        self._settings |= settings or {}

    def said(self, words: str) -> bool:
        return self.log.exists() and words in self.log.read_text()

    def _launch(self) -> None:
        self.log.unlink(missing_ok=True)
        plain = {name: value for name, value in os.environ.items() if "BOTSWARM" not in name}
        self._run(
            [sys.executable, "-m", "botswarm", "run", "feed", "--state-dir", self._state_dir],
            environment=plain | self._settings,
        )

    def _is_ready(self) -> bool:
        return self.said("following") and (self.said("leading") or self.said("standing by"))


class Reader:
    """A queue of one's own on the ticks exchange, as anybody may have one."""

    def __init__(self, url: str, key: str = "#", *, name: str = "") -> None:
        """With a name the queue outlives its broker, and the next reader of that name goes on."""
        make: Any = Connection  # kombu's types are not all there
        self._connection = make(url)
        self._connection.connect()
        channel = self._connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        queue = channel.queue_declare(
            name, exclusive=not name, durable=bool(name), auto_delete=False
        ).queue
        channel.queue_bind(queue, EXCHANGE, key)
        channel.basic_consume(queue, no_ack=True, callback=self._take)
        self.digests: list[Digest] = []
        self.trades: dict[str, dict[int, Trade]] = {}
        self.quotes: list[Quote] = []
        self.candles: list[Candle] = []
        self.batches: list[Batch] = []
        self.keys: set[str] = set()
        self.repeated = 0

    def close(self) -> None:
        # Its broker may have been killed.
        with contextlib.suppress(OSError):
            self._connection.collect()

    def read_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            try:
                self._connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue
        return True

    def _take(self, message: Any) -> None:
        self.keys.add(message.delivery_info["routing_key"])
        found = decode(message.body)
        if isinstance(found, Digest):
            self.digests.append(found)
            return
        self.batches.append(found)
        for tick in found.ticks:
            if isinstance(tick, Trade):
                known = self.trades.setdefault(tick.symbol, {})
                self.repeated += tick.trade_id in known
                known[tick.trade_id] = tick
            elif isinstance(tick, Quote):
                self.quotes.append(tick)
            elif isinstance(tick, Candle):
                self.candles.append(tick)
