"""What the mending of queues does with a broker that answers otherwise than it should."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.exceptions import InternalError

from botswarm.queueing import link, mending
from botswarm.queueing.mending import Mender, Mending
from tests.integration.swarm import until

LOST = InternalError("INTERNAL_ERROR - Cannot get a message from queue: noproc")
OTHER = InternalError("INTERNAL_ERROR - Cannot get a message from queue: timeout")


class Broker:
    """One that says of each queue what it is told to say."""

    def __init__(self, **answers: Exception) -> None:
        self.answers = answers
        self.deleted: list[str] = []

    def channel(self) -> Any:
        return SimpleNamespace(
            queue_declare=self._declare,
            queue_delete=self.deleted.append,
            basic_get=self._get,
            exchange_declare=lambda **_: None,
            queue_bind=lambda **_: None,
            close=lambda: None,
        )

    def collect(self) -> None:
        pass

    def _declare(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(message_count=0)

    def _get(self, name: str, **_: Any) -> None:
        if (answer := self.answers.get(name.replace(".", "_"))) is not None:
            raise answer


def mender_of(broker: Broker, *names: str, now: list[float]) -> Mender:
    made = Mender(names, connect=lambda: broker, listen_anew=lambda: None, monotonic=lambda: now[0])
    made._queues = {  # what is declared is not the matter here
        name: lambda _: SimpleNamespace(declare=lambda: None) for name in names
    }
    return made


def test_the_trouble_of_one_queue_does_not_put_off_the_mending_of_another() -> None:
    now = [0.0]
    broker = Broker(orders=LOST, orders_dead=OTHER)
    mender = mender_of(broker, "orders", now=now)
    while now[0] < 12:
        mender.look()
        now[0] += 2
    assert broker.deleted == ["orders"]


def test_one_that_is_refused_for_another_reason_in_between_has_its_time_once_more() -> None:
    now = [0.0]
    broker = Broker(orders=LOST)
    mender = mender_of(broker, "orders", now=now)
    mender.look()
    for answer in (LOST, OTHER, LOST):
        now[0] += 6
        broker.answers = {"orders": answer}
        mender.look()
    assert broker.deleted == []


def test_the_thread_outlives_a_defect_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mending, "LOOK_S", 0.01)
    looks: list[None] = []

    def connect(_: Any) -> Any:
        looks.append(None)
        # What py-amqp raises where a connection ends under its hands.
        raise AttributeError("'NoneType' object has no attribute 'drain_events'")

    monkeypatch.setattr(mending, "_connection", connect)
    queues = SimpleNamespace(consume_from={"orders": None})
    worker = SimpleNamespace(app=SimpleNamespace(amqp=SimpleNamespace(queues=queues)))
    step = Mending(SimpleNamespace(steps=[]))
    with caplog.at_level(logging.ERROR):
        step.start(worker)
        try:
            until(lambda: len(looks) > 1, "a second look")
        finally:
            step.stop(worker)
    until(lambda: "queue mending" not in {t.name for t in threading.enumerate()}, "its end")
    assert "a defect; looking again" in caplog.text


def test_a_link_that_has_ended_already_is_not_connected_again_to_break_it_off() -> None:
    ended = amqp.Connection("127.0.0.1:1")
    ended.collect()
    link.break_off(SimpleNamespace(_connection=ended))
    assert ended._transport is None
