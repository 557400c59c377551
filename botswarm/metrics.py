"""Every metric, declared once with its help text: what processes count, and what they look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from botswarm.families import Family, Observed, Rows, Samples, names_of
from botswarm.tally import Counter, Histogram

__all__ = ["Family", "Observed", "Rows", "Samples", "names_of"]

MS = (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)

# --- counted as it happens, in every process and its children -------------------------------------

TASKS = Counter(
    "botswarm_tasks_total",
    "Tasks that ended, by how: done, failed, retried or no_slot.",
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
ARCHIVE_FAILURES = Counter(
    "botswarm_archive_failures_total",
    "How often the archive of the ledger had to begin anew, or could not try a copy out.",
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
HTTP_REQUESTS = Counter(
    "botswarm_http_requests_total", "Pages that were asked for, by code.", ("page", "code")
)
HTTP_SECONDS = Histogram(
    "botswarm_http_request_seconds",
    "How long it took to make a page.",
    ("page",),
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
SWARM_LOOKS = Counter(
    "botswarm_swarm_looks_total",
    "How often the ledger and the broker were read for the metrics of the swarm, by outcome.",
    ("source", "outcome"),
)
LEDGER_SLOW_STATEMENTS = Counter(
    "botswarm_ledger_slow_statements_total",
    "Statements of the ledger that took longer than BOTSWARM_LEDGER_SLOW_MS: select, insert, "
    "update, delete, commit, other.",
    ("kind",),
)

# --- read out of the ledger by the one process that exports the swarm's: counted from its start ---

ORDERS = Counter(
    "botswarm_orders_total",
    "Orders that came to a state, by account: approved, refused, live, filled, rejected, …",
    ("venue", "account", "state"),
)
ORDER_STAGE_SECONDS = Histogram(
    "botswarm_order_stage_seconds",
    "The way of an order, stage by stage: decided to approved, approved to sent, sent to accepted, "
    "sent to filled; total is from decided to accepted by the venue.",
    ("stage",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
FILLS = Counter("botswarm_fills_total", "Fills that were booked.", ("venue", "account", "side"))
FILLED_VALUE = Counter(
    "botswarm_filled_value_total",
    "Worth of the fills that were booked, in the market's quote asset.",
    ("venue", "account", "quote"),
)
SLIPPAGE = Histogram(
    "botswarm_order_slippage_bps",
    "How much worse than the price that was decided on a fill was, in hundredths of a percent; "
    "what was better is below zero.",
    ("venue",),
    buckets=(-50, -20, -10, -5, -1, 0, 1, 5, 10, 20, 50, 100, 200),
)
RISK_EVENTS = Counter(
    "botswarm_risk_events_total", "Warnings and breaches of limits.", ("kind", "severity")
)
LEDGER_ENTRIES = Counter("botswarm_ledger_entries_total", "Entries of the journal that were made.")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric whose value is asked for when somebody looks, at no cost before."""

    name: str
    help: str
    label_names: tuple[str, ...] = ()
    kind: Literal["gauge", "counter", "histogram"] = "gauge"
    buckets: tuple[float, ...] = ()


def samples(described: Family, rows: Rows) -> Samples:
    return Samples(described, rows)


# --- of every process -----------------------------------------------------------------------------

BUILD_INFO = Described(
    "botswarm_build_info", "1, with what this process is.", ("process", "role", "version")
)
UPTIME_SECONDS = Described("botswarm_uptime_seconds", "Since this process was started.")
MEMORY_USAGE_BYTES = Described(
    "botswarm_memory_usage_bytes",
    "Resident memory, that of forked children included; what they share is counted once.",
)
CPU_USAGE_PERCENT = Described(
    "botswarm_cpu_usage_percent",
    "Of one core, over the last five seconds or more, forked children included.",
)
THREADS = Described("botswarm_threads", "Threads of this process, without its children.")
WATCHING_CPU_SECONDS = Described(
    "botswarm_watching_cpu_seconds",
    "Processor time of this process's threads that check, read figures and answer who asks.",
    kind="counter",
)
OPEN_FILES = Described("botswarm_open_files", "Files and sockets this process has open.")
CHILDREN = Described("botswarm_children", "Processes that this one forked and that live.")
HEALTH_CHECK = Described(
    "botswarm_health_check", "0 where a check is well, 1 where it warns, 2 where it fails.",
    ("check",),
)  # fmt: skip
HEALTH_VALUE = Described(
    "botswarm_health_value", "What a check judged, in its own unit.", ("check", "unit")
)
ROUND_TRIP_MS = Described(
    "botswarm_round_trip_ms",
    "Shortest of the last five answers that a server, or its machine, gave to a check.",
    ("peer",),
)
WORK_AGE_SECONDS = Described(
    "botswarm_work_age_seconds", "Since this process last got on with its work."
)
COUNTS_LEFT_OUT = Described(
    "botswarm_counts_left_out", "Counts for which a process had no room left.", kind="counter"
)
WORKER_RUNNING = Described(
    "botswarm_worker_running", "Tasks that run in this worker now.", ("queue",)
)
WORKER_CAP = Described(
    "botswarm_worker_cap", "How many tasks of the queue this worker runs at once at most.",
    ("queue",),
)  # fmt: skip
BEAT_LEADS = Described("botswarm_beat_leads", "1 where this beat leads, 0 where it stands by.")

# --- of this machine, from one process of it ------------------------------------------------------

HOST_CPU_PERCENT = Described("botswarm_host_cpu_percent", "Of all cores together.")
HOST_LOAD = Described("botswarm_host_load", "Processes that wanted to run, by minutes.", ("over",))
HOST_MEMORY_BYTES = Described(
    "botswarm_host_memory_bytes", "Of the machine or container: total, used, available.", ("state",)
)
HOST_DISK_BYTES = Described(
    "botswarm_host_disk_bytes", "Of the disk with the state folder: total, used, free.", ("state",)
)
HOST_DISK_USED_RATIO = Described(
    "botswarm_host_disk_used_ratio", "Of the disk with the state folder, 0 to 1, as df counts."
)
HOST_DISK_OPERATIONS = Described(
    "botswarm_host_disk_operations_total", "Reads and writes of all disks.", ("direction",),
    "counter",
)  # fmt: skip
HOST_DISK_MOVED_BYTES = Described(
    "botswarm_host_disk_moved_bytes_total", "Read from and written to all disks.", ("direction",),
    "counter",
)  # fmt: skip
HOST_NETWORK_BYTES = Described(
    "botswarm_host_network_bytes_total", "Sent and received, loopback left out.", ("direction",),
    "counter",
)  # fmt: skip

# --- of the swarm, from the one process that exports it -------------------------------------------

EXPORTS_SWARM = Described(
    "botswarm_exports_swarm", "1 where this process exports what is of the whole swarm."
)
QUEUE_MESSAGES = Described(
    "botswarm_queue_messages", "Messages of a queue: waiting, or running in a worker.",
    ("queue", "state"),
)  # fmt: skip
QUEUE_OLDEST_SECONDS = Described(
    "botswarm_queue_oldest_seconds",
    "How old the oldest message that waits is, at most; 0 where none waits.",
    ("queue",),
)
QUEUE_CONSUMERS = Described("botswarm_queue_consumers", "Workers that take from it.", ("queue",))
QUEUE_DEAD_LETTERS = Described(
    "botswarm_queue_dead_letters", "Messages that failed and wait for a person.", ("queue",)
)
QUEUE_PUBLISHED = Described(
    "botswarm_queue_published_total", "Messages that came into a queue, where the broker's "
    "management says it.", ("queue",), "counter",
)  # fmt: skip
QUEUE_DONE = Described(
    "botswarm_queue_done_total", "Messages that were acknowledged, where the broker's management "
    "says it.", ("queue",), "counter",
)  # fmt: skip
QUEUE_CAP = Described(
    "botswarm_queue_cap", "How many tasks of the queue all workers together may run; none: absent.",
    ("queue",),
)  # fmt: skip
QUEUE_SLOTS_USED = Described(
    "botswarm_queue_slots_used", "How many of these are held now.", ("queue",)
)
BROKER_CONNECTIONS = Described("botswarm_broker_connections", "Connections to the broker.")
BROKER_MEMORY_BYTES = Described(
    "botswarm_broker_memory_bytes", "What the broker's messages or process take."
)
BROKER_BLOCKED = Described(
    "botswarm_broker_blocked", "1 while the broker takes no messages: its memory or disk is short."
)
DATABASE_CONNECTIONS = Described(
    "botswarm_database_connections", "Connections to the ledger's PostgreSQL.", ("state",)
)
DATABASE_CONNECTIONS_MAX = Described(
    "botswarm_database_connections_max", "How many the ledger's PostgreSQL takes."
)
LEDGER_BYTES = Described("botswarm_ledger_bytes", "How big the ledger is.")
LEDGER_SLOW_QUERIES = Described(
    "botswarm_ledger_slow_queries", "Questions that PostgreSQL is about for over a second."
)
REDIS_LOOKUPS = Described(
    "botswarm_redis_lookups_total", "Lookups in Redis: hit or miss.", ("result",), "counter"
)
REDIS_MEMORY_BYTES = Described("botswarm_redis_memory_bytes", "What Redis holds.")
REDIS_CLIENTS = Described("botswarm_redis_clients", "Clients of Redis: connected, max.", ("state",))
BOTS = Described("botswarm_bots", "Bots, by state.", ("state",))
EVALUATIONS = Described(
    "botswarm_evaluations_total", "Passes over the bots of a market.", ("venue",), "counter"
)
EVALUATION_MS = Described(
    "botswarm_evaluation_slowest_ms", "The slowest pass over a market's bots, lately.", ("venue",)
)
EVALUATION_AGE_SECONDS = Described(
    "botswarm_evaluation_age_seconds", "Since a market's bots were last looked after.", ("venue",)
)
ORDERS_OPEN = Described(
    "botswarm_orders_open", "Orders that may be live or are not all booked, by state.",
    ("venue", "account", "state"),
)  # fmt: skip
ORDERS_DOUBTFUL_SECONDS = Described(
    "botswarm_orders_doubtful_seconds", "How long the oldest unknown order has been in doubt."
)
DOORBELLS_WAITING = Described(
    "botswarm_doorbells_waiting", "Committed work that nobody has told the broker of."
)
DOORBELLS_OLDEST_SECONDS = Described(
    "botswarm_doorbells_oldest_seconds", "How long the oldest of it has been waiting."
)
POSITIONS = Described(
    "botswarm_positions", "Positions of bots that are not flat.", ("venue", "account")
)
PNL_REALISED = Described(
    "botswarm_pnl_realised", "Won or lost by the bots for good, since ever.",
    ("venue", "account", "quote"),
)  # fmt: skip
PNL_TODAY = Described(
    "botswarm_pnl_today", "Realised since midnight UTC.", ("venue", "account", "quote")
)
PNL_UNREALISED = Described(
    "botswarm_pnl_unrealised", "Of the positions held, at the last prices.",
    ("venue", "account", "quote"),
)  # fmt: skip
EQUITY = Described("botswarm_equity", "All that an account has.", ("venue", "account", "quote"))
EXPOSURE = Described(
    "botswarm_exposure", "Worth of an account's positions: gross, net.",
    ("venue", "account", "quote", "side"),
)  # fmt: skip
DRAWDOWN_RATIO = Described(
    "botswarm_drawdown_ratio", "How far an account is below its highest, 0 to 1.",
    ("venue", "account", "quote"),
)  # fmt: skip
STANDING_AGE_SECONDS = Described(
    "botswarm_standing_age_seconds", "Since a sweep last reckoned what stands at risk."
)
TRADING_STATE = Described(
    "botswarm_trading_state", "1 for the state that holds for the swarm: active, reducing, halted.",
    ("state",),
)  # fmt: skip
TRADING_HELD = Described(
    "botswarm_trading_held", "Scopes besides the swarm that are not active.", ("kind", "state")
)
RISK_FINDINGS = Described(
    "botswarm_risk_findings", "What sweeps find wrong now.", ("kind", "severity")
)
ACCOUNT_AGREES = Described(
    "botswarm_account_agrees", "1 where ledger and venue agreed when they were compared last.",
    ("venue", "account"),
)  # fmt: skip
ACCOUNT_COMPARED_SECONDS = Described(
    "botswarm_account_compared_seconds", "Since an account was last compared with its venue.",
    ("venue", "account"),
)  # fmt: skip
PROCESSES = Described(
    "botswarm_processes", "Processes that were heard of lately, on every machine.", ("role",)
)
SWARM_UP_RATIO = Described(
    "botswarm_swarm_up_ratio",
    "Share of the last 1d, 7d and 30d in which the swarm was up, once a day of it is known.",
    ("window",),
)
BACKUP_AGE_SECONDS = Described(
    "botswarm_backup_age_seconds", "Age of the newest backup that was brought back to the side."
)
BACKUP_BYTES = Described("botswarm_backup_bytes", "How big the newest good backup is.")
BACKUP_TOOK_SECONDS = Described(
    "botswarm_backup_took_seconds", "How long the newest good one took."
)
BACKUPS = Described("botswarm_backups", "Backups there are, by state.", ("state",))
ARCHIVE_AGE_SECONDS = Described(
    "botswarm_archive_age_seconds", "How much would be lost now, where the ledger is archived."
)
DRILL_AGE_SECONDS = Described("botswarm_drill_age_seconds", "Since the last restore drill.")
DRILL_GOOD = Described("botswarm_drill_good", "1 where the last restore drill went well.")
DRILL_RTO_SECONDS = Described(
    "botswarm_drill_rto_seconds", "How long the last drill took to have the ledger back."
)
DRILL_RPO_SECONDS = Described(
    "botswarm_drill_rpo_seconds", "How much of the ledger the last drill would have lost."
)
SCHEDULE_RUNS = Described(
    "botswarm_schedule_runs_total", "Runs of an entry of the schedule that ended.", ("entry",),
    "counter",
)  # fmt: skip
SCHEDULE_FAILURES = Described(
    "botswarm_schedule_failures_total", "Those of them that failed.", ("entry",), "counter"
)
SCHEDULE_AGE_SECONDS = Described(
    "botswarm_schedule_age_seconds", "Since an entry of the schedule was last sent.", ("entry",)
)
SCHEDULE_MISSED = Described(
    "botswarm_schedule_missed", "Slots of an entry that nobody sent, of the last day.", ("entry",)
)
ALERTS_FIRING = Described("botswarm_alerts_firing", "Alerts that fire now.", ("severity",))
NOTICES_WAITING = Described(
    "botswarm_notices_waiting", "What a channel is to be told and was not yet.", ("channel",)
)

# --- of the feed ----------------------------------------------------------------------------------

EVENTS_PUBLISHED = Described(
    "botswarm_events_published",
    "Messages the feed sent to the ticks exchange, by type: trade, quote, candle, …, digest.",
    ("exchange", "type"),
    kind="counter",
)
EVENTS_RECEIVED = Described(
    "botswarm_events_received",
    "Ticks that came from the venue and are none of the repetitions, by type.",
    ("exchange", "type"),
    kind="counter",
)
EVENT_LATENCY_MS = Described(
    "botswarm_event_latency_ms",
    "From the socket of the venue to the broker's confirm, by type of message.",
    ("exchange", "type"),
    kind="histogram",
    buckets=MS,
)
EVENTS_LOST = Described(
    "botswarm_events_lost",
    "Ticks and messages that did not get through, by how: see docs/ticks.md.",
    ("exchange", "reason"),
    kind="counter",
)
EVENTS_IRREGULAR = Described(
    "botswarm_events_irregular",
    "Ticks and messages that came twice, late or again, and are no loss: see docs/ticks.md.",
    ("exchange", "kind"),
    kind="counter",
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
CONNECTION_SUCCESS_RATIO = Described(
    "botswarm_connection_success_ratio", "Attempts to connect that succeeded.", ("exchange",)
)
CONNECTION_ATTEMPTS = Described(
    "botswarm_connection_attempts",
    "Attempts to connect to the venue.",
    ("exchange",),
    kind="counter",
)
RECONNECTIONS = Described(
    "botswarm_reconnections",
    "Connections that ended and were made anew.",
    ("exchange",),
    kind="counter",
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
    "botswarm_frames_rejected",
    "Frames that were left out, by reason.",
    ("exchange", "reason"),
    kind="counter",
)
SECURITY_EVENTS = Described(
    "botswarm_security_events",
    "What could be somebody's attack on the feed, by kind.",
    ("exchange", "kind"),
    kind="counter",
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

METRICS: Mapping[str, Family] = {
    found.name: found
    for found in list(vars().values())
    if isinstance(found, Counter | Histogram | Described)
}
"""All of them, by name, in the order they are declared in."""
COUNTED = [found for found in METRICS.values() if isinstance(found, Counter | Histogram)]
"""Those that processes count as it happens."""
NAMES: Mapping[str, Family] = {
    exposed: found for found in METRICS.values() for exposed in names_of(found)
}
"""Under which Prometheus knows them."""
