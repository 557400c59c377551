"""The swarm's figures, from the one process that exports them: queues, bots, orders, money."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from botswarm import metrics
from botswarm.clock import Clock
from botswarm.config import Settings
from botswarm.config.table import QUEUES
from botswarm.errors import BotswarmError
from botswarm.health.facts import Facts, asked
from botswarm.health.queues import Queues
from botswarm.health.servers import Redis
from botswarm.health.tail import Tail, quote_of
from botswarm.ledger import plain
from botswarm.ledger.plain import Ask, moment
from botswarm.metrics import Described, Rows, Samples

logger = logging.getLogger(__name__)

SLOW_EVERY_S = 15.0
"""What means to look at every position, or at the server itself, is looked at this often."""
SEEN_WITHIN = timedelta(seconds=30)
ACCOUNT_SCOPE = "account:"


class Slots(Protocol):
    """What one process of the swarm holds at a time, and its death gives back."""

    def take(self, queue: str, cap: int) -> object | None: ...
    def used(self, queue: str, cap: int) -> int: ...


class Exporter:
    def __init__(
        self,
        settings: Settings,
        queues: Queues,
        slots: Slots,
        swarm_caps: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self._settings, self._queues, self._slots = settings, queues, slots
        self._clock = clock
        self._caps = {name: cap for name, cap in swarm_caps.items() if name in QUEUES}
        self._tail = Tail()
        self._slow: list[Samples] = []
        self._slow_at: float | None = None
        self._redis = None if settings.redis_url is None else Redis(settings.redis_url)

    def look(self) -> None:
        """What is counted row by row, and now and then the rest."""
        now = self._clock.monotonic()
        is_due = self._slow_at is None or now - self._slow_at >= SLOW_EVERY_S
        try:
            asked(self._settings.database_url, self._tail.look)()
            if is_due:
                self._slow_at = now
                self._slow = self._looked_at()
        except BotswarmError as error:
            self._slow = []
            logger.debug("the swarm's figures cannot be read: %s", error)

    def _looked_at(self) -> list[Samples]:
        found = asked(self._settings.database_url, self._questions)
        if not plain.is_sqlite(self._settings.database_url):
            found += asked(self._settings.database_url, _server)
        elif (path := _file(self._settings.database_url.reveal())) is not None:
            found.append(Samples(metrics.LEDGER_BYTES, [((), _size(path))]))
        if self._redis is not None:
            found += self._of_redis(self._redis)
        used: Rows = [
            ((queue,), float(self._slots.used(queue, cap))) for queue, cap in self._caps.items()
        ]
        return [*found, Samples(metrics.QUEUE_SLOTS_USED, used)]

    def _questions(self, ask: Ask) -> list[Samples]:
        now = self._clock.now()
        return [*_bots(ask, now), *_orders(ask), *_money(ask, now), *_watching(ask, now)]

    def _of_redis(self, redis: Redis) -> list[Samples]:
        try:
            told = redis.info()
        except BotswarmError:
            return []  # the check says so
        lookups = [((word,), float(told.get(f"keyspace_{word}s", 0))) for word in ("hit", "misse")]
        rows: Rows = [((name.rstrip("e"),), value) for (name,), value in lookups]
        clients: Rows = [
            (("connected",), float(told.get("connected_clients", 0))),
            (("max",), float(told.get("maxclients", 0))),
        ]
        return [
            Samples(metrics.REDIS_LOOKUPS, rows),
            Samples(metrics.REDIS_MEMORY_BYTES, [((), float(told.get("used_memory", 0)))]),
            Samples(metrics.REDIS_CLIENTS, clients),
        ]

    # --- what is told ---------------------------------------------------------------------

    def collect(self, facts: Facts | None) -> Iterable[Samples]:
        yield from self._queues.collect()
        caps: Rows = [((queue,), float(cap)) for queue, cap in self._caps.items()]
        yield Samples(metrics.QUEUE_CAP, caps)
        yield from self._slow
        if facts is not None:
            yield from _told(facts)


def _told(facts: Facts) -> Iterator[Samples]:
    def age_s(at: datetime | None) -> float:
        return 0.0 if at is None else max(0.0, (facts.at - at).total_seconds())

    yield Samples(metrics.DOORBELLS_WAITING, [((), float(facts.doorbells))])
    yield Samples(metrics.DOORBELLS_OLDEST_SECONDS, [((), age_s(facts.doorbell_since))])
    yield Samples(metrics.ORDERS_DOUBTFUL_SECONDS, [((), age_s(facts.doubtful_since))])
    agrees: Rows = [((each.venue, each.name), float(each.agrees)) for each in facts.accounts]
    yield Samples(metrics.ACCOUNT_AGREES, agrees)
    compared: Rows = [
        ((each.venue, each.name), age_s(each.compared_at))
        for each in facts.accounts
        if each.compared_at is not None
    ]
    yield Samples(metrics.ACCOUNT_COMPARED_SECONDS, compared)
    states = ("active", "reducing", "halted")
    holds: Rows = [((state,), float(facts.swarm[0] == state)) for state in states]
    yield Samples(metrics.TRADING_STATE, holds)
    held: Rows = [(key, float(many)) for key, many in facts.held.items()]
    yield Samples(metrics.TRADING_HELD, held)
    sent: Rows = [((e.name,), age_s(e.sent_at)) for e in facts.entries if e.sent_at is not None]
    yield Samples(metrics.SCHEDULE_AGE_SECONDS, sent)
    yield Samples(metrics.SCHEDULE_RUNS, [((e.name,), float(e.runs)) for e in facts.entries])
    failures: Rows = [((e.name,), float(e.failures)) for e in facts.entries]
    yield Samples(metrics.SCHEDULE_FAILURES, failures)
    missed: Rows = [((e.name,), float(facts.missed.get(e.name, 0))) for e in facts.entries]
    yield Samples(metrics.SCHEDULE_MISSED, missed)
    if facts.uptime is not None and facts.uptime.is_judged(facts.at):
        up: Rows = [((window,), share) for window, share in facts.uptime.shares.items()]
        yield Samples(metrics.SWARM_UP_RATIO, up)
    backups: Rows = [((state,), float(many)) for state, many in facts.backups.items()]
    yield Samples(metrics.BACKUPS, backups)
    if facts.backup is not None:
        yield Samples(metrics.BACKUP_AGE_SECONDS, [((), age_s(facts.backup.at))])
        yield Samples(metrics.BACKUP_BYTES, [((), float(facts.backup.bytes))])
        yield Samples(metrics.BACKUP_TOOK_SECONDS, [((), facts.backup.took_ms / 1000)])


# --- what is asked of the ledger now and then -----------------------------------------------------


def _rows(ask: Ask, described: Described, question: str, *values: object) -> Samples:
    """Of an answer whose last column is the value, and whose others are the labels."""
    found: Rows = [
        (tuple(str(label) for label in row[:-1]), float(row[-1]))
        for row in ask(question, values)
        if row[-1] is not None
    ]
    return Samples(described, found)


def _bots(ask: Ask, now: datetime) -> Iterator[Samples]:
    yield _rows(ask, metrics.BOTS, "SELECT state, count(*) FROM bots GROUP BY state")
    passes = ask(
        "SELECT venue, sum(passes), max(took_ms), max(at) FROM market_passes GROUP BY venue", ()
    )
    yield Samples(metrics.EVALUATIONS, [((row[0],), float(row[1])) for row in passes])
    yield Samples(metrics.EVALUATION_MS, [((row[0],), float(row[2])) for row in passes])
    ages: Rows = [((row[0],), _age_s(now, row[3])) for row in passes]
    yield Samples(metrics.EVALUATION_AGE_SECONDS, ages)


def _orders(ask: Ask) -> Iterator[Samples]:
    yield _rows(
        ask,
        metrics.ORDERS_OPEN,
        "SELECT venue, account, state, count(*) FROM orders WHERE is_open "
        "GROUP BY venue, account, state",
    )


def _money(ask: Ask, now: datetime) -> Iterator[Samples]:
    held = ask(
        "SELECT venue, account, symbol, count(CASE WHEN quantity <> ? THEN 1 END), "
        "sum(CAST(realised AS DOUBLE PRECISION)) FROM positions GROUP BY venue, account, symbol",
        ("0",),
    )
    yield Samples(metrics.POSITIONS, _summed(((row[0], row[1]), row[3]) for row in held))
    yield Samples(
        metrics.PNL_REALISED,
        _summed(((row[0], row[1], quote_of(row[2])), row[4]) for row in held),
    )
    yield _rows(
        ask,
        metrics.PNL_TODAY,
        "SELECT venue, account, quote, realised FROM daily_results WHERE day = ?",
        f"{now:%Y-%m-%d}",
    )
    yield from _standings(ask, now)


def _summed(found: Iterable[tuple[tuple[str, ...], Any]]) -> Rows:
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in found:
        sums[labels] = sums.get(labels, 0.0) + float(value or 0)
    return list(sums.items())


def _standings(ask: Ask, now: datetime) -> Iterator[Samples]:
    question = (
        "SELECT scope, quote, at, unrealised, equity, equity_peak, gross, net FROM standings "
        "WHERE scope LIKE ?"
    )
    told: dict[str, Rows] = {name: [] for name in ("unrealised", "equity", "drawdown", "exposure")}
    ages = []
    for scope, quote, at, unrealised, equity, peak, gross, net in ask(
        question, (f"{ACCOUNT_SCOPE}%",)
    ):
        venue, _, account = scope.removeprefix(ACCOUNT_SCOPE).partition(":")
        labels = (venue, account, quote)
        ages.append(_age_s(now, at))
        if unrealised is not None:
            told["unrealised"].append((labels, float(unrealised)))
        if equity is not None:
            told["equity"].append((labels, float(equity)))
        if equity is not None and peak is not None and float(peak) > 0:
            told["drawdown"].append((labels, max(0.0, 1 - float(equity) / float(peak))))
        for side, worth in (("gross", gross), ("net", net)):
            if worth is not None:
                told["exposure"].append(((*labels, side), float(worth)))
    yield Samples(metrics.PNL_UNREALISED, told["unrealised"])
    yield Samples(metrics.EQUITY, told["equity"])
    yield Samples(metrics.DRAWDOWN_RATIO, told["drawdown"])
    yield Samples(metrics.EXPOSURE, told["exposure"])
    if ages:
        yield Samples(metrics.STANDING_AGE_SECONDS, [((), max(ages))])


def _watching(ask: Ask, now: datetime) -> Iterator[Samples]:
    yield _rows(
        ask,
        metrics.RISK_FINDINGS,
        "SELECT kind, severity, count(*) FROM risk_findings GROUP BY kind, severity",
    )
    yield _rows(
        ask,
        metrics.PROCESSES,
        "SELECT role, count(*) FROM processes WHERE seen_at > ? GROUP BY role",
        now - SEEN_WITHIN,
    )
    yield _rows(
        ask,
        metrics.ALERTS_FIRING,
        "SELECT severity, count(*) FROM alerts WHERE ended_at IS NULL AND fired_at IS NOT NULL "
        "GROUP BY severity",
    )
    yield _rows(
        ask,
        metrics.NOTICES_WAITING,
        # What waits for the end of the quiet hours is not kept back by its channel.
        "SELECT channel, count(*) FROM alert_notices WHERE sent_at IS NULL "
        "AND gave_up_at IS NULL AND (attempts > 0 OR due_at <= ?) GROUP BY channel",
        now,
    )
    yield from _drills(ask, now)


def _drills(ask: Ask, now: datetime) -> Iterator[Samples]:
    last: Sequence[Sequence[Any]] = ask(
        "SELECT at, is_good, rto_ms, rpo_ms FROM backup_drills ORDER BY at DESC LIMIT 1", ()
    )
    for at, is_good, rto_ms, rpo_ms in last:
        yield Samples(metrics.DRILL_AGE_SECONDS, [((), _age_s(now, at))])
        yield Samples(metrics.DRILL_GOOD, [((), float(is_good))])
        if rto_ms is not None:
            yield Samples(metrics.DRILL_RTO_SECONDS, [((), rto_ms / 1000)])
        if rpo_ms is not None:
            yield Samples(metrics.DRILL_RPO_SECONDS, [((), rpo_ms / 1000)])
    for (published_at,) in ask("SELECT published_at FROM archive_marks", ()):
        if published_at is not None:
            yield Samples(metrics.ARCHIVE_AGE_SECONDS, [((), _age_s(now, published_at))])


# --- the ledger's server --------------------------------------------------------------------------


def _server(ask: Ask) -> list[Samples]:
    """PostgreSQL's own figures; a question of ours counts in none of them."""
    here = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    slow = "AND state = 'active' AND now() - query_start > interval '1 second'"
    return [
        _rows(
            ask,
            metrics.DATABASE_CONNECTIONS,
            f"SELECT coalesce(state, 'other'), count(*) {here} GROUP BY 1",
        ),
        _rows(ask, metrics.LEDGER_SLOW_QUERIES, f"SELECT count(*) {here} {slow}"),
        _rows(
            ask,
            metrics.DATABASE_CONNECTIONS_MAX,
            "SELECT current_setting('max_connections')::int",
        ),
        _rows(ask, metrics.LEDGER_BYTES, "SELECT pg_database_size(current_database())"),
    ]


def _file(url: str) -> Path | None:
    from urllib.parse import unquote

    path = Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
    return path if path.exists() else None


def _size(path: Path) -> float:
    """With what is not yet written into it."""
    log = path.with_name(f"{path.name}-wal")
    return float(path.stat().st_size + (log.stat().st_size if log.exists() else 0))


def _age_s(now: datetime, at: datetime | str) -> float:
    return max(0.0, (now - moment(at)).total_seconds())
