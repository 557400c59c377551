"""A swarm that is told to stop while an order is on its way, in the ways that platforms do it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.dockerfile import argument
from tests.e2e.container import Container
from tests.e2e.swarm import Swarm, until

STOP_S = 30.0
PATIENCE_S = 90.0


def check(swarm: Swarm, on_their_way: list[dict[str, object]]) -> None:
    """No order was interrupted, and ledger and exchange say the same."""
    assert on_their_way
    for order in on_their_way:
        assert swarm.ask("order", "show", str(order["id"]))["state"] in ("filled", "live")
    assert swarm.ask("order", "list", "--state", "sending", "--state", "unknown") == []
    verified = swarm.ask("ledger", "verify", "--journal", str(swarm.journal))
    assert verified["findings"] == []
    counts = verified["counts"]
    assert (counts["lost"], counts["doubled"], counts["unknown"]) == (0, 0, 0)


@pytest.mark.timeout(300)
def test_every_process_is_told_at_once(tmp_path: Path) -> None:
    """As systemd does it: SIGTERM to the supervisor, its children and their children."""
    swarm = Swarm(tmp_path)
    try:
        up = swarm.open("botswarm", "up", name="up")
        swarm.first_fill(up, PATIENCE_S)
        swarm.make_answers_slow()
        sending = until(lambda: swarm.ask("order", "list", "--state", "sending"), "an order")
        began = time.monotonic()
        for process in swarm.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        assert up.ends_within(STOP_S) == 0, up.text[-3000:]
        until(lambda: not swarm.processes(), "the last process to end", STOP_S)
        assert time.monotonic() - began < STOP_S
        assert "killing it" not in up.text
        assert "Traceback" not in up.text
        check(swarm, sending)
    finally:
        swarm.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes containers by hand")
@pytest.mark.timeout(300)
def test_the_image_runs_as_nobody_on_a_tree_that_nobody_can_write(tmp_path: Path) -> None:
    container = Container(tmp_path)
    # The same folder, as it is seen from outside.
    swarm = Swarm(container.state)
    try:
        container.run()
        until(lambda: "first fill" in container.text, "the first fill", PATIENCE_S)
        inside = re.search(r"CMD (.*)", argument("HEALTHCHECK"))
        assert inside is not None
        check_health = inside[1]
        until(
            lambda: container.execute("sh", "-c", check_health).returncode == 0,
            "every process to be ready",
            PATIENCE_S,
        )
        written = container.execute("sh", "-c", "touch /usr/x /x; id -u; cat /proc/1/comm")
        assert written.stdout.split() == ["10001", "tini"]
        assert written.stderr.count("Read-only file system") == 2

        swarm.make_answers_slow()
        sending = until(lambda: swarm.ask("order", "list", "--state", "sending"), "an order")
        container.first.send_signal(getattr(signal, argument("STOPSIGNAL")))
        assert container.popen is not None
        # tini tells the code of its child: botswarm ended by itself.
        assert container.popen.wait(STOP_S) == 0, container.text[-3000:]
        assert "killing it" not in container.text
        assert "Traceback" not in container.text
        check(swarm, sending)
    finally:
        container.kill()
