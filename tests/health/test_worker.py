"""Real workers on real brokers: what they count is right, and what waits for them is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from botswarm.config import load
from botswarm.health import ask, card
from botswarm.health.broker import Broker
from botswarm.health.celery_app import OVERDUE_S, Turns
from botswarm.health.queues import Queues
from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.metrics import NAMES
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    free_port,
)
from tests.integration import swarm as stage
from tests.integration.swarm import Swarm

TASK = "workers.orders."


def until(condition: Callable[[], Any], what: str) -> Any:
    return stage.until(condition, what, timeout_s=90)


@pytest.fixture(scope="module", params=[EmbeddedBrokerServer, RabbitMQServer])
def swarm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Swarm]:
    kind: type[AmqpServer] = request.param
    with kind() as server:
        made = Swarm(server, "/", tmp_path_factory.mktemp("health"))
        # Elsewhere than the processes of other tests, which take the next free port.
        made.settings["BOTSWARM_HEALTH_PORT"] = str(free_port())
        ledger = Ledger(made.app.settings.database_url)
        migrate.migrate(ledger.database)
        ledger.close()
        yield made
        for process in made.processes:
            process.end()


def metrics(swarm: Swarm, name: str) -> dict[str, float]:
    """What the process of that name tells, by name and the values of its labels."""
    said = answered(swarm, name, "/metrics")
    return {
        " ".join([sample.name, *in_order(sample)]): sample.value
        for family in text_string_to_metric_families(said.body.decode())
        for sample in family.samples
    }


def in_order(sample: Sample) -> list[str]:
    """The values of its labels as they are declared; on a page they follow the alphabet."""
    family = NAMES.get(sample.name)
    names = sample.labels if family is None else (*family.label_names, "le")
    return [sample.labels[name] for name in names if name in sample.labels]


def answered(swarm: Swarm, name: str, page: str) -> ask.Said:
    found = [each for each in card.found(swarm.folder / "state") if each.card.name == name]
    assert found, f"{name} has no card"
    return ask.ask(found, page, limit_s=20)[0]


def test_children_are_counted_however_they_end_and_what_waits_is_told(swarm: Swarm) -> None:
    # Before there is a worker: what waits is seen, and that nobody takes it.
    with swarm.app.connection_for_write() as connection:
        swarm.app.amqp.declare_all(connection)
    settings = load(environ=swarm.environment, folder=swarm.folder).settings
    queues = Queues(settings, Broker(lambda: settings.broker_url, "test"))
    for number in range(3):
        swarm.send("nap", number=number, seconds=0)

    def waiting() -> int:
        queues.look()
        return queues.stands["orders"].waiting

    until(lambda: waiting() == 3, "three to wait")
    found = queues.finding()
    assert found.status == "fail"
    assert "no worker takes from" in found.words
    until(lambda: waiting() and queues.stands["orders"].oldest_s > 0.5, "the oldest to grow old")
    assert queues.broker_facts["connections"] >= 1
    assert queues.broker_facts["blocked"] == 0

    swarm.worker("orders")
    name = "w0"
    until(lambda: answered(swarm, name, "/readyz").code == 200 or None, "it to be ready")
    for number in range(20):
        swarm.send("nap", number=number, seconds=0)
    for number in range(2):
        swarm.send("fail", number=number)
    done = f"botswarm_tasks_total {TASK}nap done"
    until(lambda: metrics(swarm, name).get(done) == 23, "23 to be done")
    failed = f"botswarm_tasks_total {TASK}fail failed"
    until(lambda: metrics(swarm, name).get(failed) == 2, "two to have failed")

    # A child is killed in the middle of a task: the counts of it and of the others stay.
    swarm.send("die", number=1)
    for number in range(10):
        swarm.send("nap", number=number, seconds=0)
    until(lambda: metrics(swarm, name).get(done) == 33, "ten more to be done")
    told = metrics(swarm, name)
    assert told[failed] == 2
    assert told["botswarm_worker_cap orders"] == 4
    # Read every few seconds.
    until(lambda: metrics(swarm, name).get("botswarm_children", 0) >= 4, "the children")
    assert answered(swarm, name, "/livez").code == 200

    def letters() -> int:
        queues.look()
        return queues.stands["orders"].dead

    until(lambda: letters() == 2 or letters() == 3, "the dead letters")
    stand = queues.stands["orders"]
    assert stand.consumers == 1
    assert stand.published is None or stand.published >= 36
    assert "dead letters: orders" in queues.finding().words


@pytest.mark.parametrize("swarm", [EmbeddedBrokerServer], indirect=True)
def test_a_worker_that_was_killed_is_missed_and_its_successor_has_its_name(swarm: Swarm) -> None:
    swarm.processes[0].end()
    said = answered(swarm, "w0", "/livez")
    assert (said.code, said.process.is_alive) == (0, False)
    port = said.process.card.port
    swarm.processes[0] = swarm.start("worker", "-Q", "orders", "-n", "w0@test")
    until(lambda: answered(swarm, "w0", "/readyz").code == 200 or None, "it to be ready")
    assert answered(swarm, "w0", "/readyz").process.card.port == port
    swarm.processes[0].popen.terminate()
    until(lambda: not card.found(swarm.folder / "state"), "its card to go with it")


# --- alive is who gets on -------------------------------------------------------------------------


@pytest.fixture
def active() -> Iterator[list[Any]]:
    """What runs in this process' worker, as the test wants it."""
    added: list[Any] = []
    before = set(state.active_requests)
    yield added
    for each in added:
        state.active_requests.discard(each)
    assert set(state.active_requests) == before


class Request:
    """Of a task that has been running for so long."""

    def __init__(self, took_s: float, queue: str = "strategy") -> None:
        self.time_start = time.time() - took_s
        self.delivery_info = {"routing_key": queue}


def turns(concurrency: int) -> Turns:
    made = Turns()
    made.hard_limits = {"strategy": 15}
    made.worker = SimpleNamespace(
        concurrency=concurrency, consumer=SimpleNamespace(connection=object())
    )
    return made


def test_a_worker_all_of_whose_places_hang_is_not_alive(active: list[Any]) -> None:
    made = turns(concurrency=2)
    for took_s in (15 + OVERDUE_S + 100, 20.0):
        active.append(Request(took_s))
        state.active_requests.add(active[-1])
    assert made.hanging_s() == 0
    active.append(Request(15 + OVERDUE_S + 50))
    state.active_requests.add(active[-1])
    assert 70 < made.hanging_s() < 90


def test_a_worker_without_a_broker_waits_and_is_alive() -> None:
    made = turns(concurrency=1)
    made._at -= 500
    assert made.age_s() > 400
    made.worker.consumer.connection = None
    assert made.age_s() < 1


def test_nothing_is_taken_for_the_queue_of_another(active: list[Any]) -> None:
    made = turns(concurrency=1)
    active.append(Request(10_000, queue="another"))
    state.active_requests.add(active[-1])
    assert made.hanging_s() == 0


def test_the_state_folder_stays_private(tmp_path: Path) -> None:
    from botswarm.health.seat import Seat

    seat = Seat(tmp_path / "state", "feed")
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    seat.leave()
