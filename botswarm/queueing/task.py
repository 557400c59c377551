"""What every task does besides its work: it is capped, logged, counted, and fails in one line."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import celery
from celery import Task as CeleryTask
from celery.exceptions import Ignore, Retry

from botswarm import logs, metrics
from botswarm.errors import BotswarmError
from botswarm.messages import Message, Sends
from botswarm.queueing import slots
from botswarm.queueing.table import BY_NAME, queue_of

if TYPE_CHECKING:
    from botswarm.config import Settings

logger = logging.getLogger("botswarm.task")

BOUND = ("bot_id", "order_id")
NO_SLOT_RETRY_S = 1


class Task(CeleryTask):  # type: ignore[misc]
    abstract = True
    # Expected errors get one line of ours instead of a traceback.
    throws = (BotswarmError,)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """A task whose name says its queue gets that queue's time limits."""
        row = queue_of(cls.name or "")
        # With limits of its own it has said both: a soft one above a hard one disables the hard.
        if row is not None and cls.soft_time_limit is None and cls.time_limit is None:
            cls.soft_time_limit, cls.time_limit = row.soft_limit_s, row.hard_limit_s

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fields = {name: str(kwargs[name]) for name in BOUND if name in kwargs}
        with logs.bound(task=self.name, task_id=str(self.request.id), **fields):
            queue, cap = self._swarm_cap()
            if not cap:
                return self._timed(*args, **kwargs)
            began = time.monotonic()
            with slots.held(self.app.slots, queue, cap, self._patience()) as mine:
                metrics.SLOT_WAIT_SECONDS.labels(queue).observe(time.monotonic() - began)
                if mine:
                    return self._timed(*args, **kwargs)
            return self._come_back(queue, cap)

    def signature_from_request(
        self,
        request: Any = None,
        args: Any = None,
        kwargs: Any = None,
        queue: Any = None,
        **options: Any,
    ) -> Any:
        """A retry goes to the task's queue: what beat sends goes through an exchange that is
        beat's alone, and it reads there what it did last.
        """
        info = (request or self.request).delivery_info or {}
        if queue is None and info.get("routing_key") in BY_NAME:
            queue = info["routing_key"]
        return super().signature_from_request(request, args, kwargs, queue=queue, **options)

    def _swarm_cap(self) -> tuple[str, int | None]:
        """By the queue the message came from, which is not always the one its name says."""
        queue = (self.request.delivery_info or {}).get("routing_key", "")
        return queue, self.app.swarm_caps.get(queue)

    def _patience(self) -> float:
        """Waiting counts towards the time limit, so it ends long before that."""
        return float(self.soft_time_limit or 60) / 2

    def _come_back(self, queue: str, cap: int) -> Any:
        metrics.TASKS.labels(self.name, "no_slot").inc()
        logger.warning("none of the %d slots of %s can be had: trying again", cap, queue)
        raise self.retry(countdown=NO_SLOT_RETRY_S, max_retries=None)

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        outcome = "failed"
        try:
            answer = super().__call__(*args, **kwargs)
            outcome = "done"
            return answer
        except (Retry, Ignore):
            outcome = "retried"
            raise
        except BotswarmError as error:
            logger.error("%s%s", error, f"; {error.cure}" if error.cure else "")
            raise
        finally:
            took = time.monotonic() - began
            metrics.TASKS.labels(self.name, outcome).inc()
            metrics.TASK_SECONDS.labels(self.name).observe(took)
            logger.debug("%s in %.1f ms", outcome, took * 1e3)


Function = Callable[..., Any]


def task(message: type[Message], **options: Any) -> Callable[[Function], Function]:
    """Make a function the task of a message: it takes the message's fields by name.

    The function stays free of the app: it belongs to every app that is made in this process.
    """

    def decorate(function: Function) -> Function:
        _check_fields(message, function)
        shared = celery.shared_task(name=message.task, **options)
        return cast("Function", shared(function))

    return decorate


def _check_fields(message: type[Message], function: Function) -> None:
    fields = list(inspect.signature(message).parameters.values())
    taken = list(inspect.signature(function).parameters.values())
    if [(each.name, each.default) for each in fields] != [(e.name, e.default) for e in taken]:
        raise TypeError(
            f"the task of {message.__name__} takes ({', '.join(map(str, taken))}); "
            f"the message has ({', '.join(map(str, fields))})"
        )


class Doorbell(Protocol):
    """A message that a transaction of the ledger left to be published."""

    @property
    def task(self) -> str: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...
    @property
    def queue(self) -> str: ...
    @property
    def task_id(self) -> str: ...


def ring(doorbell: Doorbell, app: Sends | None = None) -> None:
    """Publish it, inside a task by the app that runs it; returns once the broker has it."""
    (celery.current_app if app is None else app).send_task(
        doorbell.task,
        kwargs=dict(doorbell.kwargs),
        queue=doorbell.queue,
        task_id=doorbell.task_id,
        ignore_result=True,
    )


def current_settings() -> Settings:
    """The settings of the app that runs the current task."""
    return cast("Settings", celery.current_app.settings)
