"""The table of queues, the schedule and the task decorator keep their own promises."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AMQPError, ConnectionForced, InternalError, NotFound, PreconditionFailed
from celery.exceptions import Retry
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection  # type: ignore[attr-defined]  # exported lazily
from kombu.asynchronous import Hub

from botswarm import messages
from botswarm.config.table import BY_NAME as SETTINGS
from botswarm.config.table import QUEUES
from botswarm.errors import Unreachable
from botswarm.queueing import App, make_app, safety, task
from botswarm.queueing.leadership import task_id
from botswarm.queueing.prefork import Children
from botswarm.queueing.slots import FileSlots, held
from botswarm.queueing.table import BY_NAME, TABLE, declared, queue_of
from botswarm.schedule import SCHEDULE, Entry
from tests.settings import settings_of


def app_in(folder: Path, **environ: str) -> App:
    settings = settings_of(folder, **environ)
    return make_app(settings, set_as_current=False)


def test_the_settings_know_the_queues_of_the_table() -> None:
    assert tuple(row.name for row in TABLE) == QUEUES


def test_the_documented_caps_are_those_of_the_table() -> None:
    worker = ",".join(f"{row.name}={row.cap}" for row in TABLE)
    assert SETTINGS["worker_caps"].default_words == worker
    swarm = ",".join(f"{row.name}={row.swarm_cap}" for row in TABLE if row.swarm_cap)
    assert SETTINGS["swarm_caps"].default_words.startswith(swarm + ";")


@pytest.mark.parametrize("message", messages.ALL)
def test_every_message_goes_to_the_queue_its_name_says(message: type[messages.Message]) -> None:
    row = queue_of(message.task)
    assert row is not None
    assert row.name == message.queue


def test_every_message_of_a_built_worker_has_a_task(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    app.loader.import_default_modules()
    app.finalize()
    modules = {name.rpartition(".")[2] for name in app.conf.include}
    expected = {message.task for message in messages.ALL if message.queue in modules}
    assert expected <= set(app.tasks)


def test_only_what_is_worthless_when_old_has_no_dead_letters() -> None:
    assert [row.name for row in TABLE if row.dead is None] == ["strategy"]
    assert all(row.quorum and row.delivery_limit for row in TABLE if row.dead)


def test_no_task_may_hold_a_message_until_the_broker_takes_it_away() -> None:
    waits = 0.5  # the longest wait for a slot, as a share of the soft limit
    assert all(row.soft_limit_s < row.hard_limit_s for row in TABLE)
    assert all(row.hard_limit_s + waits * row.soft_limit_s < 1900 for row in TABLE)


def test_every_queue_has_a_key_of_its_own() -> None:
    assert [queue.routing_key for queue in declared()] == [row.name for row in TABLE]


# --- schedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", SCHEDULE, ids=lambda entry: entry.name)
def test_periodic_tasks_expire_within_their_period(entry: Entry) -> None:
    assert 0 < entry.expires_s < entry.every_s
    assert entry.message.queue in BY_NAME


@given(st.integers(0, 2**60), st.sampled_from(SCHEDULE))
def test_neighbouring_slots_have_different_ids_and_one_slot_has_one(
    slot: int, entry: Entry
) -> None:
    assert task_id(entry, slot) == task_id(entry, slot)
    assert task_id(entry, slot) != task_id(entry, slot + 1)


@pytest.mark.parametrize("entry", SCHEDULE, ids=lambda entry: entry.name)
def test_what_beat_sends_goes_where_the_mark_outlives_the_message(entry: Entry) -> None:
    """In a queue without dead letters the broker itself lets messages expire, marks too."""
    assert BY_NAME[entry.message.queue].dead is not None


def test_no_two_entries_share_an_id() -> None:
    assert len({task_id(entry, 1) for entry in SCHEDULE}) == len(SCHEDULE)


# --- the decorator -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Greet(messages.Message):
    task = "workers.ops.greet"
    queue = "ops"

    name: str
    loud: bool = False


@pytest.mark.parametrize(
    "function", [lambda: None, lambda name: None, lambda name, loud: None, lambda loud, name: None]
)
def test_a_task_that_does_not_take_its_messages_fields_is_refused(
    function: Callable[..., None],
) -> None:
    with pytest.raises(TypeError, match="the task of Greet takes"):
        task(Greet)(function)


def test_a_task_gets_the_time_limits_of_its_queue(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    app.loader.import_default_modules()
    app.finalize()
    probe = app.tasks[messages.Probe.task]
    assert (probe.soft_time_limit, probe.time_limit) == (300, 360)


# --- slots ---------------------------------------------------------------------------------------


def test_slots_are_given_to_as_many_as_there_are_and_come_back(tmp_path: Path) -> None:
    slots = FileSlots(tmp_path / "slots")
    taken = [slots.take("orders", 3) for _ in range(3)]
    assert None not in taken
    assert slots.take("orders", 3) is None
    assert slots.take("risk", 1) is not None
    slots.give_back(taken[1])
    assert slots.take("orders", 3) is not None


def test_who_finds_no_slot_in_time_is_told_so(tmp_path: Path) -> None:
    slots = FileSlots(tmp_path)
    with held(slots, "orders", 1, 1) as first, held(slots, "orders", 1, 0.05) as second:
        assert (first, second) == (True, False)
    with held(slots, "orders", 1, 0) as again:
        assert again


# --- safety --------------------------------------------------------------------------------------


class EndedSlots(FileSlots):
    """Its database has ended the session, and answers again after so many tries."""

    def __init__(self, folder: Path, failures: int) -> None:
        super().__init__(folder)
        self.failures = failures

    def take(self, queue: str, cap: int) -> object | None:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("the database does not answer", cure="start it")
        return super().take(queue, cap)


def test_a_session_that_the_database_has_ended_is_opened_anew_for_a_slot(tmp_path: Path) -> None:
    with held(EndedSlots(tmp_path, failures=1), "orders", 3, 0) as mine:
        assert mine


def test_a_task_without_a_database_for_its_slot_comes_back_and_is_no_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_in(tmp_path)
    app.loader.import_default_modules()
    app.finalize()
    app.slots = EndedSlots(tmp_path, failures=1_000)
    place = app.tasks[messages.PlaceOrder.task]
    monkeypatch.setattr(place, "retry", lambda **_: Retry("later"))
    place.push_request(id="1", delivery_info={"routing_key": "orders"}, args=[], kwargs={})
    try:
        with pytest.raises(Retry):
            place(order_id="00000000-0000-4000-8000-000000000001")
    finally:
        place.pop_request()


def test_our_own_settings_are_safe(tmp_path: Path) -> None:
    assert safety.problems(app_in(tmp_path).conf) == []


@pytest.mark.parametrize("name", list(safety.SAFE))
def test_each_setting_that_must_be_safe_is_looked_at(tmp_path: Path, name: str) -> None:
    app = app_in(tmp_path)
    wanted = safety.SAFE[name][0]
    app.conf[name] = (not wanted) if isinstance(wanted, bool) else 7 if wanted == 1 else "pickle"
    assert [problem.split()[0] for problem in safety.problems(app.conf)] == [name]


def test_unconfirmed_publishes_are_unsafe(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    app.conf.broker_transport_options = {}
    assert "confirm_publish" in safety.problems(app.conf)[0]


# --- retries -------------------------------------------------------------------------------------


def test_a_retry_goes_to_the_queue_and_never_where_beat_keeps_its_marks(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    app.loader.import_default_modules()
    app.finalize()
    probe = app.tasks[messages.Probe.task]
    came = {"exchange": "botswarm.beat", "routing_key": "ops", "priority": 0}
    probe.push_request(id="1", delivery_info=came, args=[], kwargs={}, headers={"retries": 0})
    try:
        options = probe.signature_from_request(countdown=1).options
    finally:
        probe.pop_request()
    assert options["queue"] == "ops"
    assert "exchange" not in options


# --- sending -------------------------------------------------------------------------------------


class LosingProducer:
    """Its connection ends while it publishes."""

    def __init__(self, error: AMQPError) -> None:
        self.connection: Any = Connection("amqp://")  # type: ignore[no-untyped-call]
        self._error = error

    def publish(self, *_: Any, **__: Any) -> None:
        self.connection = None  # as kombu's is, once the channel is closed
        raise self._error


@pytest.mark.parametrize("error", [ConnectionForced("shutdown"), InternalError("a lost queue")])
def test_a_broker_that_ends_the_connection_while_it_is_sent_to_is_unreachable(
    tmp_path: Path, error: AMQPError
) -> None:
    app = app_in(tmp_path, BOTSWARM_BROKER_URL="amqp://127.0.0.1:9")
    options: dict[str, Any] = {"producer": LosingProducer(error), "ignore_result": True}
    with pytest.raises(Unreachable, match=r"the broker did not take workers\.ops\.probe"):
        app.send_task(messages.Probe.task, **options)


# --- children ------------------------------------------------------------------------------------


def test_a_child_whose_end_is_known_is_not_listened_to_when_the_broker_is_back() -> None:
    hub: Any = Hub()  # type: ignore[no-untyped-call]
    pool, pipe = object.__new__(Children), os.pipe()
    try:
        child = SimpleNamespace(_popen=SimpleNamespace(sentinel=pipe[0]))
        pool._track_child_process(child, hub)
        assert list(hub.readers) == [child._sentinel_poll]
        pool._untrack_child_process(child, hub)
        pool._track_child_process(child, hub)
        assert not hub.readers
    finally:
        hub.close()
        for end in pipe:
            os.close(end)


@pytest.mark.parametrize(
    "error", [NotFound("queue 'ops': no process"), PreconditionFailed("queue 'ops': other type")]
)
def test_a_broker_that_closes_the_channel_while_it_is_sent_to_is_unreachable(
    tmp_path: Path, error: AMQPError
) -> None:
    app = app_in(tmp_path, BOTSWARM_BROKER_URL="amqp://127.0.0.1:9")
    options: dict[str, Any] = {"producer": LosingProducer(error), "ignore_result": True}
    with pytest.raises(Unreachable, match=r"did not take workers\.ops\.probe: .*'ops'"):
        app.send_task(messages.Probe.task, **options)
