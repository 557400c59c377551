"""What the embedded broker's address card, its process and its management API say about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from botswarm.broker import record
from botswarm.broker.record import BrokerRecord
from botswarm.cli.failures import BrokerUnreachable, ManagementUnreachable, NoBroker
from botswarm.cli.management import Management
from botswarm.cli.session import Answer
from botswarm.clock import Clock, SystemClock
from botswarm.config import Secret
from botswarm.errors import BotswarmError

START = "botswarm broker run"


def look(state_dir: Path, show_url: bool, clock: Clock | None = None) -> Answer:
    try:
        found = record.read(state_dir)
    except OSError as error:
        raise NoBroker(
            f"cannot read {state_dir / record.FILE}: {error.strerror}",
            cure="run as the user who started the broker, or set BOTSWARM_STATE_DIR",
        ) from error
    if found is None:
        none = NoBroker(f"no broker was started in {state_dir}", cure=f"start one: {START}")
        return Answer(data={"running": False, "state_dir": str(state_dir)}, failure=none)
    url = found.url if show_url else Secret(found.url).masked
    facts: dict[str, object] = {
        "running": True,
        "url": url,
        "state_dir": str(state_dir),
        "pid": found.pid,
        "started_at": found.started_at,
    }
    try:
        facts |= _overview(found)
    except BotswarmError as error:
        failure = _why_not(found, error)
        return Answer(data={**facts, "running": False}, failure=failure)
    facts |= {
        "uptime_s": _uptime_s(found.started_at, clock or SystemClock()),
        "memory_mb": memory_mb(found.pid),
        "journal_mb": journal_mb(state_dir),
    }
    return Answer(data=facts, text=_as_text(facts))


def _overview(found: BrokerRecord) -> dict[str, object]:
    management = Management(Secret(found.management_url))
    overview = management.overview()
    totals = _mapping(overview.get("queue_totals"))
    objects = _mapping(overview.get("object_totals"))
    return {
        "management_url": Secret(found.management_url).masked,
        "version": overview.get("rabbitmq_version"),
        "queues": objects.get("queues"),
        "connections": objects.get("connections"),
        "consumers": objects.get("consumers"),
        "messages_ready": totals.get("messages_ready"),
        "messages_unacked": totals.get("messages_unacknowledged"),
    }


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _why_not(found: BrokerRecord, error: BotswarmError) -> BotswarmError:
    if isinstance(error, ManagementUnreachable) and is_alive(found.pid):
        return BrokerUnreachable(
            f"process {found.pid} of the broker lives, but does not answer: {error.cause}",
            cure=f"look at its log; if it hangs, end it and start it again: {START}",
        )
    return NoBroker(
        f"the broker of {found.started_at} (process {found.pid}) is no longer running",
        cure=f"start it again, its durable messages are in the journal: {START}",
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _uptime_s(started_at: str, clock: Clock) -> int | None:
    try:
        started = datetime.fromisoformat(started_at)
    except ValueError:
        return None
    if started.tzinfo is None:
        started = started.replace(tzinfo=UTC)
    return max(0, round((clock.now() - started).total_seconds()))


def memory_mb(pid: int) -> float | None:
    """Resident memory; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def journal_mb(state_dir: Path) -> float:
    """The weight of everything in the state folder but the ledger."""
    total = 0
    for path in state_dir.rglob("*"):
        if path.is_file() and not path.name.startswith("ledger.db"):
            total += path.stat().st_size
    return round(total / 1_000_000, 1)


def _as_text(facts: Mapping[str, object]) -> str:
    lines = [f"The broker runs at {facts['url']} (process {facts['pid']})."]
    shown = (
        ("up since", facts["started_at"], f"({facts['uptime_s']} s)"),
        ("queues", facts["queues"], ""),
        ("messages", facts["messages_ready"], f"ready, {facts['messages_unacked']} unacked"),
        ("connections", facts["connections"], f"with {facts['consumers']} consumers"),
        ("memory", facts["memory_mb"], "MB"),
        ("journal", facts["journal_mb"], "MB"),
        ("management", facts["management_url"], ""),
    )
    lines += [f"  {name:<12}{value} {rest}".rstrip() for name, value, rest in shown]
    return "\n".join(lines)
