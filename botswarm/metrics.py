"""Every Prometheus metric, declared once with its help text."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

TASKS = Counter(
    "botswarm_tasks_total",
    "Tasks that ended in this process, by how: done, failed, retried or no_slot.",
    ("task", "outcome"),
)
TASK_SECONDS = Histogram(
    "botswarm_task_seconds",
    "How long a task ran, without its wait for a slot.",
    ("task",),
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600),
)
SLOT_WAIT_SECONDS = Histogram(
    "botswarm_slot_wait_seconds",
    "How long a task waited for one of its queue's slots in the swarm.",
    ("queue",),
    buckets=(0.001, 0.01, 0.1, 1, 10, 30),
)
RECONCILIATIONS = Counter(
    "botswarm_reconciliations_total",
    "Comparisons of an account with its venue, by outcome: agrees, differs, moving or unreachable.",
    ("venue", "account", "outcome"),
)
BEAT_SENT = Counter("botswarm_beat_sent_total", "Periodic tasks this beat sent.", ("entry",))
BEAT_MISSED = Counter(
    "botswarm_beat_missed_total",
    "Slots of the schedule that nobody sent, counted by the beat that noticed.",
    ("entry",),
)
CLOCK_JUMPS = Counter(
    "botswarm_clock_jumps_total", "Jumps of this machine's clock that the leading beat saw."
)


class Described(NamedTuple):
    """A metric whose value is asked for when somebody looks, at no cost before."""

    name: str
    help: str
    labels: tuple[str, ...]


Rows = list[tuple[tuple[str, ...], float]]
"""Values by their labels."""


def gauge(described: Described, rows: Rows) -> Metric:
    family = GaugeMetricFamily(described.name, described.help, labels=described.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


EVENTS_PUBLISHED = Described(
    "botswarm_events_published",
    "Messages the feed sent to the ticks exchange, by type: trade, quote, candle, …, digest.",
    ("exchange", "type"),
)
EVENTS_RECEIVED = Described(
    "botswarm_events_received",
    "Ticks that came from the venue and are none of the repetitions, by type.",
    ("exchange", "type"),
)
EVENT_LATENCY_MS = Described(
    "botswarm_event_latency_ms",
    "From the socket of the venue to the broker's confirm, by type of message.",
    ("exchange", "type"),
)
EVENTS_LOST = Described(
    "botswarm_events_lost",
    "Ticks and messages that did not get through, by how: see docs/ticks.md.",
    ("exchange", "reason"),
)
EVENTS_IRREGULAR = Described(
    "botswarm_events_irregular",
    "Ticks and messages that came twice, late or again, and are no loss: see docs/ticks.md.",
    ("exchange", "kind"),
)
TRADES_WAITING = Described(
    "botswarm_trades_waiting", "Trades that the broker has not been given yet.", ("exchange",)
)
FEED_LEADS = Described(
    "botswarm_feed_leads", "1 where this feed publishes, 0 where it stands by.", ("exchange",)
)
EXCHANGE_CONNECTED = Described(
    "botswarm_exchange_connected",
    "1 while at least one connection to the venue is up.",
    ("exchange",),
)
MEMORY_USAGE_BYTES = Described("botswarm_memory_usage_bytes", "Resident memory.", ())
CPU_USAGE_PERCENT = Described(
    "botswarm_cpu_usage_percent", "Of one core, over the last five seconds or more.", ()
)
CONNECTION_SUCCESS_RATIO = Described(
    "botswarm_connection_success_ratio", "Attempts to connect that succeeded.", ("exchange",)
)
CONNECTION_ATTEMPTS = Described(
    "botswarm_connection_attempts", "Attempts to connect to the venue.", ("exchange",)
)
RECONNECTIONS = Described(
    "botswarm_reconnections", "Connections that ended and were made anew.", ("exchange",)
)
MISSED_PINGS = Described(
    "botswarm_missed_pings", "Pings of the connections that are open that got no pong in time.",
    ("exchange",),
)  # fmt: skip
CONNECTION_HEALTH = Described(
    "botswarm_connection_health", "0 to 1, of each connection that is open.",
    ("exchange", "connection"),
)  # fmt: skip
EXCHANGE_HEALTH = Described(
    "botswarm_exchange_health", "0 to 1, of all connections together.", ("exchange",)
)
CONNECTION_MESSAGES = Described(
    "botswarm_connection_messages_per_second", "Frames a second.", ("exchange",)
)
SUBSCRIPTIONS = Described(
    "botswarm_subscriptions", "Streams that the venue serves us now.", ("exchange",)
)
FRAMES_REJECTED = Described(
    "botswarm_frames_rejected", "Frames that were left out, by reason.", ("exchange", "reason")
)
SECURITY_EVENTS = Described(
    "botswarm_security_events",
    "What could be somebody's attack on the feed, by kind.",
    ("exchange", "kind"),
)
LIMIT_USED_RATIO = Described(
    "botswarm_rate_limit_used_ratio",
    "How much of a venue's limit all processes of this machine have used, 0 to 1.",
    ("server", "limit"),
)
BAN_SECONDS = Described(
    "botswarm_rate_limit_ban_seconds", "How long the venue wants to hear nothing.", ("server",)
)
CLOCK_OFFSET_SECONDS = Described(
    "botswarm_clock_offset_seconds",
    "How far the venue's clock was from ours when it was measured last.",
    ("server",),
)
