"""What beat sends and when: look at it, run an entry now, pause and resume it."""

from __future__ import annotations

import contextlib
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import ledger_of
from botswarm.cli.command import Group
from botswarm.cli.numbers import Seconds
from botswarm.cli.schedule_words import (
    data_of,
    entry_words,
    missed_words,
    moment_words,
    result_words,
    run_words,
    state_of,
    took_words,
)
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError, NotFound, Refused, TimedOut

if TYPE_CHECKING:
    from botswarm.ledger.schedules import Run, Schedules
    from botswarm.schedule import Entry

DAY = timedelta(days=1)
POLL_S = 0.2
NO_BEAT_AFTER = timedelta(seconds=30)


@click.group(cls=Group)
def schedule() -> None:
    """See what is sent periodically, run it now, pause it and resume it."""


def _entry(name: str) -> Entry:
    from difflib import get_close_matches

    from botswarm.schedule import BY_NAME

    if name in BY_NAME:
        return BY_NAME[name]
    close = get_close_matches(name, BY_NAME, n=1)
    cure = f"did you mean {close[0]}?" if close else "see: botswarm schedule list"
    raise NotFound(f"there is no entry {name!r} in the schedule", cure=cure)


@schedule.command("list")
@click.pass_obj
def list_entries(session: Session) -> Answer:
    """Print every entry: when it comes, how its last run ended, when the next is, what was missed.

    MISSED counts the slots of the last 24 hours that nobody sent; those of a pause do not count.
    """
    from botswarm.ledger.schedules import Known, missed_since
    from botswarm.schedule import SCHEDULE

    schedules = ledger_of(session).schedules
    now = datetime.now(UTC)
    known, pauses = schedules.known(), schedules.pauses(now)
    missed = [
        each for each in schedules.missed(since=now - DAY) if not each.reason.startswith("paused")
    ]
    rows, data = [], []
    for entry in SCHEDULE:
        here = known.get(entry.name, Known(name=entry.name))
        count = missed_since(missed, entry.name, now - DAY)
        state = state_of(here, pauses.get(entry.name))
        rows.append(
            (
                entry.name,
                entry_words(entry),
                state,
                moment_words(here.ended_at, now),
                took_words(here),
                result_words(here),
                moment_words(here.next_at, now),
                count,
            )
        )
        data.append(
            {
                **data_of(here),
                "every_s": entry.every_s,
                "at_s": entry.at_s,
                "task": entry.message.task,
                "is_vital": entry.is_vital,
                "state": state,
                "missed_24h": count,
            }
        )
    heads = ["ENTRY", "COMES", "STATE", "LAST", "TOOK", "RESULT", "NEXT", "MISSED"]
    noted = [each.noted_at for each in known.values() if each.noted_at is not None]
    warnings = []
    if not noted or now - max(noted) > NO_BEAT_AFTER:
        since = f"since {max(noted):%Y-%m-%d %H:%M:%S}" if noted else "yet"
        warnings.append(f"no beat has written down what it sends {since}: is one running?")
    return Answer(
        data=data,
        text=in_columns(heads, rows),
        warnings=warnings,
        next=["botswarm schedule history ENTRY"] if any(row[-1] for row in rows) else [],
    )


@schedule.command("history")
@click.argument("name", required=False)
@click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many."
)
@click.pass_obj
def history(session: Session, name: str | None, count: int) -> Answer:
    """Print the latest runs and missed slots of an entry, or of all.

    Entries that come more often than once a minute have no line for each run, only for what was
    missed.
    """
    if name is not None:
        _entry(name)
    schedules = ledger_of(session).schedules
    now = datetime.now(UTC)
    runs = schedules.runs(entry=name, limit=count)
    missed = schedules.missed(entry=name, limit=count)
    rows = [(run.due_at, run.entry, *run_words(run, now)) for run in runs]
    rows += [(each.to_at, each.entry, *missed_words(each)) for each in missed]
    latest = sorted(rows, key=lambda row: row[0], reverse=True)[:count]
    lines = [(f"{at:%Y-%m-%d %H:%M:%S}", *words) for at, *words in latest]
    text = in_columns(["DUE", "ENTRY", "WHAT", "TOOK", "RESULT"], lines)
    return Answer(
        data={
            "runs": [{**data_of(run), "state": run.state(now)} for run in runs],
            "missed": [data_of(each) for each in missed],
        },
        text=text if lines else "Nothing has been run or missed yet.",
    )


@schedule.command("pause")
@click.argument("name")
@click.option("--reason", required=True, help="Kept in the audit log, and shown to everybody.")
@click.option("--for", "lasting", metavar="DURATION", help="Such as 30m or 8h; else until resumed.")
@click.pass_obj
def pause(session: Session, name: str, reason: str, lasting: str | None) -> Answer:
    """Let an entry not be sent until it is resumed, or for a while. Beat obeys within a second.

    Of entries on which orders or money depend, it asks for --yes.
    """
    from botswarm.cli.moments import read
    from botswarm.cli.trading import person
    from botswarm.ledger.schedules import Pause

    entry = _entry(name)
    if entry.is_vital and not session.yes:
        raise Refused(
            f"orders or money depend on {name}",
            cure=f"if that is meant: botswarm schedule pause {name} --reason … --yes",
        )
    now = datetime.now(UTC)
    until = None
    if lasting is not None:
        before = read(lasting, now)
        if before is None or before >= now:
            raise click.UsageError(f"--for is {lasting!r}; write it as 30m, 8h or 2d")
        until = now + (now - before)
    said = Pause(name=name, at=now, until=until, actor=person(), reason=reason)
    ledger_of(session).schedules.pause(said)
    end = f"until {until:%Y-%m-%d %H:%M:%S}" if until else "until it is resumed"
    return Answer(
        data=data_of(said),
        text=f"{name} is paused {end}.",
        next=[f"botswarm schedule resume {name}"],
    )


@schedule.command("resume")
@click.argument("name")
@click.option("--reason", default="resumed from the command line", help="Kept in the audit log.")
@click.pass_obj
def resume(session: Session, name: str, reason: str) -> Answer:
    """Let a paused entry be sent again."""
    from botswarm.cli.trading import person

    _entry(name)
    schedules = ledger_of(session).schedules
    now = datetime.now(UTC)
    was_paused = schedules.resume(name, actor=person(), reason=reason, now=now)
    return Answer(
        data={"name": name, "was_paused": was_paused},
        text=f"{name} is sent again." if was_paused else f"{name} was not paused.",
    )


@schedule.command("run")
@click.argument("name")
@click.option("--reason", default="run from the command line", help="Kept in the audit log.")
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, min_open=True),
    metavar="SECONDS",
    help="Wait so long for it to end and print how it did (exit 7 if it has not).",
)
@click.pass_obj
def run(session: Session, name: str, reason: str, wait_s: float | None) -> Answer:
    """Send an entry's task now, also while it is paused. Its next slot comes as planned."""
    entry = _entry(name)
    schedules = ledger_of(session).schedules
    task_id = _send(session, entry, schedules, reason)
    done = None if wait_s is None else _ended(schedules, entry, task_id, wait_s)
    if done is None:
        return Answer(
            data={"name": name, "task_id": task_id},
            text=f"Sent {entry.message.task}: {task_id}",
            next=[f"botswarm schedule history {name}"],
        )
    words = f"{name} {done.outcome}: {done.result or 'it had nothing to say'}"
    failure = BotswarmError(words, cure="its log lines say more: botswarm logs search " + task_id)
    return Answer(
        data=data_of(done),
        text=words if done.outcome == "done" else "",
        failure=None if done.outcome == "done" else failure,
    )


def _send(session: Session, entry: Entry, schedules: Schedules, reason: str) -> str:
    from botswarm.cli.amqp import broker_of, channel
    from botswarm.cli.trading import person
    from botswarm.ledger.schedules import Sent
    from botswarm.messages import send
    from botswarm.queueing import make_app
    from botswarm.queueing.leadership import SLOT_HEADER, Slot

    url, _, hint = broker_of(session)
    # Celery would go on trying where nobody answers; this says at once what is wrong.
    with channel(url, start_hint=hint):
        pass
    now, task_id = datetime.now(UTC), str(uuid.uuid4())
    asked = Sent(
        task_id=task_id,
        entry=entry.name,
        slot=None,
        due_at=now,
        expires_at=None,
        sent_at=now,
        actor=person(),
    )
    schedules.ask(asked, reason=reason, now=now)
    at = now.timestamp()
    slot = Slot(entry.name, 0, at, at, at, is_kept=True)
    app: Any = make_app(session.settings(), set_as_current=False)
    try:
        headers = {SLOT_HEADER: slot.to_header()}
        send(app, entry.message, task_id=task_id, expires=None, headers=headers)
    finally:
        with contextlib.suppress(Exception):
            app.close()
    return task_id


def _ended(schedules: Schedules, entry: Entry, task_id: str, wait_s: float) -> Run:
    deadline = time.monotonic() + wait_s
    while True:
        found = schedules.run(task_id)
        if found is not None and found.outcome is not None:
            return found
        if time.monotonic() > deadline:
            state = found.state(datetime.now(UTC)) if found is not None else "waiting"
            raise TimedOut(
                f"{entry.name} ({task_id}) is still {state} after {wait_s:g} s",
                cure=f"see whether a worker runs {entry.message.queue}: botswarm queue list",
            )
        time.sleep(POLL_S)
