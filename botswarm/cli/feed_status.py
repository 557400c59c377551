"""How the feeds are: asked over the broker, so that it works from any machine's shell."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.broker_url import START_SWARM, broker_url_of
from botswarm.cli.command import Command
from botswarm.cli.failures import PartsMissing
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import Unreachable

if TYPE_CHECKING:
    from botswarm.config import Settings

WAIT_S = 2.0
"""For the first answer; a feed on another continent has it in a fraction of that."""
MORE_S = 0.4
"""For further feeds, after each answer."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024

State = Mapping[str, Any]


@click.command(cls=Command)
@click.option("--venue", metavar="NAME", help="Of this venue only.")
@click.pass_obj
def status(session: Session, venue: str | None) -> Answer:
    """Show every feed that runs, its venues and each of their connections.

    The feeds are asked over the broker and answer within a moment, on whatever machine they run,
    leading or standing by; where the broker cannot be asked, those of this machine are shown as
    they were a moment ago. A score is the product of its factors, which --json shows: missed
    pings, silence, delay, unreadable frames, reconnects and silent streams. Exits with 3 when no
    feed answers, or one of its venues is not connected.
    """
    processes, warnings = _found(session.settings())
    feeds = [
        {**feed, "instance_id": each["instance_id"], "pid": each["pid"]}
        for each in processes
        for feed in each["feeds"]
        if venue is None or feed["venue"] == venue
    ]
    lines = [_line_of_process(each) for each in processes]
    blocks = ["\n".join([_line_of_feed(feed), *_warnings(feed), _table(feed)]) for feed in feeds]
    return Answer(
        data={"processes": processes} if venue is None else {"feeds": feeds},
        text="\n\n".join(["\n".join(lines), *blocks]) if processes else "",
        failure=_failure(processes, feeds, venue),
        warnings=warnings,
    )


def _found(settings: Settings) -> tuple[list[State], list[str]]:
    """Those that answer, and those of this machine that live and do not."""
    nearby = _nearby(settings)
    try:
        found = ask(settings)
    except Unreachable as error:
        if not nearby:
            raise
        return nearby, [f"{error.cause}; these are the feeds of this machine alone"]
    answered = {(each["instance_id"], each["pid"]) for each in found}
    mute = [each for each in nearby if (each["instance_id"], each["pid"]) not in answered]
    words = [f"the feed with pid {each['pid']} did not answer over the broker" for each in mute]
    return found + mute, words


def _nearby(settings: Settings) -> list[State]:
    """What the feeds of this state folder wrote down a moment ago."""
    from botswarm.feed.state import CARD, CARD_FRESH_S

    found = []
    for path in sorted(settings.state_dir.glob(CARD)):
        try:
            is_fresh = time.time() - path.stat().st_mtime < CARD_FRESH_S
            state = _read(path.read_bytes())
        except OSError:
            continue  # it ended meanwhile
        if is_fresh and state is not None and _lives(state["pid"]):
            found.append(state)
    return found


def _lives(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def ask(settings: Settings, wait_s: float = WAIT_S) -> list[State]:
    """What every feed of this broker says of itself, those that lead first."""
    from botswarm.cli.amqp import channel

    url = broker_url_of(settings, START_SWARM)
    with channel(url, start_hint="start it: botswarm up") as way:
        found = _answers(way, wait_s)
    return sorted(found, key=lambda each: (not _leads(each), each["instance_id"], each["pid"]))


def _answers(way: Any, wait_s: float) -> list[State]:
    import amqp

    from botswarm.feed.reception import ASK_EXCHANGE, declare

    found: list[State] = []
    question = uuid.uuid4().hex

    def take(message: Any) -> None:
        state = _read(message.body)
        if message.properties.get("correlation_id") == question and state is not None:
            found.append(state)

    declare(way)
    queue = way.queue_declare("", exclusive=True, auto_delete=True).queue
    way.basic_consume(queue, no_ack=True, callback=take)
    asked = amqp.Message(b"", reply_to=queue, correlation_id=question, expiration="5000")
    way.basic_publish(asked, ASK_EXCHANGE, "")
    deadline, known = time.monotonic() + wait_s, 0
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            way.connection.drain_events(timeout=left_s)
        except TimeoutError:
            break
        if len(found) > known:
            known, deadline = len(found), time.monotonic() + MORE_S
    return found


def _read(body: bytes | str) -> State | None:
    import json

    if len(body) > ANSWER_BYTES_MAX:
        return None
    try:
        state = json.loads(body)
    except ValueError:
        return None  # somebody else's word on our queue
    is_whole = isinstance(state, dict) and {"instance_id", "pid", "feeds", "taken"} <= set(state)
    return state if is_whole else None


def _leads(process: State) -> bool:
    return any(feed["role"] == "leads" for feed in process["feeds"])


def _failure(
    processes: Sequence[State], feeds: Sequence[State], venue: str | None
) -> PartsMissing | None:
    if not processes:
        return PartsMissing("no feed answers", cure="start one: botswarm run feed")
    if not feeds:
        return PartsMissing(
            f"no feed reads {venue}" if venue else "the feed waits for its venues",
            cure=f"add it to BOTSWARM_FEED_VENUES: {venue}" if venue else "see the feed's log",
        )
    down = sorted({feed["venue"] for feed in feeds if not feed["pool"]["is_connected"]})
    if down:
        return PartsMissing(
            f"not connected: {', '.join(down)}",
            cure="the feed goes on trying by itself; see the reasons above",
        )
    return None


# --- for people -------------------------------------------------------------------------------


def _line_of_process(process: State) -> str:
    taken = process["taken"]
    return (
        f"feed {process['instance_id']} (pid {process['pid']}, up {_age(process['age_s'])}): "
        f"{taken['memory_mb']:.0f} MB, {taken['cpu_percent']:.0f} % of a core, "
        f"{taken['sockets']} sockets, {taken['threads']} threads"
    )


def _line_of_feed(feed: State) -> str:
    pool, counts = feed["pool"], feed["counts"]
    blocked = ", broker blocked" if feed["is_blocked"] else ""
    return (
        f"{feed['venue']} {feed['role']}{blocked} (pid {feed['pid']}): "
        f"score {pool['score']:.2f}, {pool['subscriptions']} of {pool['wanted']} streams, "
        f"{pool['messages_per_s']:.1f} messages/s; breaker {pool['breaker']}, "
        f"{pool['budget_left']} of {pool['budget_max']} attempts left in "
        f"{pool['budget_period_s']:.0f} s, {pool['opened']} of {pool['attempts']} succeeded; "
        f"gaps {counts['gaps']}, trades missed {counts['missed_trades']}, "
        f"recovered {counts['recovered_trades']}, duplicates {counts['duplicates']}"
    )


def _warnings(feed: State) -> list[str]:
    pool = feed["pool"]
    found = [f"  declined: {stream}: {why}" for stream, why in pool["declined"].items()]
    if pool["unserved"]:
        found.append(f"  not served: {', '.join(pool['unserved'])}")
    if feed["unknown"]:
        found.append(f"  no such market: {', '.join(feed['unknown'])}")
    if pool["failures"]:
        found.append(f"  failures in a row: {pool['failures']}, the last: {pool['last_failure']}")
    for what in ("rejects", "security"):
        if pool[what]:
            counted = ", ".join(f"{kind} {count}" for kind, count in sorted(pool[what].items()))
            found.append(f"  {'left out' if what == 'rejects' else what}: {counted}")
    for each in pool["connections"]:
        if each["quiet"]:
            found.append(f"  strangely silent on {each['name']}: {', '.join(each['quiet'][:10])}")
    return found


def _table(feed: State) -> str:
    rows: list[Sequence[object]] = [
        (
            each["name"],
            each["state"],
            f"{each['streams']}/{each['streams_max']}",
            f"{each['messages_per_s']:.1f}",
            _age(each["age_s"]),
            "-" if each["ping_ms"] is None else f"{each['ping_ms']:.1f} ms",
            each["pings_missed_in_all"],
            f"{each['score']:.2f}",
            each["reconnects"],
            each["reasons"][0] if each["reasons"] else "",
        )
        for each in feed["pool"]["connections"]
    ]
    heads = ["CONNECTION", "STATE", "STREAMS", "MSG/S", "AGE", "PING", "MISSED", "SCORE"]
    return in_columns([*heads, "RECONNECTS", "LAST END"], rows)


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
