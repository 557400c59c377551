"""The Celery app itself: settings, routes, and a send that loses no message silently."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from amqp.exceptions import ChannelError
from amqp.exceptions import ConnectionError as ConnectionLost
from celery import Celery, signals
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from botswarm import logs
from botswarm.config import Settings
from botswarm.errors import NotFound, Unreachable
from botswarm.queueing import safety, slots
from botswarm.queueing.table import BY_NAME, DEFAULT, TABLE, WORK, declared, queue_of

logger = logging.getLogger(__name__)

NO_ROUTE = 312
CONFIRM_S = 5.0
"""So long a message may take to be in the broker; then it is sent anew, up to three times, each
over a new link."""
ANSWER_S = 10.0
"""So long the broker may take to answer anything else: to open a channel, to declare a queue."""
WORKERS = (
    *("workers.ops", "workers.orders", "workers.strategy", "workers.risk", "workers.backtest"),
    "workers.runs",
)
HEARTBEAT_S = 10
SOFT_SHUTDOWN_S = 20.0
CHILD_TASKS_MAX = 20_000
CHILD_MEMORY_MAX_KB = 500_000


class Unroutable(NotFound):
    """A message found no queue; it was given back and is nowhere."""


class NoBroker(safety.StartRefused):
    exit_code = 5


class App(Celery):  # type: ignore[misc]
    amqp_cls = "botswarm.queueing.caps:CappedAMQP"
    events_cls = "botswarm.queueing.events:Events"
    task_cls = "botswarm.queueing.task:Task"

    def __init__(self, settings: Settings, **kwargs: Any) -> None:
        self.settings = settings
        self.caps = {row.name: row.cap for row in TABLE} | dict(settings.worker_caps or {})
        limits = {row.name: row.swarm_cap for row in TABLE if row.swarm_cap is not None}
        self.swarm_caps = limits | dict(settings.swarm_caps or {})
        self.slots = slots.slots_of(settings.database_url.reveal(), settings.state_dir)
        super().__init__("botswarm", **kwargs)

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        return self.subclass_with_self("botswarm.queueing.worker:Worker")

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        return self.subclass_with_self("botswarm.queueing.worker:Beat")

    def __reduce__(self) -> Any:
        raise TypeError("the app is made from the settings in each process, never sent")

    def _connection(self, url: Any, **kwargs: Any) -> Any:
        if self.settings.broker_url is None:
            raise NoBroker(
                f"no broker is configured, and none was started in {self.settings.state_dir}; "
                "start one: botswarm broker run; or set BOTSWARM_BROKER_URL"
            )
        return super()._connection(url, **kwargs)

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """As Celery's, but a message without a queue is an error and no delay is cut short.

        Raises Unroutable, or Unreachable where the broker did not confirm the message.
        """
        options.setdefault("mandatory", True)
        # Without it a link that fell silent, or a queue that was lost, is waited for for ever.
        options.setdefault("timeout", CONFIRM_S)
        _round_up_delay(options)
        self._keep_expired_from_the_dead(name, options)
        with self.producer_or_acquire(options.pop("producer", None)) as producer:
            try:
                return super().send_task(name, *args, producer=producer, **options)
            except ChannelError as error:
                if error.reply_code != NO_ROUTE:
                    raise _not_taken(name, error, producer) from error
                _take_new_channel(producer)
                raise _unroutable(name, error) from error
            except OperationalError as error:
                if getattr(error.__cause__, "reply_code", None) == NO_ROUTE:
                    _take_new_channel(producer)
                    raise _unroutable(name, error) from error
                raise _not_taken(name, error, producer) from error
            except ConnectionLost as error:
                # Those of the client library that its caller is not to try again after.
                raise _not_taken(name, error, producer) from error

    def _keep_expired_from_the_dead(self, name: str, options: dict[str, Any]) -> None:
        """Leave it to the worker to drop what is too late, where a queue has dead letters.

        To the broker a message that expires in such a queue is a dead letter like any other, and
        nobody wants to find a night's worth of sweeps among the orders that failed.
        """
        queue = options.get("queue")
        row = BY_NAME.get(queue) if isinstance(queue, str) else queue_of(name)
        if row is None or row.dead is None or options.get("expires") is None:
            return
        expires = options.pop("expires")
        if isinstance(expires, int | float):
            expires = datetime.now(UTC) + timedelta(seconds=expires)
        if isinstance(expires, datetime):
            expires = expires.isoformat()
        options["headers"] = {**(options.get("headers") or {}), "expires": expires}


def _round_up_delay(options: dict[str, Any]) -> None:
    """Native delays are whole seconds: Celery cuts fractions off, and fails below one."""
    countdown = options.get("countdown")
    eta = options.get("eta")
    if eta is not None:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        countdown = (moment - datetime.now(UTC)).total_seconds()
    if countdown is None:
        return
    options.pop("eta", None)
    options["countdown"] = math.ceil(countdown) if countdown > 0 else None


def _take_new_channel(producer: Any) -> None:
    """The returned message's confirm is still to come; the next one would take it for its own."""
    spoilt = producer.channel
    producer.revive(producer.connection.channel())
    spoilt.close()


def _not_taken(name: str, error: Exception, producer: Any) -> Unreachable:
    # A confirm that comes late after all would be taken for the next message's.
    if (connection := producer.connection) is not None:
        connection.collect()
    return Unreachable(
        f"the broker did not take {name}: {str(error) or 'no confirm'}",
        cure="check the broker: botswarm broker status",
    )


def _unroutable(name: str, error: Exception) -> Unroutable:
    return Unroutable(
        f"no queue takes the message {name}: {error}",
        cure="start a worker once, it creates the queues: celery -A botswarm worker",
    )


def configuration(settings: Settings) -> Mapping[str, Any]:
    return {
        "broker_url": settings.broker_url.reveal() if settings.broker_url else None,
        "include": _importable(WORKERS),
        # queues: what is not in the table does not exist
        "task_queues": declared(),
        "task_create_missing_queues": False,
        "task_default_queue": DEFAULT,
        "task_default_exchange": WORK,
        "task_default_exchange_type": "topic",
        "task_default_routing_key": DEFAULT,
        "task_routes": {f"workers.{row.name}.*": {"queue": row.name} for row in TABLE},
        # an acknowledgement says: it is done, or it is in the dead letters
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": False,
        "task_acks_on_timeout": False,
        "worker_prefetch_multiplier": 1,
        # what is sent has arrived
        "broker_transport_options": {
            "confirm_publish": True,
            # of waits that have no limit of their own: a silent link would hold beat for ever
            "read_timeout": ANSWER_S,
            "write_timeout": ANSWER_S,
        },
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 1,
        },
        "broker_pool_acquire_timeout": 10,
        "broker_native_delayed_delivery_queue_type": "quorum",
        # a broker that restarts is waited for, however long it takes
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_heartbeat": HEARTBEAT_S,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_proc_alive_timeout": 30,
        "worker_max_tasks_per_child": CHILD_TASKS_MAX,
        "worker_max_memory_per_child": CHILD_MEMORY_MAX_KB,
        # JSON runs nothing when it is read
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        # The ledger is the result. Whoever wants an answer asks for it in the call, and it comes
        # over the broker to the one who asked: no further server, nothing kept.
        "task_ignore_result": True,
        "result_backend": "rpc://",
        "result_expires": 300,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_scheduler": "workers.beat:LedgerScheduler",
        "beat_max_loop_interval": 1,
    }


def _importable(modules: tuple[str, ...]) -> list[str]:
    from importlib.util import find_spec

    return [name for name in modules if find_spec(name) is not None]


def make_app(settings: Settings, *, set_as_current: bool = True) -> App:
    app = App(settings, set_as_current=set_as_current)
    app.conf.update(configuration(settings))
    app.steps["worker"].add("botswarm.queueing.mending:Mending")
    return app


# --- logging -------------------------------------------------------------------------------------


@signals.setup_logging.connect(weak=False)
def _set_up_logging(**_: Any) -> None:
    from celery import current_app

    settings = getattr(current_app, "settings", None)
    if settings is None:
        return
    logs.configure(settings)
    # Two lines a task, of every task: our own line on its end says more.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").addFilter(_without_second_traceback)


def _without_second_traceback(record: logging.LogRecord) -> bool:
    """Celery says everything once in the record itself and once more in its extra ``data``."""
    record.__dict__.pop("data", None)
    # A task that gave its message back did so on purpose: nobody needs the places it did it in.
    if record.exc_info and isinstance(record.exc_info[1], Reject):
        record.exc_info = None
    return True
