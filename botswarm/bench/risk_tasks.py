"""Two tasks that do nothing, for our own worker; it is given them with ``-I``."""

from __future__ import annotations

from typing import Any

from celery import shared_task

NOOP, ECHO = "workers.risk.bench_noop", "workers.risk.bench_echo"


@shared_task(name=NOOP)  # type: ignore[untyped-decorator]
def noop() -> None:
    return None


@shared_task(name=ECHO)  # type: ignore[untyped-decorator]
def echo(value: Any) -> Any:
    return value
