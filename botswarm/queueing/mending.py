"""Queues that the broker has lost on its disk and still lists: found, and made anew."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from amqp.exceptions import AMQPError, InternalError, ResourceLocked
from amqp.exceptions import NotFound as QueueMissing
from celery import bootsteps

from botswarm.queueing.leadership import bind_work
from botswarm.queueing.link import break_off
from botswarm.queueing.table import BY_NAME, declared

LOOK_S = 5.0
LOOK_AGAIN_S = 2.0
GRACE_S = 10.0
"""RabbitMQ brings a queue that failed back within moments, or not at all before it is restarted."""
ANSWER_S = 5.0
NO_PROCESS = "noproc"
LOCK = "botswarm.mending"
"""With the queue's name after it: an exclusive queue of whoever makes that one anew."""

logger = logging.getLogger(__name__)


class Stand(Enum):
    WELL = "well"
    LOST = "lost"
    """Listed, and nothing stands behind it: its log is damaged, or could not be written."""
    MISSING = "missing"
    UNSURE = "unsure"
    """The broker refuses it for another reason, which may pass."""


class Mending(bootsteps.StartStopStep):  # type: ignore[misc]
    """A worker's own thread. Without it a queue that was lost stays so: RabbitMQ tells those who
    consume from it nothing, and refuses those who come anew.
    """

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        names = [
            name for name in sorted(worker.app.amqp.queues.consume_from) if BY_NAME[name].quorum
        ]
        self._mender = Mender(
            names,
            connect=lambda: _connection(worker.app),
            listen_anew=lambda: break_off(getattr(worker.consumer, "connection", None)),
        )
        self._over = threading.Event()
        if names:
            threading.Thread(target=self._run, name="queue mending", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._over.set()

    terminate = stop

    def _run(self) -> None:
        while not self._over.wait(LOOK_AGAIN_S if self._mender.is_waiting else LOOK_S):
            try:
                self._mender.look()
            except (OSError, AMQPError) as error:
                # That there is no broker is said by those who cannot work without it.
                logger.debug("queues were not looked at: %s", error)
            except Exception:
                # With this thread ended nobody would look, and nobody would know.
                logger.exception("queues were not looked at: a defect; looking again")
        self._mender.close()


class Mender:
    """One thread's own. What waits in a queue that is made anew is lost, and was before; of ours
    all comes again, from the ledger or from the clock.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        connect: Callable[[], Any],
        listen_anew: Callable[[], None],
        grace_s: float = GRACE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = {queue.name: queue for queue in declared() if queue.name in set(names)}
        self._connect = connect
        self._listen_anew = listen_anew
        self._grace_s = grace_s
        self._monotonic = monotonic
        self._connection: Any = None
        self._lost_at: dict[str, float] = {}
        self._letters_lost: set[str] = set()

    @property
    def is_waiting(self) -> bool:
        return bool(self._lost_at)

    def look(self) -> None:
        """Raises OSError or AMQPError where the broker does not answer."""
        try:
            is_any_back = False
            for name in self._queues:
                is_any_back |= self._look_at(name)
                self._look_at_letters(name)
        except Exception:
            self.close()
            # Broken off or restarted: what comes of it deserves the whole time once more.
            self._lost_at = dict.fromkeys(self._lost_at, self._monotonic())
            raise
        if is_any_back:
            self._listen_anew()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)

    def _look_at(self, name: str) -> bool:
        """Whether it was lost and is back."""
        stand = self._stand(name)
        if stand is Stand.LOST and name not in self._lost_at:
            self._lost_at[name] = self._monotonic()
            logger.error(
                "queue %s: the broker lists it and has lost it (its log says why: a full disk, a "
                "damaged file); if that lasts %g s it is made anew, and what waited in it is rung "
                "again from the ledger",
                name,
                self._grace_s,
            )
        if name not in self._lost_at:
            return False
        if stand is Stand.WELL:
            # Once more: whoever made it anew may have ended before it came to that.
            with self._channel() as channel:
                bind_work(channel, name)
            self._lost_at.pop(name)
            logger.warning("queue %s is there again: listening to it anew", name)
            return True
        if stand is Stand.UNSURE:
            self._lost_at[name] = self._monotonic()
            return False
        if stand is Stand.MISSING or self._monotonic() - self._lost_at[name] >= self._grace_s:
            self._make_anew(name)
        return False

    def _make_anew(self, name: str) -> None:
        """One worker at a time, and only what is lost still: another may have been here before."""
        connection = self._connect()
        try:
            channel = connection.channel()
            channel.queue_declare(f"{LOCK}.{name}", exclusive=True)
            stand = self._stand(name)
            if stand is Stand.LOST:
                channel.queue_delete(name)
            if stand in (Stand.LOST, Stand.MISSING):
                self._queues[name](channel).declare()
                # A beat that leads binds when it begins, and is not told of a queue made anew.
                bind_work(channel, name)
                logger.error("queue %s was lost by the broker and is made anew", name)
        except ResourceLocked:
            logger.debug("queue %s is being made anew by another worker", name)
        finally:
            _end(connection)

    def _look_at_letters(self, name: str) -> None:
        """Dead letters wait for a person, and so does what becomes of them."""
        dead = BY_NAME[name].dead
        assert dead is not None
        if self._stand(dead) is not Stand.LOST:
            self._letters_lost.discard(dead)
        elif dead not in self._letters_lost:
            self._letters_lost.add(dead)
            logger.error(
                "queue %s: the broker lists it and has lost it; restart the broker with room on "
                "its disk, and if that does not bring it back: rabbitmqctl delete_queue %s",
                dead,
                dead,
            )

    def _stand(self, name: str) -> Stand:
        channel = self._channel()
        try:
            stand = _stand_of(channel, name)
        except InternalError as error:
            # The broker has closed the connection.
            self.close()
            if NO_PROCESS in str(error):
                return Stand.LOST
            logger.debug("queue %s was not looked at: %s", name, error)
            return Stand.UNSURE
        channel.close()
        return stand

    def _channel(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection.channel()


def _stand_of(channel: Any, name: str) -> Stand:
    """Raises InternalError where the broker cannot reach it."""
    try:
        # One that is lost has neither messages nor consumers. Where there are any, none is taken:
        # being handed out counts against a message.
        if channel.queue_declare(name, passive=True).message_count:
            return Stand.WELL
        message = channel.basic_get(name, no_ack=False)
    except QueueMissing:
        return Stand.MISSING
    if message is not None:
        channel.basic_reject(message.delivery_tag, requeue=True)
    return Stand.WELL


def _end(connection: Any) -> None:
    with contextlib.suppress(Exception):
        connection.collect()


def _connection(app: Any) -> Any:
    limits = {"read_timeout": ANSWER_S, "write_timeout": ANSWER_S}
    connection = app.connection_for_read(
        connect_timeout=ANSWER_S,
        heartbeat=0,
        transport_options={
            **app.conf.broker_transport_options,
            **limits,
            "client_properties": {"connection_name": "botswarm queue mending"},
        },
    )
    connection.connect()
    return connection
