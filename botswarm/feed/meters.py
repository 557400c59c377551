"""The feed's figures for Prometheus: read when they are asked for, so that ticks never wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from botswarm import metrics
from botswarm.feed.bell import Bell
from botswarm.feed.publisher import Publisher
from botswarm.feed.state import PoolState
from botswarm.feed.tracker import Tracker


class _Pool(Protocol):
    def state(self) -> PoolState: ...


class Metered(Protocol):
    """A venue's feed, as far as it is measured."""

    tracker: Tracker
    publisher: Publisher
    bell: Bell

    @property
    def pool(self) -> _Pool: ...


class Meters:
    """Of all venues of one process."""

    def __init__(self) -> None:
        self._feeds: list[Metered] = []

    def add(self, feed: Metered) -> None:
        self._feeds.append(feed)

    def collect(self) -> Iterator[metrics.Samples]:
        yield from self._ticks()
        yield from self._connections()

    def _ticks(self) -> Iterator[metrics.Samples]:
        published: metrics.Rows = []
        received: metrics.Rows = []
        lost: metrics.Rows = []
        irregular: metrics.Rows = []
        leads: metrics.Rows = []
        latency: list[tuple[tuple[str, ...], metrics.Observed]] = []
        for feed in self._feeds:
            venue, tally = feed.tracker.venue, feed.publisher.tally
            published += [((venue, kind), count) for kind, count in dict(tally.published).items()]
            published.append(((venue, "evaluate"), feed.bell.rings))
            received += [((venue, kind), count) for kind, count in _received(feed)]
            lost += [((venue, reason), count) for reason, count in _lost(feed)]
            irregular += [((venue, kind), count) for kind, count in _irregular(feed)]
            leads.append(((venue,), float(feed.publisher.is_leader)))
            for kind, buckets in dict(tally.waits).items():
                took = metrics.Observed(list(buckets), 1000 * tally.seconds[kind])
                latency.append(((venue, kind), took))
        yield metrics.samples(metrics.EVENTS_PUBLISHED, published)
        yield metrics.samples(metrics.EVENTS_RECEIVED, received)
        yield metrics.samples(metrics.EVENTS_LOST, lost)
        yield metrics.samples(metrics.EVENTS_IRREGULAR, irregular)
        yield metrics.samples(metrics.FEED_LEADS, leads)
        yield metrics.samples(
            metrics.TRADES_WAITING,
            [((feed.tracker.venue,), feed.tracker.waiting_trades) for feed in self._feeds],
        )
        yield metrics.Samples(metrics.EVENT_LATENCY_MS, observed=latency)

    def _connections(self) -> Iterator[metrics.Samples]:
        states = [feed.pool.state() for feed in self._feeds]

        def each(read: dict[str, float]) -> metrics.Rows:
            return [((venue,), value) for venue, value in read.items()]

        yield metrics.samples(
            metrics.EXCHANGE_CONNECTED, each({s.venue: float(s.is_connected) for s in states})
        )
        yield metrics.samples(
            metrics.CONNECTION_SUCCESS_RATIO, each({s.venue: s.success_share for s in states})
        )
        yield metrics.samples(
            metrics.CONNECTION_ATTEMPTS, each({s.venue: s.attempts for s in states})
        )
        yield metrics.samples(metrics.RECONNECTIONS, each({s.venue: s.reconnects for s in states}))
        yield metrics.samples(
            metrics.MISSED_PINGS,
            each({s.venue: sum(c.pings_missed_in_all for c in s.connections) for s in states}),
        )
        yield metrics.samples(metrics.EXCHANGE_HEALTH, each({s.venue: s.score for s in states}))
        yield metrics.samples(
            metrics.CONNECTION_MESSAGES, each({s.venue: s.messages_per_s for s in states})
        )
        yield metrics.samples(
            metrics.SUBSCRIPTIONS, each({s.venue: s.subscriptions for s in states})
        )
        yield metrics.samples(
            metrics.CONNECTION_HEALTH,
            # Numbered, not named: names are new with every connection, for ever.
            [((s.venue, str(n)), c.score) for s in states for n, c in enumerate(s.connections)],
        )
        yield metrics.samples(
            metrics.FRAMES_REJECTED,
            [((s.venue, reason), count) for s in states for reason, count in s.rejects.items()],
        )
        yield metrics.samples(
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
