"""The processes that sign in the ledger, as ``ps --all`` and ``status`` show them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from botswarm.cli.failures import PartsMissing
from botswarm.cli.session import Answer
from botswarm.cli.table import in_columns
from botswarm.clock import SystemClock

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.processes import Difference, Process

HEADS = ("PROCESS", "HOST", "PID", "VERSION", "BUILD", "SINCE", "SEEN", "DIFFERS")


def listed(settings: Settings) -> Answer:
    from botswarm.domain.processes import differences, in_words
    from botswarm.ledger.plain import asking
    from botswarm.ledger.processes import seen

    now = SystemClock().now()
    with asking(settings.database_url) as ask:
        found = seen(ask, now)
    differing = differences(found, now)
    failure = None
    if differing:
        failure = PartsMissing(
            f"processes differ: {in_words(differing)}",
            cure="restart those that are older with the same settings, or stop them",
        )
    return Answer(
        data={
            "processes": [_data(each, now) for each in found],
            "differences": [_difference(each) for each in differing],
        },
        text=in_columns(HEADS, [_row(each, differing, now) for each in found])
        if found
        else "No process has signed in the ledger lately.",
        failure=failure,
    )


def summary(found: Sequence[Process], now: datetime) -> tuple[str, str, dict[str, object]]:
    """State, words and facts of one line."""
    from botswarm.domain.processes import differences, in_words

    differing = differences(found, now)
    hosts = len({each.host for each in found})
    facts: dict[str, object] = {
        "processes": len(found),
        "hosts": hosts,
        "differences": [_difference(each) for each in differing],
    }
    if not found:
        return "idle", "no process has signed in the ledger lately", facts
    if differing:
        words = f"processes differ, so trading is not opened: {in_words(differing)}; "
        return "warn", f"{words}botswarm ps --all", facts
    places = "one machine" if hosts == 1 else f"{hosts} machines"
    words = f"{len(found)} processes on {places}, all of build {found[0].made.build}"
    return "ok", words, facts


def _row(each: Process, differing: Sequence[Difference], now: datetime) -> tuple[str, ...]:
    odd = [found.what for found in differing if found.process_id == each.id]
    return (
        each.name,
        each.host,
        str(each.pid),
        each.made.version,
        each.made.build,
        f"{each.started_at:%Y-%m-%d %H:%M:%S}",
        f"{max(0.0, (now - each.seen_at).total_seconds()):.0f} s ago",
        ", ".join(odd) or "-",
    )


def _data(each: Process, now: datetime) -> dict[str, object]:
    return {
        "name": each.name,
        "role": each.role,
        "host": each.host,
        "pid": each.pid,
        "version": each.made.version,
        "build": each.made.build,
        "strategies": each.made.strategies,
        "settings": dict(each.made.settings),
        "started_at": each.started_at.isoformat(),
        "changed_at": each.changed_at.isoformat(),
        "seen_s_ago": round((now - each.seen_at).total_seconds(), 1),
    }


def _difference(each: Difference) -> dict[str, object]:
    return {
        "process": each.process,
        "what": each.what,
        "value": each.value,
        "others": each.others,
        "since": each.since.isoformat(),
    }
