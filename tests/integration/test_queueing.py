"""The Celery app on both brokers: pools, caps, shutdown, dead letters, refusals and the beat."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from botswarm.messages import Probe, SettleOrders, send
from botswarm.queueing.app import Unroutable
from botswarm.testing.servers import AmqpServer, EmbeddedBrokerServer, RabbitMQServer
from tests.integration.swarm import BIN, Event, Swarm, until


@pytest.fixture(scope="module", params=[EmbeddedBrokerServer, RabbitMQServer])
def server(request: pytest.FixtureRequest) -> Iterator[AmqpServer]:
    with request.param() as running:
        yield running


@pytest.fixture
def swarm(server: AmqpServer, tmp_path: Path) -> Iterator[Swarm]:
    vhost = f"q-{uuid.uuid4().hex[:8]}"
    server.add_vhost(vhost)
    made = Swarm(server, vhost, tmp_path)
    try:
        yield made
    finally:
        made.close()
        server.delete_vhost(vhost)


# --- what follows from -Q alone ------------------------------------------------------------------


def test_pool_size_and_windows_follow_from_the_queues(swarm: Swarm) -> None:
    swarm.worker("orders,ops")
    swarm.worker("strategy")
    wanted = {"orders": 4, "ops": 2, "strategy": 4}

    def windows() -> dict[str, int]:
        found = {row["queue"]["name"]: row["prefetch_count"] for row in swarm.consumers()}
        return {name: window for name, window in found.items() if name in wanted}

    # Consumers of Celery's own queues may be there before them.
    until(lambda: windows().keys() == wanted.keys(), "all consumers")
    assert windows() == wanted
    stats = swarm.app.control.inspect(timeout=3).stats()
    pools = {name: answer["pool"] for name, answer in stats.items()}
    assert pools["w0@test"]["max-concurrency"] == 6
    assert "prefork" in pools["w0@test"]["implementation"]
    assert pools["w1@test"]["max-concurrency"] == 4
    assert "thread" in pools["w1@test"]["implementation"]


def test_queues_that_want_different_pools_get_the_one_with_time_limits(swarm: Swarm) -> None:
    worker = swarm.worker("orders,strategy")
    assert "these queues want different pools; all get prefork" in worker.text
    stats = swarm.app.control.inspect(timeout=3).stats()
    assert "prefork" in stats["w0@test"]["pool"]["implementation"]


def test_a_setting_changes_the_cap(swarm: Swarm) -> None:
    swarm.settings["BOTSWARM_WORKER_CAPS"] = "orders=1"
    swarm.worker("orders")
    for number in range(4):
        swarm.send("nap", number=number, seconds=0.2)
    until(lambda: swarm.count("end") == 4, "four naps")
    assert most_at_once(swarm.events()) == 1


# --- caps ----------------------------------------------------------------------------------------


def most_at_once(events: list[Event], killed: dict[int, float] | None = None) -> int:
    """The highest number in flight; what a killed worker ran ended with it."""
    changes: list[tuple[float, int]] = []
    # A child runs one task at a time, and the same number may be run again after a reconnect.
    by_child: dict[int, list[Event]] = {}
    for event in events:
        by_child.setdefault(event.pid, []).append(event)
    for own in by_child.values():
        for event, after in zip(own, [*own[1:], None], strict=True):
            if event.kind == "start":
                end = after.at if after else (killed or {}).get(event.parent)
                assert end, "a task without an end, and its worker was not killed"
                changes += [(event.at, 1), (end, -1)]
    running = highest = 0
    for _, change in sorted(changes):
        running += change
        highest = max(highest, running)
    return highest


def ended(swarm: Swarm) -> set[int]:
    return {event.number for event in swarm.events() if event.kind == "end"}


def idle(swarm: Swarm) -> bool:
    """What a lost connection brought twice has also ended twice."""
    return swarm.length("orders") == 0


def test_three_workers_reconnects_and_a_kill_never_exceed_the_swarm_cap(swarm: Swarm) -> None:
    swarm.settings |= {"BOTSWARM_WORKER_CAPS": "orders=2", "BOTSWARM_SWARM_CAPS": "orders=3"}
    for number in range(40):
        swarm.send("nap", number=number, seconds=0.25)
    workers = [swarm.worker("orders") for _ in range(3)]
    until(lambda: swarm.count("end") >= 5, "the first naps")
    # RabbitMQ counts connections a few seconds late.
    until(lambda: len(swarm.connections()) >= 3, "the workers' connections to be seen")
    swarm.drop_connections()
    until(lambda: swarm.count("end") >= 12, "naps after the reconnect")
    killed = {workers[0].popen.pid: time.time()}
    workers[0].popen.kill()
    until(lambda: swarm.count("end") >= 20, "naps after the kill")
    swarm.drop_connections()
    until(lambda: len(ended(swarm)) == 40 and idle(swarm), "all forty naps to end", 60)
    assert most_at_once(swarm.events(), killed) == 3


def test_slots_hold_across_workers_on_postgresql(swarm: Swarm) -> None:
    from botswarm.testing.servers import PostgreSQLServer

    with PostgreSQLServer() as postgresql:
        swarm.settings |= {
            "BOTSWARM_DATABASE_URL": postgresql.url(),
            "BOTSWARM_WORKER_CAPS": "orders=2",
            "BOTSWARM_SWARM_CAPS": "orders=2",
        }
        workers = [swarm.worker("orders") for _ in range(2)]
        for number in range(12):
            swarm.send("nap", number=number, seconds=0.2)
        until(lambda: swarm.count("end") >= 4, "the first naps")
        killed = {workers[0].popen.pid: time.time()}
        workers[0].popen.kill()
        until(lambda: len(ended(swarm)) == 12 and idle(swarm), "all naps")
        assert most_at_once(swarm.events(), killed) == 2


# --- shutdown ------------------------------------------------------------------------------------


def test_sigterm_to_the_whole_group_lets_the_running_task_finish_once(swarm: Swarm) -> None:
    worker = swarm.worker("orders")
    swarm.send("nap", number=1, seconds=3)
    until(lambda: swarm.count("start"), "the nap to begin")
    began = time.monotonic()
    worker.signal_group(signal.SIGTERM)
    assert worker.popen.wait(15) == 0, worker.text
    assert time.monotonic() - began < 10
    assert (swarm.count("start"), swarm.count("end")) == (1, 1)
    assert swarm.ready("orders") == 0
    swarm.worker("orders")
    swarm.send("nap", number=2, seconds=0)
    until(lambda: swarm.count("end", 2), "the next worker to work")
    assert swarm.count("start", 1) == 1


def test_a_child_that_does_not_end_is_ended_and_says_where_it_was(swarm: Swarm) -> None:
    worker = swarm.worker("orders")
    swarm.send("linger", number=1)
    until(lambda: swarm.count("end"), "the child to be made to linger")
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.popen.wait(40) == 0, worker.text
    assert "these children do not end" in worker.text
    assert "queueing_tasks.py" in worker.text
    assert not Path(f"/proc/{swarm.events()[0].pid}").exists()


def test_sigquit_ends_the_worker_and_the_task_goes_back(swarm: Swarm) -> None:
    worker = swarm.worker("orders", "worker.soft_shutdown_timeout=1")
    swarm.send("nap", number=1, seconds=100)
    until(lambda: swarm.count("start"), "the nap to begin")
    worker.popen.send_signal(signal.SIGQUIT)
    # After the soft shutdown, in which a task that ends soon may still end.
    worker.popen.wait(40)
    assert swarm.count("end") == 0
    until(lambda: swarm.ready("orders") == 1, "the task to be back in its queue")
    child = swarm.events()[0].pid
    until(lambda: not Path(f"/proc/{child}").exists(), "the child to be gone", 5)


def test_a_worker_whose_own_loop_breaks_ends_at_once_and_the_task_goes_back(swarm: Swarm) -> None:
    worker = swarm.worker("orders")
    swarm.send("nap", number=1, seconds=100)
    until(lambda: swarm.count("start"), "the nap to begin")
    swarm.app.control.broadcast("break_loop")
    assert worker.popen.wait(15) == 1, worker.text
    assert "the loop is broken" in worker.text
    until(lambda: swarm.ready("orders") == 1, "the task to be back in its queue")
    child = swarm.events()[0].pid
    until(lambda: not Path(f"/proc/{child}").exists(), "the child to be gone", 5)


# --- dead letters --------------------------------------------------------------------------------


def test_tasks_that_fail_die_or_hang_end_as_dead_letters(swarm: Swarm) -> None:
    worker = swarm.worker("orders")
    for number, verb in enumerate(("fail", "die", "hang")):
        swarm.send(verb, number=number)
    until(lambda: swarm.ready("orders.dead") == 3, "three dead letters", 60)
    assert [swarm.count("start", number) for number in range(3)] == [1, 6, 1]
    shown = swarm.command("queue", "peek", "orders.dead", "--count", "9")["data"]["messages"]
    reasons = {each["task"]: each["dead_lettered"][0]["reason"] for each in shown}
    assert reasons == {
        "workers.orders.fail": "rejected",
        "workers.orders.die": "delivery_limit",
        "workers.orders.hang": "rejected",
    }
    worker.end()
    listed = swarm.command("queue", "dead")["data"]
    assert {row["queue"]: row["letters"] for row in listed}["orders"] == 3


def fill_dead(swarm: Swarm, count: int) -> None:
    """Dead letters as they are: tasks that were rejected."""
    for number in range(count):
        swarm.send("nap", number=number, seconds=0)
    with swarm.app.connection_for_read() as connection:
        channel = connection.channel()
        for _ in range(count):
            message = until(lambda: channel.basic_get("orders", no_ack=False), "a task")
            channel.basic_reject(message.delivery_tag, requeue=False)
        until(
            lambda: channel.queue_declare("orders.dead", passive=True).message_count == count,
            "the dead letters",
        )


def take_all(swarm: Swarm, queue: str) -> list[int]:
    numbers = []
    with swarm.app.connection_for_read() as connection:
        channel = connection.channel()
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            numbers.append(json.loads(message.body)[1]["number"])
    return numbers


def test_requeued_letters_run_again_as_many_as_asked_for(swarm: Swarm) -> None:
    fill_dead(swarm, 5)
    assert swarm.command("queue", "requeue", "orders", expect=6)["error"]["code"] == "BSW-6001"
    answer = swarm.command("queue", "requeue", "orders", "--count", "2", "--yes")["data"]
    assert (answer["requeued"], answer["left"]) == (2, 3)
    swarm.worker("orders")
    until(lambda: swarm.count("end") == 2, "two naps")
    done = swarm.run(
        str(BIN / "celery"), "-A", "botswarm", "dlq", "requeue", "orders", "--yes", "--json"
    )
    assert json.loads(done.stdout)["data"]["requeued"] == 3, done.stdout + done.stderr
    until(lambda: swarm.count("end") == 5, "all naps")
    assert Counter(e.number for e in swarm.events() if e.kind == "end") == dict.fromkeys(
        range(5), 1
    )


def requeue_and_kill(swarm: Swarm) -> bool:
    """Whether the command was killed while it worked."""
    before = swarm.ready("orders")
    command = swarm.popen(str(BIN / "botswarm"), "queue", "requeue", "orders", "--yes")
    until(lambda: swarm.ready("orders") > before or command.poll() is not None, "progress")
    time.sleep(random.uniform(0, 0.01))
    working = command.poll() is None
    command.kill()
    command.wait()
    return working


def test_a_killed_requeue_neither_loses_nor_doubles_a_letter(swarm: Swarm) -> None:
    fill_dead(swarm, 150)
    kills = sum(requeue_and_kill(swarm) for _ in range(6))
    assert kills, "no command was killed while it worked"

    def settled() -> bool:
        return swarm.ready("orders") + swarm.ready("orders.dead") == 150

    until(settled, "all letters to be somewhere")
    found = take_all(swarm, "orders") + take_all(swarm, "orders.dead")
    assert sorted(found) == list(range(150))


def test_a_letter_is_looked_at_forty_times_and_stays_dead(swarm: Swarm) -> None:
    fill_dead(swarm, 1)
    with swarm.app.connection_for_read() as connection:
        channel = connection.channel()
        for _ in range(40):
            message = until(lambda: channel.basic_get("orders.dead", no_ack=False), "the letter")
            channel.basic_reject(message.delivery_tag, requeue=True)
    assert swarm.ready("orders.dead") == 1
    assert swarm.ready("orders") == 0


def test_what_came_too_late_is_dropped_and_no_dead_letter(swarm: Swarm) -> None:
    send(swarm.app, SettleOrders(), expires=0.2)
    time.sleep(0.5)
    swarm.worker("orders")
    swarm.send("nap", number=1, seconds=0)
    until(lambda: swarm.count("end"), "the nap behind it")
    assert swarm.ready("orders.dead") == 0


# --- sending -------------------------------------------------------------------------------------


def test_a_message_without_a_queue_is_an_error_and_the_next_one_arrives(swarm: Swarm) -> None:
    send(swarm.app, Probe())
    for _ in range(3):
        with pytest.raises(Unroutable, match="no queue takes the message"):
            swarm.app.send_task("workers.ops.probe", exchange="work", routing_key="nowhere")
        send(swarm.app, Probe())
    assert swarm.ready("ops") == 4


def test_a_delay_of_less_than_a_second_is_kept(swarm: Swarm) -> None:
    swarm.worker("orders")
    began = time.time()
    swarm.app.send_task("workers.orders.nap", kwargs={"number": 7, "seconds": 0}, countdown=0.4)
    until(lambda: swarm.count("end", 7), "the delayed nap")
    assert 0.4 <= swarm.events()[-1].at - began < 3


def test_a_task_runs_from_the_shell_and_answers(swarm: Swarm) -> None:
    swarm.worker("ops")
    answer = swarm.command("task", "run", "probe", "--arg", "text=hi there", "--wait", "10")
    assert answer["data"]["answer"]["text"] == "hi there"
    done = swarm.run(str(BIN / "celery"), "-A", "botswarm", "call", "workers.ops.probe")
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout), done.stderr
    swarm.processes[0].end()
    late = swarm.command("task", "run", "probe", "--wait", "0.3", expect=7)
    assert "did not answer within 0.3 s" in late["error"]["cause"]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-Q", "order"], "the queues are: backtest, ops, orders, risk, strategy"),
        (["-X", "order"], "the queues are: backtest, ops, orders, risk, strategy"),
        (["-Q", "orders", "-P", "threads"], "only prefork ends a task that hangs"),
        (["-Q", "orders,strategy", "-P", "solo"], "only prefork ends a task that hangs"),
        (["-Q", "orders", "--autoscale", "4,1"], "--autoscale does not go with caps"),
        (["-Q", "orders", "task.acks_late=0"], "task_acks_late is False, it must be True"),
        (["-Q", "ops", "task.acks_on_failure=1"], "would leave no dead letter"),
        (["-Q", "ops", "task.serializer=pickle"], "can run code when they are read"),
    ],
)
def test_a_worker_that_would_be_unsafe_does_not_start(
    swarm: Swarm, words: list[str], says: str
) -> None:
    done = swarm.run(str(BIN / "celery"), "-A", "botswarm", "worker", *words)
    assert done.returncode == 8, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_without_a_broker_says_what_to_start(swarm: Swarm) -> None:
    swarm.settings["BOTSWARM_BROKER_URL"] = ""
    done = swarm.run(str(BIN / "celery"), "-A", "botswarm", "worker", "-Q", "ops")
    assert done.returncode == 5, done.stderr
    assert "start one: botswarm broker run" in done.stderr
    assert "Traceback" not in done.stderr


def test_broken_settings_are_named_without_a_traceback(swarm: Swarm) -> None:
    swarm.settings |= {"BOTSWARM_SWARM_CAPS": "order=3", "BOTSWARM_LOG_LEVEL": "loud"}
    done = swarm.run(str(BIN / "celery"), "-A", "botswarm", "worker", "-Q", "ops")
    assert done.returncode == 8, done.stderr
    assert "names the queue 'order'" in done.stderr
    assert "BOTSWARM_LOG_LEVEL" in done.stderr
    assert "Traceback" not in done.stderr


# --- beat ----------------------------------------------------------------------------------------


def test_each_slot_is_sent_once_by_two_beats_whoever_is_killed(swarm: Swarm) -> None:
    received: list[tuple[float, str]] = []
    with swarm.app.connection_for_read() as connection:
        swarm.app.amqp.declare_all(connection)
        channel: Any = connection.channel()

        def receive(message: Any) -> None:
            received.append((time.time(), message.headers["id"]))

        channel.basic_consume("orders", no_ack=True, callback=receive)
        beats = [swarm.start("beat"), swarm.start("beat")]

        def listen(seconds: float) -> None:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=min(left, 0.2))
                except TimeoutError:
                    continue

        for _ in range(2):
            count, deadline = len(received) + 2, time.monotonic() + 20
            while len(received) < count:
                listen(0.2)
                assert time.monotonic() < deadline, [beat.text for beat in beats]
            leaders = [b for b in beats if "leading:" in b.text and b.popen.poll() is None]
            assert len(leaders) == 1
            leaders[0].popen.kill()
            leaders[0].popen.wait()
            beats.append(swarm.start("beat"))
        listen(4)
    ids = [task_id for _, task_id in received]
    assert len(ids) >= 6
    assert max(Counter(ids).values()) == 1
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(received)]
    assert max(gaps) < 3, gaps


def test_a_beat_holds_back_what_nobody_would_run(swarm: Swarm) -> None:
    beat = swarm.start("beat")
    until(lambda: "settle-orders is held back: no worker runs orders" in beat.text, "the line")
    time.sleep(1.2)
    assert swarm.ready("orders") == 0
    assert beat.text.count("settle-orders is held back") == 1


def test_beat_stops_at_sigterm_and_its_follower_leads_at_once(swarm: Swarm) -> None:
    first = swarm.start("beat")
    until(lambda: "leading:" in first.text, "the first to lead")
    second = swarm.start("beat")
    until(lambda: "another beat leads" in second.text, "the second to stand by")
    first.popen.terminate()
    assert first.popen.wait(10) == 0
    until(lambda: "leading:" in second.text, "the second to lead", 3)
