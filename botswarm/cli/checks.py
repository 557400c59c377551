"""What `botswarm doctor` looks at: each check answers with one row and never raises."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from botswarm.cli import amqp
from botswarm.cli.management import reason
from botswarm.clock import Clock, SystemClock
from botswarm.config import Configuration, Secret, SecretMask, Settings
from botswarm.errors import BotswarmError, Misconfigured
from botswarm.health import machine

LIMIT_S = 8.0
"""No check may keep the others waiting for longer than this."""
CONNECT_LIMIT_S = 4
PYTHON_OLDEST = (3, 11)
PYTHON_NEWEST = (3, 13)

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    status: Status
    detail: str
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    status: Status
    detail: str
    cure: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks look at: the configuration, or why there is none."""

    configuration: Configuration | None
    misconfigured: Misconfigured | None = None
    clock: Clock = field(default_factory=SystemClock)


Check = Callable[[Subject], Finding]


def run(checks: Mapping[str, Check], subject: Subject, limit_s: float = LIMIT_S) -> list[Row]:
    """All at once; a check that hangs is reported as failed and left behind."""
    rows: dict[str, Row] = {}
    threads = []
    for name, check in checks.items():
        thread = threading.Thread(
            target=_run_one, args=(name, check, subject, rows), name=f"check {name}", daemon=True
        )
        thread.start()
        threads.append(thread)
    deadline = subject.clock.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - subject.clock.monotonic()))
    # A copy, because a late check may still write into the other.
    done = dict(rows)
    return [done.get(name) or _too_late(name, limit_s) for name in checks]


def _too_late(name: str, limit_s: float) -> Row:
    return Row(
        name=name,
        status="fail",
        detail=f"no answer within {limit_s:g} s",
        cure="look whether the server or the disk hangs",
        took_ms=limit_s * 1000,
    )


def _run_one(name: str, check: Check, subject: Subject, rows: dict[str, Row]) -> None:
    started = subject.clock.monotonic()
    try:
        finding = check(subject)
    except BotswarmError as error:
        finding = Finding("fail", error.cause, error.cure)
    except Exception as error:  # a defect in one check must not hide the others' rows
        finding = Finding("fail", f"{type(error).__name__}: {reason(error)}", "report this defect")
    took_ms = round(_ms_since(started, subject), 1)
    settings = _settings(subject)
    mask = SecretMask(settings.secrets if settings else ())
    rows[name] = Row(
        name=name,
        status=finding.status,
        # The words of a server or a driver are not ours, so they may hold what we would not say.
        detail=mask(finding.detail),
        cure=finding.cure,
        took_ms=took_ms,
    )


def _ms_since(started: float, subject: Subject) -> float:
    return (subject.clock.monotonic() - started) * 1000


def _settings(subject: Subject) -> Settings | None:
    return subject.configuration.settings if subject.configuration else None


_NO_SETTINGS = Finding("skip", "the configuration is invalid", "mend it first")


def python(_: Subject) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHON_OLDEST <= sys.version_info[:2] <= PYTHON_NEWEST:
        return Finding("ok", f"Python {version}")
    return Finding("fail", f"Python {version}", "use Python 3.11, 3.12 or 3.13")


def packages(_: Subject) -> Finding:
    from importlib.metadata import PackageNotFoundError, requires, version

    try:
        wanted = [text for text in requires("botswarm") or [] if "extra ==" not in text]
    except PackageNotFoundError:
        return Finding("warn", "botswarm is not installed, only imported", "pip install -e .")
    wrong = []
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not _fits(installed, requirement):
            wrong.append(f"{name} is {installed}, not {requirement.removeprefix(name).strip()}")
    if wrong:
        return Finding("fail", "; ".join(wrong), "run: make up, or install botswarm again")
    return Finding("ok", f"{len(wanted)} packages are present in the versions asked for")


def _fits(installed: str, requirement: str) -> bool:
    """Our own ranges are all of the form ``>=5.7,<6``; anything else is not judged."""
    have = _numbers(installed)
    for sign, bound in re.findall(r"(>=|<)\s*([0-9.]+)", requirement):
        if (have < _numbers(bound)) is (sign == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    released = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(number) for number in released[0].split(".")] if released else []
    # 5.7 and 5.7.0 are the same version.
    return tuple(numbers + [0] * (4 - len(numbers)))


def config(subject: Subject) -> Finding:
    if subject.misconfigured is not None:
        problems = subject.misconfigured.problems
        return Finding(
            "fail",
            "; ".join(problem.cause for problem in problems),
            "; ".join(problem.cure for problem in problems),
        )
    assert subject.configuration is not None
    env, warnings = subject.configuration.settings.env, subject.configuration.warnings
    if warnings:
        return Finding(
            "warn",
            f"{env}: " + "; ".join(warning.cause for warning in warnings),
            "; ".join(warning.cure for warning in warnings),
        )
    return Finding("ok", f"the configuration of {env} is valid")


def state(subject: Subject) -> Finding:
    settings = _settings(subject)
    if settings is None:
        return _NO_SETTINGS
    folder = settings.state_dir
    existing = machine.existing(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("fail", f"{existing} is not writable", "change its owner or its permissions")
    if existing != folder:
        return Finding("ok", f"{folder} does not exist yet and can be created")
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding(
            "warn",
            f"{folder} holds passwords and is open to other users (mode {mode:04o})",
            f"chmod 700 {folder}",
        )
    return Finding("ok", f"{folder} is writable and private")


def disk(subject: Subject) -> Finding:
    settings = _settings(subject)
    folder = machine.existing(settings.state_dir if settings else Path())
    usage = shutil.disk_usage(folder)
    return disk_finding(usage.used, usage.free)


def disk_finding(used_bytes: int, free_bytes: int) -> Finding:
    percent = machine.disk_percent(used_bytes, free_bytes)
    detail = f"{percent:.0f} % used, {free_bytes / 1e9:.1f} GB free"
    cure = "delete or move what is not needed, or enlarge the disk"
    if percent > machine.DISK_FAIL_PERCENT:
        return Finding("fail", detail, cure)
    return (
        Finding("warn", detail, cure)
        if percent > machine.DISK_WARN_PERCENT
        else Finding("ok", detail)
    )


def memory(_: Subject) -> Finding:
    return memory_finding(machine.memory_free_mb())


def memory_finding(free_mb: int | None) -> Finding:
    if free_mb is None:
        return Finding("skip", "this system does not tell how much memory is free")
    detail = f"{free_mb} MB available"
    if free_mb < machine.MEMORY_WARN_MB:
        return Finding(
            "warn", detail, f"stop something: below {machine.MEMORY_WARN_MB} MB it gets slow"
        )
    return Finding("ok", detail)


def clock(subject: Subject) -> Finding:
    return clock_finding(subject.clock.now(), machine.clock_is_synchronised())


def clock_finding(now: datetime, synchronised: bool | None) -> Finding:
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now.year < 2026:
        return Finding("fail", f"{shown} is in the past", "set the clock, run an NTP service")
    if synchronised is None:
        return Finding("ok", f"{shown}; whether NTP runs cannot be read here")
    if not synchronised:
        cure = "run an NTP service: venues refuse orders when the clock is off"
        return Finding("warn", f"{shown}, not synchronised by NTP", cure)
    return Finding("ok", f"{shown}, synchronised by NTP")


def ports(subject: Subject) -> Finding:
    settings = _settings(subject)
    if settings is None or subject.configuration is None:
        return _NO_SETTINGS
    origin = subject.configuration.origins["broker_url"]
    if settings.broker_url is not None and not origin.startswith("embedded"):
        return Finding("skip", "the embedded broker is not used")
    wanted = {settings.broker_port, settings.broker_management_port} - {None}
    if not wanted:
        return Finding("ok", "the embedded broker takes the next free ones")
    ours = _ports_of_running_broker(settings.state_dir)
    taken = sorted(port for port in wanted if port and port not in ours and not _is_free(port))
    if taken:
        return Finding(
            "fail",
            f"port {' and '.join(map(str, taken))} is in use by another program",
            "stop that program, or set BOTSWARM_BROKER_PORT and BOTSWARM_BROKER_MANAGEMENT_PORT",
        )
    shown = ", ".join(str(port) for port in sorted(port for port in wanted if port))
    return Finding("ok", f"{shown}: " + ("used by our broker" if ours else "free"))


def _ports_of_running_broker(state_dir: Path) -> set[int]:
    from botswarm.broker import record
    from botswarm.cli.broker_status import is_alive

    found = record.read(state_dir)
    return {found.port, found.management_port} if found and is_alive(found.pid) else set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def broker(subject: Subject) -> Finding:
    """Logs in and sends one message through a queue of its own."""
    settings = _settings(subject)
    if settings is None or subject.configuration is None:
        return _NO_SETTINGS
    url = settings.broker_url
    if url is None:
        return Finding("skip", "none configured, none started here", "botswarm broker run")
    embedded = subject.configuration.origins["broker_url"].startswith("embedded")
    hint = "start it: botswarm broker run" if embedded else "start RabbitMQ, or correct the URL"
    started = subject.clock.monotonic()
    with amqp.channel(url, start_hint=hint) as channel:
        product = channel.connection.server_properties.get("product", "AMQP broker")
        version = channel.connection.server_properties.get("version", "")
        login_ms = _ms_since(started, subject)
        round_trip_ms = _round_trip_ms(channel, subject)
    if round_trip_ms is None:
        return Finding("fail", "a message sent did not come back", "look at the broker's log")
    return Finding(
        "ok",
        f"{product} {version} at {url.masked}: "
        f"login {login_ms:.0f} ms, round trip {round_trip_ms:.1f} ms",
    )


def _round_trip_ms(channel: Any, subject: Subject) -> float | None:
    from amqp import Message

    queue = channel.queue_declare("", exclusive=True, auto_delete=True).queue
    started = subject.clock.monotonic()
    channel.basic_publish(Message("doctor"), routing_key=queue)
    # The same channel is served in order, so the message is there when the answer is.
    message = channel.basic_get(queue, no_ack=True)
    took_ms = _ms_since(started, subject)
    channel.queue_delete(queue)
    return took_ms if message is not None else None


def database(subject: Subject) -> Finding:
    settings = _settings(subject)
    if settings is None:
        return _NO_SETTINGS
    url = settings.database_url
    if url.reveal().startswith("sqlite"):
        return _sqlite(Path(url.reveal().removeprefix("sqlite:///")))
    return _postgresql(url, subject)


def _sqlite(path: Path) -> Finding:
    import sqlite3

    if not path.exists():
        folder = machine.existing(path.parent)
        if os.access(folder, os.W_OK | os.X_OK):
            return Finding("ok", f"SQLite {path} does not exist yet and can be created")
        return Finding("fail", f"{folder} is not writable", "change its owner or its permissions")
    try:
        connection = sqlite3.connect(path, timeout=CONNECT_LIMIT_S)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding(
            "fail", f"SQLite {path}: {reason(error)}", "look at its permissions and disk"
        )
    return Finding("ok", f"SQLite {path} is writable")


def _postgresql(url: Secret, subject: Subject) -> Finding:
    import psycopg2

    started = subject.clock.monotonic()
    plain = url.reveal().replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        connection = psycopg2.connect(plain, connect_timeout=CONNECT_LIMIT_S)
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {CONNECT_LIMIT_S * 1000}")
                cursor.execute("SELECT 1")
            version = connection.info.server_version // 10000
        finally:
            connection.close()
    except psycopg2.Error as error:
        return Finding(
            "fail",
            f"cannot use PostgreSQL at {url.masked} ({reason(error)})",
            "start it, or correct BOTSWARM_DATABASE_URL",
        )
    took_ms = _ms_since(started, subject)
    return Finding("ok", f"PostgreSQL {version} at {url.masked}: SELECT 1 in {took_ms:.0f} ms")


def redis(subject: Subject) -> Finding:
    settings = _settings(subject)
    if settings is None:
        return _NO_SETTINGS
    url = settings.redis_url
    if url is None:
        return Finding("skip", "none configured: one machine works without it")
    from redis import Redis, RedisError

    started = subject.clock.monotonic()
    try:
        client = Redis.from_url(
            url.reveal(), socket_connect_timeout=CONNECT_LIMIT_S, socket_timeout=CONNECT_LIMIT_S
        )
        try:
            client.ping()
        finally:
            client.close()
    except (RedisError, OSError) as error:
        return Finding(
            "fail",
            f"cannot use Redis at {url.masked} ({reason(error)})",
            "start it, or correct BOTSWARM_REDIS_URL",
        )
    took_ms = _ms_since(started, subject)
    return Finding("ok", f"Redis at {url.masked}: PING in {took_ms:.1f} ms")


def venues(subject: Subject) -> Finding:
    from botswarm.cli.check_venues import venue_clocks

    return venue_clocks(subject)


def rights(subject: Subject) -> Finding:
    from botswarm.cli.check_ledger import ledger_rights

    return ledger_rights(subject)


CHECKS: Mapping[str, Check] = {
    "python": python,
    "packages": packages,
    "config": config,
    "state": state,
    "disk": disk,
    "memory": memory,
    "clock": clock,
    "ports": ports,
    "broker": broker,
    "database": database,
    "rights": rights,
    "redis": redis,
    "venues": venues,
}
SERVERS = frozenset(("broker", "database", "redis"))
