"""The feed's figures for Prometheus: read when they are asked for, so that ticks never wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from botswarm import metrics
from botswarm.errors import Unreachable
from botswarm.feed.bell import Bell
from botswarm.feed.outlet import BUCKETS_MS
from botswarm.feed.publisher import Publisher
from botswarm.feed.state import PoolState
from botswarm.feed.tracker import Tracker

HOST = "127.0.0.1"
SAMPLE_S = 5.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _Pool(Protocol):
    def state(self) -> PoolState: ...


class Metered(Protocol):
    """A venue's feed, as far as it is measured."""

    tracker: Tracker
    publisher: Publisher
    bell: Bell

    @property
    def pool(self) -> _Pool: ...


class Usage:
    """What this process takes of the machine."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()
        self._percent = 0.0
        self._lock = threading.Lock()

    def memory_bytes(self) -> int:
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
        except OSError:
            return 0  # no such file on this system

    def cpu_percent(self) -> float:
        with self._lock:
            now, used = time.monotonic(), time.process_time()
            if now - self._at >= SAMPLE_S:
                self._percent = 100 * (used - self._used) / (now - self._at)
                self._at, self._used = now, used
            return self._percent


class Meters(Collector):
    """Of all venues of one process."""

    def __init__(self) -> None:
        self._feeds: list[Metered] = []
        self._usage = Usage()
        self._server: WSGIServer | None = None

    def add(self, feed: Metered) -> None:
        self._feeds.append(feed)

    def serve(self, port: int, registry: CollectorRegistry = REGISTRY) -> None:
        """On loopback, at /metrics, until ``close``; raises Unreachable where the port is taken."""
        registry.register(self)
        try:
            self._server, _ = start_http_server(port, addr=HOST, registry=registry)
        except OSError as error:
            raise Unreachable(
                f"metrics cannot be served on port {port}: {error}",
                cure="choose another one with BOTSWARM_METRICS_PORT; 0 serves none",
            ) from error

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def describe(self) -> Iterator[Metric]:
        # Nothing is asked of feeds that have not begun.
        yield from ()

    def collect(self) -> Iterator[Metric]:
        yield metrics.gauge(metrics.MEMORY_USAGE_BYTES, [((), self._usage.memory_bytes())])
        yield metrics.gauge(metrics.CPU_USAGE_PERCENT, [((), self._usage.cpu_percent())])
        yield from self._ticks()
        yield from self._connections()

    def _ticks(self) -> Iterator[Metric]:
        published: metrics.Rows = []
        received: metrics.Rows = []
        lost: metrics.Rows = []
        irregular: metrics.Rows = []
        leads: metrics.Rows = []
        latency = _histogram(metrics.EVENT_LATENCY_MS)
        for feed in self._feeds:
            venue, tally = feed.tracker.venue, feed.publisher.tally
            published += [((venue, kind), count) for kind, count in dict(tally.published).items()]
            published.append(((venue, "evaluate"), feed.bell.rings))
            received += [((venue, kind), count) for kind, count in _received(feed)]
            lost += [((venue, reason), count) for reason, count in _lost(feed)]
            irregular += [((venue, kind), count) for kind, count in _irregular(feed)]
            leads.append(((venue,), float(feed.publisher.is_leader)))
            for kind, buckets in dict(tally.waits).items():
                latency.add_metric((venue, kind), _running(buckets), 1000 * tally.seconds[kind])
        yield _counter(metrics.EVENTS_PUBLISHED, published)
        yield _counter(metrics.EVENTS_RECEIVED, received)
        yield _counter(metrics.EVENTS_LOST, lost)
        yield _counter(metrics.EVENTS_IRREGULAR, irregular)
        yield metrics.gauge(metrics.FEED_LEADS, leads)
        yield metrics.gauge(
            metrics.TRADES_WAITING,
            [((feed.tracker.venue,), feed.tracker.waiting_trades) for feed in self._feeds],
        )
        yield latency

    def _connections(self) -> Iterator[Metric]:
        states = [feed.pool.state() for feed in self._feeds]

        def each(read: dict[str, float]) -> metrics.Rows:
            return [((venue,), value) for venue, value in read.items()]

        yield metrics.gauge(
            metrics.EXCHANGE_CONNECTED, each({s.venue: float(s.is_connected) for s in states})
        )
        yield metrics.gauge(
            metrics.CONNECTION_SUCCESS_RATIO, each({s.venue: s.success_share for s in states})
        )
        yield _counter(metrics.CONNECTION_ATTEMPTS, each({s.venue: s.attempts for s in states}))
        yield _counter(metrics.RECONNECTIONS, each({s.venue: s.reconnects for s in states}))
        yield metrics.gauge(
            metrics.MISSED_PINGS,
            each({s.venue: sum(c.pings_missed_in_all for c in s.connections) for s in states}),
        )
        yield metrics.gauge(metrics.EXCHANGE_HEALTH, each({s.venue: s.score for s in states}))
        yield metrics.gauge(
            metrics.CONNECTION_MESSAGES, each({s.venue: s.messages_per_s for s in states})
        )
        yield metrics.gauge(metrics.SUBSCRIPTIONS, each({s.venue: s.subscriptions for s in states}))
        yield metrics.gauge(
            metrics.CONNECTION_HEALTH,
            # Numbered, not named: names are new with every connection, for ever.
            [((s.venue, str(n)), c.score) for s in states for n, c in enumerate(s.connections)],
        )
        yield _counter(
            metrics.FRAMES_REJECTED,
            [((s.venue, reason), count) for s in states for reason, count in s.rejects.items()],
        )
        yield _counter(
            metrics.SECURITY_EVENTS,
            [((s.venue, kind), count) for s in states for kind, count in s.security.items()],
        )


def _received(feed: Metered) -> list[tuple[str, int]]:
    counts = feed.tracker.counts
    return [
        ("trade", counts.trades),
        ("quote", counts.quotes),
        ("candle", counts.candles),
        ("book", counts.books),
        ("status", counts.statuses),
    ]


def _lost(feed: Metered) -> list[tuple[str, int]]:
    """Each of these is a loss, counted once."""
    counts, tally = feed.tracker.counts, feed.publisher.tally
    return [
        ("gone_trade", counts.gone_trades),
        ("conflated_trade", counts.conflated_trades),
        ("conflated_quote", counts.conflated_quotes),
        ("conflated_book", counts.conflated_books),
        ("dropped_candle", counts.dropped_candles),
        ("unsaved_candle", counts.unsaved_candles),
        ("refused_message", tally.refused),
        ("unroutable_digest", tally.unroutable),
        ("unsent_evaluate", feed.bell.failed),
    ]


def _irregular(feed: Metered) -> list[tuple[str, int]]:
    """None of these is a loss; a missed trade is recovered or gone in the end."""
    counts, tally = feed.tracker.counts, feed.publisher.tally
    return [
        ("duplicate", counts.duplicates),
        ("missed_trade", counts.missed_trades),
        ("recovered_trade", counts.recovered_trades),
        ("repeated_message", tally.repeats),
        ("overtaken_evaluate", feed.bell.coalesced),
    ]


def _running(buckets: list[int]) -> list[tuple[str, float]]:
    sums, total = [], 0
    for bound, count in zip((*map(str, BUCKETS_MS), "+Inf"), buckets, strict=True):
        total += count
        sums.append((bound, float(total)))
    return sums


def _histogram(described: metrics.Described) -> HistogramMetricFamily:
    return HistogramMetricFamily(described.name, described.help, labels=described.labels)


def _counter(described: metrics.Described, rows: metrics.Rows) -> Metric:
    family = CounterMetricFamily(described.name, described.help, labels=described.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family
