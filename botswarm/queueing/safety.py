"""What a worker or beat refuses to start with: settings under which an order could be lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

SAFE: Mapping[str, tuple[object, str]] = {
    "task_acks_late": (True, "a worker that dies would take its tasks with it"),
    "task_reject_on_worker_lost": (True, "a task whose process died would count as done"),
    "task_acks_on_failure": (False, "a failed task would leave no dead letter"),
    "task_acks_on_timeout": (False, "a task that hung would leave no dead letter"),
    "worker_prefetch_multiplier": (1, "a worker would sit on tasks that others could run"),
    "task_create_missing_queues": (False, "a misspelt queue would be a new queue nobody reads"),
    "worker_cancel_long_running_tasks_on_connection_loss": (
        False,
        "a lost connection would kill an order in the middle of being placed",
    ),
    "task_always_eager": (False, "tasks would run in the sender, past every queue and cap"),
    "task_publish_retry": (True, "a dropped connection would lose what is being sent"),
    "task_serializer": ("json", "other formats can run code when they are read"),
    "result_serializer": ("json", "other formats can run code when they are read"),
    "accept_content": (["json"], "other formats can run code when they are read"),
}


class StartRefused(click.ClickException):
    """Shown by Celery's own command line as one message, without a traceback."""

    exit_code = 8


def problems(conf: Any, tasks: Iterable[Any] = ()) -> list[str]:
    """Everything that is unsafe, at once."""
    found = [
        f"{name} is {conf[name]!r}, it must be {wanted!r}: {reason}"
        for name, (wanted, reason) in SAFE.items()
        if not _same(conf[name], wanted)
    ]
    if not (conf.broker_transport_options or {}).get("confirm_publish"):
        found.append(
            "broker_transport_options has no confirm_publish: a message the broker never took "
            "would count as sent"
        )
    for task in tasks:
        for option in ("acks_late", "reject_on_worker_lost", "acks_on_failure", "acks_on_timeout"):
            wanted, reason = SAFE[f"task_{option}"]
            value = getattr(task, option, None)
            if value is not None and value != wanted:
                found.append(f"the task {task.name} has {option}={value!r}: {reason}")
    return found


def _same(value: object, wanted: object) -> bool:
    if isinstance(wanted, list) and isinstance(value, list | tuple | set | frozenset):
        return set(value) == set(wanted)
    return value == wanted


def check(conf: Any, tasks: Iterable[Any] = ()) -> None:
    if found := problems(conf, tasks):
        raise StartRefused("refusing to start:\n" + "\n".join(f"  - {line}" for line in found))


def check_worker(options: Mapping[str, Any], pool: str | None) -> None:
    """The flags of ``celery worker`` that would undo a cap or a time limit."""
    found = []
    if options.get("autoscale"):
        found.append("--autoscale does not go with caps; leave it out, or set BOTSWARM_WORKER_CAPS")
    if pool is not None:
        found.append(
            f"--pool {pool} is not for these queues: only prefork ends a task that hangs; "
            "leave --pool out"
        )
    if found:
        raise StartRefused("refusing to start:\n" + "\n".join(f"  - {line}" for line in found))
