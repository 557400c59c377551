"""What watching takes of the processor is known to the thread, and nobody watches unasked."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from botswarm.config import load
from botswarm.health.process import Health
from botswarm.health.watchers import Watchers
from botswarm.testing.servers import free_port


def busy(for_s: float) -> None:
    until = time.thread_time() + for_s
    while time.thread_time() < until:
        pass


def test_what_a_watching_thread_works_is_told_while_it_runs_and_after_its_end() -> None:
    watchers, worked, end = Watchers(), threading.Event(), threading.Event()

    def watch() -> None:
        busy(0.05)
        worked.set()
        end.wait(20)

    thread = watchers.start("watch", watch)
    assert worked.wait(20)
    busy(0.05)  # by a thread that does not watch
    while_it_runs = watchers.cpu_s()
    assert 0.05 <= while_it_runs < 0.09
    end.set()
    thread.join()
    assert while_it_runs <= watchers.cpu_s() < 0.09


def test_where_nobody_may_ask_nothing_is_looked_at(tmp_path: Path) -> None:
    looked = {"on": threading.Event(), "off": threading.Event()}
    for wanted, event in looked.items():
        environ = {"BOTSWARM_HEALTH_ENABLE": wanted, "BOTSWARM_HEALTH_PORT": str(free_port())}
        settings = load(environ=environ, folder=tmp_path).settings
        health = Health(settings, "worker")
        health.thread("swarm health", event.set)
        with health:
            event.wait(20 if wanted == "on" else 0.1)
    assert looked["on"].is_set()
    assert not looked["off"].is_set()
