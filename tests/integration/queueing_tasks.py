"""Tasks that write down when they ran, for tests of the queues; a worker gets them with -I."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import shared_task, signals
from celery.worker.control import control_command

EVENTS = Path(os.environ.get("QUEUEING_TEST_EVENTS", os.devnull))


def write(kind: str, number: int) -> None:
    # One write of one short line to a file opened for appending is never torn.
    descriptor = os.open(EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{time.time()} {kind} {number} {os.getpid()} {os.getppid()}\n".encode())
    os.close(descriptor)


@shared_task(name="workers.orders.nap")  # type: ignore[untyped-decorator]
def nap(number: int, seconds: float) -> int:
    write("start", number)
    time.sleep(seconds)
    write("end", number)
    return number


@shared_task(name="workers.orders.fail")  # type: ignore[untyped-decorator]
def fail(number: int) -> None:
    write("start", number)
    raise ValueError("this one always fails")


@shared_task(name="workers.orders.die")  # type: ignore[untyped-decorator]
def die(number: int) -> None:
    write("start", number)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="workers.orders.linger")  # type: ignore[untyped-decorator]
def linger(number: int) -> None:
    """The child does not end when it should."""
    signals.worker_process_shutdown.connect(lambda **_: time.sleep(100), weak=False)
    write("end", number)


@shared_task(name="workers.orders.hang", soft_time_limit=1, time_limit=2)  # type: ignore[untyped-decorator]
def hang(number: int) -> None:
    write("start", number)
    time.sleep(60)


@control_command()  # type: ignore[untyped-decorator]
def break_loop(state: Any) -> None:
    """As a defect of the loop itself does, of which Celery says that it cannot recover."""

    def fail() -> None:
        raise ValueError("the loop is broken")

    state.consumer.hub.call_soon(fail)


@control_command()  # type: ignore[untyped-decorator]
def hold_loop(state: Any) -> None:
    """As a question does that nobody answers."""
    state.consumer.hub.call_soon(time.sleep, 100)
