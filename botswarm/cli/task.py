"""List the tasks there are, and run one from the shell."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from botswarm.cli.amqp import broker_of, channel
from botswarm.cli.command import Group
from botswarm.cli.numbers import Seconds
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.errors import BotswarmError, NotFound, TimedOut

if TYPE_CHECKING:
    from botswarm.messages import Message


@click.group(cls=Group)
def task() -> None:
    """List the tasks there are, and run one from the shell."""


@task.command("list")
def list_tasks() -> Answer:
    """Print every task: its queue, what it takes and how long it is worth anything."""
    from botswarm.messages import ALL

    rows = [
        {
            "name": message.task,
            "queue": message.queue,
            "arguments": _arguments(message).split(),
            "expires_s": message.expires_s,
            "help": _purpose(message),
        }
        for message in ALL
    ]
    heads = ["TASK", "QUEUE", "ARGUMENTS", "EXPIRES AFTER S", "WHAT FOR"]
    lines = [
        (each.task, each.queue, _arguments(each) or "-", each.expires_s, _purpose(each))
        for each in ALL
    ]
    return Answer(data=rows, text=in_columns(heads, lines))


def _arguments(kind: type[Message]) -> str:
    return " ".join(_shown(field) for field in dataclasses.fields(kind))


def _purpose(kind: type[Message]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _shown(field: dataclasses.Field[Any]) -> str:
    return field.name if field.default is dataclasses.MISSING else f"{field.name}={field.default}"


@task.command("run")
@click.argument("name")
@click.option(
    "--arg", "-a", "arguments", multiple=True, metavar="NAME=VALUE", help="One of its arguments."
)
@click.option(
    "--wait",
    "wait_s",
    type=Seconds(0, min_open=True),
    metavar="SECONDS",
    help="Wait so long for it to end and print what it answered (exit 7 if it has not).",
)
@click.pass_obj
def run(session: Session, name: str, arguments: tuple[str, ...], wait_s: float | None) -> Answer:
    """Send a task to its queue, and with --wait print what it answered.

    NAME is the whole name or its end: probe is enough for workers.ops.probe.
    """
    from botswarm.messages import send
    from botswarm.queueing import make_app

    message = _message(_kind(name), arguments)
    settings = session.settings()
    url, _, hint = broker_of(session)
    # Celery would go on trying where nobody answers; this says at once what is wrong.
    with channel(url, start_hint=hint):
        pass
    app = make_app(settings, set_as_current=False)
    with _closing(app):
        asked_at = time.monotonic()
        task_id = send(app, message, ignore_result=wait_s is None)
        data: dict[str, object] = {"task": message.task, "queue": message.queue, "id": task_id}
        if wait_s is None:
            return Answer(data=data, text=f"Sent {message.task} to {message.queue}: {task_id}")
        data["answer"] = _answer(app, message, task_id, wait_s)
        data["took_s"] = round(time.monotonic() - asked_at, 3)
    return Answer(
        data=data, text=f"{message.task} answered after {data['took_s']} s: {data['answer']}"
    )


def _answer(app: Any, message: Message, task_id: str, wait_s: float) -> object:
    from celery.exceptions import TimeoutError as NoAnswer

    try:
        return app.AsyncResult(task_id).get(timeout=wait_s)
    except NoAnswer as error:
        raise TimedOut(
            f"{message.task} ({task_id}) did not answer within {wait_s:g} s",
            cure=f"see whether a worker runs: celery -A botswarm worker -Q {message.queue}; "
            "the task stays in its queue until then",
        ) from error
    except Exception as error:
        raise BotswarmError(
            f"{message.task} failed: {type(error).__name__}: {error}",
            cure=f"it is a dead letter now: botswarm queue peek {message.queue}.dead",
        ) from error


def _kind(name: str) -> type[Message]:
    from difflib import get_close_matches

    from botswarm.messages import ALL

    found = [each for each in ALL if each.task == name or each.task.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    names = [each.task for each in ALL]
    close = get_close_matches(name, [*names, *(n.rpartition(".")[2] for n in names)], n=1)
    cure = f"did you mean {close[0]}?" if close else "see: botswarm task list"
    raise NotFound(f"there is no task {name!r}", cure=cure)


def _message(kind: type[Message], arguments: Sequence[str]) -> Message:
    given = dict(_pair(argument) for argument in arguments)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if stray := sorted(set(given) - set(fields)):
        takes = ", ".join(_shown(field) for field in fields.values()) or "no arguments"
        raise click.UsageError(f"{kind.task} has no argument {stray[0]}; it takes {takes}")
    missing = [
        name
        for name, field in fields.items()
        if name not in given and field.default is dataclasses.MISSING
    ]
    if missing:
        raise click.UsageError(f"{kind.task} needs --arg {missing[0]}=VALUE")
    hints = get_type_hints(kind)
    return kind(**{name: _value(name, text, hints[name]) for name, text in given.items()})


def _pair(argument: str) -> tuple[str, str]:
    name, mark, value = argument.partition("=")
    if not mark:
        raise click.UsageError(f"--arg {argument} is not NAME=VALUE")
    return name, value


def _value(name: str, text: str, hint: Any) -> object:
    if hint is str:
        return text
    try:
        return hint(text)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise click.UsageError(f"{name} is {text!r}, not {hint.__name__}") from error


@contextlib.contextmanager
def _closing(app: Any) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            app.close()
