"""A queue that RabbitMQ lists and has lost is made anew, and nothing that is well is touched."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import InternalError
from kombu import Connection, Producer  # type: ignore[attr-defined]  # exported lazily

from botswarm.queueing import make_app
from botswarm.queueing.leadership import Leadership, Marks, Slot
from botswarm.queueing.mending import Mender
from botswarm.queueing.table import declared
from botswarm.schedule import SCHEDULE
from botswarm.testing.servers import RabbitMQServer
from tests.integration.swarm import Swarm, until
from tests.settings import settings_of


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as running:
        yield running


@pytest.fixture
def vhost(server: RabbitMQServer) -> Iterator[str]:
    name = f"m-{uuid.uuid4().hex[:8]}"
    server.add_vhost(name)
    yield name
    server.delete_vhost(name)


def lose(server: RabbitMQServer, vhost: str, queue: str) -> None:
    """As after a start with a damaged log: the queue is listed, and has no process."""
    member = f'{{list_to_atom("{vhost}_{queue}"), node()}}'
    assert server.control("eval", f"ra:stop_server(quorum_queues, {member}).").strip() == "ok"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Room:
    """A mender, its clock, and a look at the broker by somebody else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self.listened_anew = 0
        self.meanwhile: Callable[[], None] = lambda: None
        """What another worker does before the mender is connected anew."""
        self.mender = Mender(
            ["orders"],
            connect=self._connection_of_the_mender,
            listen_anew=self._listen,
            monotonic=self.clock,
        )
        with self._connection() as connection:
            for queue in declared():
                queue(connection.channel()).declare()

    def _connection_of_the_mender(self) -> Any:
        self.meanwhile()
        return self._connection()

    def _connection(self) -> Any:
        options = {"confirm_publish": True}
        return Connection(self.url, transport_options=options)  # type: ignore[no-untyped-call]

    def _listen(self) -> None:
        self.listened_anew += 1

    def make_anew(self) -> None:
        with self._connection() as connection:
            channel = connection.channel()
            channel.queue_delete("orders")
            next(each for each in declared() if each.name == "orders")(channel).declare()

    def put(self, body: str) -> None:
        with self._connection() as connection:
            Producer(connection.channel()).publish(body, routing_key="orders", exchange="")  # type: ignore[no-untyped-call]

    def look(self, *, after_s: float = 0.0) -> bool:
        """Whether something is lost still."""
        self.clock.now += after_s
        self.mender.look()
        return self.mender.is_waiting

    def take(self, queue: str = "orders") -> tuple[str, bool] | None:
        """A message and whether it was handed out before."""
        with self._connection() as connection:
            message = connection.channel().basic_get(queue, no_ack=False)
            if message is None:
                return None
            message.channel.basic_ack(message.delivery_tag)
            return str(message.body), bool(message.headers.get("x-delivery-count"))


@pytest.fixture
def room(server: RabbitMQServer, vhost: str) -> Iterator[Room]:
    made = Room(server.url(vhost))
    yield made
    made.mender.close()


def test_what_waits_in_a_healthy_queue_is_not_even_handed_out(room: Room) -> None:
    room.put("one")
    for _ in range(3):
        room.look(after_s=60)
    assert room.take() == ("one", False)
    room.look(after_s=60)
    assert room.listened_anew == 0


def test_a_lost_queue_is_given_time_and_then_made_anew(
    room: Room, server: RabbitMQServer, vhost: str
) -> None:
    lose(server, vhost, "orders")
    room.look()
    room.look(after_s=9)
    with pytest.raises(InternalError):
        room.take()
    assert room.mender.is_waiting
    room.look(after_s=2)
    room.put("two")
    assert room.listened_anew == 0
    room.look()
    assert room.listened_anew == 1, "whoever listened to the lost one is deaf"
    assert not room.mender.is_waiting
    assert room.take() == ("two", False)


def test_what_another_worker_has_just_made_anew_is_not_deleted(
    room: Room, server: RabbitMQServer, vhost: str
) -> None:
    lose(server, vhost, "orders")
    room.look()
    done: list[None] = []

    def meanwhile() -> None:
        if not done:
            done.append(None)
            room.make_anew()
            room.put("rung meanwhile")

    room.look(after_s=2)
    room.meanwhile = meanwhile
    room.look(after_s=9)
    assert done
    assert room.take() == ("rung meanwhile", False)


def test_one_that_another_worker_is_making_anew_is_left_to_it(
    room: Room, server: RabbitMQServer, vhost: str
) -> None:
    lose(server, vhost, "orders")
    room.look()
    with room._connection() as other:
        other.channel().queue_declare("botswarm.mending.orders", exclusive=True)
        room.look(after_s=11)
        with pytest.raises(InternalError):
            room.take()
    until(lambda: not room.look(after_s=11), "the queue to be made anew once nobody else does")


@contextlib.contextmanager
def leading(room: Room, folder: Path) -> Iterator[Leadership]:
    app = make_app(settings_of(folder, BOTSWARM_BROKER_URL=room.url), set_as_current=False)
    lead = Leadership(app, SCHEDULE)
    yield lead
    lead.end()


def fire_for_orders(lead: Leadership) -> None:
    entry = next(each for each in SCHEDULE if each.message.queue == "orders")
    lead.fire(entry, Slot(entry.name, 1, 0.0, 0.0, 0.0, is_kept=False), Marks())


def test_what_beat_sends_reaches_a_queue_that_was_made_anew(
    room: Room, server: RabbitMQServer, vhost: str, tmp_path: Path
) -> None:
    with leading(room, tmp_path) as lead:
        lose(server, vhost, "orders")
        room.look()
        room.look(after_s=11)
        fire_for_orders(lead)
    assert room.take() is not None


def test_what_beat_sends_reaches_a_queue_whose_maker_ended_half_way(
    room: Room, server: RabbitMQServer, vhost: str, tmp_path: Path
) -> None:
    with leading(room, tmp_path) as lead:
        lose(server, vhost, "orders")
        room.look()
        room.make_anew()
        assert not room.look(after_s=2)
        fire_for_orders(lead)
    assert room.take() is not None


def test_looking_leaves_no_channels_behind(room: Room) -> None:
    room.put("one")
    with room._connection() as connection:
        connection.channel().queue_delete("orders.dead")
    for _ in range(3):
        room.look(after_s=60)
    assert set(room.mender._connection.connection.channels) == {0}


def test_one_that_comes_back_by_itself_keeps_what_it_had(
    room: Room, server: RabbitMQServer, vhost: str
) -> None:
    room.put("one")
    lose(server, vhost, "orders")
    room.look()
    member = f'{{list_to_atom("{vhost}_orders"), node()}}'
    server.control("eval", f"ra:restart_server(quorum_queues, {member}).")
    until(lambda: not room.look(), "the queue to lead again")
    room.look(after_s=60)
    assert room.listened_anew == 1
    message = room.take()
    assert message is not None
    assert message[0] == "one"


def test_lost_dead_letters_are_left_to_a_person(
    room: Room, server: RabbitMQServer, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    lose(server, vhost, "orders.dead")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            room.look(after_s=60)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "rabbitmqctl delete_queue orders.dead" in told[0]
    with pytest.raises(InternalError):
        room.take("orders.dead")


def test_a_worker_runs_tasks_again_after_its_queue_was_lost(
    server: RabbitMQServer, vhost: str, tmp_path: Path
) -> None:
    swarm = Swarm(server, vhost, tmp_path)
    try:
        swarm.worker("orders")
        swarm.send("nap", number=1, seconds=0)
        until(lambda: swarm.count("end") == 1, "the first task")
        lose(server, vhost, "orders")
        until(lambda: "and is made anew" in swarm.processes[0].text, "the queue to be made anew")
        swarm.send("nap", number=2, seconds=0)
        until(lambda: swarm.count("end") == 2, "the second task")
    finally:
        swarm.close()
