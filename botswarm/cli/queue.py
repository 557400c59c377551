"""List, look into and empty the broker's queues."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click

from botswarm.cli.amqp import broker_of, channel, vhost_of
from botswarm.cli.command import Group
from botswarm.cli.failures import ManagementUnreachable, NotConfirmed, QueueNotFound
from botswarm.cli.management import Management
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.config import Secret
from botswarm.errors import BotswarmError, Refused

BODY_SHOWN_BYTES = 2_000
PEEK_COUNT_MAX = 1_000


@click.group(cls=Group)
def queue() -> None:
    """List, look into and empty the broker's queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """None stands for what the source at hand cannot tell."""

    name: str
    type: str | None = None
    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    dead_letter_to: str | None = None


@queue.command("list")
@click.argument("names", nargs=-1)
@click.option("--all", "all_queues", is_flag=True, help="Celery's empty queues for delays, too.")
@click.pass_obj
def list_queues(session: Session, names: tuple[str, ...], all_queues: bool) -> Answer:
    """Print the queues, or the NAMES among them, with what waits in them.

    Without a management API a broker cannot list its queues: then give their names.
    """
    url, management_url, hint = broker_of(session)
    warnings: list[str] = []
    rows: Sequence[QueueRow] | None = None
    if management_url is not None:
        try:
            rows = _from_management(management_url, vhost_of(url), names)
            if not names and not all_queues:
                rows = [row for row in rows if not _is_an_empty_delay(row)]
        except ManagementUnreachable as error:
            if not names:
                raise
            warnings.append(f"{error.cause}; {error.cure}")
    if rows is None:
        if not names:
            raise click.UsageError(
                "the broker's queues cannot be listed without its management API: set "
                "BOTSWARM_BROKER_MANAGEMENT_URL, or give the names of the queues"
            )
        warnings.append("without the management API, types, unacked and dead letters are unknown")
        rows = _from_declares(url, names, hint)
    heads = ["NAME", "TYPE", "READY", "UNACKED", "CONSUMERS", "DEAD LETTERS TO"]
    table = in_columns(heads, [tuple(asdict(row).values()) for row in rows])
    text = table if rows else f"There are no queues in the vhost {vhost_of(url)}."
    return Answer(data=[asdict(row) for row in rows], text=text, warnings=warnings)


def _is_an_empty_delay(row: QueueRow) -> bool:
    """Celery makes 28 of these in each vhost; they say something only when a task waits there."""
    return row.name.startswith("celery_delayed_") and not (row.ready or row.unacked)


def _from_management(url: Secret, vhost: str, names: Sequence[str]) -> list[QueueRow]:
    rows = sorted(
        (_row(found) for found in Management(url).queues(vhost)), key=lambda row: row.name
    )
    if not names:
        return rows
    by_name = {row.name: row for row in rows}
    for name in names:
        if name not in by_name:
            raise _not_found(name, list(by_name))
    return [by_name[name] for name in names]


def _row(found: Mapping[str, Any]) -> QueueRow:
    arguments = found.get("arguments") or {}
    policy = found.get("effective_policy_definition") or {}
    # A queue's own arguments are stronger than the policy that matches it.
    exchange = arguments.get("x-dead-letter-exchange", policy.get("dead-letter-exchange"))
    key = arguments.get("x-dead-letter-routing-key", policy.get("dead-letter-routing-key"))
    target = None
    if exchange is not None:
        target = " ".join(filter(None, [exchange or "(default exchange)", key and f"key {key}"]))
    return QueueRow(
        name=str(found.get("name")),
        type=str(found.get("type") or arguments.get("x-queue-type") or "classic"),
        ready=found.get("messages_ready"),
        unacked=found.get("messages_unacknowledged"),
        consumers=found.get("consumers"),
        dead_letter_to=target,
    )


def _from_declares(url: Secret, names: Sequence[str], hint: str) -> list[QueueRow]:
    rows = []
    for name in names:
        # An unknown queue closes its channel, so each name has its own.
        with _open(url, None, name, hint) as opened:
            answer = opened.queue_declare(name, passive=True)
            rows.append(
                QueueRow(name=name, ready=answer.message_count, consumers=answer.consumer_count)
            )
    return rows


@queue.command("peek")
@click.argument("name")
@click.option(
    "--count",
    type=click.IntRange(1, PEEK_COUNT_MAX),
    default=1,
    show_default=True,
    help="How many messages to show.",
)
@click.pass_obj
def peek(session: Session, name: str, count: int) -> Answer:
    """Print the first messages of a queue and leave them there.

    The broker gives them out and takes them back: they are marked redelivered, and in a quorum
    queue each look counts towards the delivery limit.
    """
    url, management_url, hint = broker_of(session)
    with _open(url, management_url, name, hint) as opened:
        messages: list[Any] = []
        while len(messages) < count:
            message = opened.basic_get(name, no_ack=False)
            if message is None:
                break
            messages.append(message)
        waiting = messages[-1].delivery_info["message_count"] if messages else 0
        # In the order they came: a quorum queue gives returned messages out again in that order,
        # a classic one puts each back where it was.
        for message in messages:
            opened.basic_reject(message.delivery_tag, requeue=True)
        # The broker answers in order: with this answer it has taken them back.
        opened.queue_declare(name, passive=True)
    described = [_described(message) for message in messages]
    parts = [_as_text(number, each) for number, each in enumerate(described, start=1)]
    text = "\n\n".join(parts) if parts else f"The queue {name} holds no message that is ready."
    data = {"queue": name, "messages": described, "more": waiting}
    return Answer(data=data, text=text)


def _described(message: Any) -> dict[str, object]:
    body = message.body
    raw = body.encode() if isinstance(body, str) else bytes(body)
    headers = dict(message.headers or {})
    info = message.delivery_info
    return {
        "task": headers.get("task"),
        "task_id": headers.get("id"),
        "exchange": info["exchange"],
        "routing_key": info["routing_key"],
        "redelivered": bool(info["redelivered"]),
        "dead_lettered": [_death(death) for death in headers.get("x-death") or []],
        "properties": {
            key: value for key, value in message.properties.items() if key != "application_headers"
        },
        "headers": headers,
        "bytes": len(raw),
        "body": raw[:BODY_SHOWN_BYTES].decode("utf-8", errors="replace"),
        "body_truncated": len(raw) > BODY_SHOWN_BYTES,
    }


def _death(death: Mapping[str, Any]) -> dict[str, object]:
    return {key: death.get(key) for key in ("reason", "queue", "count", "time")}


def _as_text(number: int, message: Mapping[str, Any]) -> str:
    title = message["task"] or "(no Celery task)"
    lines = [f"{number}. {title}  {message['task_id'] or ''}".rstrip()]
    lines.append(
        f"   exchange {message['exchange'] or '(default)'}, routing key {message['routing_key']}, "
        f"{message['bytes']} bytes{', redelivered' if message['redelivered'] else ''}"
    )
    for death in message["dead_lettered"]:
        lines.append(f"   dead-lettered: {death['reason']} in {death['queue']}, {death['count']} x")
    headers = {k: v for k, v in message["headers"].items() if k not in ("task", "id", "x-death")}
    lines += [f"   {key}: {value}" for key, value in headers.items() if value is not None]
    lines.append("   " + message["body"] + (" ..." if message["body_truncated"] else ""))
    return "\n".join(lines)


@queue.command("purge")
@click.argument("name")
@click.pass_obj
def purge(session: Session, name: str) -> Answer:
    """Delete every message that waits in a queue. They cannot be brought back.

    Asks for the queue's name to be typed; scripts confirm with --yes.
    """
    url, management_url, hint = broker_of(session)
    with _open(url, management_url, name, hint) as opened:
        count = opened.queue_declare(name, passive=True).message_count
        _confirm(session, "purge", name, f"delete {count} messages")
        purged = opened.queue_purge(name)
    data = {"queue": name, "purged": purged}
    return Answer(data=data, text=f"Deleted {purged} message{'s'[: purged != 1]} from {name}.")


@queue.command("dead")
@click.pass_obj
def dead(session: Session) -> Answer:
    """Print how many dead letters each queue has: tasks that failed, hung or were lost."""
    from botswarm.queueing.dead import count
    from botswarm.queueing.table import TABLE

    url, _, hint = broker_of(session)
    rows = []
    for row in TABLE:
        if row.dead is not None:
            with channel(url, start_hint=hint) as opened:
                rows.append((row.name, row.dead, count(opened, row.dead)))
    data = [{"queue": name, "dead": name_dead, "letters": n} for name, name_dead, n in rows]
    text = in_columns(["QUEUE", "DEAD LETTERS IN", "LETTERS"], rows)
    next_ = [f"botswarm queue peek {name_dead}" for _, name_dead, n in rows if n]
    return Answer(data=data, text=text, next=next_)


@queue.command("requeue")
@click.argument("name")
@click.option(
    "--count", "-n", type=click.IntRange(1), help="How many, oldest first; all where not given."
)
@click.pass_obj
def requeue(session: Session, name: str, count: int | None) -> Answer:
    """Send the dead letters of a queue back to it, so that they are tried again.

    NAME is the queue or its dead letters: orders and orders.dead mean the same. Each letter goes
    back exactly once, even if this command is killed. Asks for the name to be typed; scripts
    confirm with --yes.
    """
    from botswarm.queueing import dead as letters

    row = letters.row_of(name)
    url, management_url, hint = broker_of(session)
    assert row.dead is not None
    with channel(url, start_hint=hint) as opened:
        waiting = letters.count(opened, row.dead)
    if waiting:
        wanted = waiting if count is None else min(count, waiting)
        _confirm(session, "requeue", name, f"run {wanted} tasks again")
        with _open(url, management_url, row.dead, hint):
            done = letters.requeue(url.reveal(), row, count)
    else:
        done = {"requeued": 0, "left": 0}
    text = f"Requeued {done['requeued']} to {row.name}; {done['left']} left in {row.dead}."
    data = {"queue": row.name, "dead": row.dead, **done}
    return Answer(data=data, text=text, next=["botswarm queue list"] if done["requeued"] else [])


def _confirm(session: Session, verb: str, name: str, effect: str) -> None:
    if session.yes:
        return
    terminal = sys.stdin.isatty()
    if terminal and not session.no_input and not session.json:
        typed = click.prompt(
            f"This would {effect}. Type {name} to go on",
            default="",
            show_default=False,
            err=True,
        )
        if typed == name:
            return
        raise NotConfirmed("the name was not typed: nothing was done", cure="type it, or --yes")
    raise NotConfirmed(
        f"to {verb} {name} would {effect}, and nobody confirmed it",
        cure=f"if that is meant: botswarm queue {verb} {json.dumps(name)} --yes",
    )


@contextmanager
def _open(url: Secret, management_url: Secret | None, name: str, hint: str) -> Iterator[Any]:
    """A channel on which an unknown queue is reported with the name that was probably meant."""
    from amqp.exceptions import ChannelError, NotFound, ResourceLocked

    try:
        with channel(url, start_hint=hint) as opened:
            yield opened
    except NotFound as error:
        raise _not_found(name, _names(management_url, vhost_of(url))) from error
    except ResourceLocked as error:
        raise Refused(
            f"the queue {name!r} belongs to another connection alone",
            cure="nobody else may look into an exclusive queue",
        ) from error
    except ChannelError as error:
        raise BotswarmError(f"the broker refused: {error.reply_text}") from error


def _names(management_url: Secret | None, vhost: str) -> list[str]:
    """For a hint only: where nobody can list the queues there is none to give."""
    if management_url is None:
        return []
    try:
        return [str(row["name"]) for row in Management(management_url).queues(vhost)]
    except ManagementUnreachable:
        return []


def _not_found(name: str, known: Sequence[str]) -> QueueNotFound:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    cure = f"did you mean {close[0]}?" if close else "see: botswarm queue list"
    return QueueNotFound(f"there is no queue {name!r}", cure=cure)
